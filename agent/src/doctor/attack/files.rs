//! Files that a session must not read, and places it must not write to.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::{Attack, no, succeed};
use crate::doctor::stage::places::{CONFIG, RUNTIME, STATE};

pub const ATTACKS: &[Attack] = &[
    succeed("cgroup-root", "move into the root cgroup", |scene| {
        move_to(&scene.plan.cgroup2)
    }),
    succeed(
        "cgroup-parent",
        "move into the cgroup of all sessions",
        |_| move_to(own_cgroup()?.parent().unwrap_or(Path::new("/"))),
    ),
    succeed("cgroup-child", "make a cgroup below one's own", |_| {
        let child = own_cgroup()?.join("child");
        fs::create_dir(&child)?;
        fs::remove_dir(child)
    }),
    succeed("ca-bundle", "write to the CA bundle", |_| {
        writable(&Path::new(RUNTIME).join("ca-bundle.pem"))
    }),
    succeed("resolv-conf", "write to /etc/resolv.conf", |_| {
        writable(Path::new("/etc/resolv.conf"))
    }),
    succeed("hosts", "write to /etc/hosts", |_| {
        writable(Path::new("/etc/hosts")).map_err(missing)
    }),
    succeed(
        "core-pattern",
        "a program of one's own for core dumps",
        |_| writable(Path::new("/proc/sys/kernel/core_pattern")),
    ),
    succeed(
        "forwarding",
        "write to the network's settings in /proc/sys",
        |_| writable(Path::new("/proc/sys/net/ipv4/ip_forward")),
    ),
    succeed("sysrq", "write to /proc/sysrq-trigger", |_| {
        writable(Path::new("/proc/sysrq-trigger")).map_err(missing)
    }),
    succeed("host-name", "rename the host", |_| {
        let name = nix::unistd::gethostname()?;
        nix::unistd::sethostname(name).map_err(io::Error::from)
    }),
    succeed("block-device", "make a device node of the disk", |_| {
        let node = std::env::temp_dir().join(format!("holdpoint-doctor-{}", std::process::id()));
        mknod(
            &node,
            SFlag::S_IFBLK,
            Mode::from_bits_truncate(0o600),
            makedev(8, 0),
        )?;
        fs::remove_file(node)
    }),
    succeed("pins", "remove a pinned BPF link", |_| {
        // Seeing them is enough: whoever may is root, and can.
        readable(Path::new(crate::doctor::stage::places::PINS).join("links"))
    }),
    succeed("ca-key", "read the CA's key", |_| {
        File::open(Path::new(STATE).join("ca.key")).map(drop)
    }),
    succeed("record", "read the record", |_| {
        readable(Path::new(STATE).join("record"))
    }),
    succeed("configuration", "read the daemon's configuration", |_| {
        File::open(CONFIG).map(drop)
    }),
    succeed("shadow", "read /etc/shadow", |_| {
        File::open("/etc/shadow").map(drop)
    }),
];

/// Where there is no such file, the kernel has no such thing.
pub fn missing(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::from_raw_os_error(libc::ENODEV),
        _ => error,
    }
}

/// Opened only: nothing is written.
fn writable(path: &Path) -> io::Result<()> {
    File::options().write(true).open(path).map(drop)
}

fn readable(dir: PathBuf) -> io::Result<()> {
    fs::read_dir(dir).map(drop)
}

/// `0` stands for the writer.
fn move_to(cgroup: &Path) -> io::Result<()> {
    match fs::write(cgroup.join("cgroup.procs"), "0") {
        // Who may not is told so first. A cgroup that has controllers below it, as slices of systemd's do, takes no process of anybody's.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(()),
        moved => moved,
    }
}

/// Where the session's cgroup is in the file system.
fn own_cgroup() -> io::Result<PathBuf> {
    let root = crate::kernel::cgroup2_root().map_err(io::Error::other)?;
    let cgroups = fs::read_to_string("/proc/self/cgroup")?;
    let own = cgroups
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .ok_or_else(|| no("in no cgroup of version 2"))?;
    Ok(root.join(own))
}
