//! What a session's private mount namespace shows differently from the host's.

use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::Context as _;
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, umask},
};

use super::{
    keep, private,
    sandbox::{RUN, Rules},
    trust::{self, Trust},
};
use crate::mountinfo;

/// File systems that show the kernel's view of the host: its processes, cgroups, BPF programs, traces, queues and namespaces.
const HOST_VIEWS: [&str; 9] = [
    "proc", "cgroup", "cgroup2", "bpf", "debugfs", "tracefs", "sysfs", "mqueue", "nsfs",
];

/// Directories of services that give root to whoever may connect, outside of `/run`, and a device that leads to the hypervisor's
/// sockets. Known ones, because a service that is started anew makes its socket anew.
const HIDDEN: [&str; 3] = [
    "/var/lib/lxd",
    "/var/snap/lxd/common/lxd",
    "/dev/vhost-vsock",
];

/// Lists of the kernel's keys: the caller's on the host, by name.
const HIDDEN_IN_PROC: [&str; 2] = ["/proc/keys", "/proc/key-users"];

const RESOLV_CONF: &str = "# Holdpoint answers for this session.\nnameserver 127.0.0.1\n";

const NOTHING: Option<&str> = None;

/// Flags for what holds no programs.
const INERT: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// Makes the caller's mount namespace private and puts the session's own files over the host's.
///
/// # Errors
/// When something cannot be read or mounted; the namespace is of no use then.
pub fn isolate(runtime_dir: &Path, ca_bundle: &Path, rules: &Rules) -> anyhow::Result<()> {
    // What is made here is for the caller to read.
    umask(Mode::from_bits_truncate(0o022));
    let trust = Trust::read(ca_bundle, rules)?;
    // Where a symlink leads is asked before that place is covered. A dangling one means 127.0.0.1 to resolvers (resolv.conf(5)).
    let resolv_conf = fs::canonicalize("/etc/resolv.conf").ok();
    mount(
        NOTHING,
        "/",
        NOTHING,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        NOTHING,
    )
    .context("cannot make mounts private")?;
    let kept = keep::open(rules)?;

    detach_host_views()?;
    own_sys()?;
    for path in HIDDEN {
        hide(Path::new(path))?;
    }
    own_run(rules)?;
    if let Some(name) = &rules.private {
        private::cover(name)?;
    }
    keep::show(&kept)?;
    for socket in &rules.hidden {
        hide_socket(&socket.to_path())?;
    }

    // Over the daemon's sockets: a session can neither open another nor reach the control API.
    fs::create_dir_all(runtime_dir)
        .with_context(|| format!("cannot make {}", runtime_dir.display()))?;
    empty_over(runtime_dir)?;
    trust.install(runtime_dir)?;
    if let Some(target) = resolv_conf {
        let own = runtime_dir.join("resolv.conf");
        trust::write(&own, RESOLV_CONF.as_bytes())?;
        recreate(&target)?;
        bind(&own, &target)?;
    }
    Ok(())
}

/// For the session's init: shows the processes of its own PID namespace and its own cgroup instead of the host's.
///
/// # Errors
/// When a mount fails.
pub fn own_views() -> anyhow::Result<()> {
    mount(Some("proc"), "/proc", Some("proc"), INERT, NOTHING).context("cannot mount /proc")?;
    for path in HIDDEN_IN_PROC {
        hide(Path::new(path))?;
    }
    // The init's cgroup is the session's: from here on it is the root of all that is to be seen, limits included.
    unshare(CloneFlags::CLONE_NEWCGROUP).context("cannot make a cgroup namespace")?;
    let cgroup = "/sys/fs/cgroup";
    mount(Some("cgroup2"), cgroup, Some("cgroup2"), INERT, NOTHING)
        .and_then(|()| {
            let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
            mount(NOTHING, cgroup, NOTHING, read_only | INERT, NOTHING)
        })
        .context("cannot mount the session's cgroup")
}

/// Wherever they are: a procfs for a chroot shows memory and descriptors of the same user's processes.
fn detach_host_views() -> anyhow::Result<()> {
    let mounts = mountinfo::mounts().context("cannot read the mounts")?;
    // This process still needs /proc; the init puts its own over it.
    let elsewhere = |point: &Path| !point.starts_with("/proc");
    for found in mounts.iter().rev() {
        if HOST_VIEWS.contains(&found.kind.as_str()) && elsewhere(&found.point) {
            umount2(&found.point, MntFlags::MNT_DETACH)
                .with_context(|| format!("cannot detach {}", found.point.display()))?;
        }
    }
    Ok(())
}

/// With the devices of the session's network, and nothing mounted in it.
fn own_sys() -> anyhow::Result<()> {
    let flags = INERT | MsFlags::MS_RDONLY;
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags, NOTHING).context("cannot mount /sys")
}

/// Without the host's sockets; with what programs expect there.
fn own_run(rules: &Rules) -> anyhow::Result<()> {
    let run = Path::new(RUN);
    empty_over(run)?;
    // Nowhere but on hosts of old something else than a link to the former.
    if fs::symlink_metadata("/var/run").is_ok_and(|var_run| var_run.is_dir()) {
        empty_over(Path::new("/var/run"))?;
    }
    let (uid, gid) = (rules.caller.uid, rules.caller.gid);
    let own = run.join(format!("user/{uid}"));
    let lock = run.join("lock");
    fs::create_dir_all(&own)
        .and_then(|()| fs::create_dir(&lock))
        .and_then(|()| fs::set_permissions(&lock, fs::Permissions::from_mode(0o1777)))
        .context("cannot furnish /run")?;
    let options = format!("mode=0700,uid={uid},gid={gid},size=32m");
    tmpfs(&own, &options)
}

fn hide(path: &Path) -> anyhow::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => empty_over(path),
        // To connect to what is no socket is ECONNREFUSED.
        Ok(_) => bind(Path::new("/dev/null"), path),
        Err(_) => Ok(()),
    }
}

/// Unless it is gone by now, or was never to be seen under that name here.
fn hide_socket(path: &Path) -> anyhow::Result<()> {
    match fs::canonicalize(path) {
        Ok(real) if fs::metadata(&real).is_ok_and(|found| found.file_type().is_socket()) => {
            bind(Path::new("/dev/null"), &real)
        }
        _ => Ok(()),
    }
}

fn empty_over(directory: &Path) -> anyhow::Result<()> {
    tmpfs(directory, "mode=0755,size=32m")
}

fn tmpfs(over: &Path, options: &str) -> anyhow::Result<()> {
    mount(Some("holdpoint"), over, Some("tmpfs"), INERT, Some(options))
        .with_context(|| format!("cannot cover {}", over.display()))
}

/// Makes the file anew where covering its directory has taken it away.
fn recreate(target: &Path) -> anyhow::Result<()> {
    let made = match target.parent() {
        Some(parent) if !target.exists() => fs::create_dir_all(parent).and_then(|()| {
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o444)
                .open(target)
                .map(drop)
        }),
        _ => Ok(()),
    };
    made.with_context(|| format!("cannot make {}", target.display()))
}

/// One mount over another place.
pub fn bind(source: &Path, target: &Path) -> anyhow::Result<()> {
    bind_with(source, target, MsFlags::MS_BIND)
}

/// The same with all mounts in it.
pub fn bind_all(source: &Path, target: &Path) -> anyhow::Result<()> {
    bind_with(source, target, MsFlags::MS_BIND | MsFlags::MS_REC)
}

fn bind_with(source: &Path, target: &Path, flags: MsFlags) -> anyhow::Result<()> {
    mount(Some(source), target, NOTHING, flags, NOTHING).with_context(|| {
        format!(
            "cannot mount {} over {}",
            source.display(),
            target.display()
        )
    })
}
