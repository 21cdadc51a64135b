/// Why something was refused; the index into the map of counters. The next daemon reads the counters of the one before it, which
/// may be older: indices keep their meaning.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller is below a cgroup for sessions but in no open session.
    NoSession = 0,
    /// Neither TCP nor UDP.
    Protocol = 1,
    /// UDP port 443: clients fall back to TCP.
    Quic = 2,
    /// UDP to any other port than DNS.
    Udp = 3,
    /// What belongs to the socket could not be stored.
    Store = 4,
    /// A packet that got past the other hooks.
    Egress = 5,
    /// The socket was not made in the session that uses it.
    ForeignSocket = 6,
    /// Google's direct connectivity (gRPC over ALTS): clients fall back to TLS.
    DirectPath = 7,
    /// DNS over TLS, QUIC or HTTPS, by port or by the address of a public resolver.
    EncryptedDns = 8,
    /// The host's loopback, where the one who listens is not of the session.
    HostLoopback = 9,
    /// A port that is Holdpoint's, or an address that others can reach.
    Bind = 10,
    /// A socket option that leads packets another way than their destination says.
    SocketOption = 11,
    /// A packet from outside of the session.
    Ingress = 12,
    /// Holdpoint itself has not been seen to run for a while: an error at once, rather than a listener that nobody accepts at.
    Frozen = 13,
}

impl Refusal {
    /// All of them, in the order of their indices.
    pub const ALL: [Self; 14] = [
        Self::NoSession,
        Self::Protocol,
        Self::Quic,
        Self::Udp,
        Self::Store,
        Self::Egress,
        Self::ForeignSocket,
        Self::DirectPath,
        Self::EncryptedDns,
        Self::HostLoopback,
        Self::Bind,
        Self::SocketOption,
        Self::Ingress,
        Self::Frozen,
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
            Self::ForeignSocket => "foreign_socket",
            Self::DirectPath => "direct_path",
            Self::EncryptedDns => "encrypted_dns",
            Self::HostLoopback => "host_loopback",
            Self::Bind => "bind",
            Self::SocketOption => "socket_option",
            Self::Ingress => "ingress",
            Self::Frozen => "frozen",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_at_their_index() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
    }
}
