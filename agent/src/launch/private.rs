//! A session's own `/tmp`, `/var/tmp` and `/dev/shm`.
//!
//! The first two are directories on disk, made inside the host's and bound over them (as systemd's PrivateTmp= does): builds need the
//! space, and what the operator has decided about `/tmp` (a tmpfs, its size, a quota) stays decided. Nobody but root can enter
//! them from outside. Shared memory is a tmpfs, bounded.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};

use super::{mounts, remove};

/// What everybody on the host may write to.
pub const ROOTS: [&str; 3] = ["/tmp", "/var/tmp", SHARED_MEMORY];

const ON_DISK: [&str; 2] = ["/tmp", "/var/tmp"];
const SHARED_MEMORY: &str = "/dev/shm";
/// Chromium wants some hundred megabytes, a database a few times as much. It counts as memory of the session.
const SHARED_MEMORY_OPTIONS: &str = "mode=1777,size=1g";

/// The name of a session's directories, from its cgroup. It tells apart the sessions of several daemons.
pub fn name(cgroup: &Path) -> Option<String> {
    let agents = cgroup.parent()?.file_name()?.to_str()?;
    Some(format!("{agents}-{}", cgroup.file_name()?.to_str()?))
}

/// Puts them over the host's, in the caller's mount namespace.
///
/// # Errors
/// When one cannot be made, because it is there already for example.
pub fn cover(name: &str) -> anyhow::Result<()> {
    for root in on_disk() {
        let own = make(&root.join(name))
            .with_context(|| format!("cannot make a session's own {}", root.display()))?;
        mounts::bind(&own, &root)?;
    }
    if Path::new(SHARED_MEMORY).is_dir() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        let options = Some(SHARED_MEMORY_OPTIONS);
        mount(
            Some("holdpoint"),
            SHARED_MEMORY,
            Some("tmpfs"),
            flags,
            options,
        )
        .context("cannot cover /dev/shm")?;
    }
    Ok(())
}

/// One directory keeps others out, the one in it is the session's.
fn make(outer: &Path) -> io::Result<PathBuf> {
    let inner = outer.join("tmp");
    fs::create_dir(outer)?;
    fs::set_permissions(outer, Permissions::from_mode(0o700))?;
    fs::create_dir(&inner)?;
    fs::set_permissions(&inner, Permissions::from_mode(0o1777))?;
    Ok(inner)
}

/// Whether a session sees one of its own there.
pub fn is_root(path: &Path) -> bool {
    ROOTS.iter().any(|root| path == Path::new(root))
}

/// Removes what the session of a cgroup, which has ended, has left. Blocks.
pub fn remove_of(cgroup: &Path) {
    let Some(name) = name(cgroup) else { return };
    for root in on_disk() {
        remove_logged(&root, &name);
    }
}

/// Removes what sessions below the agents' cgroup have left that are there no more. Blocks.
pub fn remove_leftovers(agents_cgroup: &Path) {
    let Some(prefix) = name(&agents_cgroup.join("s-")) else {
        return;
    };
    for root in on_disk() {
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let ended = name.to_str().filter(|name| {
                let session = name.strip_prefix(&prefix);
                session.is_some_and(|session| !agents_cgroup.join(format!("s-{session}")).exists())
            });
            if let Some(name) = ended {
                remove_logged(&root, name);
            }
        }
    }
}

/// No reason to fail: it costs space, which the next start of the daemon tries to get back.
fn remove_logged(root: &Path, name: &str) {
    if let Err(error) = remove::tree(root, name) {
        let path = root.join(name);
        tracing::warn!(%error, "cannot remove {} of an ended session", path.display());
    }
}

/// `/var/tmp` may be a link to `/tmp`.
fn on_disk() -> Vec<PathBuf> {
    let mut roots: Vec<_> = ON_DISK
        .iter()
        .filter_map(|root| fs::canonicalize(root).ok())
        .collect();
    roots.dedup();
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_daemons_apart() {
        let name = |path: &str| name(Path::new(path)).expect("a name");
        assert_eq!(name("/sys/fs/cgroup/holdpoint/s-1"), "holdpoint-s-1");
        assert_ne!(
            name("/sys/fs/cgroup/test/s-1"),
            name("/sys/fs/cgroup/holdpoint/s-1")
        );
    }
}
