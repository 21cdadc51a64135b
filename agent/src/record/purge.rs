//! What retention takes out of the record: stored bodies, and whole segments, of which the hashes of the events stay. An event
//! says so first. What is removed gets another name before, so that nobody finds half of it, and what a daemon that was killed left of
//! it is swept away later.

use std::{collections::BTreeSet, ops::RangeInclusive, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;

use super::{
    Record,
    chain::Link,
    event::Event,
    layout,
    parts::Purged,
    rows::{Row, Sessions},
    store::{Store, StoredEvent},
    text::Text,
    writer::Call,
};
use crate::{metrics::metrics, session::SessionId};

/// Ending of the names of what is being removed.
const DYING: &str = "purged";

/// A complete segment of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The number of its first event, by which it is named.
    pub first: u64,
    /// The number of its last event.
    pub last: u64,
    /// When its first and last events were recorded; none if the segment was purged.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Whether its events are where they stay.
    pub is_archived: bool,
    /// Whether an operation was denied in it.
    pub has_denials: bool,
    /// Bytes on disk of its events and its index.
    pub bytes: u64,
    /// Bytes on disk of the bodies stored along with it; none if there are none.
    pub body_bytes: Option<u64>,
}

impl Record {
    /// Completes the segment that is written, so that it can be copied or purged. Returns the number of the first event that is
    /// not in a complete segment.
    ///
    /// # Errors
    /// When the store does not take it.
    pub async fn complete_segment(&self) -> Result<u64, super::RecordError> {
        let (done, answer) = tokio::sync::oneshot::channel();
        let closed = super::RecordError::Closed;
        let sent = self.queue.send(self.desk.queue(Call::Complete(done))).await;
        sent.map_err(|_| closed.clone())?;
        answer.await.map_err(|_| closed)?
    }

    /// Completes it if it has been written for longer than a segment should: where nothing happens, nothing else does.
    ///
    /// # Errors
    /// When the store does not take it.
    ///
    /// # Panics
    /// When the writer panicked.
    pub async fn complete_aged_segment(&self) -> Result<(), super::RecordError> {
        let since = self.index.read().expect("no panic while locked").since();
        let age = since.map(|since| Timestamp::now().duration_since(since).unsigned_abs());
        if age.is_some_and(|age| age >= self.settings.segment_age) {
            self.complete_segment().await?;
        }
        Ok(())
    }

    /// The complete segments, oldest first. Blocks.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let rows = self.store.rows.all();
        rows.iter().map(|row| self.info(row)).collect()
    }

    fn info(&self, row: &Row) -> SegmentInfo {
        let dir = &self.store.dir;
        let bodies = layout::bodies(dir, row.first);
        SegmentInfo {
            first: row.first,
            last: row.last,
            span: row.extent().map(|extent| (extent.from, extent.to)),
            is_archived: matches!(row.sessions, Sessions::File { .. }),
            has_denials: row.has_denials(),
            bytes: size(&layout::segment(dir, row.first)) + size(&layout::index(dir, row.first)),
            body_bytes: bodies.exists().then(|| size(&bodies)),
        }
    }

    /// Why a segment has to stay, whatever its age, if these sessions are held. Blocks.
    ///
    /// # Errors
    /// When its index is damaged: then nobody knows.
    ///
    /// # Panics
    /// When the writer panicked.
    pub fn claims(
        &self,
        segment: &SegmentInfo,
        held: &BTreeSet<SessionId>,
    ) -> anyhow::Result<Claims> {
        let row = self.store.rows.beginning_at(segment.first);
        let row = row.context("there is no such segment")?;
        let entries = row.entries()?;
        let told_of = entries.iter().filter(|entry| !entry.events.is_empty());
        let here = told_of.map(|entry| &entry.summary.id);
        let mut held_here: BTreeSet<_> = here.filter(|id| held.contains(*id)).cloned().collect();
        held_here.extend(self.told_of_later(&row, held)?);
        let index = self.index.read().expect("no panic while locked");
        let opened = entries
            .iter()
            .filter(|entry| entry.opened_here && index.is_open(&entry.summary.id));
        let numbers = row.first..=row.last;
        Ok(Claims {
            held: held_here,
            opened: opened.map(|entry| entry.summary.id.clone()).collect(),
            in_force: index.standing().iter().any(|seq| numbers.contains(seq)),
            is_newest: !self.is_followed(&row),
        })
    }

    /// Those of the held sessions of which the next segment has the events that tell of bodies stored along with this one.
    fn told_of_later(
        &self,
        row: &Row,
        held: &BTreeSet<SessionId>,
    ) -> anyhow::Result<Vec<SessionId>> {
        let mut found = Vec::new();
        for id in held {
            let seqs = {
                let index = self.index.read().expect("no panic while locked");
                index.events_of(id, row.last, usize::MAX)
            };
            let end = self.store.rows.beginning_at(row.last + 1);
            let end = end.map_or(u64::MAX, |next| next.last);
            let seqs: Vec<_> = seqs.into_iter().filter(|seq| *seq <= end).collect();
            let is_here = |stored: &StoredEvent| match &stored.event {
                Event::Body { body, .. } => {
                    body.kept.as_ref().is_some_and(|it| it.segment == row.first)
                }
                _ => false,
            };
            if self.store.read(&seqs)?.iter().any(is_here) {
                found.push(id.clone());
            }
        }
        Ok(found)
    }

    /// Where the daemon starts again it takes what is open from the last segment.
    fn is_followed(&self, row: &Row) -> bool {
        let rows = self.store.rows.all();
        let is_whole = |row: &Row| matches!(row.sessions, Sessions::File { .. });
        rows.iter().any(|it| it.first > row.first && is_whole(it))
    }

    /// Takes away the stored bodies of a complete segment, and the salts of their digests.
    ///
    /// # Errors
    /// When there is no such segment, or it cannot be done; it can be tried again.
    pub async fn purge_bodies(&self, first: u64, reason: &str) -> anyhow::Result<()> {
        let row = self.complete(first)?;
        self.tell_purged(Purged::Bodies, row.first..=row.last, reason)
            .await?;
        let record = self.clone();
        blocking(move || record.remove_bodies(first)).await?;
        metrics().record_purged(Purged::Bodies);
        Ok(())
    }

    /// Takes away a segment: its events, of which the hashes are left, its index and its bodies. Not the newest one, which has what is
    /// open.
    ///
    /// # Errors
    /// When it is the newest, or it cannot be done; it can be tried again.
    pub async fn purge(&self, first: u64, reason: &str) -> anyhow::Result<()> {
        let row = self.complete(first)?;
        ensure!(
            self.is_followed(&row),
            "the segment of event {first} is the newest: it goes when there is another one"
        );
        let (record, asked) = (self.clone(), row.clone());
        let links = blocking(move || links_of(&record.store, &asked)).await?;
        self.tell_removed(&row, reason).await?;
        let record = self.clone();
        blocking(move || {
            leave_links(&record.store, &row, &links)?;
            record.remove_bodies(first)?;
            record.remove_segment(first)
        })
        .await?;
        metrics().record_purged(Purged::Events);
        Ok(())
    }

    /// Removes what was purged as far as the record says so, and is still there because a daemon was killed. Blocks.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn sweep(&self) -> anyhow::Result<()> {
        let dir = &self.store.dir;
        for entry in std::fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == DYING) {
                std::fs::remove_dir_all(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        let rows = self.store.rows.all();
        for row in rows.iter().filter(|row| row.is_purged()) {
            self.remove_bodies(row.first)?;
            self.remove_segment(row.first)?;
        }
        Ok(())
    }

    fn complete(&self, first: u64) -> anyhow::Result<std::sync::Arc<Row>> {
        match self.store.rows.beginning_at(first) {
            Some(row) if matches!(row.sessions, Sessions::File { .. }) => Ok(row),
            Some(row) if row.is_purged() => bail!("the segment of event {first} was purged before"),
            _ => bail!("event {first} is not the first of a complete segment"),
        }
    }

    /// Tells what goes, with what has gone around it. Where the segment itself has the event that tells the end of another row, that is
    /// told again first: an auditor takes a row whose end nobody tells for one that was taken away in secret.
    async fn tell_removed(&self, row: &Row, reason: &str) -> anyhow::Result<()> {
        let going = self.purged_around(row.first, row.last);
        for gone in self.untold_without(row, &going) {
            let why = "told again: the event that told it is purged, too";
            self.tell_purged(Purged::Events, gone, why).await?;
        }
        self.tell_purged(Purged::Events, going, reason).await
    }

    /// What is purged, besides `going`, and whose end nothing tells but in this segment.
    fn untold_without(&self, row: &Row, going: &RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let index = self.index.read().expect("no panic while locked");
        let elsewhere = |seq: &u64| !(row.first..=row.last).contains(seq);
        let is_told = |end: &u64| {
            let mut told = index.purges().iter().filter(|(seq, _)| elsewhere(seq));
            told.any(|(_, (first, last))| (first..=last).contains(&end))
        };
        let rows = self.store.rows.all();
        let purged = rows.iter().filter(|row| row.is_purged());
        let mut gone: Vec<_> = purged
            .map(|row| self.purged_around(row.first, row.last))
            .collect();
        gone.dedup();
        gone.retain(|it| !going.contains(it.end()) && !is_told(it.end()));
        gone
    }

    /// These events, and all that were purged right before and after them.
    fn purged_around(&self, first: u64, last: u64) -> RangeInclusive<u64> {
        let (mut first, mut last) = (first, last);
        let purged = |seq: u64| {
            let row = self.store.rows.containing(seq);
            row.filter(|row| row.is_purged())
        };
        while let Some(row) = purged(first.saturating_sub(1)) {
            first = row.first;
        }
        while let Some(row) = purged(last + 1) {
            last = row.last;
        }
        first..=last
    }

    async fn tell_purged(
        &self,
        what: Purged,
        events: RangeInclusive<u64>,
        reason: &str,
    ) -> anyhow::Result<()> {
        let event = Event::RecordPurged {
            what,
            first: *events.start(),
            last: *events.end(),
            reason: Text::from(reason),
        };
        self.append(event).await?;
        Ok(())
    }

    fn remove_bodies(&self, first: u64) -> anyhow::Result<()> {
        self.bodies.purge(first, DYING)
    }

    fn remove_segment(&self, first: u64) -> anyhow::Result<()> {
        let dir = &self.store.dir;
        self.store.close(first);
        layout::remove_dir(&layout::segment(dir, first), DYING)?;
        match std::fs::remove_file(layout::index(dir, first)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(layout::sync_dir(dir)?),
        }
    }
}

/// What keeps a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// The held sessions it has events or bodies of.
    pub held: BTreeSet<SessionId>,
    /// Sessions that were opened in it and are open.
    pub opened: Vec<SessionId>,
    /// Whether a hold, a grant, a login or a legal hold was made in it that is not over.
    pub in_force: bool,
    /// Whether no later segment is complete.
    pub is_newest: bool,
}

/// Bytes on disk of a file, or of all in a directory; what is going away counts nothing.
fn size(path: &Path) -> u64 {
    let own = std::fs::symlink_metadata(path).map_or(0, |it| it.blocks() * 512);
    let within = std::fs::read_dir(path).into_iter().flatten().flatten();
    own + within.map(|entry| size(&entry.path())).sum::<u64>()
}

/// The hashes of a segment's events.
fn links_of(store: &Store, row: &Row) -> anyhow::Result<Vec<u8>> {
    let segment = store.readable(row.first)?;
    let mut links = Vec::new();
    let mut next = row.first;
    for frame in segment.frames() {
        let frame = frame?;
        ensure!(frame.first == next, "event {next} is missing");
        for event in &frame.events {
            links.extend_from_slice(Link::of(event).as_bytes());
        }
        next += frame.events.len() as u64;
    }
    ensure!(next == row.last + 1, "event {next} is missing");
    ensure!(
        links.ends_with(row.link.as_bytes()),
        "event {} was altered",
        row.last
    );
    Ok(links)
}

/// Writes the hashes of a segment's events. From then on it counts as purged.
fn leave_links(store: &Store, row: &Row, links: &[u8]) -> anyhow::Result<()> {
    layout::put(&layout::links(&store.dir, row.first), links)
        .context("cannot write the hashes of a segment")?;
    store.rows.replace(Row {
        sessions: Sessions::Purged,
        ..*row
    });
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("the purge panicked")?
}
