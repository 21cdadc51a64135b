//! How the store is opened: what was synced has to be there, and what was torn off is found and cut.
//!
//! Complete segments are taken by their indexes, which carry their last hashes; only the last segment and the journals are read, so
//! that the start takes as long as they are large, however many segments there are. `holdpoint audit verify` reads everything.

use std::path::Path;

use anyhow::{Context as _, ensure};
use jiff::Timestamp;

use super::{
    chain::{Head, Link},
    index::Index,
    journal::Journal,
    layout::{self, Layout},
    page::Page,
    rows::{Row, Rows, Sessions},
    sealed::{self, Extent, OpenEnds},
    segment::{KEEP, Segment},
    store::{Full, Store},
    watermark::Watermark,
};

/// An opened store, and where it stands.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) index: Index,
    pub(super) journal: Journal,
    pub(super) head: Head,
    pub(super) tally: Tally,
}

/// The segment that is not complete.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    /// The number of its first event.
    pub(super) first: u64,
    /// What that follows from.
    pub(super) prev: Link,
    /// Bytes of its events.
    pub(super) bytes: u64,
    /// When the first of them was recorded.
    pub(super) since: Option<Timestamp>,
}

impl Tally {
    /// Of an empty segment.
    pub(super) fn after(head: Head) -> Self {
        Self {
            first: head.seq + 1,
            prev: head.link,
            bytes: 0,
            since: None,
        }
    }
}

/// Opens the record in this directory, making it if there is none.
///
/// # Errors
/// When it cannot be read, or something is missing or altered.
pub(super) fn open(dir: &Path) -> anyhow::Result<Opened> {
    std::fs::create_dir_all(dir)
        .with_context(|| format!("cannot make the record's directory {}", dir.display()))?;
    let layout = Layout::read(dir)?;
    let (watermark, synced) = Watermark::open(dir, layout.is_new())?;
    let mut start = Start::new(dir, layout, synced);
    start
        .take_segments()
        .and_then(|()| start.take_journals())
        .with_context(|| format!("the record is damaged; {KEEP}"))?;
    ensure!(
        start.reached,
        "the record in {} is damaged: event {} was synced to disk and is missing or altered now; {KEEP}",
        dir.display(),
        synced.seq
    );
    start.open(watermark)
}

struct Start<'a> {
    dir: &'a Path,
    layout: Layout,
    synced: Head,
    /// Whether the last event that was synced has been seen.
    reached: bool,
    head: Head,
    rows: Rows,
    /// What was open at the end of the segments.
    open_ends: OpenEnds,
    /// Made of that when it is needed.
    index: Option<Index>,
    tally: Tally,
    pages: Vec<Page>,
}

impl<'a> Start<'a> {
    fn new(dir: &'a Path, layout: Layout, synced: Head) -> Self {
        Self {
            dir,
            layout,
            synced,
            reached: synced == Head::default(),
            head: Head::default(),
            rows: Rows::default(),
            open_ends: OpenEnds::default(),
            index: None,
            tally: Tally::after(Head::default()),
            pages: Vec::new(),
        }
    }

    fn take_segments(&mut self) -> anyhow::Result<()> {
        let Layout {
            links, segments, ..
        } = &self.layout;
        let all: Vec<_> = links.union(segments).copied().collect();
        for (place, first) in all.iter().enumerate() {
            match self.layout.links.contains(first) {
                true => self.take_links(*first)?,
                false => self.take_segment(*first, place + 1 == all.len())?,
            }
        }
        Ok(())
    }

    /// What was open at the end of a segment that is gone is told by the next one that is there; the last one never goes.
    fn take_links(&mut self, first: u64) -> anyhow::Result<()> {
        self.must_begin_at(first)?;
        let path = layout::links(self.dir, first);
        let bytes = std::fs::read(&path)
            .with_context(|| format!("cannot read the hashes in {}", path.display()))?;
        let (links, rest) = bytes.as_chunks::<32>();
        let (Some(link), []) = (links.last(), rest) else {
            anyhow::bail!("{} is cut", path.display());
        };
        self.take_row(Row {
            first,
            last: first + links.len() as u64 - 1,
            link: Link::from_bytes(*link),
            sessions: Sessions::Purged,
        });
        Ok(())
    }

    fn take_segment(&mut self, first: u64, is_last: bool) -> anyhow::Result<()> {
        self.must_begin_at(first)?;
        let is_complete = self.layout.indexes.contains(&first);
        match sealed::open(self.dir, first) {
            Ok((extent, open_ends, table)) if is_complete => {
                ensure!(
                    extent.prev == self.head.link || self.head.seq == 0,
                    "the segment of event {first} does not follow from the one before"
                );
                self.take_row(Row {
                    first,
                    last: extent.last,
                    link: extent.link,
                    sessions: Sessions::File { table, extent },
                });
                self.open_ends = open_ends;
                self.index = None;
                Ok(())
            }
            // The segment may not have all of what is in journals, too.
            _ if is_last && !is_complete => {
                let in_journals = self.layout.journals.range(first..).next().copied();
                self.replay(first, in_journals)
            }
            opened => {
                let problem = opened.err().map(|error| format!("{error:#}"));
                tracing::warn!(
                    segment = first,
                    problem,
                    "an index of the record is made anew"
                );
                self.replay(first, None)?;
                self.seal()
            }
        }
    }

    fn take_row(&mut self, row: Row) {
        let synced = self.synced;
        self.reached |= row.last > synced.seq || row.head() == synced;
        self.head = row.head();
        self.tally = Tally::after(self.head);
        self.rows.push(row);
    }

    fn must_begin_at(&self, first: u64) -> anyhow::Result<()> {
        let next = self.head.seq + 1;
        ensure!(first == next, "event {next} is missing");
        Ok(())
    }

    /// Reads the events of a segment, up to this one.
    fn replay(&mut self, first: u64, until: Option<u64>) -> anyhow::Result<()> {
        let segment = Segment::open(self.dir, first)?;
        for frame in segment.frames() {
            let frame = frame?;
            if until.is_some_and(|until| frame.first >= until) {
                break;
            }
            for (seq, bytes) in (frame.first..).zip(&frame.events) {
                self.follow(seq, bytes)?;
            }
        }
        Ok(())
    }

    fn follow(&mut self, seq: u64, bytes: &[u8]) -> anyhow::Result<()> {
        let event = self.head.follow(seq, bytes)?;
        self.reached |= self.head == self.synced;
        self.tally.bytes += bytes.len() as u64;
        self.tally.since.get_or_insert(event.time);
        self.index().add(&event);
        Ok(())
    }

    fn index(&mut self) -> &mut Index {
        let (rows, open_ends) = (&self.rows, &mut self.open_ends);
        self.index
            .get_or_insert_with(|| Index::after(rows.clone(), std::mem::take(open_ends)))
    }

    /// A segment that has no index, and is followed by another one.
    fn seal(&mut self) -> anyhow::Result<()> {
        let (Tally { first, prev, .. }, head) = (self.tally, self.head);
        ensure!(head.seq >= first, "event {first} is missing");
        let contents = self.index().cut(|from, to| Extent {
            first,
            from,
            prev,
            last: head.seq,
            to,
            link: head.link,
        });
        sealed::write(self.dir, &contents)?;
        let (extent, _, table) = sealed::open(self.dir, first)?;
        self.take_row(Row {
            first,
            last: head.seq,
            link: head.link,
            sessions: Sessions::File { table, extent },
        });
        Ok(())
    }

    fn take_journals(&mut self) -> anyhow::Result<()> {
        let journals: Vec<_> = self.layout.journals.iter().copied().collect();
        for (place, first) in journals.iter().enumerate() {
            let is_last = place + 1 == journals.len();
            self.take_journal(*first, is_last)?;
        }
        Ok(())
    }

    fn take_journal(&mut self, first: u64, is_last: bool) -> anyhow::Result<()> {
        let path = layout::journal(self.dir, first);
        let bytes = std::fs::read(&path)
            .with_context(|| format!("cannot read the journal {}", path.display()))?;
        let page = Page::parse(first, &bytes);
        let complete = self.rows.head().seq;
        if !page.is_empty() && page.next() <= complete + 1 {
            // Its segment has it; the daemon ended before it could remove it.
            return Ok(std::fs::remove_file(&path)?);
        }
        let torn = bytes.len() - page.bytes().len();
        ensure!(
            torn == 0 || is_last,
            "event {} is missing: the journal {} is cut",
            page.next(),
            path.display()
        );
        if torn > 0 {
            tracing::warn!(
                bytes = torn,
                after = page.next() - 1,
                "the end of the record was torn off in the middle of a write that nobody was told had succeeded: it is cut there"
            );
        }
        for (seq, event) in page.events() {
            if seq > self.head.seq {
                self.follow(seq, event)?;
            }
        }
        self.pages.push(page);
        Ok(())
    }

    fn open(mut self, watermark: Watermark) -> anyhow::Result<Opened> {
        let head = self.head;
        let context = || format!("cannot open the journal in {}", self.dir.display());
        let (current, journal) = match self.pages.pop() {
            Some(page) => {
                let journal = Journal::resume(self.dir, &page).with_context(context)?;
                (page, journal)
            }
            None => {
                let page = Page::new(head.seq + 1);
                let journal = Journal::create(self.dir, &page).with_context(context)?;
                (page, journal)
            }
        };
        let full = self.pages.into_iter().map(|page| Full {
            page,
            segment: self.tally.first,
            completes: false,
        });
        let full = full.collect();
        let index = self
            .index
            .unwrap_or_else(|| Index::after(self.rows.clone(), self.open_ends));
        let store = Store::new(self.dir, self.rows, watermark, full, current);
        Ok(Opened {
            store,
            index,
            journal,
            head,
            tally: self.tally,
        })
    }
}
