//! Sockets that a session's process has and that were not made in the session: handed over by a process outside, or by another
//! session. They are in a network namespace that is not the session's, and its loopback is the host's.

use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
};

use holdpoint::kernel::Refusal;

use crate::{
    Test,
    needed::soon,
    world::{
        Cgroup, OWN, World, answer, bind_socket, connect_socket, disconnect, enter, greeted,
        in_process, is_eperm, own_network, socket, udp,
    },
};

pub const TESTS: &[Test] = &[
    (
        "a_handed_over_socket_reaches_the_host_s_loopback_without_the_programs_only",
        |world| {
            for (program, kind, local) in [
                ("connect4", libc::SOCK_STREAM, "127.0.0.1:0"),
                ("connect6", libc::SOCK_STREAM, "[::1]:0"),
                ("connect4", libc::SOCK_DGRAM, "127.0.0.1:0"),
                ("connect6", libc::SOCK_DGRAM, "[::1]:0"),
            ] {
                world.renew()?;
                let host = Host::listen(kind, local)?;
                in_session_with(world, &host, |socket, to| {
                    is_eperm(to, connect_socket(socket, to)?)
                })?;
                // The baseline: it is this program that stops it.
                world.detach(program)?;
                soon(|| {
                    in_session_with(world, &host, |socket, to| Ok(connect_socket(socket, to)??))
                })?;
            }
            Ok(())
        },
    ),
    ("datagrams_from_a_handed_over_socket_neither", |world| {
        for (program, local) in [("sendmsg4", "127.0.0.1:0"), ("sendmsg6", "[::1]:0")] {
            world.renew()?;
            let host = Host::listen(libc::SOCK_DGRAM, local)?;
            let send = |socket: &OwnedFd, to: &str| -> anyhow::Result<std::io::Result<()>> {
                let socket = UdpSocket::from(socket.try_clone()?);
                Ok(socket.send_to(b"?", to).map(drop))
            };
            in_session_with(world, &host, |socket, to| is_eperm(to, send(socket, to)?))?;
            world.detach(program)?;
            soon(|| in_session_with(world, &host, |socket, to| Ok(send(socket, to)??)))?;
        }
        Ok(())
    }),
    (
        "nor_does_it_reach_listeners_of_the_host_at_holdpoint_s_ports",
        |world| {
            // Redirected, it would arrive at whoever is at that port on the host.
            for (family, to) in [
                (libc::AF_INET, "192.0.2.1:443"),
                (libc::AF_INET6, "[2001:db8::1]:443"),
            ] {
                let made = socket(family, libc::SOCK_STREAM, 0)?;
                world.only_in_session(|| {
                    own_network()?;
                    is_eperm(to, connect_socket(&made, to)?)
                })?;
            }
            world.listeners.drain();
            Ok(())
        },
    ),
    (
        "connecting_and_disconnecting_first_does_not_help",
        |world| {
            let server = TcpListener::bind("127.0.0.1:0")?;
            let to = server.local_addr()?.to_string();
            let tcp = TcpStream::connect(&to)?;
            let datagrams = udp("127.0.0.1:0")?;
            datagrams.connect(&to)?;
            world.only_in_session(|| {
                own_network()?;
                disconnect(&tcp)?;
                is_eperm("TCP", connect_socket(&tcp, &to)?)?;
                disconnect(&datagrams)?;
                is_eperm("UDP", datagrams.connect(&to))?;
                is_eperm("UDP", datagrams.send_to(b"?", &to))
            })
        },
    ),
    (
        "a_socket_accepted_from_a_handed_over_listener_neither",
        |world| {
            let server = TcpListener::bind("127.0.0.1:0")?;
            let to = server.local_addr()?.to_string();
            let _client = TcpStream::connect(&to)?;
            world.only_in_session(|| {
                own_network()?;
                let (accepted, _) = server.accept()?;
                disconnect(&accepted)?;
                is_eperm("an accepted socket", connect_socket(&accepted, &to)?)
            })
        },
    ),
    ("one_s_own_accepted_sockets_are_one_s_own", |world| {
        let accepted = world.in_session(
            || {
                let server = TcpListener::bind("127.0.0.1:0")?;
                let _client = TcpStream::connect(server.local_addr()?)?;
                let (accepted, _) = server.accept()?;
                disconnect(&accepted)?;
                connect_socket(&accepted, "192.0.2.1:443")??;
                greeted(&accepted)
            },
            |_| world.accept(&world.listeners.proxy_v4),
        )?;
        anyhow::ensure!(accepted.flow.is_some(), "no flow");
        Ok(())
    }),
    ("a_socket_is_of_one_session_only", |world| {
        let other = Cgroup::create(&world.agents.path.join("other"))?;
        world.kernel().open_session(other.id, crate::world::RULES)?;
        let result = world.only_in_session(|| {
            let tcp = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
            let datagrams = udp("0.0.0.0:0")?;
            datagrams.connect("192.0.2.53:53")?;
            enter(&other.path)?;
            is_eperm("TCP", connect_socket(&tcp, "192.0.2.1:443")?)?;
            is_eperm("DNS", datagrams.connect("192.0.2.53:53"))?;
            is_eperm("DNS", datagrams.send_to(b"?", "192.0.2.53:53"))?;
            // One of its own will do.
            Ok(udp("0.0.0.0:0")?.connect("192.0.2.53:53")?)
        });
        world.kernel().close_session(other.id)?;
        other.remove();
        result
    }),
    ("a_handed_over_socket_cannot_be_bound", |world| {
        let made = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        let before = world.refusals_for(Refusal::ForeignSocket)?;
        world.only_in_session(|| is_eperm("a bind", bind_socket(&made, OWN)?))?;
        anyhow::ensure!(world.refusals_for(Refusal::ForeignSocket)? == before + 1);
        Ok(())
    }),
    ("sockets_are_still_known_after_a_takeover", |world| {
        let session = world.session.path.clone();
        let (go, ready) = (std::io::pipe()?, std::io::pipe()?);
        in_process(
            || {
                enter(&session)?;
                let tcp = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
                let datagrams = udp("0.0.0.0:0")?;
                datagrams.connect("192.0.2.53:53")?;
                std::io::Write::write_all(&mut &ready.1, b".")?;
                std::io::Read::read_exact(&mut &go.0, &mut [0])?;
                datagrams.send(b"?")?;
                let from = datagrams.recv_from(&mut [0; 8])?.1;
                anyhow::ensure!(from == "192.0.2.53:53".parse()?, "answered by {from}");
                connect_socket(&tcp, "192.0.2.1:443")??;
                greeted(&TcpStream::from(tcp))
            },
            |_| {
                std::io::Read::read_exact(&mut &ready.0, &mut [0])?;
                world.attach()?;
                std::io::Write::write_all(&mut &go.1, b".")?;
                answer(&world.listeners.dns_v4)?;
                let accepted = world.accept(&world.listeners.proxy_v4)?;
                anyhow::ensure!(accepted.flow.is_some(), "no flow");
                Ok(())
            },
        )
    }),
];

/// Somebody who listens on the host's loopback, and a socket made there.
struct Host {
    _listener: OwnedFd,
    address: String,
    kind: i32,
    family: i32,
}

impl Host {
    fn listen(kind: i32, local: &str) -> anyhow::Result<Self> {
        let (listener, address): (OwnedFd, _) = match kind {
            libc::SOCK_STREAM => {
                let listener = TcpListener::bind(local)?;
                let address = listener.local_addr()?;
                (listener.into(), address)
            }
            _ => {
                let socket = UdpSocket::bind(local)?;
                let address = socket.local_addr()?;
                (socket.into(), address)
            }
        };
        Ok(Self {
            _listener: listener,
            address: address.to_string(),
            kind,
            family: match address.is_ipv4() {
                true => libc::AF_INET,
                false => libc::AF_INET6,
            },
        })
    }
}

/// Runs `probe` in the session, in a network namespace of its own, with a socket from outside.
fn in_session_with(
    world: &World,
    host: &Host,
    probe: impl FnOnce(&OwnedFd, &str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let made = socket(host.family, host.kind, 0)?;
    world.only_in_session(|| {
        own_network()?;
        // Its own loopback is another.
        let own = socket(host.family, libc::SOCK_STREAM, 0)?;
        anyhow::ensure!(connect_socket(own.as_fd(), &host.address)?.is_err());
        probe(&made, &host.address)
    })
}
