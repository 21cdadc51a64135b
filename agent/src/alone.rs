//! One daemon at a time: two that share a directory would end each other's sessions.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use anyhow::Context as _;

/// Held for as long as the daemon lives; the kernel lets go of it whatever the daemon's end is.
#[derive(Debug)]
pub struct Alone(#[expect(dead_code, reason = "held, not used")] Vec<File>);

impl Alone {
    /// Locks the directories, which have to exist (flock(2)).
    ///
    /// # Errors
    /// When another daemon holds one of them.
    pub fn with(directories: &[&Path]) -> anyhow::Result<Self> {
        let locks = directories.iter().map(|it| lock(it));
        Ok(Self(locks.collect::<anyhow::Result<_>>()?))
    }
}

fn lock(directory: &Path) -> anyhow::Result<File> {
    let opened = File::open(directory);
    let opened = opened.with_context(|| format!("cannot open {}", directory.display()))?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "another Holdpoint daemon runs with {}: stop it first, or give this one directories of its own (state_dir, runtime_dir, bpf_dir)",
            directory.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", directory.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_one_daemons_until_that_ends() {
        let (one, two) = (tempfile::tempdir(), tempfile::tempdir());
        let (one, two) = (one.expect("a directory"), two.expect("a directory"));
        let (one, two) = (one.path(), two.path());
        let first = Alone::with(&[one, two]).expect("nobody else");
        let error = Alone::with(&[two]).expect_err("it is taken");
        assert!(format!("{error:#}").contains("another Holdpoint daemon"));
        drop(first);
        Alone::with(&[two]).expect("nobody any more");
    }
}
