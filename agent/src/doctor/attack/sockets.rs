//! Sockets that came from elsewhere: handed over by a process outside, and the abstract ones of the host.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixStream},
    },
};

use nix::sys::socket::{SockaddrStorage, connect};

use super::{Attack, Scene, arrive, no};
use crate::{
    doctor::stage::places::{ABSTRACT, FAR_V4, FAR_V6, HAND_OVER, PORT, far},
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
