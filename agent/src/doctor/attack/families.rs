//! Sockets of families and protocols that a session has no use for: what cannot be made cannot lead anywhere.

use std::io;

use super::{Attack, check, succeed, traffic::other};

pub const ATTACKS: &[Attack] = &[
    succeed("sctp4", "an SCTP socket", |_| {
        other(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP).map(drop)
    }),
    succeed("sctp6", "an SCTP socket over IPv6", |_| {
        other(libc::AF_INET6, libc::SOCK_SEQPACKET, libc::IPPROTO_SCTP).map(drop)
    }),
    succeed("mptcp-socket", "an MPTCP socket", |_| {
        other(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP).map(drop)
    }),
    succeed("smc", "a socket of shared memory communications", |_| {
        other(libc::AF_INET, libc::SOCK_STREAM, IPPROTO_SMC).map(drop)
    }),
    succeed("dccp", "a DCCP socket", |_| {
        other(libc::AF_INET, SOCK_DCCP, libc::IPPROTO_DCCP).map(drop)
    }),
    succeed("vsock", "AF_VSOCK: to the hypervisor", |_| {
        other(libc::AF_VSOCK, libc::SOCK_STREAM, 0).map(drop)
    }),
    succeed("xdp", "AF_XDP: past the network stack", |_| {
        other(libc::AF_XDP, libc::SOCK_RAW, 0).map(drop)
    }),
    succeed("alg", "AF_ALG: the kernel's cryptography", |_| {
        other(libc::AF_ALG, libc::SOCK_SEQPACKET, 0).map(drop)
    }),
    succeed("sock-diag", "netlink: other processes' sockets", |_| {
        netlink(libc::NETLINK_SOCK_DIAG)
    }),
    succeed("netlink-netfilter", "netlink: the firewall", |_| {
        netlink(libc::NETLINK_NETFILTER)
    }),
    succeed("netlink-xfrm", "netlink: IPsec", |_| {
        netlink(libc::NETLINK_XFRM)
    }),
    succeed("netlink-audit", "netlink: the audit log", |_| {
        netlink(libc::NETLINK_AUDIT)
    }),
    succeed("netlink-uevent", "netlink: device events", |_| {
        netlink(libc::NETLINK_KOBJECT_UEVENT)
    }),
    succeed("netlink-generic", "netlink: whatever modules offer", |_| {
        netlink(libc::NETLINK_GENERIC)
    }),
    succeed(
        "other-families",
        "any family but UNIX, INET, INET6, NETLINK",
        any_other,
    ),
    succeed("pair-tipc", "a socket pair of AF_TIPC", |_| {
        let mut pair = [0; 2];
        // SAFETY: pair has room for two descriptors.
        check(unsafe { libc::socketpair(libc::AF_TIPC, libc::SOCK_STREAM, 0, pair.as_mut_ptr()) })
            .map(drop)
    }),
];

/// Of linux/in.h, since Linux 6.11.
const IPPROTO_SMC: i32 = 256;
/// `SOCK_DCCP` of linux/net.h.
const SOCK_DCCP: i32 = 6;
/// One more than any family of Linux has (AF_MAX of linux/socket.h, with room to grow).
const FAMILIES: i32 = 64;

fn netlink(protocol: i32) -> io::Result<()> {
    other(libc::AF_NETLINK, libc::SOCK_RAW, protocol).map(drop)
}

fn any_other(_: &super::Scene) -> io::Result<()> {
    let usual = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let mut refusal = io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
    // First those that most kernels have: for others they look for a module, each time.
    let families = [libc::AF_ALG, libc::AF_VSOCK]
        .into_iter()
        .chain(1..FAMILIES);
    for family in families.filter(|family| !usual.contains(family)) {
        for kind in [
            libc::SOCK_STREAM,
            libc::SOCK_DGRAM,
            libc::SOCK_RAW,
            libc::SOCK_SEQPACKET,
        ] {
            match other(family, kind, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => refusal = error,
                Err(_) => {}
            }
        }
    }
    Err(refusal)
}
