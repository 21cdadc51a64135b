"""Keeps one TLS connection open and asks again and again; says when it was closed: HOST PATH CA-FILE OUTPUT."""
import http.client
import ssl
import sys
import time

host, path, ca, output = sys.argv[1:]
connection = http.client.HTTPSConnection(host, context=ssl.create_default_context(cafile=ca))
connection.connect()
connection.auto_open = 0
with open(output, "w", buffering=1) as out:
    for _ in range(3000):
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            print(answer.status, file=out)
        except (OSError, http.client.HTTPException) as error:
            print("closed", type(error).__name__, file=out)
            break
        time.sleep(0.02)
