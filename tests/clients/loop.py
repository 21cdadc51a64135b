"""Asks for the same thing again and again, for ever, on new connections and on a kept one; prints one line a try."""

import http.client
import ssl
import sys
import time

host, path = sys.argv[1], sys.argv[2]
kept = None


def ask(connection):
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def connect():
    return http.client.HTTPSConnection(host, timeout=2, context=ssl.create_default_context())


while True:
    try:
        fresh = connect()
        print("fresh", ask(fresh), flush=True)
        fresh.close()
        kept = kept or connect()
        print("kept", ask(kept), flush=True)
    except Exception as error:
        print("failed", type(error).__name__, flush=True)
        kept = None
    time.sleep(0.02)
