//! The host's key, by which equal values are masked alike (`mode = "hash"`).

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context as _;
use zeroize::Zeroizing;

const FILE: &str = "mask.key";
/// What HMAC-SHA-256 makes best use of.
const LENGTH: usize = 32;

/// Reads the key, or makes one.
pub fn open(state_dir: &Path) -> anyhow::Result<Zeroizing<[u8; LENGTH]>> {
    let file = state_dir.join(FILE);
    let known = match fs::read(&file) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return make(&file),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let mut key = Zeroizing::new([0; LENGTH]);
    anyhow::ensure!(
        known.len() == LENGTH,
        "{} is damaged: it has {} bytes instead of {LENGTH}; remove it to have another one made (values masked by `mode = \"hash\"` then look different)",
        file.display(),
        known.len()
    );
    key.copy_from_slice(&known);
    Ok(key)
}

fn make(file: &Path) -> anyhow::Result<Zeroizing<[u8; LENGTH]>> {
    let mut key = Zeroizing::new([0; LENGTH]);
    getrandom::fill(key.as_mut_slice()).context("the kernel gives no random bytes")?;
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut opened| {
            opened.write_all(key.as_slice())?;
            opened.sync_all()
        });
    written.with_context(|| format!("cannot write {}", file.display()))?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = open(dir.path()).expect("it is made");
        assert_eq!(*open(dir.path()).expect("it is there"), *key);
        fs::write(dir.path().join(FILE), b"short").expect("a file");
        assert!(open(dir.path()).is_err());
    }
}
