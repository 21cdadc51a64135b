use crate::{Endpoint, Refusal};

/// RFC 1035.
const DNS: u16 = 53;
/// QUIC, by the port of HTTP/3 (RFC 9114).
const HTTPS: u16 = 443;
/// DNS over TLS (RFC 7858) and over QUIC (RFC 9250).
const DNS_OVER_TLS: u16 = 853;

/// Public resolvers that also answer over HTTPS: Google, Cloudflare, Quad9. A help for clients, which fall back to plain DNS:
/// what is not listed meets policy by its name.
const RESOLVERS_V4: [[u8; 4]; 6] = [
    [8, 8, 8, 8],
    [8, 8, 4, 4],
    [1, 1, 1, 1],
    [1, 0, 0, 1],
    [9, 9, 9, 9],
    [149, 112, 112, 112],
];
/// Their IPv6 networks, /48: the upper 64 bits.
const RESOLVERS_V6: [u64; 3] = [
    0x2001_4860_4860_0000,
    0x2606_4700_4700_0000,
    0x2620_00fe_0000_0000,
];

/// The ports of listeners for sessions in the host's network namespace, first and last: two for each session. Above the privileged ports and
/// below those that Linux gives to outgoing connections (`net.ipv4.ip_local_port_range`).
pub const HOST_PORTS: (u16, u16) = (15_100, 16_123);

/// Where a session's own listeners are, on 127.0.0.1 and ::1 of its network namespace. Host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPorts {
    /// The proxy: every TCP connection.
    pub proxy: u16,
    /// The resolver: port 53, UDP and TCP.
    pub dns: u16,
}

/// The network namespace a session's processes are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// One of its own, with nothing but loopback.
    Own,
    /// The host's.
    Host,
}

/// What goes for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRules {
    /// Where its listeners are.
    pub ports: SessionPorts,
    /// Whose loopback that is.
    pub network: Network,
}

impl SessionRules {
    /// Whether a process of the session may bind a socket to `local`.
    #[inline(always)]
    #[must_use]
    pub const fn may_bind(&self, local: &Endpoint) -> bool {
        if self.has_port(local.port) {
            return false;
        }
        match self.network {
            Network::Own => true,
            // Every address of the host is one of the session's loopback's; what comes in from elsewhere is dropped.
            // Nor may one session take the place of another's listeners while these are away.
            Network::Host => {
                local.is_loopback() && (local.port < HOST_PORTS.0 || local.port > HOST_PORTS.1)
            }
        }
    }

    /// Whether one of them is at this port.
    #[inline(always)]
    #[must_use]
    const fn has_port(&self, port: u16) -> bool {
        port == self.ports.proxy || port == self.ports.dns
    }
}

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
    /// Loopback of the host: where it asked to go, if whoever is there belongs to the session.
    Peer,
    /// To this port of the session's own loopback.
    Listener(u16),
    /// Nowhere.
    Refused(Refusal),
}

/// Where a session's traffic to `destination` goes.
#[inline(always)]
#[must_use]
pub const fn route(transport: Transport, destination: &Endpoint, rules: SessionRules) -> Route {
    let ports = rules.ports;
    if destination.is_loopback() {
        return match rules.network {
            Network::Own => Route::Unchanged,
            // The host's own resolver is often on loopback, and not the session's to ask.
            Network::Host if destination.port == DNS => Route::Listener(ports.dns),
            Network::Host => Route::Peer,
        };
    }
    match (transport, destination.port) {
        (_, DNS) => Route::Listener(ports.dns),
        (_, DNS_OVER_TLS) => Route::Refused(Refusal::EncryptedDns),
        (Transport::Udp, HTTPS) => Route::Refused(Refusal::Quic),
        (Transport::Udp, _) => Route::Refused(Refusal::Udp),
        (Transport::Tcp, _) if is_direct_path(destination) => Route::Refused(Refusal::DirectPath),
        (Transport::Tcp, HTTPS) if is_resolver(destination) => {
            Route::Refused(Refusal::EncryptedDns)
        }
        (Transport::Tcp, _) => Route::Listener(ports.proxy),
    }
}

/// Google's direct connectivity: <https://cloud.google.com/vpc/docs/configure-private-google-access#ip-addr-direct>.
#[inline(always)]
const fn is_direct_path(destination: &Endpoint) -> bool {
    destination.is_in_v4(u32::from_be_bytes([34, 126, 0, 0]), 18)
        || destination.is_in_v6(0x2001_4860_8040_0000, 42)
}

#[inline(always)]
const fn is_resolver(destination: &Endpoint) -> bool {
    let mut i = 0;
    while i < RESOLVERS_V4.len() {
        if destination.is_in_v4(u32::from_be_bytes(RESOLVERS_V4[i]), 32) {
            return true;
        }
        i += 1;
    }
    let mut i = 0;
    while i < RESOLVERS_V6.len() {
        if destination.is_in_v6(RESOLVERS_V6[i], 48) {
            return true;
        }
        i += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use super::*;

    const PORTS: SessionPorts = SessionPorts {
        proxy: 15001,
        dns: 5300,
    };

    fn routed_in(network: Network, transport: Transport, destination: &str) -> Route {
        let destination: SocketAddr = destination.parse().expect("a socket address");
        let rules = SessionRules {
            ports: PORTS,
            network,
        };
        route(transport, &destination.into(), rules)
    }

    fn routed(transport: Transport, destination: &str) -> Route {
        let own = routed_in(Network::Own, transport, destination);
        let parsed: SocketAddr = destination.parse().expect("a socket address");
        if !Endpoint::from(parsed).is_loopback() {
            // Outwards they are the same.
            assert_eq!(routed_in(Network::Host, transport, destination), own);
        }
        own
    }

    #[test]
    fn tcp_goes_to_the_proxy_and_dns_to_the_resolver() {
        use Transport::Tcp;
        assert_eq!(routed(Tcp, "192.0.2.1:443"), Route::Listener(15001));
        assert_eq!(routed(Tcp, "[2001:db8::1]:22"), Route::Listener(15001));
        assert_eq!(routed(Tcp, "169.254.169.254:80"), Route::Listener(15001));
        assert_eq!(routed(Tcp, "192.0.2.1:53"), Route::Listener(5300));
        assert_eq!(routed(Tcp, "127.0.0.1:15001"), Route::Unchanged);
        assert_eq!(routed(Tcp, "127.0.0.1:53"), Route::Unchanged);
    }

    #[test]
    fn udp_is_dns_or_nothing() {
        use Transport::Udp;
        assert_eq!(routed(Udp, "8.8.8.8:53"), Route::Listener(5300));
        assert_eq!(routed(Udp, "[2001:db8::1]:53"), Route::Listener(5300));
        assert_eq!(routed(Udp, "192.0.2.1:443"), Route::Refused(Refusal::Quic));
        assert_eq!(routed(Udp, "192.0.2.1:123"), Route::Refused(Refusal::Udp));
        assert_eq!(routed(Udp, "[::1]:9"), Route::Unchanged);
    }

    #[test]
    fn the_host_s_loopback_is_for_peers_and_its_resolver_for_nobody() {
        for transport in [Transport::Tcp, Transport::Udp] {
            for to in ["127.0.0.1:80", "[::1]:15001", "0.0.0.0:80", "[::]:80"] {
                assert_eq!(routed_in(Network::Host, transport, to), Route::Peer, "{to}");
            }
            let stub = "127.0.0.53:53";
            assert_eq!(
                routed_in(Network::Host, transport, stub),
                Route::Listener(5300)
            );
        }
    }

    #[test]
    fn ports_of_listeners_are_bound_by_nobody() {
        let may_bind = |network, local: &str| {
            let local: SocketAddr = local.parse().expect("a socket address");
            let rules = SessionRules {
                ports: PORTS,
                network,
            };
            rules.may_bind(&local.into())
        };
        for (local, own, host) in [
            ("127.0.0.1:15001", false, false),
            ("[::1]:5300", false, false),
            ("127.0.0.1:15100", true, false),
            ("127.0.0.1:16123", true, false),
            ("127.0.0.1:16124", true, true),
            ("127.0.0.1:0", true, true),
            ("192.0.2.1:80", true, false),
        ] {
            assert_eq!(may_bind(Network::Own, local), own, "{local}");
            assert_eq!(may_bind(Network::Host, local), host, "{local}");
        }
    }

    #[test]
    fn direct_paths_and_encrypted_dns_are_refused_and_their_neighbours_not() {
        use Transport::{Tcp, Udp};
        let refused = |refusal| Route::Refused(refusal);
        for to in [
            "34.126.0.0:443",
            "34.126.63.255:80",
            "[2001:4860:8040::1]:443",
        ] {
            assert_eq!(routed(Tcp, to), refused(Refusal::DirectPath), "{to}");
        }
        assert_eq!(
            routed(Tcp, "[2001:4860:807f:ffff::]:1"),
            refused(Refusal::DirectPath)
        );
        for to in ["8.8.8.8:853", "192.0.2.1:853", "[2001:db8::1]:853"] {
            assert_eq!(routed(Tcp, to), refused(Refusal::EncryptedDns), "{to}");
            assert_eq!(routed(Udp, to), refused(Refusal::EncryptedDns), "{to}");
        }
        for to in ["8.8.8.8:443", "1.1.1.1:443", "[2001:4860:4860::8888]:443"] {
            assert_eq!(routed(Tcp, to), refused(Refusal::EncryptedDns), "{to}");
        }
        for to in [
            "34.125.255.255:443",
            "34.126.64.0:443",
            "[2001:4860:803f:ffff::]:443",
            "[2001:4860:8080::]:443",
            "8.8.8.9:443",
            "8.8.8.8:80",
            "[2001:4860:4861::8888]:443",
        ] {
            assert_eq!(routed(Tcp, to), Route::Listener(15001), "{to}");
        }
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
}
