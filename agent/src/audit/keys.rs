//! The key that signs checkpoints: apart from the record, root's alone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use holdpoint_core::checkpoint::note::{KeyName, Signer};
use zeroize::Zeroizing;

use crate::{config::Config, session::random_id};

/// Bytes of a key's file at most.
const LONGEST: u64 = 4096;

/// The host's key: the configured one, or its own, which is made when there is none.
///
/// # Errors
/// When it cannot be read or made, or others may read it.
pub fn open(config: &Config) -> anyhow::Result<Signer> {
    if let Some(file) = config.record.checkpoints.key_file()? {
        return read(&file);
    }
    let file = own_file(config);
    if !file.exists() {
        make(&file).with_context(|| format!("cannot make the key {}", file.display()))?;
    }
    read(&file)
}

/// Where a host keeps a key of its own.
fn own_file(config: &Config) -> PathBuf {
    config.state_dir.join("keys").join("record.key")
}

/// Makes a key in a file that is not there yet.
///
/// # Errors
/// When it cannot be written.
pub fn make(file: &Path) -> anyhow::Result<Signer> {
    let signer = new()?;
    if let Some(dir) = file.parent().filter(|it| !it.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    // Whole or not at all: a key that was cut could never be told from another one.
    let unfinished = file.with_extension("new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let mut opened = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)?;
    opened.write_all(signer.secret().as_bytes())?;
    opened.write_all(b"\n")?;
    opened.sync_all()?;
    fs::hard_link(&unfinished, file)?;
    fs::remove_file(&unfinished)?;
    Ok(signer)
}

/// A key is for one log, and both are called after the host; the rest tells it from others of the same name.
fn new() -> anyhow::Result<Signer> {
    let host = nix::unistd::gethostname()?;
    let host: String = host
        .to_string_lossy()
        .chars()
        .filter(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '.'))
        .take(100)
        .collect();
    let name: KeyName = format!("{host}/holdpoint/{}", random_id("")).parse()?;
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).context("the kernel gives no random bytes")?;
    Ok(Signer::new(name, seed))
}

fn read(file: &Path) -> anyhow::Result<Signer> {
    let context = || {
        format!(
            "cannot use the key that signs checkpoints, {}",
            file.display()
        )
    };
    let opened = File::open(file).with_context(context)?;
    let mode = opened.metadata().with_context(context)?.mode();
    ensure!(
        mode & 0o007 == 0,
        "{}: others than its owner may read it; make it mode 0600, and think of it as known to them",
        context()
    );
    let mut text = Zeroizing::new(String::new());
    opened
        .take(LONGEST)
        .read_to_string(&mut text)
        .with_context(context)?;
    text.trim().parse().with_context(context)
}
