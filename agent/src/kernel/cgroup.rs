//! The cgroup2 hierarchy: where it is mounted, and the cgroup that all sessions are children of.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Component, Path, PathBuf},
};

use anyhow::Context as _;

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
    let mountinfo = fs::read("/proc/self/mountinfo").context("cannot read /proc/self/mountinfo")?;
    cgroup2_mount(&mountinfo).context(
        "no cgroup2 hierarchy is mounted, and sessions are cgroups: run `mount -t cgroup2 none /sys/fs/cgroup/unified`",
    )
}

/// From the format in proc_pid_mountinfo(5).
fn cgroup2_mount(mountinfo: &[u8]) -> Option<PathBuf> {
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = fields.nth(3)?;
        let mount_point = fields.next()?;
        // Optional fields end with a lone dash; the type follows.
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        (kind == b"cgroup2" && root == b"/")
            .then(|| PathBuf::from(OsString::from_vec(unescape(mount_point))))
    })
}

/// Spaces, tabs, newlines and backslashes are octal there: `\040`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOUNTINFO: &str = "\
25 1 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
26 25 0:24 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu
27 25 0:25 /nested /mnt/part rw - cgroup2 cgroup2 rw
28 25 0:25 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:10 master:3 - cgroup2 cgroup2 rw
";

    #[test]
    fn the_mount_of_the_root_is_found() {
        assert_eq!(
            cgroup2_mount(MOUNTINFO.as_bytes()),
            Some(PathBuf::from("/sys/fs/cgroup/uni fied"))
        );
    }

    #[test]
    fn version_1_alone_is_none() {
        let old = MOUNTINFO.replace("cgroup2", "cgroup");
        assert_eq!(cgroup2_mount(old.as_bytes()), None);
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

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            cgroup2_mount(&bytes);
        }

        #[test]
        fn what_was_escaped_comes_back(plain: Vec<u8>) {
            let escaped: Vec<u8> = plain
                .iter()
                .flat_map(|byte| format!("\\{byte:03o}").into_bytes())
                .collect();
            prop_assert_eq!(unescape(&escaped), plain);
        }
    }
}
