//! Where a session's connections end up, and what is known of them there.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::Context as _;
use nix::sys::socket::{SockaddrStorage, bind};

use crate::{
    Test,
    world::{Accepted, OWN, World, connect, greeted, in_process, readable, socket, udp},
};

pub const TESTS: &[Test] = &[
    ("tcp_reaches_the_proxy_whatever_the_port", |world| {
        for to in ["192.0.2.1:443", "192.0.2.1:22", "169.254.169.254:80", OWN] {
            flow_goes_to(world, to, to)?;
        }
        Ok(())
    }),
    ("tcp_over_ipv6_reaches_the_proxy", |world| {
        let to = "[2001:db8::1]:443";
        let accepted = world.in_session(
            || greeted(&connect(to)?),
            |_| world.accept(&world.listeners.proxy_v6),
        )?;
        expect_flow(&accepted, to)
    }),
    ("v4_mapped_tcp_reaches_the_ipv4_proxy", |world| {
        flow_goes_to(world, "[::ffff:192.0.2.1]:443", "192.0.2.1:443")
    }),
    ("tcp_dns_reaches_the_resolver", |world| {
        world.in_session(
            || greeted(&connect("192.0.2.53:53")?),
            |_| world.accept(&world.listeners.dns_tcp).map(drop),
        )
    }),
    ("fast_open_reaches_the_proxy", |world| {
        let to = "192.0.2.1:443";
        let accepted = world.in_session(
            || {
                let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
                fast_open(&socket, to.parse()?)?;
                greeted(&TcpStream::from(socket))
            },
            |_| world.accept(&world.listeners.proxy_v4),
        )?;
        expect_flow(&accepted, to)
    }),
    ("a_client_bound_to_127_0_0_2_has_its_own_flow", |world| {
        let to = "192.0.2.1:443";
        let accepted = world.in_session(
            || {
                let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
                bind(socket.as_raw_fd(), &address("127.0.0.2:0")?)?;
                nix::sys::socket::connect(socket.as_raw_fd(), &address(to)?)?;
                greeted(&TcpStream::from(socket))
            },
            |_| world.accept(&world.listeners.proxy_v4),
        )?;
        anyhow::ensure!(accepted.client.ip().to_string() == "127.0.0.2");
        expect_flow(&accepted, to)
    }),
    (
        "a_flow_can_be_asked_for_once_and_in_its_session_only",
        |world| {
            world.in_session(
                || greeted(&connect("192.0.2.1:443")?),
                |_| {
                    readable(&world.listeners.proxy_v4)?;
                    let (stream, client) = world.listeners.proxy_v4.accept()?;
                    let listener = stream.local_addr()?;
                    let (kernel, session) = (world.kernel(), world.session.id);
                    anyhow::ensure!(kernel.flow(session + 1, client, listener).is_none());
                    anyhow::ensure!(kernel.flow(session, listener, client).is_none());
                    anyhow::ensure!(kernel.flow(session, client, listener).is_some());
                    anyhow::ensure!(
                        kernel.flow(session, client, listener).is_none(),
                        "a second time"
                    );
                    std::io::Write::write_all(&mut &stream, b"!")?;
                    Ok(())
                },
            )
        },
    ),
    ("who_dials_the_listener_itself_has_no_flow", |world| {
        let accepted = world.in_session(
            || greeted(&connect("127.0.0.1:15001")?),
            |_| world.accept(&world.listeners.proxy_v4),
        )?;
        anyhow::ensure!(accepted.flow.is_none(), "{:?}", accepted.flow);
        Ok(())
    }),
    ("loopback_is_left_alone", |world| {
        world.only_in_session(|| {
            for local in ["127.0.0.1:0", "127.0.0.9:0", "[::1]:0"] {
                let server = TcpListener::bind(local)?;
                let client = TcpStream::connect(server.local_addr()?)?;
                anyhow::ensure!(client.peer_addr()? == server.local_addr()?);
                let (server, client) = (udp(local)?, udp(local)?);
                client.send_to(b"?", server.local_addr()?)?;
                anyhow::ensure!(server.recv_from(&mut [0; 8])?.1 == client.local_addr()?);
            }
            // The unspecified address means loopback.
            let server = TcpListener::bind("127.0.0.1:0")?;
            TcpStream::connect(("0.0.0.0", server.local_addr()?.port()))?;
            Ok(())
        })
    }),
    (
        "a_socket_may_be_redirected_first_and_left_alone_then",
        |world| {
            world.in_session(
                || {
                    let socket = udp("0.0.0.0:0")?;
                    socket.connect("192.0.2.53:53")?;
                    anyhow::ensure!(socket.peer_addr()? == "192.0.2.53:53".parse()?);
                    // As if it had never asked for anything else.
                    socket.connect(("127.0.0.1", 9))?;
                    anyhow::ensure!(
                        socket.peer_addr()?.ip().is_loopback(),
                        "{}",
                        socket.peer_addr()?
                    );
                    socket.connect("192.0.2.54:53")?;
                    anyhow::ensure!(socket.peer_addr()? == "192.0.2.54:53".parse()?);
                    // A refused connect changes nothing.
                    anyhow::ensure!(socket.connect("192.0.2.55:443").is_err());
                    anyhow::ensure!(socket.peer_addr()? == "192.0.2.54:53".parse()?);
                    Ok(())
                },
                |_| Ok(()),
            )
        },
    ),
    (
        "a_tcp_socket_whose_first_connect_failed_has_the_second_one_s_flow",
        |world| {
            let accepted = world.in_session(
                || {
                    let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
                    let closed = address("127.0.0.1:1")?;
                    anyhow::ensure!(
                        nix::sys::socket::connect(socket.as_raw_fd(), &closed).is_err()
                    );
                    nix::sys::socket::connect(socket.as_raw_fd(), &address("192.0.2.7:443")?)?;
                    greeted(&TcpStream::from(socket))
                },
                |_| world.accept(&world.listeners.proxy_v4),
            )?;
            expect_flow(&accepted, "192.0.2.7:443")
        },
    ),
    ("an_outsider_is_not_affected", |_| {
        let server = TcpListener::bind(OWN)?;
        in_process(
            || {
                socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP).context("raw socket")?;
                socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)
                    .context("ping socket")?;
                let socket = udp("0.0.0.0:0")?;
                socket
                    .send_to(b"?", "198.51.100.1:443")
                    .context("UDP 443")?;
                socket.connect("192.0.2.53:53")?;
                anyhow::ensure!(socket.peer_addr()? == "192.0.2.53:53".parse()?);
                let stream = connect(OWN)?;
                anyhow::ensure!(stream.peer_addr()? == OWN.parse()?);
                Ok(())
            },
            |_| {
                readable(&server)?;
                let (_, client) = server.accept()?;
                anyhow::ensure!(client.ip() == OWN.parse::<SocketAddr>()?.ip());
                Ok(())
            },
        )?;
        Ok(())
    }),
];

/// Connects to an IPv4 `to` and expects the proxy to learn of `destination`.
fn flow_goes_to(world: &World, to: &str, destination: &str) -> anyhow::Result<()> {
    let accepted = world.in_session(
        || greeted(&connect(to)?),
        |_| world.accept(&world.listeners.proxy_v4),
    )?;
    expect_flow(&accepted, destination)
}

fn expect_flow(accepted: &Accepted, destination: &str) -> anyhow::Result<()> {
    let flow = accepted.flow.context("no flow")?;
    anyhow::ensure!(flow.destination == destination.parse()?, "{flow:?}");
    Ok(())
}

fn address(text: &str) -> anyhow::Result<SockaddrStorage> {
    Ok(text.parse::<SocketAddr>()?.into())
}

fn fast_open(socket: &OwnedFd, to: SocketAddr) -> anyhow::Result<()> {
    use nix::sys::socket::{MsgFlags, sendto};
    let flags = MsgFlags::from_bits_retain(libc::MSG_FASTOPEN);
    sendto(socket.as_raw_fd(), b"?", &SockaddrStorage::from(to), flags)?;
    Ok(())
}
