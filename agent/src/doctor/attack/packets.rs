//! Packets without, or with odd, sockets: raw, ping, packet, IP options.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    os::fd::AsRawFd as _,
};

use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto};

use super::{Attack, Scene, arrive, check, nearby::outward, traffic::other};
use crate::doctor::stage::places::{FAR_V4, FAR_V6, NEAR_V4, PORT, far};

pub const ATTACKS: &[Attack] = &[
    arrive("raw-icmp", "a raw ICMP socket", |scene| {
        send(
            scene,
            (libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
            FAR_V4,
            &ECHO_V4,
        )
    }),
    arrive(
        "raw-header",
        "a raw socket with an IP header of its own",
        raw_header,
    ),
    arrive("raw6", "a raw IPv6 socket", |scene| {
        send(
            scene,
            (libc::AF_INET6, libc::SOCK_RAW, EXPERIMENT),
            FAR_V6,
            &[],
        )
    }),
    arrive("ping4", "a ping socket", |scene| {
        send(
            scene,
            (libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
            FAR_V4,
            &ECHO_V4,
        )
    }),
    arrive("ping6", "a ping socket over IPv6", |scene| {
        send(
            scene,
            (libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_ICMPV6),
            FAR_V6,
            &ECHO_V6,
        )
    }),
    arrive("packet", "AF_PACKET: frames", |scene| {
        packet(scene, i64::from(libc::AF_PACKET))
    }),
    arrive(
        "packet-wide",
        "AF_PACKET, with more bits than the kernel reads",
        |scene| packet(scene, i64::from(libc::AF_PACKET) | 1 << 32),
    ),
    arrive(
        "source-route",
        "UDP to loopback, with a loose source route over the outside",
        source_route,
    ),
];

/// Echo requests (RFC 792, RFC 4443): type, code, checksum, identifier, sequence.
const ECHO_V4: [u8; 8] = [8, 0, 0, 0, 0, 1, 0, 1];
const ECHO_V6: [u8; 8] = [128, 0, 0, 0, 0, 1, 0, 1];
/// For experimentation and testing (RFC 3692).
const EXPERIMENT: i32 = 253;

fn send(
    scene: &Scene,
    (family, kind, protocol): (i32, i32, i32),
    to: impl Into<IpAddr>,
    header: &[u8],
) -> io::Result<()> {
    let socket = other(family, kind, protocol)?;
    let payload = [header, &scene.line()].concat();
    let to = SockaddrStorage::from(far(to, 0));
    sendto(socket.as_raw_fd(), &payload, &to, MsgFlags::empty())?;
    Ok(())
}

/// IPv4 (RFC 791) and UDP (RFC 768); the kernel fills in lengths, checksum and identification.
fn raw_header(scene: &Scene) -> io::Result<()> {
    let socket = other(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    let line = scene.line();
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, libc::IPPROTO_UDP as u8, 0, 0];
    packet.extend(NEAR_V4.octets());
    packet.extend(FAR_V4.octets());
    packet.extend(PORT.to_be_bytes());
    packet.extend(PORT.to_be_bytes());
    packet.extend(
        u16::try_from(8 + line.len())
            .unwrap_or(u16::MAX)
            .to_be_bytes(),
    );
    packet.extend([0, 0]);
    packet.extend(line);
    let to = SockaddrStorage::from(far(FAR_V4, 0));
    sendto(socket.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
    Ok(())
}

fn packet(scene: &Scene, family: i64) -> io::Result<()> {
    // SAFETY: takes no memory.
    let fd = check(unsafe { libc::syscall(libc::SYS_socket, family, libc::SOCK_DGRAM, 0) })?;
    // SAFETY: all zero is a valid sockaddr_ll.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    to.sll_ifindex = outward() as i32;
    to.sll_halen = 6;
    to.sll_addr = [0xff; 8];
    let line = scene.line();
    // SAFETY: line and address live through the call, with their true sizes.
    check(unsafe {
        libc::sendto(
            fd as i32,
            line.as_ptr().cast(),
            line.len(),
            0,
            (&raw const to).cast(),
            size_of_val(&to) as libc::socklen_t,
        )
    })
    .map(drop)
}

/// The packet's first destination is the option's, whatever address the hooks are shown (RFC 791, section 3.1).
fn source_route(scene: &Scene) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let [a, b, c, d] = FAR_V4.octets();
    let options = [131, 7, 4, a, b, c, d, 0];
    // SAFETY: reads 8 bytes.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_OPTIONS,
            options.as_ptr().cast(),
            options.len() as libc::socklen_t,
        )
    })?;
    socket
        .send_to(&scene.line(), (Ipv4Addr::LOCALHOST, PORT))
        .map(drop)
}
