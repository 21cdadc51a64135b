"""Sends requests byte for byte, each on a connection of its own, and prints as JSON what came back.

raw.py FILE, with a JSON list of [HOST, REQUEST] in FILE; REQUEST is Latin-1 text.
"""

import concurrent.futures
import json
import re
import socket
import ssl
import sys


def exchange(host, request):
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    received = b""
    try:
        with socket.create_connection((host, 443), timeout=20) as plain:
            with context.wrap_socket(plain, server_hostname=host) as stream:
                stream.sendall(request)
                while not is_whole(received):
                    piece = stream.recv(65536)
                    if not piece:
                        break
                    received += piece
    except OSError as error:
        return received.decode("latin-1") + f"\nERROR {error}"
    return received.decode("latin-1")


def is_whole(received):
    head, end, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
    return bool(end and length and len(body) >= int(length[1]))


with open(sys.argv[1]) as file:
    cases = json.load(file)
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    answers = pool.map(lambda case: exchange(case[0], case[1].encode("latin-1")), cases)
print(json.dumps(list(answers)))
