//! A network, and mounts, of a test's own: what it starts there meets nobody else's packets, and nobody meets its.

use std::{path::Path, process::Command};

use anyhow::{Context as _, ensure};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// An address beyond the way out. Nobody has it (RFC 5737), and what is sent there is swallowed on the way.
pub const BEYOND: &str = "203.0.113.9";
/// The same for IPv6 (RFC 3849).
pub const BEYOND_V6: &str = "2001:db8:66::9";

/// Moves this thread, and with it what it starts from now on, into a network namespace with a loopback and a way out: whatever is sent
/// to an address that is not local appears on the interfaces `out` and `away`.
///
/// # Errors
/// When the kernel refuses, or `ip` is not installed.
pub fn enter_own() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace")?;
    for arguments in [
        "link set lo up",
        "link add out type veth peer name away",
        // Without addresses of their own they have nothing to say.
        "link set out addrgenmode none",
        "link set away addrgenmode none",
        "address add 198.51.100.2/24 dev out",
        "address add 2001:db8:1::2/64 dev out nodad",
        "link set out up",
        "link set away up",
        "neighbour add 198.51.100.1 lladdr 02:00:00:00:00:01 dev out",
        "neighbour add 2001:db8:1::1 lladdr 02:00:00:00:00:01 dev out",
        "route add default via 198.51.100.1 dev out",
        "-6 route add default via 2001:db8:1::1 dev out",
    ] {
        ip(arguments)?;
    }
    Ok(())
}

/// Runs ip(8).
///
/// # Errors
/// When it fails, or is not installed.
pub fn ip(arguments: &str) -> anyhow::Result<()> {
    let status = Command::new("ip")
        .args(arguments.split(' '))
        .status()
        .context("cannot run `ip`: install iproute2")?;
    ensure!(status.success(), "`ip {arguments}` failed");
    Ok(())
}

/// Moves this thread, and with it what it starts from now on, into a mount namespace that nobody else's mounts come into.
///
/// # Errors
/// When the kernel refuses.
pub fn keep_mounts_apart() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let (none, private) = (None::<&Path>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
    mount(none, "/", none, private, none).context("cannot make mounts private")
}
