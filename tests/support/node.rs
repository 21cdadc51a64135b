//! npm packages for clients inside a sandbox, installed once under `target/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use crate::{files::repository, host};

/// A directory for `NODE_PATH` below `place`, with `packages` in it.
///
/// # Errors
/// When they cannot be installed.
pub fn packages(name: &str, packages: &[&str], place: &Path) -> anyhow::Result<PathBuf> {
    host::require_program("npm", "npm")?;
    let cache = repository().join("target/test-cache").join(name);
    fs::create_dir_all(&cache)?;
    let lock = fs::File::create(cache.with_extension("lock"))?;
    lock.lock()?;
    if !cache.join("complete").exists() {
        let status = Command::new("npm")
            .args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"])
            .arg(&cache)
            .args(packages)
            .status()?;
        ensure!(
            status.success(),
            "npm cannot install {}",
            packages.join(" ")
        );
        fs::write(cache.join("complete"), "")?;
    }
    // The build directory may be closed to other users.
    let copy = place.join("node_modules");
    let status = Command::new("cp")
        .arg("-a")
        .arg(cache.join("node_modules"))
        .arg(&copy)
        .status()
        .context("cp")?;
    ensure!(status.success(), "cannot copy npm packages");
    Ok(copy)
}
