//! The one thread that writes: group commit.

use std::{
    io,
    sync::{Arc, RwLock},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    RecordError,
    chain::{Head, Link},
    event::Event,
    index::Index,
    store::{Encoded, Store, StoredEvent, VERSION},
};
use crate::metrics::metrics;

/// Events in one commit at most.
const GROUP: usize = 512;
/// How long what was written may stay unsynced.
const SYNC_WITHIN: Duration = Duration::from_millis(50);
/// Between two attempts to open a store that failed.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

/// What an appender waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Written,
    Synced,
}

/// What the writer is asked for.
pub(super) enum Call {
    Append(Box<Append>),
    /// An event nobody waits for. It is written along with the next group.
    Note(Box<Event>),
    /// To sync what is written, and to say when that is done.
    Sync(oneshot::Sender<()>),
}

/// An event on its way to the store.
pub(super) struct Append {
    pub(super) event: Event,
    pub(super) until: Until,
    pub(super) done: oneshot::Sender<Result<u64, RecordError>>,
}

struct Writer {
    store: Arc<Store>,
    index: Arc<RwLock<Index>>,
    /// The last event written.
    head: Head,
    /// The last event synced: nothing up to here may ever be missing.
    synced: Head,
    /// What nobody waits for, not written yet.
    notes: Vec<Event>,
    /// What lies between the two.
    unsynced: Vec<StoredEvent>,
    sync_by: Option<Instant>,
    /// When the store failed last, and has not been opened again.
    failed: Option<Failure>,
}

struct Failure {
    at: Instant,
    message: String,
}

/// Starts the thread. It ends, having synced, when the last sender of `calls` is gone.
pub(super) fn start(
    store: Arc<Store>,
    index: Arc<RwLock<Index>>,
    head: Head,
    calls: mpsc::Receiver<Call>,
) -> io::Result<()> {
    // A runtime of its own, for its timer: `recv_many` with a deadline.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let writer = Writer {
        store,
        index,
        head,
        synced: head,
        notes: Vec::new(),
        unsynced: Vec::new(),
        sync_by: None,
        failed: None,
    };
    thread::Builder::new()
        .name("record".into())
        .spawn(move || runtime.block_on(writer.run(calls)))?;
    Ok(())
}

impl Writer {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            let receive = calls.recv_many(&mut group, GROUP);
            let received = match self.sync_by {
                Some(deadline) => timeout_at(deadline, receive).await.ok(),
                None => Some(receive.await),
            };
            match received {
                None => self.sync_or_fail(),
                Some(0) => return self.sync_or_fail(),
                Some(_) => self.serve(std::mem::take(&mut group)),
            }
        }
    }

    fn serve(&mut self, group: Vec<Call>) {
        let (mut appends, mut syncs) = (Vec::with_capacity(group.len()), Vec::new());
        for call in group {
            match call {
                Call::Append(append) => appends.push(*append),
                Call::Note(event) => self.notes.push(*event),
                Call::Sync(done) => syncs.push(done),
            }
        }
        if !appends.is_empty() {
            self.commit(appends);
        }
        if !syncs.is_empty() || self.notes.len() >= GROUP {
            self.sync_or_fail();
        }
        if !self.notes.is_empty() {
            self.sync_soon();
        }
        for done in syncs {
            let _ = done.send(());
        }
    }

    fn commit(&mut self, group: Vec<Append>) {
        let (events, waiters): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|append| (append.event, (append.until, append.done)))
            .unzip();
        let first = match self.write(events) {
            Ok(first) => first,
            Err(error) => {
                let error = self.fail(&error);
                return waiters
                    .into_iter()
                    .for_each(|(_, done)| answer(done, Err(error.clone())));
            }
        };
        let mut to_sync = Vec::new();
        for (seq, (until, done)) in (first..).zip(waiters) {
            match until {
                Until::Written => answer(done, Ok(seq)),
                Until::Synced => to_sync.push((seq, done)),
            }
        }
        if to_sync.is_empty() {
            return self.sync_soon();
        }
        let synced = self.sync();
        for (seq, done) in to_sync {
            answer(done, synced.clone().map(|()| seq));
        }
    }

    fn sync_soon(&mut self) {
        self.sync_by
            .get_or_insert_with(|| Instant::now() + SYNC_WITHIN);
    }

    /// Writes the notes, then these. Returns the number of the first of these.
    fn write(&mut self, events: Vec<Event>) -> anyhow::Result<u64> {
        self.recover()?;
        let notes = std::mem::take(&mut self.notes);
        let first = self.head.seq + 1 + notes.len() as u64;
        let mut head = self.head;
        let count = notes.len() + events.len();
        let mut encoded = Vec::with_capacity(count);
        let mut stored = Vec::with_capacity(count);
        let time = Timestamp::now();
        for event in notes.into_iter().chain(events) {
            let event = StoredEvent {
                v: VERSION,
                seq: head.seq + 1,
                time,
                prev: head.link,
                event,
            };
            let bytes = serde_json::to_vec(&event).context("cannot encode the event")?;
            head = Head {
                seq: event.seq,
                link: Link::of(&bytes),
            };
            encoded.push(Encoded {
                seq: event.seq,
                bytes,
            });
            stored.push(event);
        }
        self.store.write(encoded)?;
        metrics().record_written(count);
        self.head = head;
        self.unsynced.append(&mut stored);
        Ok(first)
    }

    fn sync(&mut self) -> Result<(), RecordError> {
        self.sync_by = None;
        if !self.notes.is_empty()
            && let Err(error) = self.write(Vec::new())
        {
            return Err(self.fail(&error));
        }
        if self.unsynced.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        if let Err(error) = self.store.sync(self.head) {
            return Err(self.fail(&error));
        }
        metrics().record_synced(started.elapsed());
        self.synced = self.head;
        let mut index = self.index.write().expect("no panic while locked");
        for event in self.unsynced.drain(..) {
            index.add(&event);
        }
        Ok(())
    }

    fn sync_or_fail(&mut self) {
        // Nobody waits for it; `fail` has logged it, and the next append tells its caller.
        let _ = self.sync();
    }

    /// Opens a store again that had failed.
    fn recover(&mut self) -> anyhow::Result<()> {
        let Some(failure) = &self.failed else {
            return Ok(());
        };
        if failure.at.elapsed() < REOPEN_EVERY {
            anyhow::bail!("{}", failure.message);
        }
        let mut index = self.index.write().expect("no panic while locked");
        self.head = self
            .store
            .reopen(self.synced, |event, _| index.add(event))?;
        // What was found after `synced` had been read from the file, not synced to it.
        self.store.sync(self.head)?;
        self.synced = self.head;
        self.failed = None;
        tracing::info!(seq = self.head.seq, "the record can be written again");
        Ok(())
    }

    fn fail(&mut self, error: &anyhow::Error) -> RecordError {
        let message = format!("{error:#}");
        metrics().record_failed();
        if self.failed.is_none() {
            tracing::error!(
                error = message,
                "the record cannot be written: nothing is let through"
            );
        }
        let recent = matches!(&self.failed, Some(failure) if failure.at.elapsed() < REOPEN_EVERY);
        if !recent {
            self.failed = Some(Failure {
                at: Instant::now(),
                message: message.clone(),
            });
        }
        self.unsynced.clear();
        self.sync_by = None;
        RecordError::Store(message)
    }
}

/// An appender that has gone away does not want to know.
fn answer(done: oneshot::Sender<Result<u64, RecordError>>, result: Result<u64, RecordError>) {
    let _ = done.send(result);
}
