//! Where things are on the stage. Addresses are of documentation's ranges (RFC 5737, RFC 3849), in namespaces of the doctor's own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The stage's end of the cable.
pub const NEAR: &str = "hpnear";
/// The far end, in another namespace.
pub const FAR: &str = "hpfar";

/// The stage's addresses.
pub const NEAR_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub const NEAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x686f, 0, 0, 0, 0, 1);
pub const NEAR_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x686f, 0, 0, 1);
/// The outside world's.
pub const FAR_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub const FAR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x686f, 0, 0, 0, 0, 2);
pub const FAR_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x686f, 0, 0, 2);
pub const SUBNET_BROADCAST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 255);

/// Any port without a meaning; the outside world listens there.
pub const PORT: u16 = 9999;
/// The same on the stage's loopback.
pub const LOOPBACK_PORT: u16 = 9998;
/// Where an attacker listens for calls from outside.
pub const INBOUND_PORT: u16 = 9997;
/// The issuer's.
pub const ISSUER_PORT: u16 = 9996;

/// The address of every VM's metadata server.
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
pub const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// All of the doctor's files; a file system of its own.
pub const ROOT: &str = "/mnt";
/// This program, where every user can run it.
pub const PROGRAM: &str = "/mnt/holdpoint";
/// `id`, with the setuid bit.
pub const SETUID_ID: &str = "/mnt/setuid-id";
/// `id`, with the setgid bit.
pub const SETGID_ID: &str = "/mnt/setgid-id";
/// A socket behind which somebody hands out sockets of theirs.
pub const HAND_OVER: &str = "/mnt/hand-over.sock";
/// The daemon's state.
pub const STATE: &str = "/mnt/state";
/// The daemon's configuration.
pub const CONFIG: &str = "/mnt/holdpoint.toml";
/// The daemon's pins.
pub const PINS: &str = "/mnt/bpf";
/// The daemon's sockets.
pub const RUNTIME: &str = "/run/holdpoint";
/// A name in the stage's abstract socket namespace.
pub const ABSTRACT: &str = "holdpoint-doctor";
/// Directories that all users of a host share.
pub const SHARED_DIRECTORIES: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
/// A file with the secret in each of them.
pub const SHARED_SECRET: &str = "holdpoint-doctor";
/// A directory in each of them whose files somebody outside reads.
pub const DROP: &str = "drop";
/// Where message queues are files, on hosts that have it.
pub const QUEUES: &str = "/dev/mqueue";
/// A POSIX message queue.
pub const QUEUE: &std::ffi::CStr = c"/holdpoint-doctor";

/// The access token that only the stage's metadata server gives out.
pub const CREDENTIAL: &str = "ya29.doctor-";

/// `address` in the outside world.
pub fn far(address: impl Into<IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}
