//! A record that no daemon has open: a copy, for whoever audits it. It is read as it is, and nothing of it is believed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::{BodyId, KeptBody, bodies};
use crate::audit::lines::Lines;

/// Memory sled may use for its cache.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// What is stored of all events, in order of their keys: the lines of an export.
///
/// # Errors
/// When it cannot be opened: it is no record, or a daemon has it open.
pub fn lines(dir: &Path) -> anyhow::Result<Lines> {
    let database = open(dir)?;
    let values = database.iter().map(|item| {
        let (_, value) = item.context("the store is damaged")?;
        Ok(value.to_vec())
    });
    Ok(Box::new(values))
}

fn open(dir: &Path) -> anyhow::Result<sled::Db> {
    ensure!(
        dir.join("db").is_file(),
        "there is no record in {}",
        dir.display()
    );
    sled::Config::new()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .open()
        .with_context(|| {
            format!(
                "cannot open the record in {}: if a daemon is running, verify a copy, or `holdpoint audit export`",
                dir.display()
            )
        })
}

/// The bodies that were stored along with a record.
#[derive(Debug)]
pub struct Bodies(PathBuf);

impl Bodies {
    /// Of the record in this directory.
    #[must_use]
    pub fn of(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// A stored body; none if it was purged.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, id: &BodyId) -> anyhow::Result<Option<KeptBody>> {
        bodies::read_offline(&self.0, id)
    }
}
