//! The append-only account of everything that happened: a chain of JSON events, in a journal first and then in segments, which are
//! sled databases.

mod bodies;
mod chain;
mod event;
mod frame;
mod index;
mod journal;
mod layout;
mod leaves;
mod listing;
mod needle;
pub mod offline;
mod page;
mod parts;
mod pattern;
mod purge;
mod raw;
pub mod reading;
mod rows;
mod sealed;
mod search;
mod seen;
mod segment;
mod start;
mod store;
mod text;
mod watermark;
mod writer;

use std::{
    ops::ControlFlow,
    path::Path,
    sync::{Arc, RwLock},
    time::Duration,
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
pub use leaves::Leaves;
pub use needle::{Needle, NoSums, SecretSums};
pub use parts::{
    BinaryRecord, DecisionRecord, DecisionVerdict, OperationRecord, OutcomeResult, PolicyRecord,
    PrincipalRecord, Process, Purged, StatementAnswer, VoteRecord,
};
pub use pattern::Pattern;
pub use purge::{Claims, SegmentInfo};
pub use raw::RawEvent;
pub use search::{Asked, Cursor, Found, Search};
pub use seen::{ContentRecord, FieldsRecord, Seen};
pub use store::{StoredEvent, VERSION};
pub use text::{Pairs, Text, Texts};

use crate::session::SessionId;
use bodies::{Bodies, Limits};
use index::Index;
use listing::Listing;
use store::Store;
use writer::{Append, Call, Desk, Queued, Until};

/// Appends that wait for the writer at most; beyond, callers wait for a place.
const QUEUE: usize = 1024;

/// Bytes of bodies that are not on disk yet at most.
const IN_MEMORY: usize = 64 << 20;

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
    queue: mpsc::Sender<Queued>,
    desk: Desk,
    store: Arc<Store>,
    index: Arc<RwLock<Index>>,
    bodies: Arc<Bodies>,
    leaves: Arc<Leaves>,
    settings: Settings,
}

/// How the record is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bytes of a body that are stored at most.
    pub body_bytes: usize,
    /// Whether operations are refused while bodies cannot be stored.
    pub bodies_required: bool,
    /// Whether reads wait until their intent is synced, too.
    pub reads_synced: bool,
    /// Bytes of events, and of stored bodies, after which another segment begins.
    pub segment_bytes: u64,
    /// Events after which another segment begins.
    pub segment_events: u64,
    /// Time after which another segment begins.
    pub segment_age: Duration,
    /// Bytes of a journal that go to a segment together.
    pub journal_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            body_bytes: 256 << 10,
            bodies_required: false,
            reads_synced: false,
            segment_bytes: 256 << 20,
            segment_events: 100_000,
            segment_age: Duration::from_secs(24 * 3600),
            journal_bytes: 4 << 20,
        }
    }
}

impl Record {
    /// [`Self::open_with`] the usual settings.
    ///
    /// # Errors
    /// As there.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        Self::open_with(dir, Settings::default())
    }

    /// Opens the record in this directory, making it if there is none, and verifies the end of the chain of its events: what is
    /// not in a complete segment.
    ///
    /// # Errors
    /// When the store cannot be opened or is damaged: an event is missing, out of order or altered.
    pub fn open_with(dir: &Path, settings: Settings) -> anyhow::Result<Self> {
        let opened = start::open(dir)?;
        let limits = Limits {
            body_bytes: settings.body_bytes,
            in_memory: IN_MEMORY,
        };
        let bodies = Arc::new(Bodies::open(dir, limits, opened.tally.first)?);
        let (queue, appends) = mpsc::channel(QUEUE);
        let leaves = Arc::new(Leaves::after(opened.head.seq));
        let (store, index, desk) =
            writer::start(opened, bodies.clone(), leaves.clone(), settings, appends)
                .context("cannot start the record's writer")?;
        Ok(Self {
            queue,
            desk,
            store,
            index,
            bodies,
            leaves,
            settings,
        })
    }

    /// Records an event; returns its number once it is synced to disk.
    ///
    /// # Errors
    /// When it may not be on disk.
    pub async fn append(&self, event: Event) -> Result<u64, RecordError> {
        self.send(event, Until::Synced).await
    }

    /// Records an event; returns its number once it is written, so that it survives the end of the daemon. It is synced within
    /// 50 ms. Where the configuration wants intents of reads synced, it is as [`Self::append`] for those.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn append_unsynced(&self, event: Event) -> Result<u64, RecordError> {
        let until = match event {
            Event::Intent { .. } if self.settings.reads_synced => Until::Synced,
            _ => Until::Written,
        };
        self.send(event, until).await
    }

    /// Records an event that nobody waits for. It is synced within 50 ms, or reported in the log.
    pub fn note(&self, event: Event) {
        let event = match self.desk.note_now(event) {
            ControlFlow::Break(wakes) => return self.wake(wakes),
            ControlFlow::Continue(event) => event,
        };
        match self
            .queue
            .try_send(self.desk.queue(Call::Note(Box::new(event))))
        {
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
        if self
            .queue
            .send(self.desk.queue(Call::Sync(done)))
            .await
            .is_ok()
        {
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

    /// The legal holds that are in force, oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    ///
    /// # Panics
    /// When the writer panicked.
    pub async fn legal_holds(&self) -> anyhow::Result<Vec<StoredEvent>> {
        let mut held = self.standing().await?;
        held.retain(|stored| matches!(stored.event, Event::LegalHold { .. }));
        Ok(held)
    }

    async fn send(&self, event: Event, until: Until) -> Result<u64, RecordError> {
        if self.settings.bodies_required
            && matches!(event, Event::Intent { .. })
            && let Some(trouble) = self.bodies.trouble()
        {
            let why = format!("record.bodies is \"required\", and none can be stored: {trouble}");
            return Err(RecordError::Store(why));
        }
        let event = match until {
            Until::Synced => event,
            Until::Written => match self.desk.write_now(event) {
                ControlFlow::Break((written, wakes)) => {
                    self.wake(wakes);
                    return written;
                }
                ControlFlow::Continue(event) => event,
            },
        };
        let (done, answer) = oneshot::channel();
        let append = Append { event, until, done };
        self.queue
            .send(self.desk.queue(Call::Append(Box::new(append))))
            .await
            .map_err(|_| RecordError::Closed)?;
        answer.await.map_err(|_| RecordError::Closed)?
    }

    /// The writer's thread sleeps until there is something to sync. One whose queue is full is awake.
    fn wake(&self, wakes: bool) {
        if wakes {
            let _ = self.queue.try_send(self.desk.queue(Call::Wake));
        }
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
        self.listing().newest(limit, keep)
    }

    /// The sessions as they are now, to be looked through while others write.
    fn listing(&self) -> Listing {
        let index = self.index.read().expect("no panic while locked");
        index.listing()
    }

    /// One session, if there ever was one of this name.
    ///
    /// # Panics
    /// When the writer panicked.
    #[must_use]
    pub fn session(&self, id: &SessionId) -> Option<SessionSummary> {
        let index = self.index.read().expect("no panic while locked");
        index.summary(id)
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

    /// The links of the events that are synced from now on.
    #[must_use]
    pub fn leaves(&self) -> Arc<Leaves> {
        Arc::clone(&self.leaves)
    }

    /// What is stored of the events after this number, as lines of an export: `bytes` or a little more in all, and one event at least,
    /// if there is one. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn lines(&self, after: u64, bytes: usize) -> anyhow::Result<Vec<Vec<u8>>> {
        let (mut lines, mut size, mut last) = (Vec::new(), 0, None);
        for seq in after + 1.. {
            let line = match size < bytes {
                true => self.store.line(seq, &mut last)?,
                false => None,
            };
            let Some(line) = line else { break };
            size += line.len();
            lines.push(line);
        }
        Ok(lines)
    }

    async fn read(&self, seqs: Vec<u64>) -> anyhow::Result<Vec<StoredEvent>> {
        let store = Arc::clone(&self.store);
        tokio::task::spawn_blocking(move || store.read(&seqs))
            .await
            .context("the reader panicked")?
    }
}

#[cfg(test)]
pub(crate) mod tests;
