"""Asks for many deletions at once, each on a connection of its own, and waits for all the answers.

many_holds.py PREFIX COUNT: prints one line for each answer, its status.
"""

import asyncio
import ssl
import sys

prefix, count = sys.argv[1], int(sys.argv[2])
HOST = "sqladmin.googleapis.com"


async def delete(name):
    reader, writer = await asyncio.open_connection(HOST, 443, ssl=ssl.create_default_context())
    path = f"/sql/v1beta4/projects/lab-project/instances/{name}"
    writer.write(f"DELETE {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
    line = await reader.readline()
    print(line.decode().strip(), flush=True)


async def main():
    await asyncio.gather(*(delete(f"{prefix}-{number}") for number in range(count)))


asyncio.run(main())
