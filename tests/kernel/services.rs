//! Sessions in the host's network namespace: services in a slice. Their loopback is the host's, of which only their own part is theirs.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    path::Path,
};

use holdpoint::kernel::{Network, Refusal, SessionPorts, SessionRules};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

use crate::{
    Test,
    world::{
        Cgroup, Listeners, NEIGHBOUR, NEIGHBOUR_V6, OWN, SERVICE_PORTS, SERVICE_RULES, World,
        answer, bind_socket, connect, connect_socket, enter, greeted, in_process, is_eperm,
        readable, set_option, socket, udp,
    },
};

pub const TESTS: &[Test] = &[
    ("a_service_is_redirected_like_any_session", |world| {
        for (to, listener) in [
            ("192.0.2.1:443", &world.service_listeners.proxy_v4),
            (OWN, &world.service_listeners.proxy_v4),
            ("169.254.169.254:80", &world.service_listeners.proxy_v4),
            ("[2001:db8::1]:443", &world.service_listeners.proxy_v6),
        ] {
            let accepted = world.in_service(
                || greeted(&connect(to)?),
                |_| world.accept_of(world.service.id, listener),
            )?;
            let flow = accepted.flow.ok_or_else(|| anyhow::anyhow!("no flow"))?;
            anyhow::ensure!(flow.destination == to.parse()?, "{flow:?}");
        }
        Ok(())
    }),
    (
        "it_asks_holdpoint_s_resolver_even_where_the_host_s_is_on_loopback",
        |world| {
            for to in ["127.0.0.53:53", "192.0.2.53:53"] {
                world.in_service(
                    || {
                        let socket = udp("0.0.0.0:0")?;
                        socket.send_to(b"?", to)?;
                        let from = socket.recv_from(&mut [0; 8])?.1;
                        anyhow::ensure!(from == to.parse()?, "answered by {from}");
                        Ok(())
                    },
                    |_| answer(&world.service_listeners.dns_v4),
                )?;
            }
            Ok(())
        },
    ),
    ("it_reaches_nobody_else_on_loopback", |world| {
        let before = world.refusals_for(Refusal::HostLoopback)?;
        let mut tries = 0;
        for local in [
            "127.0.0.1:0",
            "127.0.0.7:0",
            "[::1]:0",
            "0.0.0.0:0",
            "[::]:0",
        ] {
            let tcp = TcpListener::bind(local)?;
            let datagrams = UdpSocket::bind(local)?;
            for (family, to) in ways_to(tcp.local_addr()?) {
                let datagrams_to = SocketAddr::new(to.ip(), datagrams.local_addr()?.port());
                // The baseline: anybody else does.
                anyhow::ensure!(TcpStream::connect(to).is_ok(), "{to} by an outsider");
                let probe = || {
                    let socket = UdpSocket::from(socket(family, libc::SOCK_DGRAM, 0)?);
                    is_eperm(&format!("TCP to {to}"), TcpStream::connect(to))?;
                    is_eperm(&format!("UDP to {to}"), socket.send_to(b"?", datagrams_to))?;
                    is_eperm(&format!("UDP to {to}"), socket.connect(datagrams_to))
                };
                world.only_in_service(probe)?;
                tries += 3;
            }
        }
        let counted = world.refusals_for(Refusal::HostLoopback)? - before;
        anyhow::ensure!(counted == tries, "{counted} of {tries} counted");
        Ok(())
    }),
    ("a_port_of_its_own_opens_no_other_address", |world| {
        let host = TcpListener::bind("127.0.0.1:0")?;
        let to = host.local_addr()?;
        world.only_in_service(|| {
            let _own = TcpListener::bind(("127.0.0.2", to.port()))?;
            let _own = TcpListener::bind(("::1", to.port()))?;
            is_eperm("the host's", TcpStream::connect(to))?;
            TcpStream::connect(("127.0.0.2", to.port()))?;
            TcpStream::connect(("::1", to.port()))?;
            Ok(())
        })
    }),
    ("its_own_servers_are_its_own", |world| {
        world.only_in_service(|| {
            for local in [
                "127.0.0.1:0",
                "127.0.0.9:0",
                "[::1]:0",
                "0.0.0.0:0",
                "[::]:0",
            ] {
                let server = TcpListener::bind(local)?;
                let datagrams = udp(local)?;
                for (family, to) in ways_to(server.local_addr()?) {
                    let mut client = TcpStream::connect(to)?;
                    let (mut accepted, _) = server.accept()?;
                    accepted.write_all(b"!")?;
                    greeted(&client)?;
                    client.write_all(b"!")?;
                    greeted(&accepted)?;

                    let asking = UdpSocket::from(socket(family, libc::SOCK_DGRAM, 0)?);
                    let datagrams_to = (to.ip(), datagrams.local_addr()?.port());
                    asking.set_read_timeout(Some(*crate::world::PATIENCE))?;
                    asking.send_to(b"?", datagrams_to)?;
                    let (_, from) = datagrams.recv_from(&mut [0; 8])?;
                    datagrams.send_to(b"!", from)?;
                    asking.recv_from(&mut [0; 8])?;
                }
            }
            Ok(())
        })
    }),
    ("where_nobody_listens_the_kernel_says_so", |world| {
        world.only_in_service(|| {
            for to in ["127.0.0.1:1", "[::1]:1"] {
                let error = TcpStream::connect(to).expect_err("nobody listens");
                anyhow::ensure!(
                    error.kind() == std::io::ErrorKind::ConnectionRefused,
                    "{to}: {error}"
                );
            }
            Ok(())
        })
    }),
    ("nobody_else_reaches_its_servers", |world| {
        for local in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let (told, tell) = std::io::pipe()?;
            world.in_service(
                || {
                    let server = TcpListener::bind(local)?;
                    server.set_nonblocking(true)?;
                    (&tell).write_all(&server.local_addr()?.port().to_ne_bytes())?;
                    anyhow::ensure!(readable(&server).is_err(), "somebody came in");
                    Ok(())
                },
                |_| {
                    let mut port = [0; 2];
                    (&told).read_exact(&mut port)?;
                    let port = u16::from_ne_bytes(port);
                    for host in ["127.0.0.1", "198.51.100.2"] {
                        let to: SocketAddr = format!("{host}:{port}").parse()?;
                        let timeout = *crate::world::PATIENCE / 4;
                        anyhow::ensure!(TcpStream::connect_timeout(&to, timeout).is_err());
                    }
                    Ok(())
                },
            )?;
        }
        Ok(())
    }),
    ("it_binds_loopback_and_nothing_else", |world| {
        world.only_in_service(|| {
            for (family, local) in [
                (libc::AF_INET, OWN),
                (libc::AF_INET6, "[2001:db8:1::2]:8080"),
                (libc::AF_INET6, "[::ffff:198.51.100.2]:8080"),
            ] {
                for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
                    is_eperm(local, bind_socket(socket(family, kind, 0)?, local)?)?;
                }
            }
            Ok(())
        })
    }),
    ("who_takes_the_place_of_its_peer_gets_nothing", |world| {
        let (go, ready) = (std::io::pipe()?, std::io::pipe()?);
        world.in_service(
            || {
                let server = UdpSocket::bind("127.0.0.1:0")?;
                let client = udp("127.0.0.1:0")?;
                client.connect(server.local_addr()?)?;
                client.send(b"?")?;
                (&ready.1).write_all(&server.local_addr()?.port().to_ne_bytes())?;
                drop(server);
                (&ready.1).write_all(b".")?;
                (&go.0).read_exact(&mut [0])?;
                is_eperm("the one who took its place", client.send(b"?"))
            },
            |_| {
                let mut port = [0; 2];
                (&ready.0).read_exact(&mut port)?;
                (&ready.0).read_exact(&mut [0])?;
                let outsider = UdpSocket::bind(("127.0.0.1", u16::from_ne_bytes(port)))?;
                (&go.1).write_all(b".")?;
                anyhow::ensure!(readable(&outsider).is_err(), "something came");
                Ok(())
            },
        )
    }),
    ("no_option_leads_loopback_addresses_out", |world| {
        world.only_in_service(|| {
            let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
            let option = |level, name, value: &[u8]| set_option(&socket, level, name, value);
            is_eperm(
                "SO_BINDTODEVICE",
                option(libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"out"),
            )?;
            let index = nix::net::if_::if_nametoindex("out")?.to_be_bytes();
            is_eperm(
                "IP_UNICAST_IF",
                option(libc::IPPROTO_IP, libc::IP_UNICAST_IF, &index),
            )?;
            let group = [224, 0, 0, 251, 0, 0, 0, 0];
            is_eperm(
                "IP_ADD_MEMBERSHIP",
                option(libc::IPPROTO_IP, libc::IP_ADD_MEMBERSHIP, &group),
            )
        })
    }),
    ("nor_does_a_control_message", |world| {
        // Where the interface is named with the datagram there is no option to refuse: it is the backstop that does.
        world.only_in_service(|| {
            let out = nix::net::if_::if_nametoindex("out")?;
            let socket = udp("0.0.0.0:0")?;
            let information = libc::in_pktinfo {
                ipi_ifindex: out.try_into()?,
                ipi_spec_dst: libc::in_addr { s_addr: 0 },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let to = SockaddrStorage::from("127.0.0.1:9".parse::<SocketAddr>()?);
            let message = [ControlMessage::Ipv4PacketInfo(&information)];
            let sent = sendmsg(
                socket.as_raw_fd(),
                &[std::io::IoSlice::new(b"?")],
                &message,
                MsgFlags::empty(),
                Some(&to),
            );
            is_eperm("a datagram by another interface", sent)
        })
    }),
    ("nothing_else_leaves", |world| {
        world.only_in_service(|| {
            is_eperm("UDP", udp("0.0.0.0:0")?.send_to(b"?", NEIGHBOUR))?;
            is_eperm("UDP over IPv6", udp("[::]:0")?.send_to(b"?", NEIGHBOUR_V6))?;
            is_eperm("a raw socket", socket(libc::AF_INET, libc::SOCK_RAW, 1))?;
            // A socket of its own in an outsider's hands.
            let socket = udp("0.0.0.0:0")?;
            enter(&world.cgroup2_root)?;
            is_eperm("a packet", socket.send_to(b"?", NEIGHBOUR))
        })
    }),
    ("a_handed_over_socket_is_of_no_use_to_it", |world| {
        let made = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        world.only_in_service(|| is_eperm("TCP", connect_socket(&made, "127.0.0.1:15100")?))
    }),
    ("an_outsider_does_not_get_to_its_listener", |world| {
        anyhow::ensure!(connect("127.0.0.1:15100").is_err(), "it was let in");
        let listener = &world.service_listeners.proxy_v4;
        anyhow::ensure!(listener.accept().is_err(), "it was accepted");
        Ok(())
    }),
    (
        "who_takes_the_place_of_its_listener_gets_nothing",
        |world| {
            let elsewhere = SessionPorts {
                proxy: 15_104,
                dns: 15_105,
            };
            let elsewhere = Listeners::bind(elsewhere)?;
            let taken = std::mem::replace(&mut world.service_listeners, elsewhere);
            drop(taken);
            let refused = (|| {
                world.only_in_service(|| {
                    let error = connect("192.0.2.1:443").expect_err("nobody listens");
                    anyhow::ensure!(format!("{error:#}").contains("refused"), "{error:#}");
                    Ok(())
                })?;
                let _tcp = TcpListener::bind("127.0.0.1:15100")?;
                let _udp = UdpSocket::bind("127.0.0.1:15101")?;
                world.only_in_service(|| {
                    is_eperm("redirected TCP", TcpStream::connect("192.0.2.1:443"))?;
                    is_eperm("TCP", TcpStream::connect("127.0.0.1:15100"))?;
                    is_eperm("UDP", udp("0.0.0.0:0")?.send_to(b"?", "192.0.2.53:53"))
                })
            })();
            world.service_listeners = Listeners::bind(SERVICE_PORTS)?;
            refused
        },
    ),
    ("no_session_binds_the_ports_of_listeners", |world| {
        world.only_in_service(|| {
            for local in ["127.0.0.1:15100", "127.0.0.2:15102", "[::1]:16123"] {
                is_eperm(local, TcpListener::bind(local))?;
            }
            TcpListener::bind("127.0.0.1:16124")?;
            Ok(())
        })
    }),
    ("a_session_at_another_s_listener_is_refused", |world| {
        let other = Cgroup::create(&world.slice.path.join("other.service"))?;
        let rules = SessionRules {
            ports: SessionPorts {
                proxy: 15102,
                dns: 15103,
            },
            network: Network::Host,
        };
        world.kernel().open_session(other.id, rules)?;
        let result = in_process(
            || {
                enter(&other.path)?;
                is_eperm("TCP", TcpStream::connect("127.0.0.1:15100"))?;
                is_eperm("UDP", udp("0.0.0.0:0")?.send_to(b"?", "127.0.0.1:15101"))
            },
            |_| Ok(()),
        );
        world.kernel().close_session(other.id)?;
        other.remove();
        result
    }),
    (
        "what_is_in_the_slice_but_in_no_session_has_no_network",
        |world| {
            let stray = Cgroup::create(&world.slice.path.join("stray.service"))?;
            let result =
                has_no_network(&stray.path).and_then(|()| has_no_network(&world.slice.path));
            stray.remove();
            result?;
            world.kernel().close_session(world.service.id)?;
            has_no_network(&world.service.path)
        },
    ),
    (
        "a_service_may_be_deep_in_the_slice_and_a_job_in_a_service",
        |world| {
            let inner = world.slice.path.join("inner.slice");
            let inner = Cgroup::create(&inner)?;
            let service = Cgroup::create(&inner.path.join("deep.service"))?;
            let job = Cgroup::create(&service.path.join("job"))?;
            let result = deep(world, &service, &job);
            for cgroup in [&job, &service] {
                world.kernel().close_session(cgroup.id)?;
                cgroup.remove();
            }
            inner.remove();
            result
        },
    ),
    ("a_slice_that_is_started_again_is_watched_again", |world| {
        let again = Cgroup::create(
            &world
                .cgroup2_root
                .join(format!("holdpoint-test-{}-again.slice", std::process::id())),
        )?;
        let service = Cgroup::create(&again.path.join("a.service"))?;
        let result = world
            .kernel()
            .watch_slice(&again.path)
            .and_then(|()| has_no_network(&service.path))
            .and_then(|()| world.kernel().open_session(service.id, SERVICE_RULES))
            .and_then(|()| world.lend(&service))
            .and_then(|()| {
                in_process(
                    || {
                        enter(&service.path)?;
                        connect("192.0.2.1:443").map(drop)
                    },
                    |_| world.accept_of(service.id, &world.service_listeners.proxy_v4),
                )
            });
        service.remove();
        again.remove();
        anyhow::ensure!(result?.flow.is_some(), "no flow");
        Ok(())
    }),
];

/// The addresses by which a server is reached.
fn ways_to(server: SocketAddr) -> Vec<(i32, SocketAddr)> {
    let port = server.port();
    let at = |family, ip: &str| {
        let ip: std::net::IpAddr = ip.parse().expect("an address");
        (family, SocketAddr::new(ip, port))
    };
    match (server.ip().is_unspecified(), server.is_ipv4()) {
        (false, true) => vec![
            (libc::AF_INET, server),
            at(libc::AF_INET6, &format!("::ffff:{}", server.ip())),
        ],
        (false, false) => vec![(libc::AF_INET6, server)],
        (true, true) => vec![at(libc::AF_INET, "127.0.0.1"), at(libc::AF_INET, "0.0.0.0")],
        (true, false) => vec![
            at(libc::AF_INET6, "::1"),
            at(libc::AF_INET6, "::"),
            at(libc::AF_INET, "127.0.0.1"),
        ],
    }
}

fn has_no_network(cgroup: &Path) -> anyhow::Result<()> {
    let made = udp("0.0.0.0:0")?;
    in_process(
        || {
            enter(cgroup)?;
            is_eperm("a socket", socket(libc::AF_INET, libc::SOCK_STREAM, 0))?;
            is_eperm("a socket from outside", made.send_to(b"?", NEIGHBOUR))
        },
        |_| Ok(()),
    )
}

/// The innermost session goes.
fn deep(world: &World, service: &Cgroup, job: &Cgroup) -> anyhow::Result<()> {
    world.kernel().open_session(service.id, SERVICE_RULES)?;
    for (opened, session) in [(false, service), (true, job)] {
        if opened {
            world.kernel().open_session(job.id, SERVICE_RULES)?;
        }
        world.lend(session)?;
        let accepted = in_process(
            || {
                enter(&job.path)?;
                connect("192.0.2.1:443").map(drop)
            },
            |_| world.accept_of(session.id, &world.service_listeners.proxy_v4),
        )?;
        anyhow::ensure!(
            accepted.flow.is_some(),
            "no flow of {}",
            session.path.display()
        );
    }
    Ok(())
}
