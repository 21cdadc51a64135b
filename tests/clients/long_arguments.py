"""Tells the kernel that its command line is 2 GiB long (prctl(2), PR_SET_MM_MAP), and connects."""

import ctypes
import mmap
import socket
import struct
import time

PR_SET_MM, PR_SET_MM_MAP = 35, 14
LENGTH = 2 << 30
MAP_NORESERVE = 0x4000

libc = ctypes.CDLL(None, use_errno=True)
arguments = mmap.mmap(-1, LENGTH, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE)
start = ctypes.addressof(ctypes.c_char.from_buffer(arguments))
# Beyond the first byte nothing is ever written: it all is one page of zeros.
arguments[0] = 1

with open("/proc/self/stat") as file:
    stat = file.read().rpartition(")")[2].split()
start_code, end_code, start_stack = (int(stat[at]) for at in (23, 24, 25))
start_data, end_data, start_brk = (int(stat[at]) for at in (42, 43, 44))
brk = libc.sbrk
brk.restype = ctypes.c_void_p
brk = brk(0)
mapping = struct.pack(
    "12QIi",
    start_code, end_code, start_data, end_data, start_brk, brk, start_stack,
    start, start + LENGTH, start, start + 1,
    0, 0, -1,
)
buffer = ctypes.create_string_buffer(mapping, len(mapping))
pack = [ctypes.c_ulong(it) for it in (PR_SET_MM_MAP, ctypes.addressof(buffer), len(mapping), 0)]
if libc.prctl(PR_SET_MM, *pack) != 0:
    print("prctl:", ctypes.get_errno())
with open("/proc/self/cmdline", "rb") as file:
    length = 0
    while piece := file.read(1 << 24):
        length += len(piece)
print("the command line has", length, "bytes")
with socket.create_connection(("sqladmin.googleapis.com", 443)) as stream:
    print("connected")
    stream.settimeout(20)
    stream.sendall(b"x" * 100)
    stream.recv(100)
    # The daemon asks who it was.
    time.sleep(3)
