//! As much of a packet as tells who sends what where.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Protocol numbers of IANA.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP_V6: u8 = 58;
/// "Destination unreachable" of RFC 792 and of RFC 4443.
const UNREACHABLE: u8 = 3;
const UNREACHABLE_V6: u8 = 1;
/// "Multicast Listener Report, version 2" (RFC 3810), which a kernel sends for its own addresses.
const LISTENER_REPORT: u8 = 143;

/// A packet without its link header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// TCP, from and to.
    Tcp(SocketAddr, SocketAddr),
    /// UDP, from and to.
    Udp(SocketAddr, SocketAddr),
    /// Says that another one could not be delivered.
    Undelivered(Box<Packet>),
    /// What a kernel says about its own multicast groups.
    Groups,
    /// Anything else: the first bytes.
    Other(Vec<u8>),
}

impl Packet {
    /// Reads one. Whatever cannot be read is [`Self::Other`].
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        parse(bytes, 1).unwrap_or_else(|| Self::Other(bytes.iter().copied().take(64).collect()))
    }
}

fn parse(bytes: &[u8], nested: u8) -> Option<Packet> {
    let (protocol, from, to, payload) = match bytes.first()? >> 4 {
        4 => v4(bytes)?,
        6 => v6(bytes)?,
        _ => return None,
    };
    let port = |at: usize| {
        Some(u16::from_be_bytes(
            payload.get(at..at + 2)?.try_into().ok()?,
        ))
    };
    match (protocol, payload.first()?) {
        (TCP, _) => Some(Packet::Tcp(
            SocketAddr::new(from, port(0)?),
            SocketAddr::new(to, port(2)?),
        )),
        (UDP, _) => Some(Packet::Udp(
            SocketAddr::new(from, port(0)?),
            SocketAddr::new(to, port(2)?),
        )),
        (ICMP, &UNREACHABLE) | (ICMP_V6, &UNREACHABLE_V6) if nested > 0 => {
            let about = parse(payload.get(8..)?, nested - 1)?;
            Some(Packet::Undelivered(Box::new(about)))
        }
        (ICMP_V6, &LISTENER_REPORT) => Some(Packet::Groups),
        _ => None,
    }
}

type Parts<'a> = (u8, IpAddr, IpAddr, &'a [u8]);

/// RFC 791. Fragments but the first have no ports to read.
fn v4(bytes: &[u8]) -> Option<Parts<'_>> {
    let header = usize::from(bytes[0] & 15) * 4;
    let offset = u16::from_be_bytes(bytes.get(6..8)?.try_into().ok()?) & 0x1fff;
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    (offset == 0 && header >= 20).then_some(())?;
    Some((
        *bytes.get(9)?,
        address(12)?,
        address(16)?,
        bytes.get(header..)?,
    ))
}

/// RFC 8200. Of extension headers only hop-by-hop options are stepped over, which multicast listener reports have.
fn v6(bytes: &[u8]) -> Option<Parts<'_>> {
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let (mut next, mut payload) = (*bytes.get(6)?, bytes.get(40..)?);
    if next == 0 {
        next = *payload.first()?;
        let length = (usize::from(*payload.get(1)?) + 1) * 8;
        payload = payload.get(length..)?;
    }
    Some((next, address(8)?, address(24)?, payload))
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(from, to) => write!(f, "TCP {from} -> {to}"),
            Self::Udp(from, to) => write!(f, "UDP {from} -> {to}"),
            Self::Undelivered(packet) => write!(f, "undelivered: {packet}"),
            Self::Groups => f.write_str("multicast listener report"),
            Self::Other(bytes) => write!(f, "{bytes:02x?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP_V4: &[u8] = &[
        0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 203, 0, 113, 9, 0x30, 0x39, 0, 53,
        0, 9, 0, 0, b'x',
    ];

    #[test]
    fn who_sends_what_where() {
        let packet = Packet::read(UDP_V4);
        assert_eq!(packet.to_string(), "UDP 127.0.0.1:12345 -> 203.0.113.9:53");
        let mut icmp = vec![
            0x45, 0, 0, 57, 0, 0, 0, 0, 64, 1, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1,
        ];
        icmp.extend([3, 3, 0, 0, 0, 0, 0, 0]);
        icmp.extend(UDP_V4);
        assert_eq!(Packet::read(&icmp), Packet::Undelivered(Box::new(packet)));
    }

    #[test]
    fn garbage_fragments_and_pings_are_others() {
        let mut fragment = UDP_V4.to_vec();
        fragment[7] = 1;
        let mut ping = UDP_V4.to_vec();
        ping[9] = 1;
        ping[20] = 8;
        for bytes in [&[][..], &[0x45], &fragment, &ping, &[0x60; 40]] {
            assert!(matches!(Packet::read(bytes), Packet::Other(_)), "{bytes:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let _ = Packet::read(&bytes);
        }

        #[test]
        fn any_payload_is_read(bytes: Vec<u8>, protocol: u8) {
            let mut packet = UDP_V4[..20].to_vec();
            packet[9] = protocol;
            packet.extend(bytes);
            let _ = Packet::read(&packet);
        }
    }
}
