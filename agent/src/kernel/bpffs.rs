//! The file system that pins live in.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt as _,
    path::Path,
};

use anyhow::Context as _;
use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

/// Where every distribution mounts it.
const BPFFS: &str = "/sys/fs/bpf";

/// Makes sure that `dir` exists and is on a bpffs; mounts one at its usual place where the host has not.
///
/// # Errors
/// When it is on another file system, or cannot be made.
pub fn require(dir: &Path) -> anyhow::Result<()> {
    if dir.starts_with(BPFFS) {
        mount_if_missing(Path::new(BPFFS))
            .with_context(|| format!("no bpffs is mounted at {BPFFS}, and mounting one failed"))?;
    }
    let existing = dir
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .context("the pin directory has to be an absolute path")?;
    anyhow::ensure!(
        is_bpffs(existing)?,
        "{} is not on a bpffs, so nothing can be pinned there: put `bpf_dir` below {BPFFS}, or run `mount -t bpf bpf {}`",
        dir.display(),
        existing.display(),
    );
    for dir in [dir.to_path_buf(), dir.join("links"), dir.join("maps")] {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("cannot make {}", dir.display()))?;
    }
    Ok(())
}

/// Whether it is on one.
///
/// # Errors
/// When there is no such path.
pub fn is_bpffs(path: &Path) -> nix::Result<bool> {
    Ok(statfs(path)?.filesystem_type() == BPF_FS_MAGIC)
}

fn mount_if_missing(path: &Path) -> anyhow::Result<()> {
    if is_bpffs(path)? {
        return Ok(());
    }
    // A second one on top would hide the pins in the first.
    let _alone =
        Flock::lock(File::open(path)?, FlockArg::LockExclusive).map_err(|(_, errno)| errno)?;
    if !is_bpffs(path)? {
        mount(
            Some("bpf"),
            path,
            Some("bpf"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            Some("mode=0700"),
        )?;
        tracing::info!("mounted a bpffs at {}", path.display());
    }
    Ok(())
}
