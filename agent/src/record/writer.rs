//! Who writes: one thread, with group commit; and whoever finds it idle, for what need not be synced.

use std::{
    io,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, MutexGuard, RwLock,
        atomic::{AtomicUsize, Ordering},
        mpsc as threads,
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    RecordError, Settings,
    bodies::Bodies,
    chain::{Head, Link},
    event::Event,
    index::Index,
    journal::Journal,
    leaves::Leaves,
    page::Page,
    rows::{Row, Sessions},
    sealed::Extent,
    start::{Opened, Tally},
    store::{Store, StoredEvent, VERSION},
};
use crate::metrics::metrics;

/// Events in one commit at most.
const GROUP: usize = 512;
/// Events that nobody waits for and that wait for a disk that can be written at most.
const MOST_NOTES: usize = 64 * GROUP;
/// How long what was written may stay unsynced.
const SYNC_WITHIN: Duration = Duration::from_millis(50);
/// Between two attempts to go on after a failure.
const RETRY_EVERY: Duration = Duration::from_secs(1);

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
    /// To complete the segment.
    Complete(oneshot::Sender<Result<u64, RecordError>>),
    /// To look at what others have written: it is to be synced some time.
    Wake,
}

/// A call on its way to the thread; while it is, what comes later has to queue behind it.
pub(super) struct Queued {
    call: Call,
    place: Place,
}

struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The writer, for everybody.
#[derive(Clone)]
pub(super) struct Desk {
    writer: Arc<Mutex<Writer>>,
    queued: Arc<AtomicUsize>,
}

impl Desk {
    /// A call that goes to the thread from here on.
    pub(super) fn queue(&self, call: Call) -> Queued {
        self.queued.fetch_add(1, Ordering::AcqRel);
        let place = Place(self.queued.clone());
        Queued { call, place }
    }

    /// Writes an event, where nobody is at it and nothing waits: to have it written takes two switches of threads more. Given back
    /// otherwise. True where the thread has to be woken.
    pub(super) fn write_now(
        &self,
        event: Event,
    ) -> ControlFlow<(Result<u64, RecordError>, bool), Event> {
        let Some(mut writer) = self.idle() else {
            return ControlFlow::Continue(event);
        };
        let was_due = writer.sync_by.is_some();
        let written = match writer.write(vec![event]) {
            Ok(seq) => {
                writer.sync_soon();
                Ok(seq)
            }
            Err(error) => Err(writer.fail(&error)),
        };
        ControlFlow::Break((written, !was_due))
    }

    /// Takes an event that nobody waits for, likewise.
    pub(super) fn note_now(&self, event: Event) -> ControlFlow<bool, Event> {
        match self.idle() {
            Some(mut writer) if writer.notes.len() < GROUP => {
                let was_due = writer.sync_by.is_some();
                writer.notes.push(event);
                writer.sync_soon();
                ControlFlow::Break(!was_due)
            }
            _ => ControlFlow::Continue(event),
        }
    }

    /// Nobody is at it, nothing waits for it, and there is nothing to do first that takes long.
    fn idle(&self) -> Option<MutexGuard<'_, Writer>> {
        // After a panic nobody is to write: the thread, which is asked then, ends.
        let writer = self.writer.try_lock().ok()?;
        let is_idle = self.queued.load(Ordering::Acquire) == 0
            && writer.failed.is_none()
            && !writer.is_to_turn_over();
        is_idle.then_some(writer)
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("no panic while locked")
    }
}

/// An event on its way to the store.
pub(super) struct Append {
    pub(super) event: Event,
    pub(super) until: Until,
    pub(super) done: oneshot::Sender<Result<u64, RecordError>>,
}

pub(super) struct Writer {
    store: Arc<Store>,
    index: Arc<RwLock<Index>>,
    bodies: Arc<Bodies>,
    /// Whoever signs what is in the record.
    leaves: Arc<Leaves>,
    settings: Settings,
    journal: Journal,
    /// The segment that is not complete.
    tally: Tally,
    /// The last event written.
    head: Head,
    /// What nobody waits for, not written yet.
    notes: Vec<Event>,
    /// What is written and not synced.
    unsynced: Vec<(StoredEvent, Link)>,
    sync_by: Option<Instant>,
    /// When writing failed last, and has not succeeded since.
    failed: Option<Failure>,
    archiver: threads::Sender<()>,
}

struct Failure {
    at: Instant,
    message: String,
}

/// Starts the thread, and the archiver's. They end, having synced, when the last sender of `calls` is gone.
pub(super) fn start(
    opened: Opened,
    bodies: Arc<Bodies>,
    leaves: Arc<Leaves>,
    settings: Settings,
    calls: mpsc::Receiver<Queued>,
) -> io::Result<(Arc<Store>, Arc<RwLock<Index>>, Desk)> {
    // A runtime of its own, for its timer: `recv_many` with a deadline.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let (store, index) = (Arc::new(opened.store), Arc::new(RwLock::new(opened.index)));
    let (archiver, full) = threads::channel();
    let archived = store.clone();
    thread::Builder::new()
        .name("archive".into())
        .spawn(move || archive(&archived, &full))?;
    let writer = Writer {
        store: store.clone(),
        index: index.clone(),
        bodies,
        leaves,
        settings,
        journal: opened.journal,
        tally: opened.tally,
        head: opened.head,
        notes: Vec::new(),
        unsynced: Vec::new(),
        sync_by: None,
        failed: None,
        archiver,
    };
    let desk = Desk {
        writer: Arc::new(Mutex::new(writer)),
        queued: Arc::default(),
    };
    let of_the_thread = desk.clone();
    thread::Builder::new()
        .name("record".into())
        .spawn(move || runtime.block_on(run(&of_the_thread, calls)))?;
    Ok((store, index, desk))
}

async fn run(desk: &Desk, mut calls: mpsc::Receiver<Queued>) {
    let mut group = Vec::with_capacity(GROUP);
    loop {
        let sync_by = desk.lock().sync_by;
        let receive = calls.recv_many(&mut group, GROUP);
        let received = match sync_by {
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                timeout(left, receive).await.ok()
            }
            None => Some(receive.await),
        };
        match received {
            None => desk.lock().sync_or_fail(),
            Some(0) => return desk.lock().sync_or_fail(),
            Some(_) => desk.lock().serve(&mut group),
        }
    }
}

/// Brings full journals into segments, until the writer is gone. What is left then stays in its journal.
fn archive(store: &Store, full: &threads::Receiver<()>) {
    let mut fails = false;
    loop {
        match store.archive_next() {
            Ok(true) => fails = false,
            Ok(false) => {
                if full.recv().is_err() {
                    return;
                }
            }
            Err(error) => {
                if !fails {
                    tracing::error!("the segments of the record cannot be written: {error:#}");
                    metrics().record_failed();
                }
                fails = true;
                if let Err(threads::RecvTimeoutError::Disconnected) = full.recv_timeout(RETRY_EVERY)
                {
                    return;
                }
            }
        }
    }
}

impl Writer {
    fn serve(&mut self, group: &mut Vec<Queued>) {
        let (mut appends, mut syncs, mut completes) =
            (Vec::with_capacity(group.len()), Vec::new(), Vec::new());
        // Until all of it is done, nobody may overtake it.
        let mut places = Vec::with_capacity(group.len());
        for Queued { call, place } in group.drain(..) {
            places.push(place);
            match call {
                Call::Append(append) => appends.push(*append),
                Call::Note(event) => self.notes.push(*event),
                Call::Sync(done) => syncs.push(done),
                Call::Complete(done) => completes.push(done),
                Call::Wake => {}
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
        for done in completes {
            answer(done, self.complete());
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
        self.turn_over_if_full()?;
        let notes = std::mem::take(&mut self.notes);
        let (count, time, mut head) = (notes.len(), Timestamp::now(), self.head);
        let mut page = Page::new(head.seq + 1);
        let mut stored = Vec::with_capacity(count + events.len());
        for event in notes.into_iter().chain(events) {
            let event = StoredEvent {
                v: VERSION,
                seq: head.seq + 1,
                time,
                prev: head.link,
                event,
            };
            head = page.push(&event).context("an event cannot be encoded")?;
            stored.push((event, head.link));
        }
        let first = self.head.seq + 1 + count as u64;
        if let Err(error) = self.journal.append(&page) {
            // Nobody waits for the notes, so nobody would write them again.
            let notes = stored
                .into_iter()
                .take(count)
                .map(|(stored, _)| stored.event);
            self.notes.extend(notes);
            return Err(error).context("cannot write the journal");
        }
        metrics().record_written(stored.len());
        self.store.extend(&page);
        self.head = head;
        self.tally.since.get_or_insert(time);
        self.tally.bytes += page.bytes().len() as u64;
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
        self.recover()
            .and_then(|()| self.sync_written())
            .map_err(|error| self.fail(&error))
    }

    fn sync_written(&mut self) -> anyhow::Result<()> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        self.journal.sync().context("cannot sync the journal")?;
        metrics().record_synced(started.elapsed());
        self.take_as_synced()
    }

    fn take_as_synced(&mut self) -> anyhow::Result<()> {
        self.store
            .synced(self.head)
            .context("cannot note how far the record is synced")?;
        let mut index = self.index.write().expect("no panic while locked");
        for (event, link) in self.unsynced.drain(..) {
            index.add(&event);
            self.leaves.synced(event.seq, link);
        }
        Ok(())
    }

    fn sync_or_fail(&mut self) {
        // Nobody waits for it; `fail` has logged it, and the next append tells its caller.
        let _ = self.sync();
    }

    /// Begins another journal when this one has enough, and another segment likewise.
    fn turn_over_if_full(&mut self) -> anyhow::Result<()> {
        if self.is_to_turn_over() {
            self.turn_over(self.segment_is_full())?;
        }
        Ok(())
    }

    fn is_to_turn_over(&self) -> bool {
        let length = self.store.current(|page| page.bytes().len());
        length >= self.settings.journal_bytes || self.segment_is_full()
    }

    fn segment_is_full(&self) -> bool {
        let events = self.head.seq + 1 - self.tally.first;
        let bytes = self.tally.bytes + self.bodies.segment_bytes();
        let age = self
            .tally
            .since
            .map(|since| Timestamp::now().duration_since(since).unsigned_abs());
        events >= self.settings.segment_events
            || (events > 0 && bytes >= self.settings.segment_bytes)
            || age.is_some_and(|age| age >= self.settings.segment_age)
    }

    fn turn_over(&mut self, completes: bool) -> anyhow::Result<()> {
        self.store.wait_for_room()?;
        self.sync_written()?;
        if !self.store.current(Page::is_empty) {
            let next = Page::new(self.head.seq + 1);
            self.journal =
                Journal::create(&self.store.dir, &next).context("cannot begin another journal")?;
        }
        if completes {
            self.complete_segment();
        }
        self.store.turn_over(self.tally.first, completes);
        if completes {
            self.tally = Tally::after(self.head);
            self.bodies.begin_segment(self.tally.first);
        }
        // Without an archiver there is no room left some day, and that is said then.
        let _ = self.archiver.send(());
        Ok(())
    }

    /// From now on what is known of the segment's sessions is with it.
    fn complete_segment(&self) {
        let Tally { first, prev, .. } = self.tally;
        let Head { seq: last, link } = self.head;
        let mut index = self.index.write().expect("no panic while locked");
        let contents = index.cut(|from, to| Extent {
            first,
            from,
            prev,
            last,
            to,
            link,
        });
        self.store.rows.push(Row {
            first,
            last,
            link,
            sessions: Sessions::Memory(contents),
        });
    }

    /// Completes the segment, if there is anything in it. Returns the number of the first event that is in none.
    fn complete(&mut self) -> Result<u64, RecordError> {
        self.sync()?;
        if self.head.seq >= self.tally.first {
            self.turn_over(true).map_err(|error| self.fail(&error))?;
        }
        Ok(self.tally.first)
    }

    /// Goes on after a failure: with another journal, which has what this one should have.
    fn recover(&mut self) -> anyhow::Result<()> {
        let Some(failure) = &self.failed else {
            return Ok(());
        };
        if failure.at.elapsed() < RETRY_EVERY {
            anyhow::bail!("{}", failure.message);
        }
        let journal = &mut self.journal;
        self.store
            .current(|page| journal.rewrite(page))
            .context("cannot begin another journal")?;
        self.failed = None;
        self.take_as_synced()?;
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
        let recent = matches!(&self.failed, Some(failure) if failure.at.elapsed() < RETRY_EVERY);
        if !recent {
            self.failed = Some(Failure {
                at: Instant::now(),
                message: message.clone(),
            });
        }
        if self.notes.len() > MOST_NOTES {
            tracing::error!(
                events = self.notes.len(),
                "events are missing in the record: it could not be written for too long"
            );
            self.notes.clear();
        }
        self.sync_by = Some(Instant::now() + RETRY_EVERY);
        RecordError::Store(message)
    }
}

/// An appender that has gone away does not want to know.
fn answer(done: oneshot::Sender<Result<u64, RecordError>>, result: Result<u64, RecordError>) {
    let _ = done.send(result);
}
