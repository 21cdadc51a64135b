//! What stays to be seen where a session's own directories cover the host's.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{SFlag, fstat},
    unistd::{Gid, Uid, getgroups, setfsgid, setfsuid, setgroups},
};

use super::{
    host_sockets, mounts, private,
    sandbox::{Identity, RUN, Rules},
};

/// Something opened before its place is covered.
pub struct Kept {
    file: OwnedFd,
    path: PathBuf,
    is_directory: bool,
}

/// Opens what is to be kept: of the caller's what the caller can reach below `/tmp` and its like, of the operator's what there is.
///
/// # Errors
/// When permissions cannot be switched to the caller's.
pub fn open(rules: &Rules) -> anyhow::Result<Vec<Kept>> {
    let own = rules.own.iter().map(super::message::Octets::to_path);
    let own = own.filter(|path| below(path, &private::ROOTS));
    let mut kept: Vec<_> = as_caller(&rules.caller, || own.filter_map(open_path).collect())?;
    // Sockets among the caller's own would lead out; whose they are makes no difference.
    kept.retain(|kept: &Kept| kept.is_directory || is(kept, SFlag::S_IFREG));
    let shared = rules.shared.iter().chain(&rules.sockets);
    let shared = shared.map(|path| host_sockets::plain(&path.to_path()));
    let covered = [&private::ROOTS[..], &[RUN]].concat();
    kept.extend(
        shared
            .filter(|path| below(path, &covered))
            .filter_map(open_path),
    );
    kept.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(kept)
}

/// Shows it again. Directories on the way to it are root's and otherwise empty.
///
/// # Errors
/// When it cannot be mounted.
pub fn show(kept: &[Kept]) -> anyhow::Result<()> {
    let mut shown: Vec<&Path> = Vec::new();
    for Kept {
        file,
        path,
        is_directory,
    } in kept
    {
        if shown.iter().any(|shown| path.starts_with(shown)) {
            continue;
        }
        let made = if *is_directory {
            fs::create_dir_all(path)
        } else {
            fs::create_dir_all(path.parent().unwrap_or(path))
                .and_then(|()| fs::File::create(path).map(drop))
        };
        made.with_context(|| format!("cannot make {}", path.display()))?;
        mounts::bind_all(
            Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())),
            path,
        )?;
        shown.push(path);
    }
    Ok(())
}

/// Runs something with the caller's permissions on files instead of root's.
///
/// # Errors
/// When they cannot be switched, or not back.
pub fn as_caller<T>(caller: &Identity, act: impl FnOnce() -> T) -> anyhow::Result<T> {
    let switch = |uid: Uid, gid: Gid, groups: &[Gid]| -> anyhow::Result<()> {
        setgroups(groups).context("cannot set supplementary groups")?;
        // These two tell what was, not whether it worked.
        setfsgid(gid);
        setfsuid(uid);
        let became = (setfsuid(uid), setfsgid(gid));
        anyhow::ensure!(became == (uid, gid), "cannot switch permissions on files");
        Ok(())
    };
    let own = getgroups().context("cannot tell supplementary groups")?;
    let groups: Vec<_> = caller.groups.iter().copied().map(Gid::from_raw).collect();
    switch(caller.uid.into(), caller.gid.into(), &groups)?;
    let result = act();
    switch(Uid::effective(), Gid::effective(), &own)?;
    Ok(result)
}

/// None when it is not there or cannot be reached.
fn open_path(path: PathBuf) -> Option<Kept> {
    // A link could be changed by whoever may write to `/tmp`, and lead past the permissions that are looked at here.
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    let file = openat2(AT_FDCWD, &path, how).ok()?;
    let is_directory = kind(&file).ok()? == SFlag::S_IFDIR;
    Some(Kept {
        file,
        path,
        is_directory,
    })
}

fn is(kept: &Kept, wanted: SFlag) -> bool {
    kind(&kept.file).is_ok_and(|kind| kind == wanted)
}

fn kind(file: &OwnedFd) -> io::Result<SFlag> {
    let mode = fstat(file)?.st_mode & SFlag::S_IFMT.bits();
    Ok(SFlag::from_bits_truncate(mode))
}

/// Spelled so that it cannot mean another place, and not one of the roots itself.
fn below(path: &Path, roots: &[&str]) -> bool {
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    plain
        && roots.iter().any(|root| {
            path.strip_prefix(root)
                .is_ok_and(|rest| rest != Path::new(""))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_certainly_below_is_kept() {
        for (path, expected) in [
            ("/tmp/a", true),
            ("/var/tmp/a/b", true),
            ("/dev/shm/a", true),
            ("/tmp", false),
            ("/tmp/", false),
            ("/tmpa", false),
            ("/tmp/../etc", false),
            ("tmp/a", false),
            ("/home/a", false),
        ] {
            assert_eq!(below(Path::new(path), &private::ROOTS), expected, "{path}");
        }
    }
}
