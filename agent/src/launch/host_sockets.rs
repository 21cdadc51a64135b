//! The UNIX sockets that the host's processes have in its file system, from `/proc/self/net/unix`.
//!
//! Listed are those of the network namespace this runs in, by the name they were bound to. That leaves out what was bound by a
//! relative name, and what processes in other network namespaces (containers) have bound.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

/// Their absolute paths.
///
/// # Errors
/// When `/proc` is not there.
pub fn all() -> io::Result<BTreeSet<PathBuf>> {
    Ok(parse(&fs::read("/proc/self/net/unix")?))
}

fn parse(text: &[u8]) -> BTreeSet<PathBuf> {
    text.split(|byte| *byte == b'\n')
        .filter_map(path)
        .map(plain)
        .collect()
}

/// `0000000012345678: 00000002 00000000 00010000 0001 01 12345 /path with/spaces`: seven columns, one space, the path (`unix_seq_show`
/// in `net/unix/af_unix.c`). Abstract names begin with `@`, and not all sockets have a name.
fn path(line: &[u8]) -> Option<&Path> {
    let mut rest = line;
    for _ in 0..7 {
        let start = rest.iter().position(|byte| *byte != b' ')?;
        let end = rest[start..].iter().position(|byte| *byte == b' ')?;
        rest = &rest[start + end..];
    }
    let path = rest.get(1..)?;
    path.starts_with(b"/")
        .then(|| Path::new(OsStr::from_bytes(path)))
}

/// The names of `/run` are one.
pub fn plain(path: &Path) -> PathBuf {
    match path.strip_prefix("/var/run") {
        Ok(rest) => Path::new("/run").join(rest),
        Err(_) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"Num               RefCount Protocol Flags    Type St Inode Path\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 17341 /run/systemd/private\n\
        0000000000000000: 00000003 00000000 00000000 0001 03 170 /run/systemd/private\n\
        0000000000000000: 00000002 00000000 00010000 0001 01   9 /var/run/a b/c\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 12345 @abstract\n\
        0000000000000000: 00000002 00000000 00010000 0001 01 12345 relative\n\
        0000000000000000: 00000003 00000000 00000000 0001 03 12346\n";

    #[test]
    fn paths_are_found_each_once() {
        let expected = ["/run/a b/c", "/run/systemd/private"].map(PathBuf::from);
        assert_eq!(parse(TEXT), BTreeSet::from(expected));
    }

    #[test]
    fn a_socket_of_our_own_is_among_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a socket");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("binds");
        assert!(all().expect("reads").contains(&path));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text: Vec<u8>) {
            parse(&text);
        }
    }
}
