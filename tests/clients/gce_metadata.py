"""An instance's metadata server at port 80, and a bucket at port 443 that wants the instance's token: DIR WORK."""
import http.server
import json
import pathlib
import ssl
import sys
import threading

directory, work = map(pathlib.Path, sys.argv[1:])
ATTRIBUTES = "/computeMetadata/v1/instance/attributes/"
TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"


class Metadata(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        attributes = json.loads((directory / "attributes.json").read_text())
        if self.headers["Metadata-Flavor"] != "Google":
            self.tell(403, b"")
        elif self.path == TOKEN:
            self.tell(200, b'{"access_token": "instance-token", "expires_in": 3599}')
        elif self.path.startswith(ATTRIBUTES) and self.path[len(ATTRIBUTES):] in attributes:
            self.tell(200, attributes[self.path[len(ATTRIBUTES):]].encode())
        else:
            self.tell(404, b"")

    def tell(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Bucket(Metadata):
    def do_GET(self):
        if self.headers["Authorization"] != "Bearer instance-token":
            self.tell(401, b"")
        elif self.path != "/storage/v1/b/bucket/o/a%20dir%2Fholdpoint.deb?alt=media":
            self.tell(404, b"")
        else:
            self.tell(200, (directory / "package").read_bytes())


bucket = http.server.ThreadingHTTPServer(("127.0.0.1", 443), Bucket)
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(work / "cert.pem", work / "key.pem")
bucket.socket = tls.wrap_socket(bucket.socket, server_side=True)
threading.Thread(target=bucket.serve_forever, daemon=True).start()
metadata = http.server.ThreadingHTTPServer(("127.0.0.1", 80), Metadata)
(work / "ready").touch()
metadata.serve_forever()
