"""Tries what a process must not be able to do; prints one line of JSON: what became of each."""
import ctypes, errno, json, os, socket, struct, sys

libc = ctypes.CDLL(None, use_errno=True)


def tried(act):
    try:
        return "done: %s" % (act(),)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))


def tcp(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as it:
        it.settimeout(5)
        it.connect((address, port))
        it.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = it.recv(4000)
        # What cannot be connected to may be closed instead, or answered by Holdpoint itself: all are no.
        if not answer or b"Holdpoint" in answer:
            raise OSError(errno.ECONNRESET, "closed")
        return answer


def udp(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as it:
        it.settimeout(2)
        return it.sendto(b"out", (address, port))


def made(family, kind, protocol=0):
    socket.socket(family, kind, protocol).close()
    return "made"


def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_ulong(it) for it in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return result


def status(name):
    with open("/proc/self/status") as lines:
        return next(line.split()[1] for line in lines if line.startswith(name + ":"))


def to_socket(path):
    with socket.socket(socket.AF_UNIX) as it:
        it.connect(path)
        return "connected"


address, port, engine = sys.argv[1], int(sys.argv[2]), sys.argv[3]
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
outcomes = {
    "tcp to an address": tried(lambda: tcp("198.51.100.7", 80)),
    "tcp over ipv6": tried(lambda: tcp("2001:db8::7", 80)),
    "udp to an address": tried(lambda: udp("198.51.100.7", 9999)),
    "tcp to the host's loopback": tried(lambda: tcp(address, port)),
    "the proxy itself": tried(lambda: tcp("127.0.0.1", 15001)),
    "raw": tried(lambda: made(socket.AF_INET, socket.SOCK_RAW, 1)),
    "ping": tried(lambda: made(socket.AF_INET, socket.SOCK_DGRAM, 1)),
    "packet": tried(lambda: made(socket.AF_PACKET, socket.SOCK_RAW, 0x300)),
    "vsock": tried(lambda: made(40, socket.SOCK_STREAM)),
    "alg": tried(lambda: made(38, 5)),
    "netfilter": tried(lambda: made(socket.AF_NETLINK, socket.SOCK_RAW, 12)),
    "high half of a family": tried(lambda: call(41, (1 << 32) | 17, 3, 0x300)),
    "io_uring": tried(lambda: call(425, 8, 0)),
    "clone3": tried(lambda: call(435, 0, 0)),
    "user namespace": tried(lambda: call(272, CLONE_NEWUSER)),
    "network namespace": tried(lambda: call(272, CLONE_NEWNET)),
    "bpf": tried(lambda: call(321, 0, 0, 0)),
    "keyctl": tried(lambda: call(250, 0, 0, 0)),
    "mount": tried(lambda: call(165, 0, 0, 0, 0, 0)),
    "root": tried(lambda: os.setuid(0)),
    "typing, with a high half": tried(lambda: call(16, 0, (1 << 32) | 0x5412, 0)),
    "the engine": tried(lambda: to_socket(engine)),
    "docker.sock": tried(lambda: to_socket("/run/docker.sock")),
}
facts = {
    "uid": os.getuid(),
    "groups": os.getgroups(),
    "bounding": status("CapBnd"),
    "effective": status("CapEff"),
    "no_new_privs": status("NoNewPrivs"),
    "seccomp": status("Seccomp"),
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "processes": sum(it.isdigit() for it in os.listdir("/proc")),
    "devices": sorted(os.listdir("/dev")),
}
print(json.dumps({"outcomes": outcomes, "facts": facts}))
