//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt as _,
    path::{Path, PathBuf},
};

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub struct Mount {
    /// What of its file system it shows.
    pub root: PathBuf,
    /// Where it is.
    pub point: PathBuf,
    /// The type of its file system.
    pub kind: String,
}

/// The mounts of this process's mount namespace, in the order they were made.
///
/// # Errors
/// When `/proc` is not there.
pub fn mounts() -> std::io::Result<Vec<Mount>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// `path` below the cgroup2 mount that holds it, as `/proc/PID/cgroup` spells it.
pub fn below_cgroup2<'a>(mounts: &[Mount], path: &'a Path) -> Option<&'a Path> {
    mounts
        .iter()
        .filter(|mount| mount.kind == "cgroup2")
        .find_map(|mount| path.strip_prefix(&mount.point).ok())
}

/// What such a file tells.
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n')
        .filter_map(mount)
        .collect()
}

/// `36 35 98:0 /root /point rw,noatime master:1 - ext3 /dev/root rw`
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut path = |at| Some(OsString::from_vec(unescape(fields.nth(at)?)).into());
    let (root, point) = (path(3)?, path(0)?);
    // Optional fields end with a lone dash; the type follows.
    fields.find(|field| field == b"-")?;
    Some(Mount {
        root,
        point,
        kind: String::from_utf8_lossy(fields.next()?).into_owned(),
    })
}

/// Space, tab, newline and backslash are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
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

    #[test]
    fn points_and_types_are_read() {
        let text = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            41 31 0:38 / /sys/fs/cgroup/a\\040b rw master:1 shared:2 - cgroup2 cgroup2 rw\n";
        let mounts = parse(text);
        assert_eq!(
            mounts[0],
            Mount {
                root: "/".into(),
                point: "/proc".into(),
                kind: "proc".into()
            }
        );
        assert_eq!(mounts[1].point, Path::new("/sys/fs/cgroup/a b"));
        let session = Path::new("/sys/fs/cgroup/a b/holdpoint/s-1");
        assert_eq!(
            below_cgroup2(&mounts, session),
            Some(Path::new("holdpoint/s-1"))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text: Vec<u8>) {
            parse(&text);
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
