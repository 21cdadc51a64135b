//! What the committed BPF object was made from. Shared with `cargo xtask build-ebpf`, which writes what a test here checks.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// The committed object, from the repository's root.
pub const OBJECT: &str = "agent/src/kernel/holdpoint.bpf.o";
/// The digests of the object and of its sources, in the format of sha256sum(1), from the repository's root.
pub const DIGESTS: &str = "agent/src/kernel/holdpoint.bpf.sha256";

/// Files and folders that the object is made from.
const SOURCES: [&str; 5] = [
    "agent-ebpf/Cargo.lock",
    "agent-ebpf/Cargo.toml",
    "agent-ebpf/common/Cargo.toml",
    "agent-ebpf/common/src",
    "agent-ebpf/src",
];

/// The text that belongs into [`DIGESTS`].
///
/// # Errors
/// When one of the files cannot be read.
pub fn digests(root: &Path) -> io::Result<String> {
    let mut files = vec![PathBuf::from(OBJECT)];
    for source in SOURCES {
        collect(root, PathBuf::from(source), &mut files)?;
    }
    files.sort();
    files.iter().map(|file| line(root, file)).collect()
}

fn collect(root: &Path, path: PathBuf, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !root.join(&path).is_dir() {
        files.push(path);
        return Ok(());
    }
    for entry in fs::read_dir(root.join(&path))? {
        collect(root, path.join(entry?.file_name()), files)?;
    }
    Ok(())
}

fn line(root: &Path, file: &Path) -> io::Result<String> {
    let digest = hex::encode(Sha256::digest(fs::read(root.join(file))?));
    Ok(format!("{digest}  {}\n", file.display()))
}
