//! Each program is needed: a probe that passes with all of them and fails when only that one is detached.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Test,
    world::{
        NEIGHBOUR, NEIGHBOUR_V6, World, answer, connect, enter, greeted, is_eperm, readable,
        set_option, socket, udp,
    },
};

/// RFC 791: over 198.51.100.1 to 192.0.2.1, padded.
pub const LOOSE_SOURCE_ROUTE: [u8; 12] = [131, 11, 4, 198, 51, 100, 1, 192, 0, 2, 1, 0];

/// One program's probe.
type Probe = (&'static str, fn(&World) -> anyhow::Result<()>);

const PROBES: [Probe; 15] = [
    ("connect4", |world| reaches_proxy(world, "192.0.2.1:443")),
    ("connect6", |world| {
        reaches_proxy(world, "[2001:db8::1]:443")
    }),
    ("sendmsg4", |world| reaches_resolver(world, "192.0.2.53:53")),
    ("sendmsg6", |world| {
        reaches_resolver(world, "[2001:db8::53]:53")
    }),
    ("recvmsg4", |world| answered_by(world, "192.0.2.53:53")),
    ("recvmsg6", |world| answered_by(world, "[2001:db8::53]:53")),
    ("getpeername4", |world| sees_as_peer(world, "192.0.2.1:443")),
    ("getpeername6", |world| {
        sees_as_peer(world, "[2001:db8::1]:443")
    }),
    ("sock_create", makes_no_raw_socket),
    ("sock_ops", leaves_a_flow),
    ("egress", does_not_leave),
    ("bind4", |world| binds_not(world, "127.0.0.2:15001")),
    ("bind6", |world| {
        binds_not(world, "[::ffff:127.0.0.2]:15001")
    }),
    ("setsockopt", sets_no_source_route),
    ("ingress", lets_nobody_in),
];

pub const TESTS: &[Test] = &[
    ("every_program_has_a_probe", |world| {
        let mut attached: Vec<_> = world
            .kernel()
            .links()
            .into_iter()
            .map(|link| link.program)
            .collect();
        let mut probed: Vec<_> = PROBES
            .iter()
            .map(|(program, _)| (*program).to_owned())
            .collect();
        attached.sort();
        probed.sort();
        anyhow::ensure!(
            attached == probed,
            "attached: {attached:?}; probed: {probed:?}"
        );
        Ok(())
    }),
    ("each_program_is_needed", |world| {
        for (program, probe) in PROBES {
            world.renew()?;
            probe(world)
                .map_err(|error| error.context(format!("{program}: fails with all attached")))?;
            world.detach(program)?;
            fails_soon(world, probe)
                .map_err(|error| error.context(format!("{program}: passes when detached")))?;
        }
        Ok(())
    }),
    ("the_proof_notices_what_is_missing", |world| {
        for program in [
            "connect4",
            "connect6",
            "sendmsg4",
            "sendmsg6",
            "sock_create",
        ] {
            world.renew()?;
            world.kernel().prove()?;
            world.detach(program)?;
            fails_soon(world, |world| world.kernel().prove())
                .map_err(|error| error.context(format!("without {program}")))?;
        }
        Ok(())
    }),
];

/// The kernel detaches a link a moment after its pin is gone.
pub fn soon(probe: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Err(error) = probe() {
        anyhow::ensure!(Instant::now() < deadline, "still fails: {error:#}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Likewise.
fn fails_soon(world: &World, probe: impl Fn(&World) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while probe(world).is_ok() {
        anyhow::ensure!(Instant::now() < deadline, "still succeeds");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn reaches_proxy(world: &World, to: &str) -> anyhow::Result<()> {
    let listener = if to.starts_with('[') {
        &world.listeners.proxy_v6
    } else {
        &world.listeners.proxy_v4
    };
    world.in_session(
        || greeted(&connect(to)?),
        |_| world.accept(listener).map(drop),
    )
}

fn reaches_resolver(world: &World, to: &str) -> anyhow::Result<()> {
    let (local, resolver) = ends(world, to);
    world.in_session(
        || Ok(udp(local)?.send_to(b"?", to).map(drop)?),
        |_| {
            readable(resolver)?;
            Ok(resolver.recv_from(&mut [0; 64]).map(drop)?)
        },
    )
}

fn answered_by(world: &World, to: &str) -> anyhow::Result<()> {
    let (local, resolver) = ends(world, to);
    world.in_session(
        || {
            let socket = udp(local)?;
            socket.send_to(b"?", to)?;
            let (_, from) = socket.recv_from(&mut [0; 64])?;
            anyhow::ensure!(from == to.parse()?, "answered by {from}");
            Ok(())
        },
        |_| answer(resolver),
    )
}

fn ends<'a>(world: &'a World, to: &str) -> (&'static str, &'a UdpSocket) {
    if to.starts_with('[') {
        ("[::]:0", &world.listeners.dns_v6)
    } else {
        ("0.0.0.0:0", &world.listeners.dns_v4)
    }
}

fn sees_as_peer(world: &World, to: &str) -> anyhow::Result<()> {
    world.only_in_session(|| {
        let peer = connect(to)?.peer_addr()?;
        anyhow::ensure!(peer == to.parse()?, "the peer is {peer}");
        Ok(())
    })?;
    world.listeners.drain();
    Ok(())
}

fn makes_no_raw_socket(world: &World) -> anyhow::Result<()> {
    world.only_in_session(|| {
        is_eperm(
            "a raw socket",
            socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        )
    })
}

fn leaves_a_flow(world: &World) -> anyhow::Result<()> {
    let to = "192.0.2.1:443";
    world.in_session(
        || greeted(&connect(to)?),
        |child| {
            let accepted = world.accept(&world.listeners.proxy_v4)?;
            let Some(flow) = accepted.flow else {
                anyhow::bail!("no flow from {} to {}", accepted.client, accepted.local);
            };
            anyhow::ensure!(
                flow.destination == to.parse()?,
                "the flow goes to {}",
                flow.destination
            );
            anyhow::ensure!(
                i64::from(flow.pid) == i64::from(child.as_raw()),
                "the flow is of process {}",
                flow.pid
            );
            Ok(())
        },
    )
}

/// A session's socket in the hands of an outsider: only its packets tell where it is from.
fn does_not_leave(world: &World) -> anyhow::Result<()> {
    world.only_in_session(|| {
        let (v4, v6) = (udp("0.0.0.0:0")?, udp("[::]:0")?);
        enter(&world.cgroup2_root)?;
        is_eperm("a packet over IPv4", v4.send_to(b"?", NEIGHBOUR))?;
        is_eperm("a packet over IPv6", v6.send_to(b"?", NEIGHBOUR_V6))
    })
}

/// Where it could answer for Holdpoint, once that is gone.
fn binds_not(world: &World, local: &str) -> anyhow::Result<()> {
    world.only_in_session(|| is_eperm(local, TcpListener::bind(local)))
}

fn sets_no_source_route(world: &World) -> anyhow::Result<()> {
    world.only_in_session(|| {
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        is_eperm(
            "a source route",
            set_option(
                &socket,
                libc::IPPROTO_IP,
                libc::IP_OPTIONS,
                &LOOSE_SOURCE_ROUTE,
            ),
        )
    })
}

/// A service's server is for nobody outside of the session.
fn lets_nobody_in(world: &World) -> anyhow::Result<()> {
    let (told, tell) = std::io::pipe()?;
    world.in_service(
        || {
            let server = UdpSocket::bind("127.0.0.1:0")?;
            (&tell).write_all(&server.local_addr()?.port().to_ne_bytes())?;
            anyhow::ensure!(readable(&server).is_err(), "something came in");
            Ok(())
        },
        |_| {
            let mut port = [0; 2];
            (&told).read_exact(&mut port)?;
            udp("127.0.0.1:0")?.send_to(b"?", ("127.0.0.1", u16::from_ne_bytes(port)))?;
            Ok(())
        },
    )
}
