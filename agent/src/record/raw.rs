//! Reading the record as it lies there: the stored bytes of events, in order.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::watch;

use super::{Record, store::StoredEvent};
use crate::session::SessionId;

/// An event as it is stored, byte for byte: what its hash is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent {
    /// Its number.
    pub seq: u64,
    /// JSON, on one line.
    pub bytes: Vec<u8>,
}

impl RawEvent {
    /// What the bytes say.
    ///
    /// # Errors
    /// When this version does not understand them.
    pub fn read(&self) -> anyhow::Result<StoredEvent> {
        serde_json::from_slice(&self.bytes)
            .with_context(|| format!("event {} is not understood", self.seq))
    }
}

impl Record {
    /// The synced events with numbers above `after`, oldest first, `limit` at most: one session's, or all there are.
    ///
    /// # Errors
    /// When they cannot be read.
    ///
    /// # Panics
    /// When the writer panicked.
    pub async fn stored(
        &self,
        session: Option<&SessionId>,
        after: u64,
        limit: usize,
    ) -> anyhow::Result<Vec<RawEvent>> {
        let seqs = {
            let index = self.index.read().expect("no panic while locked");
            match session {
                Some(id) => index.events_of(id, after, limit),
                None => index.numbers_after(after, limit),
            }
        };
        let store = Arc::clone(&self.store);
        let read = move || {
            let mut last = None;
            let raw = |seq| {
                let bytes = store.bytes_of(seq, &mut last).transpose()?;
                Some(bytes.map(|bytes| RawEvent { seq, bytes }))
            };
            seqs.into_iter().filter_map(raw).collect()
        };
        tokio::task::spawn_blocking(read)
            .await
            .context("the reader panicked")?
    }

    /// The number of the last synced event, as it grows.
    ///
    /// # Panics
    /// When the writer panicked.
    #[must_use]
    pub fn news(&self) -> watch::Receiver<u64> {
        let index = self.index.read().expect("no panic while locked");
        index.news()
    }
}
