//! What retention takes out of the record: stored bodies, and whole segments, of which the hashes of the events stay. An event
//! says so first.

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;

use super::{
    Record,
    chain::Link,
    event::Event,
    layout,
    parts::Purged,
    rows::{Row, Sessions},
    store::Store,
    text::Text,
    writer::Call,
};
use crate::session::SessionId;

/// A complete segment of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The number of its first event, by which it is named.
    pub first: u64,
    /// The number of its last event.
    pub last: u64,
    /// When its first and last events were recorded; none if the segment was purged.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Whether bodies are stored along with it.
    pub has_bodies: bool,
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
        let sent = self.queue.send(Call::Complete(done)).await;
        sent.map_err(|_| closed.clone())?;
        answer.await.map_err(|_| closed)?
    }

    /// The complete segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let rows = self.store.rows.all();
        let info = |row: &std::sync::Arc<Row>| SegmentInfo {
            first: row.first,
            last: row.last,
            span: row.extent().map(|extent| (extent.from, extent.to)),
            has_bodies: layout::bodies(&self.store.dir, row.first).exists(),
        };
        rows.iter().map(info).collect()
    }

    /// The sessions that a complete segment has events of.
    #[must_use]
    pub fn sessions_in(&self, first: u64) -> Vec<SessionId> {
        let mut sessions = Vec::new();
        if let Some(row) = self.store.rows.beginning_at(first) {
            row.each_newest_first(|entry| {
                sessions.push(entry.summary.id);
                true
            });
        }
        sessions
    }

    /// Takes away the stored bodies of a complete segment, and the salts of their digests.
    ///
    /// # Errors
    /// When there is no such segment, or it cannot be done; it can be tried again.
    pub async fn purge_bodies(&self, first: u64, reason: &str) -> anyhow::Result<()> {
        let row = self.complete(first)?;
        self.tell_purged(Purged::Bodies, &row, reason).await?;
        let record = self.clone();
        blocking(move || record.remove_bodies(first)).await
    }

    /// Takes away a segment: its events, of which the hashes are left, its index and its bodies. The oldest one only, so that what
    /// is there is always the end of the chain.
    ///
    /// # Errors
    /// When it is not the oldest, or it cannot be done; it can be tried again.
    pub async fn purge(&self, first: u64, reason: &str) -> anyhow::Result<()> {
        let row = self.complete(first)?;
        let rows = self.store.rows.all();
        let oldest = rows.iter().find(|row| !row.is_purged());
        ensure!(
            oldest.is_some_and(|oldest| oldest.first == first),
            "the segment of event {first} is not the oldest: purge the ones before it first"
        );
        self.tell_purged(Purged::Events, &row, reason).await?;
        let record = self.clone();
        blocking(move || {
            leave_links(&record.store, &row)?;
            record.remove_bodies(first)?;
            record.store.close(first);
            remove_dir(&layout::segment(&record.store.dir, first))?;
            std::fs::remove_file(layout::index(&record.store.dir, first))?;
            Ok(layout::sync_dir(&record.store.dir)?)
        })
        .await
    }

    fn complete(&self, first: u64) -> anyhow::Result<std::sync::Arc<Row>> {
        match self.store.rows.beginning_at(first) {
            Some(row) if matches!(row.sessions, Sessions::File { .. }) => Ok(row),
            Some(row) if row.is_purged() => bail!("the segment of event {first} was purged before"),
            _ => bail!("event {first} is not the first of a complete segment"),
        }
    }

    async fn tell_purged(&self, what: Purged, row: &Row, reason: &str) -> anyhow::Result<()> {
        let event = Event::RecordPurged {
            what,
            first: row.first,
            last: row.last,
            reason: Text::from(reason),
        };
        self.append(event).await?;
        Ok(())
    }

    fn remove_bodies(&self, first: u64) -> anyhow::Result<()> {
        self.bodies.close(first);
        remove_dir(&layout::bodies(&self.store.dir, first))?;
        Ok(layout::sync_dir(&self.store.dir)?)
    }
}

/// Writes the hashes of a segment's events. From then on it counts as purged.
fn leave_links(store: &Store, row: &Row) -> anyhow::Result<()> {
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
    layout::put(&layout::links(&store.dir, row.first), &links)
        .context("cannot write the hashes of a segment")?;
    store.rows.replace(Row {
        sessions: Sessions::Purged,
        ..*row
    });
    Ok(())
}

fn remove_dir(path: &std::path::Path) -> anyhow::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("the purge panicked")?
}
