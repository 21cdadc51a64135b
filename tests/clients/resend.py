"""Sends one DELETE the way impatient clients do: gives up, sends it again, or sends it many times at once.

resend.py URL PATIENCE TRIES PARALLEL: prints one line for each answer, `status body`, or `gave up`.
"""

import http.client
import ssl
import sys
import threading
import urllib.parse

url, patience, tries, parallel = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
target = urllib.parse.urlsplit(url)
printing = threading.Lock()


def once(timeout):
    connection = http.client.HTTPSConnection(
        target.netloc, timeout=timeout, context=ssl.create_default_context()
    )
    try:
        connection.request("DELETE", target.path)
        answer = connection.getresponse()
        return f"{answer.status} {' '.join(answer.read().decode().split())}"
    except TimeoutError:
        return "gave up"
    finally:
        connection.close()


def client():
    for attempt in range(tries):
        last = attempt == tries - 1
        result = once(None if last else patience)
        with printing:
            print(result, flush=True)


clients = [threading.Thread(target=client) for _ in range(parallel)]
for thread in clients:
    thread.start()
for thread in clients:
    thread.join()
