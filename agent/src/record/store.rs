//! The store: a row of segments, and before them what has not come to one yet, in journals on disk and in memory.
//!
//! The writer alone appends to the journal; a journal that is full goes to the archiver, which alone writes segments.

use std::{
    collections::VecDeque,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, RwLock},
    time::Duration,
};

use anyhow::Context as _;
use jiff::Timestamp;
use lru::LruCache;
use serde::{Deserialize, Serialize};

use super::{
    chain::{Head, Link},
    event::Event,
    frame, layout,
    page::Page,
    rows::{Row, Rows, Sessions},
    sealed,
    segment::{Frame, Segment},
    watermark::Watermark,
};
use crate::audit::lines;

/// The version of the events' format.
pub const VERSION: u8 = 1;
/// Complete segments open at once.
const OPEN_SEGMENTS: NonZero<usize> = NonZero::new(2).expect("not zero");
/// Journals that wait for the archiver at most.
const MOST_WAITING: usize = 8;
/// How long the writer waits for one of them to be done with.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// What is recorded, as readers and the archiver see it.
pub(super) struct Store {
    pub(super) dir: PathBuf,
    pub(super) rows: Rows,
    watermark: Watermark,
    recent: RwLock<Recent>,
    /// The archiver is done with one.
    done: Condvar,
    waiting: Mutex<usize>,
    /// Why the archiver gets nothing done.
    trouble: Mutex<Option<String>>,
    segments: Mutex<Segments>,
}

/// What may not be in a segment yet.
struct Recent {
    full: VecDeque<Arc<Full>>,
    current: Page,
}

/// What a full journal has.
pub(super) struct Full {
    pub(super) page: Page,
    /// The number of the segment it goes to.
    pub(super) segment: u64,
    /// Whether that is complete with it.
    pub(super) completes: bool,
}

struct Segments {
    /// The one that is written.
    current: Option<Arc<Segment>>,
    /// Complete ones, for readers.
    complete: LruCache<u64, Arc<Segment>>,
}

impl Store {
    pub(super) fn new(
        dir: &Path,
        rows: Rows,
        watermark: Watermark,
        full: Vec<Full>,
        current: Page,
    ) -> Self {
        Self {
            dir: dir.to_owned(),
            rows,
            watermark,
            waiting: Mutex::new(full.len()),
            recent: RwLock::new(Recent {
                full: full.into_iter().map(Arc::new).collect(),
                current,
            }),
            done: Condvar::new(),
            trouble: Mutex::default(),
            segments: Mutex::new(Segments {
                current: None,
                complete: LruCache::new(OPEN_SEGMENTS),
            }),
        }
    }

    /// Everything up to `head` is on disk.
    pub(super) fn synced(&self, head: Head) -> std::io::Result<()> {
        self.watermark.set(head)
    }

    /// Puts at the end of the current page what has been written to its journal.
    pub(super) fn extend(&self, events: &Page) {
        let mut recent = self.recent.write().expect("no panic while locked");
        recent.current.extend(events);
    }

    /// The current page.
    pub(super) fn current<T>(&self, look: impl FnOnce(&Page) -> T) -> T {
        let recent = self.recent.read().expect("no panic while locked");
        look(&recent.current)
    }

    /// Gives the current page to the archiver and begins another one.
    pub(super) fn turn_over(&self, segment: u64, completes: bool) {
        let mut recent = self.recent.write().expect("no panic while locked");
        let next = Page::new(recent.current.next());
        let page = std::mem::replace(&mut recent.current, next);
        recent.full.push_back(Arc::new(Full {
            page,
            segment,
            completes,
        }));
        *self.waiting.lock().expect("no panic while locked") += 1;
    }

    /// Waits until there is room for another full page.
    ///
    /// # Errors
    /// When the archiver gets nothing done.
    pub(super) fn wait_for_room(&self) -> anyhow::Result<()> {
        let waiting = self.waiting.lock().expect("no panic while locked");
        let is_full = |waiting: &mut usize| *waiting >= MOST_WAITING && self.trouble().is_none();
        let (waiting, _) = self
            .done
            .wait_timeout_while(waiting, PATIENCE, is_full)
            .expect("no panic while locked");
        if *waiting < MOST_WAITING {
            return Ok(());
        }
        let trouble = self.trouble();
        anyhow::bail!(
            "the segments of the record do not keep up: {}",
            trouble.as_deref().unwrap_or("the disk is too slow")
        )
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("no panic while locked").clone()
    }

    /// One full page goes to its segment. Whether there was one.
    ///
    /// # Errors
    /// When the store does not take it; then it stays where it is.
    pub(super) fn archive_next(&self) -> anyhow::Result<bool> {
        let next = {
            let recent = self.recent.read().expect("no panic while locked");
            recent.full.front().cloned()
        };
        let Some(full) = next else {
            return Ok(false);
        };
        self.archive(&full).inspect_err(|error| {
            // sled answers nothing but the error from now on.
            self.segments.lock().expect("no panic while locked").current = None;
            let mut trouble = self.trouble.lock().expect("no panic while locked");
            *trouble = Some(format!("{error:#}"));
        })?;
        let mut recent = self.recent.write().expect("no panic while locked");
        recent.full.pop_front();
        drop(recent);
        *self.trouble.lock().expect("no panic while locked") = None;
        *self.waiting.lock().expect("no panic while locked") -= 1;
        self.done.notify_all();
        Ok(true)
    }

    fn archive(&self, full: &Full) -> anyhow::Result<()> {
        let segment = self.writable(full.segment)?;
        segment.write(frame::pack(&full.page)?)?;
        if full.completes {
            self.seal(full.segment)?;
            // Whoever reads it opens it again: most are never read.
            self.segments.lock().expect("no panic while locked").current = None;
        }
        if !full.page.is_empty() {
            remove(&layout::journal(&self.dir, full.page.first()))?;
        }
        Ok(())
    }

    fn writable(&self, first: u64) -> anyhow::Result<Arc<Segment>> {
        let mut segments = self.segments.lock().expect("no panic while locked");
        match &segments.current {
            Some(segment) if segment.first() == first => Ok(segment.clone()),
            _ => {
                segments.current = None;
                let segment = Arc::new(Segment::open(&self.dir, first)?);
                segments.current = Some(segment.clone());
                Ok(segment)
            }
        }
    }

    /// Writes the index of a complete segment, which so far is in memory.
    fn seal(&self, first: u64) -> anyhow::Result<()> {
        let row = self.rows.beginning_at(first);
        let row = row.context("a segment without a place in the row is complete")?;
        let Sessions::Memory(contents) = &row.sessions else {
            return Ok(());
        };
        sealed::write(&self.dir, contents)?;
        let (extent, _, table) = sealed::open(&self.dir, first)?;
        self.rows.replace(Row {
            sessions: Sessions::File { table, extent },
            ..*row
        });
        Ok(())
    }

    /// Events of these numbers, as far as they are there.
    ///
    /// # Errors
    /// When one is unreadable.
    pub(super) fn read(&self, seqs: &[u64]) -> anyhow::Result<Vec<StoredEvent>> {
        let mut last = None;
        let mut events = Vec::with_capacity(seqs.len());
        for seq in seqs {
            if let Some(bytes) = self.bytes_of(*seq, &mut last)? {
                let event = serde_json::from_slice(&bytes)
                    .with_context(|| format!("event {seq} is unreadable"))?;
                events.push(event);
            }
        }
        Ok(events)
    }

    /// The bytes of an event; `last` is the frame that was read last.
    pub(super) fn bytes_of(
        &self,
        seq: u64,
        last: &mut Option<Frame>,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        let in_last = last.as_ref().and_then(|frame| frame.event(seq));
        if let Some(bytes) = in_last {
            return Ok(Some(bytes.to_vec()));
        }
        if let Some(bytes) = self.recent_event(seq) {
            return Ok(Some(bytes));
        }
        let Some(segment) = self.segment_of(seq)? else {
            return Ok(None);
        };
        *last = segment.frame_of(seq)?;
        let bytes = last.as_ref().and_then(|frame| frame.event(seq));
        Ok(bytes.map(<[u8]>::to_vec))
    }

    /// What is stored of an event; of one that was purged, what is left.
    pub(super) fn line(
        &self,
        seq: u64,
        last: &mut Option<Frame>,
    ) -> anyhow::Result<Option<Vec<u8>>> {
        match self.rows.containing(seq) {
            Some(row) if row.is_purged() => {
                let link = layout::link(&self.dir, row.first, seq)?;
                Ok(Some(lines::purged(seq, (*link.as_bytes()).into())))
            }
            _ => self.bytes_of(seq, last),
        }
    }

    fn recent_event(&self, seq: u64) -> Option<Vec<u8>> {
        let recent = self.recent.read().expect("no panic while locked");
        let full = recent.full.iter().map(|full| &full.page);
        let mut pages = full.chain([&recent.current]);
        pages.find_map(|page| page.event(seq)).map(<[u8]>::to_vec)
    }

    fn segment_of(&self, seq: u64) -> anyhow::Result<Option<Arc<Segment>>> {
        match self.rows.containing(seq) {
            Some(row) if row.is_purged() => Ok(None),
            Some(row) => self.readable(row.first).map(Some),
            None => {
                let first = self.rows.head().seq + 1;
                let exists = layout::segment(&self.dir, first).exists();
                exists.then(|| self.writable(first)).transpose()
            }
        }
    }

    /// A complete segment.
    pub(super) fn readable(&self, first: u64) -> anyhow::Result<Arc<Segment>> {
        let mut segments = self.segments.lock().expect("no panic while locked");
        if let Some(current) = &segments.current
            && current.first() == first
        {
            return Ok(current.clone());
        }
        if let Some(segment) = segments.complete.get(&first) {
            return Ok(segment.clone());
        }
        let segment = Arc::new(Segment::open(&self.dir, first)?);
        segments.complete.put(first, segment.clone());
        Ok(segment)
    }

    /// Lets go of a complete segment.
    pub(super) fn close(&self, first: u64) {
        let mut segments = self.segments.lock().expect("no panic while locked");
        segments.complete.pop(&first);
    }
}

/// Removes a file, synced. Done before is done.
fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(layout::sync_dir(path.parent().unwrap_or(Path::new("/")))?),
    }
}
