"""Sends each text of a file (a JSON array) on a connection of its own, all at once, as protocol messages of its own making:

    statements.py FILE simple|extended

Prints a JSON line for each once it is answered: {"at": place, "code": SQLSTATE of the first error or null, "said": its message}.
"""

import asyncio
import json
import os
import struct
import sys


def message(tag, body):
    return tag + struct.pack("!I", len(body) + 4) + body


def asked(text, protocol):
    text = text.encode() + b"\0"
    if protocol == "simple":
        return message(b"Q", text)
    return (
        message(b"P", b"\0" + text + struct.pack("!H", 0))
        + message(b"B", b"\0\0" + struct.pack("!HHH", 0, 0, 0))
        + message(b"E", b"\0" + struct.pack("!I", 0))
        + message(b"S", b"")
    )


async def answer(reader):
    head = await reader.readexactly(5)
    return head[:1], await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


def fields(body):
    return {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}


async def converse(at, text, protocol):
    reader, writer = await asyncio.open_connection(os.environ["PGHOST"], int(os.environ["PGPORT"]))
    settings = ["user", "whoever", "database", os.environ["PGDATABASE"], "application_name", "statements", ""]
    body = struct.pack("!I", 196608) + b"\0".join(it.encode() for it in settings) + b"\0"
    writer.write(struct.pack("!I", len(body) + 4) + body)
    first = None
    is_asked = False
    while True:
        try:
            tag, body = await answer(reader)
        except (asyncio.IncompleteReadError, ConnectionError):
            first = first or {b"C": "gone", b"M": "the connection ended"}
            break
        if tag == b"E":
            first = first or fields(body)
        elif tag == b"G":
            writer.write(message(b"f", b"there is no data\0"))
        elif tag == b"Z" and is_asked:
            break
        elif tag == b"Z":
            is_asked = True
            writer.write(asked(text, protocol))
    writer.close()
    error = first or {}
    print(json.dumps({"at": at, "code": error.get(b"C"), "said": error.get(b"M", "")}), flush=True)


async def main():
    texts = json.load(open(sys.argv[1], encoding="utf-8"))
    await asyncio.gather(*(converse(at, text, sys.argv[2]) for at, text in enumerate(texts)))


asyncio.run(main())
