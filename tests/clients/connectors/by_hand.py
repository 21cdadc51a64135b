"""What a connector does, step by step, so that each step can be done wrong: prints one line of JSON.

by_hand.py settings INSTANCE          what connectSettings answers
by_hand.py certificate INSTANCE       a key, and what generateEphemeralCert answers for it
by_hand.py enter HOST [FILE]          connects to HOST:3307, with the key and certificate in FILE, and logs in without a password
"""

import json
import socket
import ssl
import struct
import subprocess
import sys
import urllib.error
import urllib.request

PORT = 3307
API = "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/"


def ask(path, body=None):
    request = urllib.request.Request(API + path, data=body and json.dumps(body).encode(), headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return {"status": answer.status, "body": json.load(answer)}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "body": json.loads(error.read())}


def settings(instance):
    return ask(f"{instance}/connectSettings")


def certificate(instance):
    key = subprocess.run(["openssl", "genrsa", "2048"], check=True, capture_output=True).stdout
    public = subprocess.run(["openssl", "rsa", "-pubout"], input=key, check=True, capture_output=True).stdout
    answer = ask(f"{instance}:generateEphemeralCert", {"public_key": public.decode(), "access_token": "the agent's"})
    return {"key": key.decode(), **answer}


def enter(host, credential=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if credential:
        context.load_cert_chain(credential)
    try:
        with socket.create_connection((host, PORT), timeout=20) as plain, context.wrap_socket(plain) as tls:
            startup = struct.pack("!i", 196608) + b"user\0whoever\0database\0shop\0\0"
            tls.sendall(struct.pack("!i", len(startup) + 4) + startup)
            first = tls.recv(1)
            if first != b"R":
                return {"refused": (first + tls.recv(4096)).decode("latin-1")}
            return {"answer": "let in"}
    except OSError as error:
        return {"refused": f"{type(error).__name__}: {error}"}


print(json.dumps({"settings": settings, "certificate": certificate, "enter": enter}[sys.argv[1]](*sys.argv[2:])))
