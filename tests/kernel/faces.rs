//! What a client sees of it: the addresses it asked for, and nothing else.

use std::net::{SocketAddr, UdpSocket};

use crate::{
    Test,
    world::{World, answer, connect, disconnect, udp},
};

pub const TESTS: &[Test] = &[
    ("a_v4_mapped_peer_is_what_was_asked_for", |world| {
        world.only_in_session(|| {
            peer_is(
                connect("[::ffff:192.0.2.1]:443")?.peer_addr()?,
                "[::ffff:192.0.2.1]:443",
            )
        })
    }),
    ("a_connected_resolver_is_what_was_asked_for", |world| {
        for (local, to) in [
            ("0.0.0.0:0", "192.0.2.53:53"),
            ("[::]:0", "[::ffff:192.0.2.53]:53"),
        ] {
            asks_connected(world, &world.listeners.dns_v4, local, to)?;
        }
        asks_connected(
            world,
            &world.listeners.dns_v6,
            "[::]:0",
            "[2001:db8::53]:53",
        )
    }),
    (
        "a_v4_mapped_resolver_answers_from_its_mapped_address",
        |world| {
            let to = "[::ffff:192.0.2.53]:53";
            world.in_session(
                || {
                    let socket = udp("[::]:0")?;
                    socket.send_to(b"?", to)?;
                    peer_is(socket.recv_from(&mut [0; 8])?.1, to)
                },
                |_| answer(&world.listeners.dns_v4),
            )
        },
    ),
    (
        "several_resolvers_asked_one_after_the_other_each_answer",
        |world| {
            let resolvers = ["192.0.2.53:53", "192.0.2.54:53", "192.0.2.53:53"];
            world.in_session(
                || {
                    let socket = udp("0.0.0.0:0")?;
                    for to in resolvers {
                        socket.send_to(b"?", to)?;
                        peer_is(socket.recv_from(&mut [0; 8])?.1, to)?;
                    }
                    Ok(())
                },
                |_| {
                    resolvers
                        .iter()
                        .try_for_each(|_| answer(&world.listeners.dns_v4))
                },
            )
        },
    ),
    (
        "several_resolvers_asked_at_once_answer_from_one_of_them",
        |world| {
            let resolvers = ["192.0.2.53:53", "192.0.2.54:53"];
            world.in_session(
                || {
                    let socket = udp("0.0.0.0:0")?;
                    for to in resolvers {
                        socket.send_to(b"?", to)?;
                    }
                    for _ in resolvers {
                        let from = socket.recv_from(&mut [0; 8])?.1.to_string();
                        anyhow::ensure!(resolvers.contains(&from.as_str()), "answered by {from}");
                    }
                    Ok(())
                },
                |_| {
                    answer(&world.listeners.dns_v4)?;
                    answer(&world.listeners.dns_v4)
                },
            )
        },
    ),
    ("a_disconnected_socket_may_ask_another_resolver", |world| {
        world.in_session(
            || {
                let socket = udp("0.0.0.0:0")?;
                socket.connect("192.0.2.53:53")?;
                disconnect(&socket)?;
                anyhow::ensure!(socket.peer_addr().is_err());
                socket.send_to(b"?", "192.0.2.54:53")?;
                peer_is(socket.recv_from(&mut [0; 8])?.1, "192.0.2.54:53")
            },
            |_| answer(&world.listeners.dns_v4),
        )
    }),
    ("a_server_in_the_session_sees_its_clients", |world| {
        world.only_in_session(|| {
            let server = std::net::TcpListener::bind("127.0.0.1:0")?;
            let client = std::net::TcpStream::connect(server.local_addr()?)?;
            let (accepted, from) = server.accept()?;
            anyhow::ensure!(from == client.local_addr()?);
            anyhow::ensure!(accepted.peer_addr()? == from);
            Ok(())
        })
    }),
];

fn asks_connected(
    world: &World,
    resolver: &UdpSocket,
    local: &str,
    to: &str,
) -> anyhow::Result<()> {
    world.in_session(
        || {
            let socket = udp(local)?;
            socket.connect(to)?;
            peer_is(socket.peer_addr()?, to)?;
            socket.send(b"?")?;
            peer_is(socket.recv_from(&mut [0; 8])?.1, to)?;
            peer_is(socket.peer_addr()?, to)
        },
        |_| answer(resolver),
    )
}

fn peer_is(peer: SocketAddr, asked_for: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        peer == asked_for.parse()?,
        "saw {peer}, asked for {asked_for}"
    );
    Ok(())
}
