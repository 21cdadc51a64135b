"""Tries to reach servers that greet with HOST; prints `TARGET open|closed ...` for each.

neighbours.py tcp:ADDRESS:PORT|udp:ADDRESS:PORT|abstract:NAME ...
"""

import socket
import sys
import time


def attempt(target):
    kind, rest = target.split(":", 1)
    if kind == "abstract":
        family, address = socket.AF_UNIX, "\0" + rest
    else:
        host, port = rest.rsplit(":", 1)
        family, address = (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, int(port))
    stream = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    with socket.socket(family, stream) as it:
        it.settimeout(5)
        it.connect(address)
        if kind == "udp":
            it.send(b"?")
        if it.recv(100) != b"HOST":
            raise ConnectionResetError("somebody else answered")


for target in sys.argv[1:]:
    started = time.monotonic()
    try:
        attempt(target)
        print(target, "open")
    except OSError as error:
        print(target, "closed", error, f"{time.monotonic() - started:.1f}s")
