//! Sockets that came from elsewhere: handed over by a process outside, and the abstract ones of the host.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream},
    },
};

use nix::sys::socket::{SockaddrStorage, connect};

use super::{Attack, Scene, arrive, check, no};
use crate::{
    doctor::stage::places::{ABSTRACT, FAR_V4, FAR_V6, HAND_OVER, LOOPBACK_PORT, PORT, far},
    launch::sys::receive_with,
};

pub const ATTACKS: &[Attack] = &[
    arrive(
        "handed-tcp4",
        "a TCP socket that somebody outside made",
        |scene| tcp(scene, TCP4, far(FAR_V4, PORT)),
    ),
    arrive("handed-tcp6", "the same over IPv6", |scene| {
        tcp(scene, TCP6, far(FAR_V6, PORT))
    }),
    arrive(
        "handed-udp4",
        "a UDP socket that somebody outside made",
        |scene| udp(scene, UDP4, far(FAR_V4, PORT)),
    ),
    arrive("handed-udp6", "the same over IPv6", |scene| {
        udp(scene, UDP6, far(FAR_V6, PORT))
    }),
    arrive(
        "handed-udp-connect4",
        "the same, connected by the attacker",
        |scene| connected_udp(scene, UDP4, far(FAR_V4, PORT)),
    ),
    arrive(
        "handed-udp-connect6",
        "the same, connected, over IPv6",
        |scene| connected_udp(scene, UDP6, far(FAR_V6, PORT)),
    ),
    arrive(
        "handed-loopback4",
        "the host's 127.0.0.1, by a socket that somebody outside made",
        |scene| tcp(scene, TCP4, (Ipv4Addr::LOCALHOST, LOOPBACK_PORT).into()),
    ),
    arrive("handed-loopback6", "the same over IPv6", |scene| {
        tcp(scene, TCP6, (Ipv6Addr::LOCALHOST, LOOPBACK_PORT).into())
    }),
    arrive("handed-loopback-udp", "the same over UDP", |scene| {
        udp(scene, UDP4, (Ipv4Addr::LOCALHOST, LOOPBACK_PORT).into())
    }),
    arrive(
        "handed-disconnected",
        "one that was connected, disconnected and sent elsewhere",
        |scene| {
            let socket = UdpSocket::from(handed(CONNECTED_UDP4)?);
            disconnect(&socket)?;
            socket.send_to(&scene.line(), far(FAR_V4, PORT)).map(drop)
        },
    ),
    arrive(
        "disconnected",
        "a UDP socket connected to the resolver, then to nobody",
        |scene| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            socket.connect(far(FAR_V4, 53))?;
            disconnect(&socket)?;
            socket.send_to(&scene.line(), far(FAR_V4, PORT)).map(drop)
        },
    ),
    arrive(
        "abstract-stream",
        "an abstract UNIX socket of the host",
        |scene| {
            let address = UnixAddr::from_abstract_name(ABSTRACT)?;
            UnixStream::connect_addr(&address)?.write_all(&scene.line())
        },
    ),
    arrive("abstract-datagram", "the same, for datagrams", |scene| {
        let address = UnixAddr::from_abstract_name(format!("{ABSTRACT}-datagram"))?;
        let socket = UnixDatagram::unbound()?;
        socket.send_to_addr(&scene.line(), &address).map(drop)
    }),
];

/// The order in which they are handed over.
pub const TCP4: usize = 0;
pub const TCP6: usize = 1;
pub const UDP4: usize = 2;
pub const UDP6: usize = 3;
pub const CONNECTED_UDP4: usize = 4;

/// By an address without a family (connect(2)).
fn disconnect(socket: &UdpSocket) -> io::Result<()> {
    // SAFETY: all zero is a valid sockaddr; AF_UNSPEC is 0.
    let nobody: libc::sockaddr = unsafe { std::mem::zeroed() };
    // SAFETY: reads one sockaddr.
    check(unsafe {
        libc::connect(
            socket.as_raw_fd(),
            &raw const nobody,
            size_of_val(&nobody) as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Takes what the accomplice outside hands out, and keeps one of it.
fn handed(index: usize) -> io::Result<OwnedFd> {
    let stream = UnixStream::connect(HAND_OVER)?;
    let (_, fds) = receive_with(stream.as_fd(), &mut [0; 1])?;
    fds.into_iter()
        .nth(index)
        .ok_or_else(|| no("nothing was handed over"))
}

fn tcp(scene: &Scene, index: usize, to: SocketAddr) -> io::Result<()> {
    let socket = handed(index)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    TcpStream::from(socket).write_all(&scene.line())
}

fn udp(scene: &Scene, index: usize, to: SocketAddr) -> io::Result<()> {
    UdpSocket::from(handed(index)?)
        .send_to(&scene.line(), to)
        .map(drop)
}

fn connected_udp(scene: &Scene, index: usize, to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::from(handed(index)?);
    socket.connect(to)?;
    socket.send(&scene.line()).map(drop)
}
