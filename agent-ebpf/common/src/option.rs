//! Socket options that a session may not set: those that make packets go another way than their destination says, and those that
//! make of a socket something else than the hooks know.

use crate::Network;

/// Levels and names of linux/in.h, linux/in6.h and asm-generic/socket.h.
const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;
const SO_BINDTOIFINDEX: i32 = 62;

const IPPROTO_TCP: i32 = 6;
/// Kernel TLS and what else is put on top of TCP: libraries do without.
const TCP_ULP: i32 = 31;

const IPPROTO_IP: i32 = 0;
const IP_OPTIONS: i32 = 4;
const IP_MULTICAST_IF: i32 = 32;
const IP_ADD_MEMBERSHIP: i32 = 35;
const IP_ADD_SOURCE_MEMBERSHIP: i32 = 39;
const IP_UNICAST_IF: i32 = 50;

const IPPROTO_IPV6: i32 = 41;
const IPV6_2292PKTOPTIONS: i32 = 6;
const IPV6_MULTICAST_IF: i32 = 17;
const IPV6_ADD_MEMBERSHIP: i32 = 20;
const IPV6_JOIN_ANYCAST: i32 = 27;
const IPV6_HOPOPTS: i32 = 54;
const IPV6_RTHDRDSTOPTS: i32 = 55;
const IPV6_RTHDR: i32 = 57;
const IPV6_DSTOPTS: i32 = 59;
const IPV6_UNICAST_IF: i32 = 76;

/// At either level.
const MCAST_JOIN_GROUP: i32 = 42;
const MCAST_JOIN_SOURCE_GROUP: i32 = 46;

/// Whether a session with that network may not set an option.
#[inline(always)]
#[must_use]
pub const fn is_refused(network: Network, level: i32, name: i32) -> bool {
    // Source routes, and headers that carry them; protocols of the kernel's on top of TCP.
    let never = match level {
        IPPROTO_TCP => name == TCP_ULP,
        IPPROTO_IP => name == IP_OPTIONS,
        IPPROTO_IPV6 => matches!(
            name,
            IPV6_2292PKTOPTIONS | IPV6_HOPOPTS | IPV6_RTHDRDSTOPTS | IPV6_RTHDR | IPV6_DSTOPTS
        ),
        _ => false,
    };
    match network {
        Network::Own => never,
        Network::Host => never || names_interface(level, name) || joins(level, name),
    }
}

/// With another interface, loopback addresses leave the host.
const fn names_interface(level: i32, name: i32) -> bool {
    match level {
        SOL_SOCKET => matches!(name, SO_BINDTODEVICE | SO_BINDTOIFINDEX),
        IPPROTO_IP => matches!(name, IP_MULTICAST_IF | IP_UNICAST_IF),
        IPPROTO_IPV6 => matches!(name, IPV6_MULTICAST_IF | IPV6_UNICAST_IF),
        _ => false,
    }
}

/// The kernel tells the network who joins a group.
const fn joins(level: i32, name: i32) -> bool {
    match level {
        IPPROTO_IP => matches!(
            name,
            IP_ADD_MEMBERSHIP
                | IP_ADD_SOURCE_MEMBERSHIP
                | MCAST_JOIN_GROUP
                | MCAST_JOIN_SOURCE_GROUP
        ),
        IPPROTO_IPV6 => matches!(
            name,
            IPV6_ADD_MEMBERSHIP | IPV6_JOIN_ANYCAST | MCAST_JOIN_GROUP | MCAST_JOIN_SOURCE_GROUP
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_routes_are_for_nobody_and_interfaces_for_own_networks_only() {
        for network in [Network::Own, Network::Host] {
            assert!(is_refused(network, IPPROTO_IP, IP_OPTIONS));
            assert!(is_refused(network, IPPROTO_IPV6, IPV6_RTHDR));
            assert!(is_refused(network, IPPROTO_TCP, TCP_ULP));
            // SO_REUSEADDR, TCP_NODELAY, IPV6_V6ONLY; IP_OPTIONS' number at another level.
            for (level, name) in [(SOL_SOCKET, 2), (6, 1), (IPPROTO_IPV6, 26), (6, 4)] {
                assert!(!is_refused(network, level, name), "{level} {name}");
            }
        }
        for (level, name) in [
            (SOL_SOCKET, SO_BINDTODEVICE),
            (IPPROTO_IPV6, IPV6_UNICAST_IF),
            (IPPROTO_IP, IP_ADD_MEMBERSHIP),
        ] {
            assert!(is_refused(Network::Host, level, name));
            assert!(!is_refused(Network::Own, level, name));
        }
    }
}
