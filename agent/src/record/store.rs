//! The store: sled. Nothing else in Holdpoint touches it.
//!
//! Key: the event's number, 64 bits big endian, without a gap from 1. Value: a [`StoredEvent`] as JSON.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::RwLock,
};

use anyhow::{Context as _, anyhow, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    chain::{self, Head, Link},
    event::Event,
    index::Index,
    watermark::Watermark,
};

/// Memory sled may use for its cache; its default is a gigabyte.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

const KEEP: &str = "keep its directory for an investigation and start with another one";

/// The version of the events' format.
pub const VERSION: u8 = 1;

/// An event as it lies in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// The version of the format: [`VERSION`].
    pub v: u8,
    /// Its number, from 1.
    pub seq: u64,
    /// When it was recorded.
    pub time: Timestamp,
    /// Of the previous event's bytes; zeros for the first.
    pub prev: Link,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// An event, ready to be written.
pub(super) struct Encoded {
    pub(super) seq: u64,
    pub(super) bytes: Vec<u8>,
}

/// The database. After an error sled answers nothing but that error, so it is closed, and opened again when somebody
/// next wants to write.
pub(super) struct Store {
    dir: PathBuf,
    database: RwLock<Option<Database>>,
    watermark: Watermark,
}

struct Database {
    sled: sled::Db,
    /// The file that sled writes. `flush` alone only starts the writing (sync_file_range).
    file: File,
}

impl Store {
    /// Opens and verifies all of it.
    pub(super) fn open(dir: &Path) -> anyhow::Result<(Self, Head, Index)> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot make the record's directory {}", dir.display()))?;
        let (watermark, synced) = Watermark::open(dir)?;
        let database = Database::open(dir)?;
        let mut index = Index::default();
        let mut reached = synced == Head::default();
        let head = database.verify(Head::default(), |event, head| {
            reached |= head == synced;
            index.add(event);
        })?;
        ensure!(
            reached,
            "the record in {} is damaged: event {} was synced to disk and is missing or altered now; {KEEP}",
            dir.display(),
            synced.seq
        );
        let store = Self {
            dir: dir.to_owned(),
            database: RwLock::new(Some(database)),
            watermark,
        };
        Ok((store, head, index))
    }

    /// Closes and opens the database, and makes sure that it still has everything up to `synced`; `found` is told
    /// about what follows.
    pub(super) fn reopen(
        &self,
        synced: Head,
        found: impl FnMut(&StoredEvent, Head),
    ) -> anyhow::Result<Head> {
        let mut database = self.database.write().expect("no panic while locked");
        *database = None;
        let reopened = Database::open(&self.dir)?;
        let head = reopened.verify(synced, found)?;
        *database = Some(reopened);
        Ok(head)
    }

    /// Writes events; they may or may not survive a crash until [`Self::sync`].
    pub(super) fn write(&self, events: Vec<Encoded>) -> anyhow::Result<()> {
        self.with(|database| database.write(events))
    }

    /// Brings to disk what was written; `head` is the last of it.
    pub(super) fn sync(&self, head: Head) -> anyhow::Result<()> {
        self.with(Database::sync)?;
        Ok(self.watermark.set(head)?)
    }

    /// One event, if there is one of this number.
    pub(super) fn read(&self, seq: u64) -> anyhow::Result<Option<StoredEvent>> {
        self.with(|database| {
            let value = database.sled.get(seq.to_be_bytes())?;
            Ok(value
                .map(|bytes| serde_json::from_slice(&bytes))
                .transpose()?)
        })
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let database = self.database.read().expect("no panic while locked");
        work(
            database
                .as_ref()
                .context("the store is closed after an error")?,
        )
    }
}

impl Database {
    fn open(dir: &Path) -> anyhow::Result<Self> {
        let sled = sled::Config::new()
            .path(dir)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(CACHE_BYTES)
            .open()
            .map_err(|error| match error {
                sled::Error::Corruption { .. } => anyhow!("the record is damaged; {KEEP}"),
                other => anyhow!(
                    "cannot open the record in {}: {other}; is another daemon running?",
                    dir.display()
                ),
            })?;
        let file = File::open(dir.join("db")).context("cannot open the record's file `db`")?;
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .context("cannot sync the record's directory")?;
        Ok(Self { sled, file })
    }

    fn write(&self, mut events: Vec<Encoded>) -> anyhow::Result<()> {
        if events.len() == 1 {
            // A plain insert costs a quarter of a batch of one.
            if let Some(event) = events.pop() {
                self.sled.insert(event.seq.to_be_bytes(), event.bytes)?;
            }
            return Ok(());
        }
        let mut batch = sled::Batch::default();
        for event in events {
            batch.insert(&event.seq.to_be_bytes(), event.bytes);
        }
        Ok(self.sled.apply_batch(batch)?)
    }

    fn sync(&self) -> anyhow::Result<()> {
        self.sled.flush()?;
        Ok(self.file.sync_data()?)
    }

    /// Follows the chain from `start` to its end.
    fn verify(&self, start: Head, found: impl FnMut(&StoredEvent, Head)) -> anyhow::Result<Head> {
        let events = self.sled.range(start.seq.to_be_bytes()..).map(|item| {
            let (key, value) = item?;
            Ok::<_, sled::Error>((key.to_vec(), value.to_vec()))
        });
        chain::verify(start, events, found)
            .with_context(|| format!("the record is damaged; {KEEP}"))
    }
}
