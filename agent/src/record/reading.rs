//! The record, read from a copy of its directory, without a daemon. Nothing is checked here but that it can be read: that is for
//! whoever compares the hashes.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{
    chain::Link,
    layout::{self, Layout},
    page::Page,
    segment::Copy,
};

/// A place in the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// An event: its number, and the bytes that are hashed.
    Event(u64, Vec<u8>),
    /// An event that was purged: its number, and the hash that was left.
    Purged(u64, Link),
}

/// The events that are there, oldest first: numbers and bytes.
///
/// # Errors
/// When the directory cannot be read; each item, when that part of it cannot.
pub fn events(
    dir: &Path,
) -> anyhow::Result<impl Iterator<Item = anyhow::Result<(u64, Vec<u8>)>> + use<>> {
    let places = places(dir)?;
    Ok(places.filter_map(|place| match place {
        Ok(Place::Event(seq, bytes)) => Some(Ok((seq, bytes))),
        Ok(Place::Purged(..)) => None,
        Err(error) => Some(Err(error)),
    }))
}

/// Everything, oldest first, in the order of the files; a segment at a time is copied to the directory for temporary files
/// (`TMPDIR`), because sled writes where it opens. Events that are in a segment and in a journal, too, come once.
///
/// # Errors
/// When the directory cannot be read; each item, when that part of it cannot.
pub fn places(dir: &Path) -> anyhow::Result<impl Iterator<Item = anyhow::Result<Place>> + use<>> {
    let layout = Layout::read(dir)?;
    let segments = layout.links.union(&layout.segments);
    let segments = segments.map(|first| match layout.links.contains(first) {
        true => Part::Links(*first),
        false => Part::Segment(*first),
    });
    let journals = layout.journals.iter().map(|first| Part::Journal(*first));
    Ok(Places {
        dir: dir.to_owned(),
        parts: segments.chain(journals).collect(),
        ready: VecDeque::new(),
        segment: None,
        // Where a segment is not complete, journals may have what it has not; where it is, journals are leftovers.
        until: layout
            .segments
            .last()
            .filter(|first| !layout.indexes.contains(first))
            .and_then(|first| layout.journals.range(first..).next().copied())
            .unwrap_or(u64::MAX),
        next: 0,
    })
}

enum Part {
    Links(u64),
    Segment(u64),
    Journal(u64),
}

struct Places {
    dir: PathBuf,
    parts: VecDeque<Part>,
    ready: VecDeque<Place>,
    /// The one that is read, and the number of the next frame's first event.
    segment: Option<(Copy, u64)>,
    /// From here on segments are not asked.
    until: u64,
    /// The number after the last event that was told.
    next: u64,
}

impl Iterator for Places {
    type Item = anyhow::Result<Place>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(place) = self.ready.pop_front() {
                return Some(Ok(place));
            }
            match self.fetch() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Places {
    /// Whether there was more.
    fn fetch(&mut self) -> anyhow::Result<bool> {
        if let Some((copy, at)) = self.segment.take() {
            if let Some(frame) = copy.segment.frame_from(at)?
                && frame.first < self.until
            {
                self.segment = Some((copy, frame.first + 1));
                self.tell((frame.first..).zip(frame.events));
            }
            return Ok(true);
        }
        match self.parts.pop_front() {
            None => return Ok(false),
            Some(Part::Segment(first)) => self.segment = Some((Copy::of(&self.dir, first)?, 0)),
            Some(Part::Links(first)) => self.tell_links(first)?,
            Some(Part::Journal(first)) => {
                let bytes = read(&layout::journal(&self.dir, first))?;
                let page = Page::parse(first, &bytes);
                let leftover = self.next;
                let events = page.events().filter(|(seq, _)| *seq >= leftover);
                self.tell(events.map(|(seq, bytes)| (seq, bytes.to_vec())));
            }
        }
        Ok(true)
    }

    fn tell(&mut self, events: impl Iterator<Item = (u64, Vec<u8>)>) {
        for (seq, bytes) in events {
            self.next = seq + 1;
            self.ready.push_back(Place::Event(seq, bytes));
        }
    }

    fn tell_links(&mut self, first: u64) -> anyhow::Result<()> {
        let bytes = read(&layout::links(&self.dir, first))?;
        for (seq, link) in (first..).zip(bytes.as_chunks::<32>().0) {
            self.next = seq + 1;
            let link = Link::from_bytes(*link);
            self.ready.push_back(Place::Purged(seq, link));
        }
        Ok(())
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
