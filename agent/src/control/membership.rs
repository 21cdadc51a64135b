//! Which processes are in sessions.

use std::path::Path;

use anyhow::Context as _;

/// The cgroup above all sessions, as `/proc/PID/cgroup` spells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AgentsCgroup(String);

impl AgentsCgroup {
    /// From its path in the file system.
    pub(super) fn find(dir: &Path) -> anyhow::Result<Self> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")
            .context("cannot read /proc/self/mountinfo")?;
        Self::from_mounts(&mountinfo, dir).with_context(|| {
            format!(
                "{} is not a directory below the root of a cgroup2 file system: it could not be told which \
                 processes are in sessions",
                dir.display()
            )
        })
    }

    /// In which every process is.
    #[cfg(test)]
    pub(super) fn everything() -> Self {
        Self(String::new())
    }

    /// The format of mountinfo is in proc_pid_mountinfo(5): `id parent major:minor ROOT MOUNTPOINT options .. - TYPE ..`.
    pub(super) fn from_mounts(mountinfo: &str, dir: &Path) -> Option<Self> {
        let mounts = mountinfo.lines().filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut fields = before.split(' ').skip(3);
            let (root, mount_point) = (fields.next()?, fields.next()?);
            let below = dir.strip_prefix(mount_point).ok()?.to_str()?;
            let is_cgroup2 = after.split(' ').next() == Some("cgroup2");
            is_cgroup2.then(|| {
                (
                    mount_point.len(),
                    format!("{}/{below}", root.trim_end_matches('/')),
                )
            })
        });
        // The mount that counts is the innermost one, and of several at one place the last.
        let (_, path) = mounts.max_by_key(|(length, _)| *length)?;
        let path = path.trim_end_matches('/');
        (!path.is_empty()).then(|| Self(path.to_owned()))
    }

    /// Whether a process is in it, or in a cgroup below it, by its `/proc/PID/cgroup` (cgroups(7)); `None` when that
    /// does not say.
    pub(super) fn contains(&self, proc_cgroup: &str) -> Option<bool> {
        let path = proc_cgroup
            .lines()
            .find_map(|line| line.strip_prefix("0::"))?;
        let below = path.strip_prefix(&self.0);
        Some(
            below.is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('/') || rest.starts_with(' ')
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
24 30 0:22 / /proc rw,nosuid - proc proc rw
30 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
33 25 0:28 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
34 33 0:29 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
35 33 0:30 / /sys/fs/cgroup/memory rw,nosuid shared:11 - cgroup cgroup rw,memory
36 30 0:29 /holdpoint/x /mnt/x rw - cgroup2 cgroup2 rw
";

    fn agents(dir: &str) -> Option<AgentsCgroup> {
        AgentsCgroup::from_mounts(MOUNTS, Path::new(dir))
    }

    #[test]
    fn the_path_is_taken_from_the_root_of_the_hierarchy() {
        let found = agents("/sys/fs/cgroup/unified/holdpoint").expect("found");
        assert_eq!(found, AgentsCgroup("/holdpoint".into()));
        let bound = agents("/mnt/x/y").expect("found");
        assert_eq!(bound, AgentsCgroup("/holdpoint/x/y".into()));
        assert_eq!(agents("/sys/fs/cgroup/unified"), None);
        assert_eq!(agents("/sys/fs/cgroup/memory/holdpoint"), None);
        assert_eq!(agents("/home"), None);
    }

    #[test]
    fn only_what_is_below_is_inside() {
        let agents = agents("/sys/fs/cgroup/unified/holdpoint").expect("found");
        let inside = |path: &str| agents.contains(&format!("12:memory:/holdpoint\n0::{path}\n"));
        assert_eq!(inside("/holdpoint/s-1"), Some(true));
        assert_eq!(inside("/holdpoint/s-1/deeper"), Some(true));
        assert_eq!(inside("/holdpoint/s-1 (deleted)"), Some(true));
        assert_eq!(inside("/holdpoint"), Some(true));
        assert_eq!(inside("/holdpoint (deleted)"), Some(true));
        assert_eq!(inside("/holdpoint-other"), Some(false));
        assert_eq!(inside("/user.slice/holdpoint/s-1"), Some(false));
        assert_eq!(inside("/"), Some(false));
        assert_eq!(agents.contains("12:memory:/holdpoint/s-1\n"), None);
        assert_eq!(agents.contains(""), None);
    }
}
