//! The stage's own namespaces and files. All of it is gone with the last process on it.

use std::{
    fs::{self, File, Permissions},
    os::{
        fd::AsRawFd as _,
        unix::fs::{PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, umask},
};

use super::places::{
    self, DROP, FAR_V4, NEAR_V4, PINS, PROGRAM, QUEUES, ROOT, SETGID_ID, SETUID_ID,
    SHARED_DIRECTORIES, SHARED_SECRET,
};
use crate::doctor::attack::SECRET;

/// The program that tells who it is.
const ID: &str = "/usr/bin/id";
/// A directory that only root may enter.
pub const CLOSED: &str = "/mnt/closed";
/// A file of the user's in there: to be had through its owner's descriptors alone.
pub const VICTIMS_FILE: &str = "/mnt/closed/secret";

/// Moves the calling thread into network, mount and IPC namespaces of its own, covers `/mnt` and `/run` there, and puts up what
/// attacks look for. The host is not changed.
///
/// # Errors
/// When the kernel refuses, or a file is not where it is everywhere.
pub fn put_up(owner: u32) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    umask(Mode::from_bits_truncate(0o022));
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC)
        .context("cannot make namespaces: doctor's attacks take root with all capabilities")?;
    let nothing = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).context("cannot make mounts private")?;
    // Opened before its directory may be covered.
    let program =
        File::open(&program).with_context(|| format!("cannot open {}", program.display()))?;
    let resolv_conf = fs::canonicalize("/etc/resolv.conf").ok();
    let own = [ROOT, "/run"].map(|place| (place, "mode=0755"));
    let shared = SHARED_DIRECTORIES.map(|place| (place, "mode=1777"));
    for (covered, mode) in own.into_iter().chain(shared) {
        // Without nosuid and noexec, which they often have: setuid programs have to work here.
        let (flags, options) = (MsFlags::MS_NODEV, Some(mode));
        mount(Some("tmpfs"), covered, Some("tmpfs"), flags, options)
            .with_context(|| format!("cannot cover {covered}"))?;
    }
    File::create(PROGRAM)?;
    bind(
        Path::new(&format!("/proc/self/fd/{}", program.as_raw_fd())),
        Path::new(PROGRAM),
    )?;
    fs::create_dir(PINS)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), PINS, Some("bpf"), flags, Some("mode=0700"))
        .context("cannot mount a bpffs: is this a kernel with BPF?")?;
    if Path::new(QUEUES).exists() {
        mount(Some("mqueue"), QUEUES, Some("mqueue"), flags, nothing)
            .context("cannot mount the message queues")?;
    }
    set_id_programs()?;
    victims_file(owner)?;
    shared_files().context("cannot put files into shared directories")?;
    resolver(resolv_conf)
}

fn set_id_programs() -> anyhow::Result<()> {
    for (copy, mode) in [(SETUID_ID, 0o4755), (SETGID_ID, 0o2755)] {
        fs::copy(ID, copy)
            .and_then(|_| fs::set_permissions(copy, Permissions::from_mode(mode)))
            .with_context(|| format!("cannot copy {ID}"))?;
    }
    Ok(())
}

fn victims_file(owner: u32) -> anyhow::Result<()> {
    fs::create_dir(CLOSED)?;
    fs::set_permissions(CLOSED, Permissions::from_mode(0o700))?;
    fs::write(VICTIMS_FILE, SECRET)?;
    fs::set_permissions(VICTIMS_FILE, Permissions::from_mode(0o600))?;
    Ok(chown(VICTIMS_FILE, Some(owner), None)?)
}

/// Anybody's to read, and a place for anybody's files.
fn shared_files() -> std::io::Result<()> {
    for directory in SHARED_DIRECTORIES.map(Path::new) {
        fs::write(directory.join(SHARED_SECRET), SECRET)?;
        fs::create_dir(directory.join(DROP))?;
        fs::set_permissions(directory.join(DROP), Permissions::from_mode(0o1777))?;
    }
    Ok(())
}

/// Names are asked of the outside world.
fn resolver(target: Option<PathBuf>) -> anyhow::Result<()> {
    let Some(target) = target else { return Ok(()) };
    let own = Path::new(ROOT).join("resolv.conf");
    fs::write(
        &own,
        format!("nameserver {FAR_V4}\noptions timeout:1 attempts:1\n"),
    )?;
    if let Some(parent) = target.parent().filter(|_| !target.exists()) {
        fs::create_dir_all(parent)?;
        File::create(&target)?;
    }
    bind(&own, &target)
}

fn bind(source: &Path, target: &Path) -> anyhow::Result<()> {
    let nothing = None::<&str>;
    mount(Some(source), target, nothing, MsFlags::MS_BIND, nothing)
        .with_context(|| format!("cannot mount over {}", target.display()))
}

/// Loopback, the cable's end, and what the kernel allows everybody here.
///
/// # Errors
/// When the kernel refuses.
pub fn network() -> anyhow::Result<()> {
    // The link-local one at once, too: the kernel's own would come a second later.
    let v6 = [places::NEAR_V6, places::NEAR_LINK_LOCAL];
    super::cable::plug_in(places::NEAR, NEAR_V4, &v6)
        .context("cannot set the stage's interface up")?;
    super::cable::add_v4("lo:9", places::METADATA)?;
    super::cable::add_v6("lo", places::METADATA_V6, 128)?;
    super::cable::settle();
    // Nobody may make ping sockets in a new namespace (icmp(7)), and root is not to be needed for them.
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647")
        .context("cannot allow ping sockets")
}
