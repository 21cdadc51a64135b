//! Python packages for clients inside a sandbox, installed once under `target/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};

use crate::{files::repository, host};

/// The interpreter that sandboxes run: the system's, which every user can reach.
pub const PYTHON: &str = "/usr/bin/python3";

/// A directory for `PYTHONPATH` below `place`, with `packages` in it.
///
/// # Errors
/// When they cannot be installed.
pub fn packages(name: &str, packages: &[&str], place: &Path) -> anyhow::Result<PathBuf> {
    let cache = repository().join("target/test-cache").join(name);
    install_once(packages, &cache)?;
    // The build directory may be closed to other users.
    let copy = place.join("python");
    let status = Command::new("cp")
        .arg("-a")
        .arg(site_packages(&cache)?)
        .arg(&copy)
        .status()?;
    ensure!(
        status.success(),
        "cannot copy Python packages to {}",
        copy.display()
    );
    Ok(copy)
}

/// Tests run side by side, and want the same.
fn install_once(packages: &[&str], cache: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(cache.parent().context("a directory of its own")?)?;
    let lock = fs::File::create(cache.with_extension("lock"))?;
    lock.lock()?;
    if cache.join("complete").exists() {
        return Ok(());
    }
    install(packages, cache)
}

fn install(packages: &[&str], cache: &Path) -> anyhow::Result<()> {
    host::require_program("python3", "python3 and python3-venv")?;
    if cache.exists() {
        fs::remove_dir_all(cache)?;
    }
    let made = Command::new(PYTHON)
        .args(["-m", "venv"])
        .arg(cache)
        .status()?;
    ensure!(made.success(), "needs Python's venv: install python3-venv");
    let pip = cache.join("bin/pip");
    let installed = Command::new(pip)
        .args(["install", "--quiet"])
        .args(packages)
        .status()?;
    ensure!(
        installed.success(),
        "pip cannot install {}",
        packages.join(" ")
    );
    fs::write(cache.join("complete"), "")?;
    Ok(())
}

fn site_packages(venv: &Path) -> anyhow::Result<PathBuf> {
    let versions = fs::read_dir(venv.join("lib"))?.flatten();
    let mut places = versions.map(|version| version.path().join("site-packages"));
    places
        .find(|place| place.is_dir())
        .context("a venv without site-packages")
}
