"""A bucket with a retention lock, as Cloud Storage's XML API shows one (https://cloud.google.com/storage/docs/xml-api/put-object-upload): what is
there stays as it is, and fails as it is told.

bucket.py PORT DIRECTORY FAULTS JOURNAL

DIRECTORY gets the objects as files. FAULTS is a file with what happens to requests: "none", "503", "403", or "some": in turn 503, 429, a connection
that is reset before or after the object is there; "create-only" and "create-only-some" are "none" and "some" for an account that may create objects and nothing
else: who would replace one is refused before the precondition is looked at. JOURNAL gets a line of JSON for each request.
"""

import json
import os
import itertools
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

port, directory, faults, journal = sys.argv[1:5]
lock = threading.Lock()


# In turn, so that each of them comes.
SOME = itertools.cycle(["none", "503", "429", "none", "before", "after"])

MAY_NOT_REPLACE = b"""<?xml version='1.0' encoding='UTF-8'?><Error><Code>AccessDenied</Code><Message>Access denied.</Message>\
<Details>runner@lab-project.iam.gserviceaccount.com does not have storage.objects.delete access to the Google Cloud Storage object. \
Permission 'storage.objects.delete' denied on resource (or it may not exist).</Details></Error>"""


class Bucket(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        with open(faults) as file:
            fault = file.read().strip()
        create_only = fault.startswith("create-only")
        if fault in ("some", "create-only-some"):
            fault = next(SOME)
        name = unquote(urlsplit(self.path).path).lstrip("/")
        path = os.path.join(directory, name)
        with lock:
            code = self.put(path, body, fault, create_only)
            with open(journal, "a") as out:
                once = self.headers["x-goog-if-generation-match"] == "0"
                out.write(json.dumps({"name": name, "fault": fault, "code": code, "once": once}) + "\n")
        if fault in ("before", "after"):
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(code)
        if code == 200:
            self.send_header("ETag", '"%x"' % (hash(body) & 0xFFFFFFFF))
            self.send_header("x-goog-generation", "1")
        answer = MAY_NOT_REPLACE if code == 403 and create_only else b""
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def put(self, path, body, fault, create_only):
        if fault == "create-only":
            fault = "none"
        if fault.isdigit():
            return int(fault)
        if not self.headers.get("authorization", "").startswith("Bearer "):
            return 401
        if os.path.exists(path):
            if create_only:
                return 403
            return 412 if self.headers["x-goog-if-generation-match"] == "0" else 403
        if fault == "before":
            return 0
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".part", "wb") as out:
            out.write(body)
        os.rename(path + ".part", path)
        return 200

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(port)), Bucket)
server.daemon_threads = True
server.serve_forever()
