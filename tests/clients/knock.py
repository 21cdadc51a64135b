"""Connects to an address again and again, for ever; writes `OUTCOME SECONDS` into a file, one line a try.

knock.py ADDRESS PORT FILE
"""

import errno
import socket
import sys
import time

address, log = (sys.argv[1], int(sys.argv[2])), open(sys.argv[3], "a", buffering=1)

while True:
    started = time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as it:
        it.settimeout(10)
        try:
            it.connect(address)
            outcome = "connected"
        except OSError as error:
            outcome = errno.errorcode.get(error.errno, "timeout")
    print(outcome, f"{time.monotonic() - started:.2f}", file=log)
    time.sleep(0.05)
