//! Ways around connect, sendto and their like, one by one.

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    time::Instant,
};

use holdpoint::kernel::Refusal;
use nix::sys::socket::SockaddrStorage;

use crate::{
    Test,
    needed::LOOSE_SOURCE_ROUTE,
    world::{
        PATIENCE, bind_socket, connect, connect_socket, disconnect, greeted, is_eperm, set_option,
        socket, udp,
    },
};

/// linux/in6.h; libc lacks some.
const IPV6_2292PKTOPTIONS: i32 = 6;

pub const TESTS: &[Test] = &[
    (
        "direct_paths_and_encrypted_dns_are_refused_at_once",
        |world| {
            let cases = [
                (Refusal::DirectPath, "34.126.1.1:443"),
                (Refusal::DirectPath, "[2001:4860:8040::1]:443"),
                (Refusal::EncryptedDns, "192.0.2.1:853"),
                (Refusal::EncryptedDns, "[2001:db8::1]:853"),
                (Refusal::EncryptedDns, "8.8.8.8:443"),
                (Refusal::EncryptedDns, "[2001:4860:4860::8888]:443"),
            ];
            for (reason, to) in cases {
                let before = world.refusals_for(reason)?;
                world.only_in_session(|| {
                    let started = Instant::now();
                    is_eperm(to, TcpStream::connect(to))?;
                    anyhow::ensure!(started.elapsed() < *PATIENCE / 4);
                    Ok(())
                })?;
                anyhow::ensure!(world.refusals_for(reason)? == before + 1, "{to}");
            }
            Ok(())
        },
    ),
    ("no_source_route_or_extension_header_can_be_set", |world| {
        // The baseline: this process can.
        let sets = || -> anyhow::Result<Vec<(&str, nix::Result<()>)>> {
            let v4 = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
            let v6 = socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
            // RFC 8200: an empty hop-by-hop or destination header is one PadN of four.
            let padding = [0, 0, 1, 4, 0, 0, 0, 0];
            // Which types of routing headers there are differs; every kernel takes none.
            let six = libc::IPPROTO_IPV6;
            Ok(vec![
                (
                    "IP_OPTIONS",
                    set_option(&v4, libc::IPPROTO_IP, libc::IP_OPTIONS, &LOOSE_SOURCE_ROUTE),
                ),
                (
                    "IPV6_HOPOPTS",
                    set_option(&v6, six, libc::IPV6_HOPOPTS, &padding),
                ),
                (
                    "IPV6_DSTOPTS",
                    set_option(&v6, six, libc::IPV6_DSTOPTS, &padding),
                ),
                (
                    "IPV6_RTHDRDSTOPTS",
                    set_option(&v6, six, libc::IPV6_RTHDRDSTOPTS, &padding),
                ),
                ("IPV6_RTHDR", set_option(&v6, six, libc::IPV6_RTHDR, &[])),
                (
                    "IPV6_2292PKTOPTIONS",
                    set_option(&v6, six, IPV6_2292PKTOPTIONS, &[]),
                ),
            ])
        };
        for (what, result) in sets()? {
            result.map_err(|errno| anyhow::anyhow!("{what} by an outsider: {errno}"))?;
        }
        let refused = || {
            sets()?
                .into_iter()
                .try_for_each(|(what, result)| is_eperm(what, result))
        };
        world.only_in_session(refused)?;
        world.only_in_service(refused)
    }),
    ("nor_with_a_single_datagram", |world| {
        let server = UdpSocket::bind("127.0.0.1:0")?;
        let to = SockaddrStorage::from(server.local_addr()?);
        let send = || -> anyhow::Result<nix::Result<usize>> {
            let socket = udp("0.0.0.0:0")?;
            // Two NOPs and an end of options are options, and lead nowhere.
            Ok(send_with_options(&socket, &[1, 1, 0, 0], &to))
        };
        send()??;
        world.only_in_session(|| is_eperm("a datagram with IP options", send()?))
    }),
    ("long_option_values_of_outsiders_pass", |_| {
        // Programs see a page of them at most; rules of iptables are longer.
        let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &[0; 16_384])?;
        Ok(())
    }),
    (
        "holdpoint_s_ports_can_be_bound_by_nobody_in_the_session",
        |world| {
            world.only_in_session(|| {
                for (family, kind, local) in [
                    (libc::AF_INET, libc::SOCK_STREAM, "127.0.0.1:15001"),
                    (libc::AF_INET, libc::SOCK_STREAM, "0.0.0.0:15001"),
                    (libc::AF_INET, libc::SOCK_DGRAM, "127.0.0.1:5300"),
                    (libc::AF_INET6, libc::SOCK_STREAM, "[::1]:15001"),
                    (libc::AF_INET6, libc::SOCK_DGRAM, "[::]:5300"),
                ] {
                    let socket = socket(family, kind, 0)?;
                    for option in [libc::SO_REUSEADDR, libc::SO_REUSEPORT] {
                        set_option(&socket, libc::SOL_SOCKET, option, &1_i32.to_ne_bytes())?;
                    }
                    is_eperm(local, bind_socket(&socket, local)?)?;
                }
                Ok(())
            })
        },
    ),
    ("tcp_reaches_the_proxy_in_any_dress", |world| {
        for to in [
            // v4-compatible, and link-local with its scope.
            "[::192.0.2.1]:443",
            "[::7f00:2]:443",
            "[fe80::1%1]:443",
            "[fe80::1%2]:443",
            "[64:ff9b::192.0.2.1]:443",
        ] {
            let accepted = world.in_session(
                || greeted(&connect(to)?),
                |_| world.accept(&world.listeners.proxy_v6),
            )?;
            anyhow::ensure!(accepted.flow.is_some(), "{to}: no flow");
        }
        for to in ["224.0.0.1:443", "255.255.255.255:443", "0.0.0.1:443"] {
            let accepted = world.in_session(
                || greeted(&connect(to)?),
                |_| world.accept(&world.listeners.proxy_v4),
            )?;
            anyhow::ensure!(accepted.flow.is_some(), "{to}: no flow");
        }
        Ok(())
    }),
    ("connecting_with_the_first_data_is_connecting", |world| {
        let accepted = world.in_session(
            || {
                let socket = socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
                let on = 1_i32.to_ne_bytes();
                set_option(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, &on)?;
                connect_socket(&socket, "192.0.2.1:443")??;
                let mut stream = TcpStream::from(socket);
                std::io::Write::write_all(&mut stream, b"?")?;
                greeted(&stream)
            },
            |_| world.accept(&world.listeners.proxy_v4),
        )?;
        anyhow::ensure!(accepted.flow.is_some(), "no flow");
        Ok(())
    }),
    ("multicast_and_broadcast_are_udp_like_any_other", |world| {
        world.only_in_session(|| {
            let v4 = udp("0.0.0.0:0")?;
            v4.set_broadcast(true)?;
            for to in ["224.0.0.251:5353", "255.255.255.255:67", "198.51.100.255:9"] {
                is_eperm(to, v4.send_to(b"?", to))?;
            }
            let v6 = udp("[::]:0")?;
            for to in ["[ff02::fb%2]:5353", "[ff02::1:2%2]:547", "[fe80::1%2]:9"] {
                is_eperm(to, v6.send_to(b"?", to.parse::<SocketAddr>()?))?;
            }
            Ok(())
        })
    }),
    ("a_connected_socket_sends_nowhere_else", |world| {
        world.only_in_session(|| {
            let socket = udp("0.0.0.0:0")?;
            socket.connect("192.0.2.53:53")?;
            is_eperm("elsewhere", socket.send_to(b"?", "192.0.2.1:123"))?;
            disconnect(&socket)?;
            is_eperm(
                "elsewhere, disconnected",
                socket.send_to(b"?", "192.0.2.1:123"),
            )
        })
    }),
    ("an_address_of_no_family_is_refused_too", |world| {
        // sendto(2) takes AF_UNSPEC for AF_INET.
        world.only_in_session(|| {
            let socket = udp("0.0.0.0:0")?;
            let mut bytes = [0_u8; 16];
            bytes[2..4].copy_from_slice(&123_u16.to_be_bytes());
            bytes[4..8].copy_from_slice(&[198, 51, 100, 1]);
            // SAFETY: pointers and lengths are of the two arrays.
            let sent = unsafe {
                libc::sendto(
                    socket.as_raw_fd(),
                    b"?".as_ptr().cast(),
                    1,
                    0,
                    bytes.as_ptr().cast(),
                    16,
                )
            };
            is_eperm("AF_UNSPEC", nix::errno::Errno::result(sent))
        })
    }),
    (
        "an_ipv6_socket_made_an_ipv4_one_is_the_same_socket",
        |world| {
            let accepted = world.in_session(
                || {
                    let socket = UdpSocket::bind("[::]:0")?;
                    socket.connect("[::ffff:192.0.2.53]:53")?;
                    let family = (libc::AF_INET).to_ne_bytes();
                    set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_ADDRFORM, &family)?;
                    is_eperm("UDP", socket.connect("192.0.2.1:123"))?;
                    socket.connect("192.0.2.53:53")?;
                    anyhow::ensure!(socket.peer_addr()? == "192.0.2.53:53".parse()?);
                    greeted(&connect("[::ffff:192.0.2.9]:443")?)
                },
                |_| world.accept(&world.listeners.proxy_v4),
            )?;
            anyhow::ensure!(accepted.flow.is_some(), "no flow");
            Ok(())
        },
    ),
];

/// sendmsg(2) with IP_RETOPTS, which sets the options of this datagram.
fn send_with_options(
    socket: &UdpSocket,
    options: &[u8; 4],
    to: &SockaddrStorage,
) -> nix::Result<usize> {
    #[repr(C)]
    struct Control {
        head: libc::cmsghdr,
        options: [u8; 8],
    }
    let mut control = Control {
        head: libc::cmsghdr {
            cmsg_len: size_of::<libc::cmsghdr>() + options.len(),
            cmsg_level: libc::IPPROTO_IP,
            cmsg_type: libc::IP_RETOPTS,
        },
        options: [0; 8],
    };
    control.options[..4].copy_from_slice(options);
    let mut data = libc::iovec {
        iov_base: b"?".as_ptr().cast_mut().cast(),
        iov_len: 1,
    };
    // SAFETY: all zeros is a message of nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = nix::sys::socket::SockaddrLike::as_ptr(to).cast_mut().cast();
    message.msg_namelen = nix::sys::socket::SockaddrLike::len(to);
    message.msg_iov = &raw mut data;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    // SAFETY: everything the message points to is on this stack.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    nix::errno::Errno::result(sent).map(|sent| sent as usize)
}
