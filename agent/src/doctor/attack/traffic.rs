//! TCP and UDP to the outside world, in every way there is to ask for it.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, sendto, socket,
};

use super::{Attack, Scene, arrive, check};
use crate::doctor::stage::places::{FAR_V4, FAR_V6, PORT, far};

pub const ATTACKS: &[Attack] = &[
    arrive("tcp4", "TCP over IPv4", |scene| {
        tcp(scene, far(FAR_V4, PORT))
    }),
    arrive("tcp6", "TCP over IPv6", |scene| {
        tcp(scene, far(FAR_V6, PORT))
    }),
    arrive("tcp-mapped", "TCP to a v4-mapped address", |scene| {
        tcp(scene, far(FAR_V4.to_ipv6_mapped(), PORT))
    }),
    arrive("tcp-fast-open-send", "TCP by MSG_FASTOPEN", fast_open),
    arrive(
        "tcp-fast-open-connect",
        "TCP by TCP_FASTOPEN_CONNECT",
        fast_open_connect,
    ),
    arrive(
        "tcp-reconnect",
        "a TCP socket connected to loopback first",
        reconnect,
    ),
    arrive("tcp-bound", "TCP from a bound socket", |scene| {
        let socket = bound_tcp()?;
        connect(
            socket.as_raw_fd(),
            &SockaddrStorage::from(far(FAR_V4, PORT)),
        )?;
        TcpStream::from(socket).write_all(&scene.line())
    }),
    arrive("mptcp", "Multipath TCP", mptcp),
    arrive("udp4", "UDP over IPv4", |scene| {
        udp(scene, far(FAR_V4, PORT))
    }),
    arrive("udp6", "UDP over IPv6", |scene| {
        udp(scene, far(FAR_V6, PORT))
    }),
    arrive("udp-mapped", "UDP to a v4-mapped address", |scene| {
        udp(scene, far(FAR_V4.to_ipv6_mapped(), PORT))
    }),
    arrive("udp-connected4", "connected UDP over IPv4", |scene| {
        connected_udp(scene, far(FAR_V4, PORT))
    }),
    arrive("udp-connected6", "connected UDP over IPv6", |scene| {
        connected_udp(scene, far(FAR_V6, PORT))
    }),
    arrive("udp-sendmmsg", "UDP by sendmmsg(2)", sendmmsg),
    arrive("quic4", "QUIC: UDP port 443", |scene| {
        udp(scene, far(FAR_V4, 443))
    }),
    arrive("quic6", "QUIC over IPv6", |scene| {
        udp(scene, far(FAR_V6, 443))
    }),
    arrive("ntp", "UDP port 123", |scene| udp(scene, far(FAR_V4, 123))),
    arrive("udp-lite4", "UDP-Lite over IPv4", |scene| {
        udp_lite(scene, AddressFamily::Inet, far(FAR_V4, PORT))
    }),
    arrive("udp-lite6", "UDP-Lite over IPv6", |scene| {
        udp_lite(scene, AddressFamily::Inet6, far(FAR_V6, PORT))
    }),
];

fn tcp(scene: &Scene, to: SocketAddr) -> io::Result<()> {
    TcpStream::connect(to)?.write_all(&scene.line())
}

fn stream() -> io::Result<OwnedFd> {
    Ok(socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?)
}

fn fast_open(scene: &Scene) -> io::Result<()> {
    let socket = stream()?;
    let to = SockaddrStorage::from(far(FAR_V4, PORT));
    let flags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
    sendto(socket.as_raw_fd(), &scene.line(), &to, flags)?;
    Ok(())
}

fn fast_open_connect(scene: &Scene) -> io::Result<()> {
    let socket = stream()?;
    let on: libc::c_int = 1;
    // SAFETY: reads one int.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN_CONNECT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    })?;
    connect(
        socket.as_raw_fd(),
        &SockaddrStorage::from(far(FAR_V4, PORT)),
    )?;
    TcpStream::from(socket).write_all(&scene.line())
}

/// Where nobody listens; what the hooks remember of the first must not be taken for the second.
fn reconnect(scene: &Scene) -> io::Result<()> {
    let socket = stream()?;
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let _ = connect(socket.as_raw_fd(), &SockaddrStorage::from(nowhere));
    connect(
        socket.as_raw_fd(),
        &SockaddrStorage::from(far(FAR_V4, PORT)),
    )?;
    TcpStream::from(socket).write_all(&scene.line())
}

/// Bound first, which is another way through the kernel.
fn bound_tcp() -> io::Result<OwnedFd> {
    let socket = stream()?;
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(any))?;
    Ok(socket)
}

fn mptcp(scene: &Scene) -> io::Result<()> {
    let socket = other(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)?;
    connect(
        socket.as_raw_fd(),
        &SockaddrStorage::from(far(FAR_V4, PORT)),
    )?;
    TcpStream::from(socket).write_all(&scene.line())
}

fn unconnected(to: SocketAddr) -> io::Result<UdpSocket> {
    match to {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }
}

fn udp(scene: &Scene, to: SocketAddr) -> io::Result<()> {
    unconnected(to)?.send_to(&scene.line(), to).map(drop)
}

fn connected_udp(scene: &Scene, to: SocketAddr) -> io::Result<()> {
    let socket = unconnected(to)?;
    socket.connect(to)?;
    socket.send(&scene.line()).map(drop)
}

fn sendmmsg(scene: &Scene) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let to = SockaddrStorage::from(far(FAR_V4, PORT));
    let line = scene.line();
    let parts = [[io::IoSlice::new(&line)]];
    let mut headers = nix::sys::socket::MultiHeaders::preallocate(1, None);
    let sent = nix::sys::socket::sendmmsg(
        socket.as_raw_fd(),
        &mut headers,
        &parts,
        [Some(to)],
        [],
        MsgFlags::empty(),
    )?
    .count();
    if sent == 1 {
        Ok(())
    } else {
        Err(super::no("nothing was sent"))
    }
}

fn udp_lite(scene: &Scene, family: AddressFamily, to: SocketAddr) -> io::Result<()> {
    let socket = other(family as i32, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE)?;
    let to = SockaddrStorage::from(to);
    sendto(socket.as_raw_fd(), &scene.line(), &to, MsgFlags::empty())?;
    Ok(())
}

/// A socket of a kind that has no name in the libraries.
pub fn other(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: takes no memory.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel has just made it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
