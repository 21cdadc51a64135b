"""Uploads 60 bodies of 15 MiB over few HTTP/2 connections, and never ends any of them; prints what was answered."""

import socket
import ssl
import struct
import threading
import time

HOST = "compute.googleapis.com"
PATH = "/compute/v1/projects/lab-project/global/firewalls"
SIZE, STREAMS, CONNECTIONS = 15 << 20, 10, 6
HEADERS, DATA, SETTINGS, WINDOW_UPDATE, RST, GOAWAY, PING = 1, 0, 4, 8, 3, 7, 6


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def head():
    fields = [(":method", "POST"), (":scheme", "https"), (":authority", HOST), (":path", PATH),
              ("content-type", "application/json")]
    return b"".join(literal(*field) for field in fields)


class Connection:
    def __init__(self):
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2"])
        self.stream = context.wrap_socket(socket.create_connection((HOST, 443)), server_hostname=HOST)
        self.stream.settimeout(0.01)
        self.buffer = b""
        self.window, self.initial, self.windows, self.over = 65535, 65535, {}, {}
        self.stream.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))

    def listen(self):
        try:
            while piece := self.stream.recv(65536):
                self.buffer += piece
        except (TimeoutError, ssl.SSLWantReadError):
            pass
        while len(self.buffer) >= 9:
            length = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + length:
                break
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big")
            payload, self.buffer = self.buffer[9:9 + length], self.buffer[9 + length:]
            if kind == SETTINGS and not flags & 1:
                for at in range(0, length, 6):
                    key, value = struct.unpack(">HI", payload[at:at + 6])
                    if key == 4:
                        self.windows = {s: w + value - self.initial for s, w in self.windows.items()}
                        self.initial = value
                self.stream.sendall(frame(SETTINGS, 1, 0, b""))
            elif kind == WINDOW_UPDATE:
                more = int.from_bytes(payload, "big")
                if stream:
                    self.windows[stream] = self.windows.get(stream, 0) + more
                else:
                    self.window += more
            elif kind in (HEADERS, RST):
                self.over[stream] = kind
            elif kind == GOAWAY:
                raise ConnectionError("GOAWAY")
            elif kind == PING and not flags & 1:
                self.stream.sendall(frame(PING, 1, 0, payload))

    def run(self):
        left = {}
        for number in range(STREAMS):
            stream = 1 + 2 * number
            self.stream.sendall(frame(HEADERS, 4, stream, head()))
            left[stream], self.windows[stream] = SIZE, self.initial
        until = time.monotonic() + 60
        while time.monotonic() < until and any(left[s] and s not in self.over for s in left):
            self.listen()
            for stream in left:
                size = min(16384, left[stream], self.window, self.windows[stream])
                if size > 0 and stream not in self.over:
                    self.stream.sendall(frame(DATA, 0, stream, b" " * size))
                    left[stream] -= size
                    self.window -= size
                    self.windows[stream] -= size
        print("left to send:", sorted(left.values()), "answered:", self.over, flush=True)


def run():
    try:
        connections.append(Connection())
        connections[-1].run()
    except OSError as error:
        print("broken off:", error, flush=True)


connections = []
threads = [threading.Thread(target=run) for _ in range(CONNECTIONS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
