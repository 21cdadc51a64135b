//! Where things are, and copies of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

/// `HOLDPOINT_BIN`, or the binary that cargo put beside this one.
///
/// # Errors
/// When there is none.
pub fn holdpoint_binary() -> anyhow::Result<PathBuf> {
    if let Some(binary) = std::env::var_os("HOLDPOINT_BIN") {
        return Ok(binary.into());
    }
    built("holdpoint")
}

/// A program that cargo put beside this one.
///
/// # Errors
/// When there is none.
pub(crate) fn built(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let dirs = own.ancestors().skip(1).take(2);
    let mut places = dirs.map(|dir| dir.join(name));
    places.find(|place| place.is_file()).with_context(|| {
        format!(
            "needs the program {name}: `cargo build` first (or set HOLDPOINT_BIN, for holdpoint)"
        )
    })
}

/// A place where every user can run it: the build directory may be closed to them.
pub(crate) fn install(binary: &Path, place: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(place.parent().context("a place in a directory")?)?;
    if fs::hard_link(binary, place).is_err() {
        fs::copy(binary, place)?;
    }
    Ok(())
}

/// The repository's root.
#[must_use]
pub fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("tests/ lies in the repository")
        .to_owned()
}

/// Copies the shipped policies, subdirectories and all, and adds `extra`.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_policies(to: &Path, extra: &str) -> anyhow::Result<()> {
    let from = repository().join("policies");
    ensure!(from.is_dir(), "{} is missing", from.display());
    copy_tree(&from, to)?;
    if !extra.is_empty() {
        fs::write(to.join("extra-for-this-test.cedar"), extra)?;
    }
    Ok(())
}

/// Copies a directory.
///
/// # Errors
/// When a file cannot be read or written.
pub fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
