//! What a session, and what is in none, is refused. Always at once, and always with EPERM.

use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    time::Instant,
};

use holdpoint::kernel::Refusal;
use nix::errno::Errno;

use crate::{
    Test,
    world::{Cgroup, PATIENCE, connect, enter, in_process, is_eperm, set_option, socket, udp},
};

pub const TESTS: &[Test] = &[
    ("udp_other_than_dns_is_refused", |world| {
        world.only_in_session(|| {
            let started = Instant::now();
            for (local, to) in [
                ("0.0.0.0:0", "192.0.2.1:443"),
                ("0.0.0.0:0", "192.0.2.1:123"),
                ("0.0.0.0:0", "169.254.169.254:80"),
                ("[::]:0", "[2001:db8::1]:443"),
                ("[::]:0", "[::ffff:192.0.2.1]:443"),
            ] {
                is_eperm(to, udp(local)?.send_to(b"?", to))?;
                is_eperm(to, udp(local)?.connect(to))?;
            }
            anyhow::ensure!(
                started.elapsed() < *PATIENCE,
                "took {:?}",
                started.elapsed()
            );
            Ok(())
        })
    }),
    ("refusals_are_counted_by_reason", |world| {
        let before = world.kernel().refusals()?;
        world.only_in_session(|| is_eperm("QUIC", udp("0.0.0.0:0")?.connect("192.0.2.1:443")))?;
        let grown: Vec<_> = world
            .kernel()
            .refusals()?
            .into_iter()
            .zip(before)
            .filter(|(after, before)| after != before)
            .map(|((reason, after), (_, before))| (reason, after - before))
            .collect();
        anyhow::ensure!(grown == [(Refusal::Quic, 1)], "{grown:?}");
        Ok(())
    }),
    ("refusals_are_told_with_process_and_destination", |world| {
        while world.kernel().refused_already().is_some() {}
        let child = world.in_session(
            || {
                is_eperm("QUIC", udp("[::]:0")?.connect("[2001:db8::1]:443"))?;
                is_eperm(
                    "raw",
                    socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
                )
            },
            Ok,
        )?;
        let told: Vec<_> = std::iter::from_fn(|| world.kernel().refused_already()).collect();
        let [quic, raw] = told.as_slice() else {
            anyhow::bail!("{told:?}");
        };
        let own_name = std::fs::read_to_string("/proc/self/comm")?;
        for refused in [quic, raw] {
            anyhow::ensure!(refused.session == world.session.id, "{refused:?}");
            anyhow::ensure!(
                i64::from(refused.pid) == i64::from(child.as_raw()),
                "{refused:?}"
            );
            anyhow::ensure!(refused.command == own_name.trim_end(), "{refused:?}");
        }
        anyhow::ensure!(
            quic.reason == Refusal::Quic && quic.protocol == 17,
            "{quic:?}"
        );
        anyhow::ensure!(
            quic.destination == Some("[2001:db8::1]:443".parse()?),
            "{quic:?}"
        );
        anyhow::ensure!(
            raw.reason == Refusal::Protocol && raw.protocol == 1,
            "{raw:?}"
        );
        anyhow::ensure!(raw.destination.is_none() && quic.at <= raw.at, "{raw:?}");
        Ok(())
    }),
    ("what_nobody_reads_is_lost_and_counted", |world| {
        while world.kernel().refused_already().is_some() {}
        let before = world.kernel().lost_refusals()?;
        world.only_in_session(|| {
            let socket = udp("0.0.0.0:0")?;
            (0..10_000).try_for_each(|_| is_eperm("UDP", socket.send_to(b"?", "192.0.2.1:9")))
        })?;
        let lost = world.kernel().lost_refusals()? - before;
        let told = std::iter::from_fn(|| world.kernel().refused_already()).count();
        anyhow::ensure!(told > 1000 && lost > 0, "{told} told, {lost} lost");
        anyhow::ensure!(told as u64 + lost == 10_000, "{told} told, {lost} lost");
        Ok(())
    }),
    ("waiting_for_a_refusal_ends_with_one", |world| {
        while world.kernel().refused_already().is_some() {}
        world.in_session(
            || is_eperm("UDP", udp("0.0.0.0:0")?.send_to(b"?", "192.0.2.1:9")),
            |_| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                let refused = runtime.block_on(async {
                    tokio::time::timeout(*PATIENCE, world.kernel().refused()).await
                })??;
                anyhow::ensure!(refused.reason == Refusal::Udp, "{refused:?}");
                Ok(())
            },
        )
    }),
    ("only_tcp_and_udp_sockets_can_be_made", |world| {
        let others = [libc::AF_INET, libc::AF_INET6]
            .into_iter()
            .flat_map(other_kinds);
        // What this kernel does not have, nobody makes.
        let (unknown, known): (Vec<_>, Vec<_>) = others.partition(|(family, kind, protocol)| {
            matches!(
                socket(*family, *kind, *protocol),
                Err(Errno::EPROTONOSUPPORT | Errno::ESOCKTNOSUPPORT)
            )
        });
        anyhow::ensure!(known.len() >= 6, "this kernel lacks {unknown:?}");
        world.only_in_session(|| {
            for (family, kind, protocol) in known {
                let what = format!("family {family}, type {kind}, protocol {protocol}");
                is_eperm(&what, socket(family, kind, protocol))?;
            }
            for family in [libc::AF_INET, libc::AF_INET6] {
                socket(family, libc::SOCK_STREAM, 0)?;
                socket(family, libc::SOCK_DGRAM, libc::IPPROTO_UDP)?;
            }
            // Other families meet no hook: the launcher's filter is for them.
            socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
            Ok(())
        })
    }),
    (
        "what_is_below_the_agents_but_in_no_session_has_no_network",
        |world| {
            let stray = Cgroup::create(&world.agents.path.join("stray"))?;
            let result = refused_everything_in(&stray).and_then(|()| {
                in_process(
                    || {
                        enter(&world.agents.path)?;
                        is_eperm("a socket", socket(libc::AF_INET, libc::SOCK_STREAM, 0))
                    },
                    |_| Ok(()),
                )
            });
            stray.remove();
            result
        },
    ),
    ("a_frozen_daemon_is_a_refusal_at_once", |world| {
        use std::{thread, time::Duration};
        let (to, dns) = ("192.0.2.1:443", "192.0.2.53:53");
        world.kernel().beat()?;
        world.only_in_session(|| connect(to).map(drop))?;
        thread::sleep(Duration::from_millis(2300));
        let before = world.refusals_for(Refusal::Frozen)?;
        world.only_in_session(|| {
            is_eperm("TCP", TcpStream::connect(to))?;
            is_eperm("UDP", udp("0.0.0.0:0")?.send_to(b"?", dns))
        })?;
        let counted = world.refusals_for(Refusal::Frozen)? - before;
        anyhow::ensure!(counted == 2, "{counted} counted");
        world.kernel().beat()?;
        world.only_in_session(|| connect(to).map(drop))
    }),
    ("kernel_tls_is_not_to_be_had", |world| {
        world.in_session(
            || {
                let stream = connect("192.0.2.1:443")?;
                is_eperm(
                    "TCP_ULP",
                    set_option(&stream, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls"),
                )
            },
            |_| world.accept(&world.listeners.proxy_v4).map(drop),
        )
    }),
    ("a_closed_session_has_no_network", |world| {
        world.kernel().close_session(world.session.id)?;
        refused_everything_in(&world.session)?;
        // Again, as a daemon that is not sure may.
        world.kernel().close_session(world.session.id)
    }),
    ("a_session_opens_once", |world| {
        let rules = crate::world::RULES;
        anyhow::ensure!(
            world
                .kernel()
                .open_session(world.session.id, rules)
                .is_err()
        );
        anyhow::ensure!(world.kernel().open_session(0, rules).is_err());
        Ok(())
    }),
    (
        "children_of_a_session_s_cgroup_are_in_the_session",
        |world| {
            let child = Cgroup::create(&world.session.path.join("child"))?;
            let result = in_process(
                || {
                    enter(&child.path)?;
                    is_eperm("QUIC", udp("0.0.0.0:0")?.connect("192.0.2.1:443"))?;
                    connect("192.0.2.1:443").map(drop)
                },
                |_| world.accept(&world.listeners.proxy_v4),
            );
            child.remove();
            anyhow::ensure!(result?.flow.is_some(), "no flow");
            Ok(())
        },
    ),
    ("a_socket_from_outside_is_as_good_as_one_s_own", |world| {
        // Made before the process came in, as when it is inherited or handed over.
        let made = UdpSocket::bind("0.0.0.0:0")?;
        world.only_in_session(|| {
            is_eperm("UDP", made.send_to(b"?", "192.0.2.1:123"))?;
            is_eperm("QUIC", made.connect("192.0.2.1:443"))
        })
    }),
];

/// Sockets made before do not help, loopback neither.
fn refused_everything_in(cgroup: &Cgroup) -> anyhow::Result<()> {
    let server = TcpListener::bind("127.0.0.1:0")?;
    let local = server.local_addr()?;
    in_process(
        || {
            let (v4, v6) = (udp("0.0.0.0:0")?, udp("[::]:0")?);
            enter(&cgroup.path)?;
            is_eperm("TCP", TcpStream::connect("192.0.2.1:443"))?;
            is_eperm("TCP to loopback", TcpStream::connect(local))?;
            is_eperm("TCP over IPv6", TcpStream::connect("[2001:db8::1]:443"))?;
            is_eperm("DNS", v4.send_to(b"?", "192.0.2.53:53"))?;
            is_eperm("DNS over IPv6", v6.send_to(b"?", "[2001:db8::53]:53"))?;
            is_eperm("connected DNS", v4.connect("192.0.2.53:53"))?;
            is_eperm("UDP to loopback", v4.send_to(b"?", local))?;
            is_eperm("a socket", UdpSocket::bind("127.0.0.1:0"))
        },
        |_| Ok(()),
    )
}

/// Family, type and protocol of sockets that are neither TCP nor UDP.
fn other_kinds(family: i32) -> [(i32, i32, i32); 6] {
    let icmp = if family == libc::AF_INET {
        libc::IPPROTO_ICMP
    } else {
        libc::IPPROTO_ICMPV6
    };
    [
        (family, libc::SOCK_RAW, icmp),
        (family, libc::SOCK_RAW, libc::IPPROTO_RAW),
        (family, libc::SOCK_DGRAM, icmp),
        (family, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE),
        (family, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        (family, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
    ]
}
