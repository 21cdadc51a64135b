"""The Cloud SQL connector for Python: runs SQL over one connection, and prints what comes of each as a line of JSON.

connect.py INSTANCE DRIVER USER [--iam] [--ip-type TYPE] SQL...
"""

import argparse
import asyncio
import json
import logging

from google.cloud.sql.connector import Connector, create_async_connector

arguments = argparse.ArgumentParser()
arguments.add_argument("instance")
arguments.add_argument("driver")
arguments.add_argument("user")
arguments.add_argument("--iam", action="store_true")
arguments.add_argument("--ip-type", default="PUBLIC")
arguments.add_argument("sql", nargs="*")
log = logging.getLogger("google")
log.setLevel(logging.INFO)
log.addHandler(logging.StreamHandler())
asked = arguments.parse_intermixed_args()

login = {"user": asked.user, "db": "shop"}
if not asked.iam:
    login["password"] = "whatever the agent believes in"


def tell(what):
    print(json.dumps(what, default=str), flush=True)


async def by_asyncpg():
    async with await create_async_connector(enable_iam_auth=asked.iam, ip_type=asked.ip_type) as connector:
        db = await connector.connect_async(asked.instance, "asyncpg", **login)
        for sql in asked.sql:
            try:
                tell({"rows": [list(row) for row in await db.fetch(sql)]})
            except Exception as error:
                tell({"error": f"{type(error).__name__}: {error} {getattr(error, 'detail', '')}"})
        await db.close()


def by_dbapi():
    with Connector(enable_iam_auth=asked.iam, ip_type=asked.ip_type) as connector:
        db = connector.connect(asked.instance, asked.driver, **login)
        db.autocommit = True
        cursor = db.cursor()
        for sql in asked.sql:
            try:
                cursor.execute(sql)
                rows = cursor.fetchall() if cursor.description else []
                tell({"rows": [list(row) for row in rows]})
            except Exception as error:
                tell({"error": f"{type(error).__name__}: {error}"})
        db.close()


try:
    asyncio.run(by_asyncpg()) if asked.driver == "asyncpg" else by_dbapi()
except Exception as error:
    tell({"failed": f"{type(error).__name__}: {error}"})
