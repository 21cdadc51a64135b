//! The cgroup2 hierarchy: where it is mounted, and the cgroup that all sessions are children of.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

use anyhow::Context as _;

use crate::mountinfo::{self, Mount};

/// The cgroup that sessions are direct children of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentsCgroup {
    /// Where it is in the file system.
    pub path: PathBuf,
    /// What the BPF programs know it by.
    pub id: u64,
    /// Its depth below the cgroup2 root, which has depth 0.
    pub level: u32,
}

impl AgentsCgroup {
    /// The cgroup `name` directly below the root; made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(cgroup2_root: &Path, name: &str) -> anyhow::Result<Self> {
        let path = cgroup2_root.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
        .with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        let id = id(&path)?;
        Ok(Self { path, id, level: 1 })
    }
}

/// What the BPF programs know a cgroup by: its inode number is the id that bpf_get_current_ancestor_cgroup_id gives (kernfs, 64-bit).
///
/// # Errors
/// When there is no such path.
pub fn id(path: &Path) -> anyhow::Result<u64> {
    Ok(fs::metadata(path)
        .with_context(|| format!("cannot ask for the id of {}", path.display()))?
        .ino())
}

/// How deep below `cgroup2_root` a cgroup is. 0 is the root itself.
///
/// # Errors
/// When it is not below.
pub fn level(cgroup2_root: &Path, path: &Path) -> anyhow::Result<u32> {
    let below = path.strip_prefix(cgroup2_root).with_context(|| {
        format!(
            "{} is not below the cgroup2 root {}",
            path.display(),
            cgroup2_root.display()
        )
    })?;
    let plain = below
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    anyhow::ensure!(plain, "{} has to be a plain path", path.display());
    Ok(u32::try_from(below.components().count())?)
}

/// Where the cgroup2 hierarchy is mounted, with its root: /sys/fs/cgroup on most hosts, a folder below it where version 1
/// hierarchies are in use too.
///
/// # Errors
/// When it is mounted nowhere.
pub fn cgroup2_root() -> anyhow::Result<PathBuf> {
    let mounts = mountinfo::mounts().context("cannot read /proc/self/mountinfo")?;
    cgroup2_mount(mounts).context(
        "no cgroup2 hierarchy is mounted, and sessions are cgroups: run `mount -t cgroup2 none /sys/fs/cgroup/unified`",
    )
}

fn cgroup2_mount(mounts: Vec<Mount>) -> Option<PathBuf> {
    let whole = |it: &Mount| it.kind == "cgroup2" && it.root == Path::new("/");
    mounts.into_iter().find(whole).map(|it| it.point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo::parse;

    const MOUNTINFO: &str = "\
25 1 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:24 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
27 25 0:25 /nested /mnt/part rw - cgroup2 cgroup2 rw
28 25 0:25 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:10 master:3 - cgroup2 cgroup2 rw
";

    #[test]
    fn the_mount_of_the_root_is_found() {
        assert_eq!(
            cgroup2_mount(parse(MOUNTINFO.as_bytes())),
            Some(PathBuf::from("/sys/fs/cgroup/uni fied"))
        );
    }

    #[test]
    fn version_1_alone_is_none() {
        let old = MOUNTINFO.replace("cgroup2", "cgroup");
        assert_eq!(cgroup2_mount(parse(old.as_bytes())), None);
    }

    #[test]
    fn a_cgroup_is_as_deep_as_its_path_is_long() {
        let root = Path::new("/sys/fs/cgroup");
        let level = |path: &str| level(root, Path::new(path)).ok();
        assert_eq!(level("/sys/fs/cgroup"), Some(0));
        assert_eq!(level("/sys/fs/cgroup/a.slice/a-b.slice/"), Some(2));
        assert_eq!(level("/sys/fs/cgroup/a/../../b"), None);
        assert_eq!(level("/sys/fs"), None);
    }
}
