//! A copy of a record, for whoever audits it: read as it is, and nothing of it is believed.

use std::path::{Path, PathBuf};

use super::{
    BodyId, KeptBody, bodies,
    reading::{self, Place},
};
use crate::audit::lines::{self, Lines};

/// What is stored of all events, in order: the lines of an export.
///
/// # Errors
/// When there is no record, or it cannot be read.
pub fn lines(dir: &Path) -> anyhow::Result<Lines> {
    let places = reading::places(dir)?;
    Ok(Box::new(places.map(|place| {
        Ok(match place? {
            Place::Event(_, bytes) => bytes,
            Place::Purged(seq, link) => lines::purged(seq, (*link.as_bytes()).into()),
        })
    })))
}

/// The bodies that were stored along with a record.
pub struct Bodies {
    dir: PathBuf,
    open: bodies::Offline,
}

impl Bodies {
    /// Of the record in this directory.
    #[must_use]
    pub fn of(dir: PathBuf) -> Self {
        let open = bodies::Offline::default();
        Self { dir, open }
    }

    /// A stored body; none if it was purged.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&mut self, id: &BodyId) -> anyhow::Result<Option<KeptBody>> {
        self.open.read(&self.dir, id)
    }
}
