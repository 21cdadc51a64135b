"""Asks a DNS server for one name by hand: resolve.py SERVER tcp|udp NAME TYPE; prints RCODE and the A and AAAA records."""

import ipaddress
import socket
import struct
import sys

server, transport, name, kind = sys.argv[1:5]
kinds = {"A": 1, "AAAA": 28, "TXT": 16, "MX": 15, "PTR": 12, "ANY": 255}
question = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
query = struct.pack("!6H", 0x4242, 0x0100, 1, 0, 0, 0) + question + b"\0" + struct.pack("!HH", kinds[kind], 1)

if transport == "udp":
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
        it.settimeout(5)
        it.sendto(query, (server, 53))
        answer, origin = it.recvfrom(4096)
        print("from", origin[0])
else:
    with socket.create_connection((server, 53), timeout=5) as it:
        it.sendall(struct.pack("!H", len(query)) + query)
        answer = it.recv(4096)[2:]

flags, questions, answers = struct.unpack("!HHH", answer[2:8])
print("rcode", flags & 15)
at = 12
for _ in range(questions):
    at = answer.index(b"\0", at) + 5
for _ in range(answers):
    at = at + 2 if answer[at] & 0xC0 else answer.index(b"\0", at) + 1
    record, _, _, size = struct.unpack("!HHIH", answer[at : at + 10])
    at += 10
    if record in (1, 28):
        print("address", ipaddress.ip_address(answer[at : at + size]))
    at += size
