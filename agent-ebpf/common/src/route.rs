use crate::{Endpoint, SessionPorts};

/// RFC 1035.
const DNS: u16 = 53;
/// QUIC, by the port of HTTP/3 (RFC 9114).
const HTTPS: u16 = 443;

/// The transports a session may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP stream.
    Tcp,
    /// UDP datagrams.
    Udp,
}

impl Transport {
    /// From a socket's type (SOCK_STREAM 1, SOCK_DGRAM 2) and protocol. Everything else (raw and ping sockets, UDP-Lite, SCTP,
    /// MPTCP, ...) is none: a socket in a hook always has its real protocol, never the 0 that socket(2) takes.
    #[inline(always)]
    #[must_use]
    pub const fn of(socket_type: u32, protocol: u32) -> Option<Self> {
        match (socket_type, protocol) {
            (1, 6) => Some(Self::Tcp),
            (2, 17) => Some(Self::Udp),
            _ => None,
        }
    }
}

/// Where a session's traffic to some destination goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Where it asked to go: loopback of its own namespace.
    Unchanged,
    /// To this port of the session's own loopback.
    Listener(u16),
    /// Nowhere.
    Refused(Refusal),
}

/// Why something was refused; the index into the map of counters. The next daemon reads the counters of the one before it, which
/// may be older: indices keep their meaning.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller is below the agents' cgroup but in no open session.
    NoSession = 0,
    /// Neither TCP nor UDP.
    Protocol = 1,
    /// UDP port 443: clients fall back to TCP.
    Quic = 2,
    /// UDP to any other port than DNS.
    Udp = 3,
    /// The original destination could not be stored.
    Store = 4,
    /// A packet that got past the other hooks.
    Egress = 5,
}

impl Refusal {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 6] = [
        Self::NoSession,
        Self::Protocol,
        Self::Quic,
        Self::Udp,
        Self::Store,
        Self::Egress,
    ];

    /// A short name, for metrics and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSession => "no_session",
            Self::Protocol => "protocol",
            Self::Quic => "quic",
            Self::Udp => "udp",
            Self::Store => "store",
            Self::Egress => "egress",
        }
    }
}

/// Where a session's traffic to `destination` goes.
#[inline(always)]
#[must_use]
pub const fn route(transport: Transport, destination: &Endpoint, ports: SessionPorts) -> Route {
    if destination.is_loopback() {
        return Route::Unchanged;
    }
    match (transport, destination.port) {
        (_, DNS) => Route::Listener(ports.dns),
        (Transport::Tcp, _) => Route::Listener(ports.proxy),
        (Transport::Udp, HTTPS) => Route::Refused(Refusal::Quic),
        (Transport::Udp, _) => Route::Refused(Refusal::Udp),
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use super::*;

    const PORTS: SessionPorts = SessionPorts {
        proxy: 15001,
        dns: 53,
    };

    fn routed(transport: Transport, destination: &str) -> Route {
        let destination: SocketAddr = destination.parse().expect("a socket address");
        route(transport, &destination.into(), PORTS)
    }

    #[test]
    fn tcp_goes_to_the_proxy_and_dns_to_the_resolver() {
        use Transport::Tcp;
        assert_eq!(routed(Tcp, "192.0.2.1:443"), Route::Listener(15001));
        assert_eq!(routed(Tcp, "[2001:db8::1]:22"), Route::Listener(15001));
        assert_eq!(routed(Tcp, "169.254.169.254:80"), Route::Listener(15001));
        assert_eq!(routed(Tcp, "192.0.2.1:53"), Route::Listener(53));
        assert_eq!(routed(Tcp, "127.0.0.1:15001"), Route::Unchanged);
        assert_eq!(routed(Tcp, "127.0.0.1:53"), Route::Unchanged);
    }

    #[test]
    fn udp_is_dns_or_nothing() {
        use Transport::Udp;
        assert_eq!(routed(Udp, "8.8.8.8:53"), Route::Listener(53));
        assert_eq!(routed(Udp, "[2001:db8::1]:53"), Route::Listener(53));
        assert_eq!(routed(Udp, "192.0.2.1:443"), Route::Refused(Refusal::Quic));
        assert_eq!(routed(Udp, "192.0.2.1:123"), Route::Refused(Refusal::Udp));
        assert_eq!(routed(Udp, "[::1]:9"), Route::Unchanged);
    }

    #[test]
    fn only_real_tcp_and_udp_are_transports() {
        assert_eq!(Transport::of(1, 6), Some(Transport::Tcp));
        assert_eq!(Transport::of(2, 17), Some(Transport::Udp));
        // Raw, ping, UDP-Lite, SCTP, MPTCP, SMC.
        for (socket_type, protocol) in [
            (3, 6),
            (3, 255),
            (2, 1),
            (2, 136),
            (1, 132),
            (1, 262),
            (1, 256),
        ] {
            assert_eq!(Transport::of(socket_type, protocol), None);
        }
    }

    #[test]
    fn refusals_are_at_their_index() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
    }
}
