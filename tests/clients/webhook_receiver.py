"""A receiver of webhooks that fails as it is told, and checks signatures by itself (Standard Webhooks 1.0.0).

webhook_receiver.py PORT CERTIFICATE KEY SECRET JOURNAL PLAN...

PLAN: what the first, second, ... request gets: a status, "429:SECONDS" with Retry-After, "reset", "hang". The last goes for all that follow.
JOURNAL gets a line of JSON for each request, when it has arrived.
"""

import base64
import hashlib
import hmac
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, certificate, key, secret, journal = sys.argv[1:6]
plan = sys.argv[6:]
lock = threading.Lock()


def signed(headers, body):
    content = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    expected = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), content, hashlib.sha256).digest()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    versions = [it.split(",", 1) for it in headers["webhook-signature"].split(" ")]
    return fresh and any(v == "v1" and base64.b64decode(s) == expected for v, s in versions)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with lock:
            step = plan.pop(0) if len(plan) > 1 else plan[0]
            line = {
                "at": time.time(),
                "step": step,
                "path": self.path,
                "id": self.headers["webhook-id"],
                "signed": "webhook-id" in self.headers and signed(self.headers, body),
                "body": json.loads(body),
            }
            with open(journal, "a") as out:
                out.write(json.dumps(line) + "\n")
        if step == "hang":
            time.sleep(600)
        if step in ("hang", "reset"):
            self.connection.close()
            return
        status, _, after = step.partition(":")
        self.send_response(int(status))
        if after:
            self.send_header("Retry-After", after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(port)), Receiver)
server.daemon_threads = True
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
