//! Ways to send packets elsewhere than where they are addressed to: options, routing headers, addresses and routes of one's own.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::AsRawFd,
};

use super::{Attack, Scene, arrive, check, succeed};
use crate::doctor::stage::{
    cable,
    places::{FAR_V6, PORT},
};

pub const ATTACKS: &[Attack] = &[
    arrive(
        "routing-header",
        "UDP to ::1, with a routing header (type 2)",
        |scene| routed(scene, &routing_header(2, [0; 4], &[FAR_V6])),
    ),
    arrive(
        "segment-route",
        "UDP to ::1, with a segment routing header",
        |scene| {
            // Last entry, flags, tag (RFC 8754, section 2).
            routed(
                scene,
                &routing_header(4, [1, 0, 0, 0], &[Ipv6Addr::LOCALHOST, FAR_V6]),
            )
        },
    ),
    succeed("netlink-address", "an address of one's own", |_| {
        // struct ifaddrmsg of linux/if_addr.h: family, prefix length, flags, scope, index.
        let header = [libc::AF_INET as u8, 32, 0, 0, 1, 0, 0, 0];
        let address = Ipv4Addr::new(192, 0, 2, 99).octets();
        let body = [
            &header[..],
            &cable::attribute(libc::IFA_LOCAL, &address),
            &cable::attribute(libc::IFA_ADDRESS, &address),
        ];
        cable::request(libc::RTM_NEWADDR, &body.concat())
    }),
    succeed("netlink-route", "a route of one's own", |_| {
        // struct rtmsg of linux/rtnetlink.h: family, prefix lengths, service, table, protocol, scope, type, flags.
        let header = [
            libc::AF_INET as u8,
            32,
            0,
            0,
            libc::RT_TABLE_MAIN,
            libc::RTPROT_STATIC,
            libc::RT_SCOPE_LINK,
            libc::RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let body = [
            &header[..],
            &cable::attribute(libc::RTA_DST, &Ipv4Addr::new(192, 0, 2, 98).octets()),
            &cable::attribute(libc::RTA_OIF, &1_u32.to_ne_bytes()),
        ];
        cable::request(libc::RTM_NEWROUTE, &body.concat())
    }),
    succeed("netlink-cable", "a network cable of one's own", |_| {
        let own = std::fs::File::open("/proc/self/ns/net")?;
        let name = std::process::id();
        cable::lay(
            &format!("hpa{name}"),
            &format!("hpb{name}"),
            std::os::fd::AsFd::as_fd(&own),
        )
        .map_err(|error| error.downcast().unwrap_or_else(io::Error::other))
    }),
];

/// RFC 8200, section 4.4: next header, length, type, segments left; what the type says; addresses.
fn routing_header(kind: u8, of_type: [u8; 4], addresses: &[Ipv6Addr]) -> Vec<u8> {
    let length = 2 * addresses.len() as u8;
    let mut header = vec![0, length, kind, 1];
    header.extend(of_type);
    header.extend(addresses.iter().flat_map(Ipv6Addr::octets));
    header
}

fn routed(scene: &Scene, header: &[u8]) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
    option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RTHDR, header).map_err(|error| {
        match error.raw_os_error() {
            // What a kernel without this type says.
            Some(libc::EINVAL) => io::Error::from_raw_os_error(libc::ENOPROTOOPT),
            _ => error,
        }
    })?;
    socket
        .send_to(&scene.line(), (Ipv6Addr::LOCALHOST, PORT))
        .map(drop)
}

fn option(socket: &impl AsRawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    // SAFETY: reads as many bytes as there are.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    })
    .map(drop)
}
