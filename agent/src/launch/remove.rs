//! Removes a tree that somebody else has made, who may have made it to do harm.
//!
//! Not [`std::fs::remove_dir_all`]: that takes a descriptor, memory and stack for each level, and a session can nest directories as
//! deep as it likes. Here subdirectories are moved to the top before they are emptied, so all trees are two levels deep.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, open, openat, renameat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};

/// How long it may take. Some 100,000 files go in a second.
const PATIENCE: Duration = Duration::from_secs(120);

/// Not through a link that somebody has put there meanwhile.
const DIRECTORY: OFlag = OFlag::O_DIRECTORY
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Removes `name` in `parent` with all that is in it; it need not be there.
///
/// # Errors
/// When something cannot be removed, or it takes longer than two minutes.
pub fn tree(parent: &Path, name: &str) -> io::Result<()> {
    let parent = open(parent, DIRECTORY, Mode::empty())?;
    let top = match openat(&parent, name, DIRECTORY, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        opened => opened?,
    };
    let started = Instant::now();
    let mut moved = 0_u64;
    loop {
        let directories = empty(&top, |_| Ok(()))?;
        if directories.is_empty() {
            break;
        }
        for directory in directories {
            if started.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let inside = openat(&top, directory.as_c_str(), DIRECTORY, Mode::empty())?;
            empty(&inside, |child| {
                moved += 1;
                let name = format!("moved-{moved}");
                // A name that is taken is replaced if empty; else the next one is tried when its turn comes.
                renameat(&inside, child, &top, name.as_str())
            })?;
            match unlinkat(&top, directory.as_c_str(), UnlinkatFlags::RemoveDir) {
                // Something was not moved: another round.
                Ok(()) | Err(Errno::ENOTEMPTY) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(unlinkat(&parent, name, UnlinkatFlags::RemoveDir)?)
}

/// Unlinks all in a directory but directories; those are offered to `take` and returned.
fn empty(
    directory: &OwnedFd,
    mut take: impl FnMut(&CStr) -> nix::Result<()>,
) -> io::Result<Vec<CString>> {
    let mut directories = Vec::new();
    // Opened anew: a copy of the descriptor would go on reading where the last one stopped.
    let mut entries = Dir::openat(directory, ".", DIRECTORY, Mode::empty())?;
    for entry in entries.iter() {
        let name = entry?.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::EISDIR) => match take(&name) {
                Ok(()) | Err(Errno::ENOTEMPTY | Errno::EEXIST) => directories.push(name),
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_tree_goes_and_what_it_links_to_stays() {
        let parent = tempfile::tempdir().expect("a directory");
        let kept = parent.path().join("kept");
        fs::create_dir_all(kept.join("inside")).expect("made");
        let top = parent.path().join("top");
        fs::create_dir_all(top.join("a/b/moved-1/c")).expect("made");
        fs::create_dir_all(top.join("moved-1/full")).expect("made");
        fs::write(top.join("a/b/file"), "x").expect("written");
        symlink(&kept, top.join("a/link")).expect("linked");
        tree(parent.path(), "top").expect("removes");
        assert!(!top.exists() && kept.join("inside").exists());
        tree(parent.path(), "top").expect("nothing to do");
        symlink(&kept, &top).expect("linked");
        assert!(tree(parent.path(), "top").is_err());
        assert!(kept.join("inside").exists());
    }

    /// Deeper than a path is long, and deeper than there are descriptors.
    #[test]
    fn a_deep_tree_goes() {
        let parent = tempfile::tempdir().expect("a directory");
        fs::create_dir(parent.path().join("top")).expect("made");
        let mut at = open(&parent.path().join("top"), DIRECTORY, Mode::empty()).expect("opens");
        for _ in 0..5_000 {
            nix::sys::stat::mkdirat(&at, "d", Mode::S_IRWXU).expect("made");
            at = openat(&at, "d", DIRECTORY, Mode::empty()).expect("opens");
        }
        tree(parent.path(), "top").expect("removes");
        assert!(!parent.path().join("top").exists());
    }
}
