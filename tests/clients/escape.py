"""Tries ways out of a sandbox that go round the proxy, towards a canary on the host; prints `NAME open|closed ...`.

escape.py ADDRESS PORT
"""

import errno
import socket
import sys
import time

CANARY = (sys.argv[1], int(sys.argv[2]))
MAPPED = ("::ffff:" + CANARY[0], CANARY[1])
ELSEWHERE6 = ("2606:4700:4700::1111", 443)


def listen(it):
    """The canary sings to whoever reaches it."""
    it.settimeout(5)
    heard = it.recv(100)
    if b"CANARY" not in heard:
        raise ConnectionResetError(errno.ECONNRESET, f"heard {heard!r}")


def udp(address, family=socket.AF_INET):
    def attempt():
        with socket.socket(family, socket.SOCK_DGRAM) as it:
            it.sendto(b"x", address)
            listen(it)

    return attempt


def udp_connected():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
        it.connect(CANARY)
        it.send(b"x")
        listen(it)


def tcp(address, family=socket.AF_INET, protocol=0):
    def attempt():
        with socket.socket(family, socket.SOCK_STREAM, protocol) as it:
            it.settimeout(5)
            it.connect(address)
            it.send(b"GET / HTTP/1.0\r\n\r\n")
            listen(it)

    return attempt


def fast_open():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as it:
        it.sendto(b"GET / HTTP/1.0\r\n\r\n", socket.MSG_FASTOPEN, CANARY)
        listen(it)


def make(family, kind, protocol):
    def attempt():
        with socket.socket(family, kind, protocol):
            pass

    return attempt


ATTEMPTS = {
    "udp": udp(CANARY),
    "udp-connected": udp_connected,
    "udp-mapped": udp(MAPPED, socket.AF_INET6),
    "udp6": udp(ELSEWHERE6, socket.AF_INET6),
    "metadata-udp": udp(("169.254.169.254", 80)),
    "raw": make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "ping": make(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP),
    "packet": make(17, socket.SOCK_RAW, 0x0300),
    "vsock": make(40, socket.SOCK_STREAM, 0),
    "alg": make(38, socket.SOCK_SEQPACKET, 0),
    "xdp": make(44, socket.SOCK_RAW, 0),
    "sctp": make(socket.AF_INET, socket.SOCK_STREAM, 132),
    "udplite": make(socket.AF_INET, socket.SOCK_DGRAM, 136),
    "tcp": tcp(CANARY),
    "tcp-mapped": tcp(MAPPED, socket.AF_INET6),
    "tcp6": tcp(ELSEWHERE6, socket.AF_INET6),
    "mptcp": tcp(CANARY, socket.AF_INET, 262),
    "fast-open": fast_open,
}

for name, attempt in ATTEMPTS.items():
    started = time.monotonic()
    try:
        attempt()
        print(name, "open")
    except OSError as error:
        print(name, "closed", error, f"{time.monotonic() - started:.1f}s")
