"""Asks for the same thing again and again on new connections, until a file appears; prints one line a try: what came of it, and the
milliseconds it took. Resolves the name once: what a client remembers from before a restart has to go on working."""

import http.client
import os
import socket
import ssl
import sys
import time

host, path, end = sys.argv[1], sys.argv[2], sys.argv[3]
address = socket.getaddrinfo(host, 443, socket.AF_INET, socket.SOCK_STREAM)[0][4]
context = ssl.create_default_context()


class Remembered(http.client.HTTPSConnection):
    def connect(self):
        plain = socket.create_connection(address, timeout=10)
        self.sock = context.wrap_socket(plain, server_hostname=host)


while not os.path.exists(end):
    started = time.monotonic()
    try:
        connection = Remembered(host, timeout=10)
        connection.request("GET", path)
        outcome = str(connection.getresponse().status)
        connection.close()
    except Exception as error:
        outcome = type(error).__name__
    print(outcome, round((time.monotonic() - started) * 1000), flush=True)
    time.sleep(0.02)
fresh = http.client.HTTPSConnection(host, timeout=10, context=context)
fresh.request("GET", path)
print("at last", fresh.getresponse().status)
print("address", address[0], socket.getaddrinfo(host, 443, socket.AF_INET)[0][4][0])
sys.exit(23)
