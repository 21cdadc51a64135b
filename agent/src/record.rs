//! The append-only account of everything that happened: a chain of JSON events in sled.

mod bodies;
mod chain;
mod event;
mod index;
mod parts;
mod seen;
mod store;
mod text;
mod watermark;
mod writer;

use std::{
    path::Path,
    sync::{Arc, RwLock},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

pub use bodies::{BodyId, BodyRecord, Capture, Chunk, KeptBody, Salt, Way};
pub use chain::Link;
pub use event::{Event, OperationId};
pub use index::SessionSummary;
pub use parts::{
    BinaryRecord, DecisionRecord, DecisionVerdict, OperationRecord, OutcomeResult, PolicyRecord,
    PrincipalRecord, Process, Purged, VoteRecord,
};
pub use seen::{ContentRecord, FieldsRecord, Seen};
pub use store::{StoredEvent, VERSION};
pub use text::{Pairs, Text, Texts};

use crate::session::SessionId;
use bodies::{Bodies, Limits};
use index::Index;
use store::Store;
use writer::{Append, Call, Until};

/// Appends that wait for the writer at most; beyond, callers wait for a place.
const QUEUE: usize = 1024;

/// Why something could not be recorded. What needs the record must not happen then.
#[derive(Clone, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum RecordError {
    /// The store does not take it: the disk is full or broken.
    #[error(
        "the record cannot be written: {0}; free some space or check the disk of the state directory"
    )]
    Store(String),
    /// The writer is gone: the daemon is ending.
    #[error("the record is closed")]
    Closed,
}

/// The record of this host. Cheap to clone.
#[derive(Clone)]
pub struct Record {
    queue: mpsc::Sender<Call>,
    store: Arc<Store>,
    index: Arc<RwLock<Index>>,
    bodies: Arc<Bodies>,
}

impl Record {
    /// Opens the record in this directory, making it if there is none, and verifies the chain of its events.
    ///
    /// # Errors
    /// When the store cannot be opened or is damaged: an event is missing, out of order or altered.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let (store, head, index) = Store::open(dir)?;
        let (store, index) = (Arc::new(store), Arc::new(RwLock::new(index)));
        let (queue, appends) = mpsc::channel(QUEUE);
        writer::start(Arc::clone(&store), Arc::clone(&index), head, appends)
            .context("cannot start the record's writer")?;
        let limits = Limits {
            body_bytes: 256 << 10,
            in_memory: 64 << 20,
        };
        Ok(Self {
            queue,
            store,
            index,
            bodies: Arc::new(Bodies::open(dir, limits)?),
        })
    }

    /// Records an event; returns its number once it is synced to disk.
    ///
    /// # Errors
    /// When it may not be on disk.
    pub async fn append(&self, event: Event) -> Result<u64, RecordError> {
        self.send(event, Until::Synced).await
    }

    /// Records an event; returns its number once it is written. It is synced within 50 ms.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn append_unsynced(&self, event: Event) -> Result<u64, RecordError> {
        self.send(event, Until::Written).await
    }

    /// Records an event that nobody waits for. It is synced within 50 ms, or reported in the log.
    pub fn note(&self, event: Event) {
        match self.queue.try_send(Call::Note(Box::new(event))) {
            Ok(()) => {}
            Err(TrySendError::Full(call)) => {
                let queue = self.queue.clone();
                // Without a runtime the daemon is gone, and the next one reports what has no outcome.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move { queue.send(call).await });
                }
            }
            Err(TrySendError::Closed(_)) => {
                tracing::error!("an event is missing in the record: it is closed");
            }
        }
    }

    /// A body that is about to go by, for the record. Nothing waits for it: what cannot be stored is told of as not stored.
    #[must_use]
    pub fn capture(
        &self,
        session: &SessionId,
        operation: &OperationId,
        way: Way,
        content_type: Option<&str>,
    ) -> Capture {
        let (session, operation) = (session.clone(), operation.clone());
        Capture::new(self.clone(), session, operation, way, content_type)
    }

    /// A stored body, or its beginning where it was cut; none if it was purged.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn body(&self, id: &BodyId) -> anyhow::Result<Option<Vec<u8>>> {
        Ok(self.kept_body(id).await?.map(|kept| kept.bytes))
    }

    /// The same with its salt, so that its digest can be checked.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn kept_body(&self, id: &BodyId) -> anyhow::Result<Option<KeptBody>> {
        let (bodies, id) = (self.bodies.clone(), id.clone());
        tokio::task::spawn_blocking(move || bodies.read(&id))
            .await
            .context("the reader panicked")?
    }

    /// Returns when everything recorded before has been synced, and so is to be seen by readers; at once when the writer
    /// is gone.
    pub async fn settled(&self) {
        let (done, answer) = oneshot::channel();
        if self.queue.send(Call::Sync(done)).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Records an outcome for every operation that has none. To be called before there are new ones: a daemon that was killed has
    /// left them, and nobody else can tell any more what has become of them.
    ///
    /// # Errors
    /// When they may not be on disk.
    ///
    /// # Panics
    /// When the writer panicked.
    pub async fn finish_leftovers(&self) -> Result<usize, RecordError> {
        let unfinished = {
            let index = self.index.read().expect("no panic while locked");
            index.unfinished()
        };
        let count = unfinished.len();
        for outcome in unfinished {
            self.append_unsynced(outcome).await?;
        }
        self.settled().await;
        Ok(count)
    }

    /// The events of everything that is open: holds that are not over, with their answers, and grants in force. Oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    ///
    /// # Panics
    /// When the writer panicked.
    pub async fn standing(&self) -> anyhow::Result<Vec<StoredEvent>> {
        let seqs = {
            let index = self.index.read().expect("no panic while locked");
            index.standing()
        };
        self.read(seqs).await
    }

    async fn send(&self, event: Event, until: Until) -> Result<u64, RecordError> {
        let (done, answer) = oneshot::channel();
        let append = Append { event, until, done };
        self.queue
            .send(Call::Append(Box::new(append)))
            .await
            .map_err(|_| RecordError::Closed)?;
        answer.await.map_err(|_| RecordError::Closed)?
    }

    /// Sessions that `keep` wants, newest first, `limit` at most.
    ///
    /// # Panics
    /// When the writer panicked.
    #[must_use]
    pub fn sessions(
        &self,
        limit: usize,
        keep: impl Fn(&SessionSummary) -> bool,
    ) -> Vec<SessionSummary> {
        let index = self.index.read().expect("no panic while locked");
        index.newest(limit, keep)
    }

    /// One session, if there ever was one of this name.
    ///
    /// # Panics
    /// When the writer panicked.
    #[must_use]
    pub fn session(&self, id: &SessionId) -> Option<SessionSummary> {
        let index = self.index.read().expect("no panic while locked");
        index.summary(id).cloned()
    }

    /// The synced events of a session with numbers above `after`, oldest first, `limit` at most.
    ///
    /// # Errors
    /// When they cannot be read.
    ///
    /// # Panics
    /// When the writer panicked.
    pub async fn events_of(
        &self,
        id: &SessionId,
        after: u64,
        limit: usize,
    ) -> anyhow::Result<Vec<StoredEvent>> {
        let seqs = {
            let index = self.index.read().expect("no panic while locked");
            index.events_of(id, after, limit)
        };
        self.read(seqs).await
    }

    /// The last `limit` synced events of a session, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    ///
    /// # Panics
    /// When the writer panicked.
    pub async fn last_events_of(
        &self,
        id: &SessionId,
        limit: usize,
    ) -> anyhow::Result<Vec<StoredEvent>> {
        let seqs = {
            let index = self.index.read().expect("no panic while locked");
            index.last_events_of(id, limit)
        };
        self.read(seqs).await
    }

    async fn read(&self, seqs: Vec<u64>) -> anyhow::Result<Vec<StoredEvent>> {
        let store = Arc::clone(&self.store);
        let read = move || {
            seqs.into_iter()
                .filter_map(|seq| store.read(seq).transpose())
                .collect()
        };
        tokio::task::spawn_blocking(read)
            .await
            .context("the reader panicked")?
    }
}

#[cfg(test)]
mod tests;
