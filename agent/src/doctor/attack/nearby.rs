//! What is near: neighbours on the wire, the host's loopback, and calls from outside.

use std::{
    io::{self, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use nix::{net::if_::if_nameindex, sys::socket::setsockopt};

use super::{Attack, Scene, arrive, check, no};
use crate::doctor::stage::places::{
    FAR_LINK_LOCAL, INBOUND_PORT, LOOPBACK_PORT, NEAR_V4, NEAR_V6, PORT, SUBNET_BROADCAST,
};

pub const ATTACKS: &[Attack] = &[
    arrive("broadcast", "broadcast to everybody on the wire", |scene| {
        broadcast(scene, Ipv4Addr::BROADCAST)
    }),
    arrive("subnet-broadcast", "broadcast to the subnet", |scene| {
        broadcast(scene, SUBNET_BROADCAST)
    }),
    arrive("multicast4", "multicast over IPv4", multicast4),
    arrive(
        "multicast6",
        "multicast to all nodes on the link",
        |scene| link_local(scene, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)),
    ),
    arrive("link-local6", "a neighbour's link-local address", |scene| {
        link_local(scene, FAR_LINK_LOCAL)
    }),
    arrive("loopback4", "the host's 127.0.0.1", |scene| {
        tcp(scene, Ipv4Addr::LOCALHOST)
    }),
    arrive("loopback6", "the host's ::1", |scene| {
        tcp(scene, Ipv6Addr::LOCALHOST)
    }),
    arrive(
        "loopback-other",
        "the host's loopback as 127.9.9.9",
        |scene| tcp(scene, Ipv4Addr::new(127, 9, 9, 9)),
    ),
    arrive("unspecified4", "the host's loopback as 0.0.0.0", |scene| {
        tcp(scene, Ipv4Addr::UNSPECIFIED)
    }),
    arrive("unspecified6", "the host's loopback as ::", |scene| {
        tcp(scene, Ipv6Addr::UNSPECIFIED)
    }),
    arrive("loopback-udp", "the host's 127.0.0.1 over UDP", |scene| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket
            .send_to(&scene.line(), (Ipv4Addr::LOCALHOST, LOOPBACK_PORT))
            .map(drop)
    }),
    arrive(
        "own-address4",
        "a listener on the host's own address",
        |scene| tcp(scene, NEAR_V4),
    ),
    arrive("own-address6", "the same over IPv6", |scene| {
        tcp(scene, NEAR_V6)
    }),
    arrive("inbound4", "a listener that the outside calls", |scene| {
        inbound(
            scene,
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, INBOUND_PORT))?,
        )
    }),
    arrive("inbound6", "the same over IPv6", |scene| {
        inbound(
            scene,
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, INBOUND_PORT))?,
        )
    }),
];

/// How long an attacker waits to be called. The doctor calls every 20 ms.
const CALLED_WITHIN: Duration = Duration::from_millis(1500);

/// The index of the first interface that is not loopback, or else of loopback.
pub fn outward() -> u32 {
    let Ok(interfaces) = if_nameindex() else {
        return 1;
    };
    interfaces
        .iter()
        .map(|interface| interface.index())
        .find(|index| *index != 1)
        .unwrap_or(1)
}

fn tcp(scene: &Scene, to: impl Into<std::net::IpAddr>) -> io::Result<()> {
    TcpStream::connect(SocketAddr::new(to.into(), LOOPBACK_PORT))?.write_all(&scene.line())
}

fn broadcast(scene: &Scene, to: Ipv4Addr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_broadcast(true)?;
    let interfaces = if_nameindex()?;
    if let Some(outward) = interfaces.iter().find(|it| it.index() == outward()) {
        let name = outward.name().to_string_lossy().into_owned();
        setsockopt(
            &socket,
            nix::sys::socket::sockopt::BindToDevice,
            &name.into(),
        )?;
    }
    socket.send_to(&scene.line(), (to, PORT)).map(drop)
}

fn multicast4(scene: &Scene) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let by = libc::ip_mreqn {
        imr_multiaddr: libc::in_addr { s_addr: 0 },
        imr_address: libc::in_addr { s_addr: 0 },
        imr_ifindex: outward() as i32,
    };
    // SAFETY: reads one ip_mreqn.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MULTICAST_IF,
            (&raw const by).cast(),
            size_of_val(&by) as libc::socklen_t,
        )
    })?;
    // Administratively scoped (RFC 2365).
    let group = Ipv4Addr::new(239, 255, 77, 77);
    socket.send_to(&scene.line(), (group, PORT)).map(drop)
}

fn link_local(scene: &Scene, to: Ipv6Addr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    let to = SocketAddrV6::new(to, PORT, 0, outward());
    socket.send_to(&scene.line(), to).map(drop)
}

fn inbound(scene: &Scene, listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + CALLED_WITHIN;
    while Instant::now() < deadline {
        match listener.accept() {
            Ok((mut caller, _)) => return caller.write_all(&scene.line()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error),
        }
    }
    Err(no("nobody called"))
}
