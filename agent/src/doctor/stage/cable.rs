//! A virtual cable between two network namespaces, and addresses at its ends.

use std::{
    fs, io, mem,
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::{AsRawFd as _, BorrowedFd},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

use crate::doctor::attack::other_socket;

/// Lays it: `own` in the caller's network namespace, `peer` in the other one.
///
/// # Errors
/// When the kernel has no virtual Ethernet.
pub fn lay(own: &str, peer: &str, other: BorrowedFd<'_>) -> anyhow::Result<()> {
    /// Of linux/veth.h.
    const VETH_INFO_PEER: u16 = 1;
    // struct ifinfomsg of linux/rtnetlink.h, all zero: nothing is asked of the interface.
    let unspecified = [0_u8; 16];
    let far = [
        &unspecified[..],
        &attribute(libc::IFLA_IFNAME, &terminated(peer)),
        &attribute(libc::IFLA_NET_NS_FD, &other.as_raw_fd().to_ne_bytes()),
    ]
    .concat();
    let kind = [
        attribute(libc::IFLA_INFO_KIND, b"veth"),
        attribute(libc::IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &far)),
    ]
    .concat();
    let body = [
        &unspecified[..],
        &attribute(libc::IFLA_IFNAME, &terminated(own)),
        &attribute(libc::IFLA_LINKINFO, &kind),
    ]
    .concat();
    request(libc::RTM_NEWLINK, &body)
        .context("cannot make a virtual Ethernet cable (kernel module veth)")
}

/// Sends one request of rtnetlink(7) and waits for its acknowledgement.
///
/// # Errors
/// What the kernel says.
pub fn request(kind: u16, body: &[u8]) -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    // struct nlmsghdr: length, type, flags, sequence number, port.
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // struct nlmsgerr follows the header: minus an error number, or 0.
    let code = answer[..length]
        .get(16..20)
        .and_then(|code| code.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// struct rtattr, padded to four bytes.
pub fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = 4 + payload.len();
    let mut attribute = Vec::with_capacity(length.next_multiple_of(4));
    attribute.extend((length as u16).to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(payload);
    attribute.resize(length.next_multiple_of(4), 0);
    attribute
}

fn terminated(name: &str) -> Vec<u8> {
    [name.as_bytes(), b"\0"].concat()
}

/// Addresses made here are good at once, without asking whether somebody else has them.
pub fn trust_addresses() {
    // Without IPv6 there is no such file.
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0");
    let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "0");
    let _ = fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "0");
}

/// Sets an interface of the caller's namespace up, with addresses.
///
/// # Errors
/// What ioctl(2) says. That there is no IPv6 is no error.
pub fn plug_in(name: &str, v4: Ipv4Addr, v6: &[Ipv6Addr]) -> io::Result<()> {
    add_v4(name, v4)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut up = interface(name);
    up.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ask(&socket, libc::SIOCSIFFLAGS, &raw const up)?;
    v6.iter().try_for_each(|address| add_v6(name, *address, 64))
}

/// Adds an IPv4 address, with the network that its class says; `name` may be an alias (`lo:1`).
pub fn add_v4(name: &str, address: Ipv4Addr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from(address).to_be(),
        },
        sin_zero: [0; 8],
    };
    let mut request = interface(name);
    // SAFETY: both are 16 bytes, and any bytes are a valid sockaddr.
    request.ifr_ifru.ifru_addr =
        unsafe { mem::transmute::<libc::sockaddr_in, libc::sockaddr>(address) };
    ask(&socket, libc::SIOCSIFADDR, &raw const request)
}

/// Adds an IPv6 address. Where the kernel has no IPv6, nothing happens.
pub fn add_v6(name: &str, address: Ipv6Addr, prefix: u32) -> io::Result<()> {
    let socket = match other_socket(libc::AF_INET6, libc::SOCK_DGRAM, 0) {
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => return Ok(()),
        made => made?,
    };
    let request = libc::in6_ifreq {
        ifr6_addr: libc::in6_addr {
            s6_addr: address.octets(),
        },
        ifr6_prefixlen: prefix,
        ifr6_ifindex: if_nametoindex(name)? as i32,
    };
    ask(&socket, libc::SIOCSIFADDR, &raw const request)
}

/// Waits until addresses can be used: even those that nobody is asked about are made so by a worker of the kernel's.
pub fn settle() {
    /// `IFA_F_TENTATIVE` of linux/if_addr.h.
    const TENTATIVE: u32 = 0x40;
    for _ in 0..200 {
        // Address, index, prefix length, scope, flags, name.
        let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
        let flags = addresses
            .lines()
            .filter_map(|line| u32::from_str_radix(line.split_whitespace().nth(4)?, 16).ok());
        if flags.fold(0, |all, flags| all | flags) & TENTATIVE == 0 {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn ask<T>(socket: &impl std::os::fd::AsRawFd, what: u64, request: *const T) -> io::Result<()> {
    // SAFETY: every caller's request is of the structure that `what` reads.
    match unsafe { libc::ioctl(socket.as_raw_fd(), what as _, request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn interface(name: &str) -> libc::ifreq {
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_say_their_length() {
        let bytes = attribute(3, b"lo\0");
        assert_eq!(bytes.len(), 8);
        assert_eq!(bytes[..2], 7_u16.to_ne_bytes());
        assert_eq!(bytes[4..7], *b"lo\0");
    }
}
