use crate::{Endpoint, Network, Process, SessionPorts, SessionRules};

/// [`SessionRules`] as the map keeps them: any bit pattern is some rules.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEntry {
    proxy: u16,
    dns: u16,
    /// 1: its own. Anything else is the host's, for which more is refused.
    own_network: u32,
}

impl SessionEntry {
    /// What the entry says.
    #[inline(always)]
    #[must_use]
    pub const fn rules(self) -> SessionRules {
        SessionRules {
            ports: SessionPorts {
                proxy: self.proxy,
                dns: self.dns,
            },
            network: match self.own_network {
                1 => Network::Own,
                _ => Network::Host,
            },
        }
    }
}

impl From<SessionRules> for SessionEntry {
    fn from(rules: SessionRules) -> Self {
        Self {
            proxy: rules.ports.proxy,
            dns: rules.ports.dns,
            own_network: match rules.network {
                Network::Own => 1,
                Network::Host => 0,
            },
        }
    }
}

/// The cgroup above the sessions in the host's network namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its id. 0, which is no cgroup's: there is none.
    pub id: u64,
    /// Its depth below the cgroup2 root, which has depth 0.
    pub level: u32,
    reserved: u32,
}

impl Slice {
    /// The cgroup `id` at depth `level`.
    #[must_use]
    pub const fn new(id: u64, level: u32) -> Self {
        Self {
            id,
            level,
            reserved: 0,
        }
    }
}

/// What is known of a session's socket, for as long as it lives. Made with the socket: a socket without it, or with another
/// session's, is a foreign one. Accepted sockets have their listener's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketState {
    /// The id of the cgroup of the session whose process made it, or whose listener it is.
    pub session: u64,
    /// That process.
    pub maker: Process,
    /// What it asked for last that was redirected, and by whom.
    pub flow: Flow,
    /// The listener that it was redirected to; port 0 when it was not.
    pub listener: Endpoint,
}

impl SocketState {
    /// Of a new socket.
    #[inline(always)]
    #[must_use]
    pub const fn new(session: u64, maker: Process) -> Self {
        Self {
            session,
            maker,
            flow: Flow {
                destination: Endpoint::NONE,
                process: Process::UNKNOWN,
            },
            listener: Endpoint::NONE,
        }
    }
}

/// A redirected TCP connection as the listener sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// The id of the session's cgroup: two sessions may have the same addresses and ports.
    pub session: u64,
    /// The client's end.
    pub client: Endpoint,
    /// The listener's end.
    pub listener: Endpoint,
}

/// What the listener learns about a redirected TCP connection.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The address and port that were asked for.
    pub destination: Endpoint,
    /// The process that asked.
    pub process: Process,
}

// The same on both sides of the map, and without the padding that the verifier takes for a leak.
const _: () = {
    assert!(size_of::<SessionEntry>() == 8);
    assert!(size_of::<Slice>() == 16);
    assert!(size_of::<Endpoint>() == 20);
    assert!(size_of::<SocketState>() == 8 + 20 + 40 + 20);
    assert!(size_of::<FlowKey>() == 8 + 20 + 20);
    assert!(size_of::<Flow>() == 20 + 20);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Flow, FlowKey, SessionEntry, Slice, SocketState};

    // SAFETY: repr(C), no padding (asserted above), any bit pattern is valid.
    unsafe impl aya::Pod for SessionEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Slice {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flow {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SocketState {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_back_from_the_map() {
        for network in [Network::Own, Network::Host] {
            let ports = SessionPorts { proxy: 1, dns: 2 };
            let rules = SessionRules { ports, network };
            assert_eq!(SessionEntry::from(rules).rules(), rules);
        }
    }
}
