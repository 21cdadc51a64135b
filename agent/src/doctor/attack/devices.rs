//! Devices, and files of the kernel's that are as good as one.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{Attack, files::missing, no, succeed};
use crate::doctor::stage::places::ROOT;

pub const ATTACKS: &[Attack] = &[
    succeed("dev-mem", "the host's memory", |_| open("/dev/mem")),
    succeed("kcore", "the kernel's memory", |_| open("/proc/kcore")),
    succeed("kmsg", "the kernel's log, as a device", |_| {
        open("/dev/kmsg")
    }),
    succeed("vhost-vsock", "a virtual machine's socket device", |_| {
        open("/dev/vhost-vsock")
    }),
    succeed("vhost-net", "a virtual machine's network device", |_| {
        open("/dev/vhost-net")
    }),
    succeed("loop-control", "a loop device", |_| {
        open("/dev/loop-control")
    }),
    succeed("disk", "a disk of the host's", |_| disk()),
    succeed(
        "modprobe-path",
        "a program of one's own for missing modules",
        |_| writable("/proc/sys/kernel/modprobe"),
    ),
    succeed(
        "uevent-helper",
        "a program of one's own for device events",
        |_| writable("/sys/kernel/uevent_helper"),
    ),
    succeed(
        "release-agent",
        "a program of one's own for empty cgroups",
        |_| release_agent(),
    ),
    succeed(
        "binfmt",
        "an interpreter of one's own for everybody",
        |_| binfmt(),
    ),
    succeed("tracefs", "the kernel's traces", |_| {
        listed("/sys/kernel/tracing")
    }),
    succeed("debugfs", "the kernel's innards", |_| {
        listed("/sys/kernel/debug")
    }),
    succeed("cron", "a job for cron or at", |_| {
        let places = [
            "/etc/cron.d",
            "/var/spool/cron/crontabs",
            "/var/spool/cron/atjobs",
            "/etc/systemd/system",
        ];
        one_of(places.map(PathBuf::from), |path| {
            // Asked only: nothing is written on the real host.
            nix::unistd::access(path, nix::unistd::AccessFlags::W_OK).map_err(io::Error::from)
        })
    }),
];

/// Opened only: nothing is read.
fn open(path: &str) -> io::Result<()> {
    let opened = File::open(path).map_err(missing)?.metadata()?;
    match opened.rdev() == fs::metadata("/dev/null")?.rdev() {
        true => Err(no("/dev/null is in its place")),
        false => Ok(()),
    }
}

/// systemd mounts its directory where it is first looked at, but in the first mount namespace only (elsewhere ELOOP, or EPERM in newer
/// kernels): then by hand.
fn binfmt() -> io::Result<()> {
    writable("/proc/sys/fs/binfmt_misc/register").or_else(|_| {
        unshare(CloneFlags::CLONE_NEWNS)?;
        let (nothing, kind) = (None::<&str>, Some("binfmt_misc"));
        mount(kind, ROOT, kind, MsFlags::empty(), nothing)?;
        writable(&format!("{ROOT}/register"))
    })
}

fn writable(path: &str) -> io::Result<()> {
    File::options()
        .write(true)
        .open(path)
        .map(drop)
        .map_err(missing)
}

/// An empty directory is where something would be mounted.
fn listed(path: &str) -> io::Result<()> {
    match fs::read_dir(path).map_err(missing)?.next() {
        Some(_) => Ok(()),
        None => Err(io::Error::from_raw_os_error(libc::ENODEV)),
    }
}

/// By the kernel's list of them.
fn disk() -> io::Result<()> {
    let partitions = fs::read_to_string("/proc/partitions")?;
    let names = partitions
        .lines()
        .skip(2)
        .filter_map(|line| line.split_whitespace().last());
    one_of(names.map(|name| Path::new("/dev").join(name)), |path| {
        // A container's devices cgroup keeps disks from root as well.
        File::open(path)
            .map(drop)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EPERM) => io::Error::from_raw_os_error(libc::ENODEV),
                _ => error,
            })
    })
}

/// Of cgroup version 1, wherever it is mounted.
fn release_agent() -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    let first = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup").then(|| Path::new(point).join("release_agent"))
    });
    one_of(first, |path| {
        File::options().write(true).open(path).map(drop)
    })
}

/// The first that works; or why the last one that is there does not.
fn one_of(
    paths: impl IntoIterator<Item = PathBuf>,
    way: impl Fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let mut refusal = io::Error::from_raw_os_error(libc::ENODEV);
    for path in paths {
        match way(&path) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.raw_os_error().is_some() => refusal = error,
            Err(_) => refusal = no("it cannot be opened"),
        }
    }
    Err(refusal)
}
