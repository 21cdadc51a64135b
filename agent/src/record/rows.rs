//! The row of segments: those that are complete, and what is left of those that are gone.

use std::sync::{Arc, RwLock};

use super::{
    chain::{Head, Link},
    index::SessionSummary,
    sealed::{Contents, Entry, Table},
};
use crate::session::SessionId;

/// A segment that is complete.
pub(super) struct Row {
    pub(super) first: u64,
    pub(super) last: u64,
    /// Of its last event.
    pub(super) link: Link,
    pub(super) sessions: Sessions,
}

/// What is known of a segment's sessions.
pub(super) enum Sessions {
    /// It has just been completed: its index is not on disk yet.
    Memory(Contents),
    /// This.
    File {
        table: Table,
        extent: super::sealed::Extent,
    },
    /// Nothing any more.
    Purged,
}

impl Row {
    pub(super) fn head(&self) -> Head {
        Head {
            seq: self.last,
            link: self.link,
        }
    }

    pub(super) fn is_purged(&self) -> bool {
        matches!(self.sessions, Sessions::Purged)
    }

    pub(super) fn extent(&self) -> Option<&super::sealed::Extent> {
        match &self.sessions {
            Sessions::Memory(contents) => Some(&contents.extent),
            Sessions::File { extent, .. } => Some(extent),
            Sessions::Purged => None,
        }
    }

    /// Whether an operation was denied in it.
    pub(super) fn has_denials(&self) -> bool {
        match &self.sessions {
            Sessions::Memory(contents) => contents.has_denials,
            Sessions::File { table, .. } => table.has_denials,
            Sessions::Purged => false,
        }
    }

    /// Its sessions.
    ///
    /// # Errors
    /// When its index is damaged.
    pub(super) fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        match &self.sessions {
            Sessions::Memory(contents) => Ok(contents.entries.clone()),
            Sessions::File { table, .. } => table.newest_first().collect(),
            Sessions::Purged => Ok(Vec::new()),
        }
    }

    pub(super) fn find(&self, id: &SessionId) -> Option<Entry> {
        match &self.sessions {
            Sessions::Memory(contents) => {
                let mut entries = contents.entries.iter();
                entries.find(|entry| entry.summary.id == *id).cloned()
            }
            Sessions::File { table, .. } => table.find(id).unwrap_or_else(|error| {
                self.complain(&error);
                None
            }),
            Sessions::Purged => None,
        }
    }

    /// Tells of its sessions, those that were opened last first, until it is told to stop. Whether it may go on.
    pub(super) fn each_newest_first(&self, mut tell: impl FnMut(Entry) -> bool) -> bool {
        match &self.sessions {
            Sessions::Memory(contents) => contents.entries.iter().rev().cloned().all(tell),
            Sessions::File { table, .. } => table.newest_first().all(|entry| match entry {
                Ok(entry) => tell(entry),
                Err(error) => {
                    self.complain(&error);
                    true
                }
            }),
            Sessions::Purged => true,
        }
    }

    fn complain(&self, error: &anyhow::Error) {
        tracing::error!(
            segment = self.first,
            "the index of a segment of the record is damaged, and made anew at the next start: {error:#}"
        );
    }
}

/// All of them, oldest first. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Rows(Arc<RwLock<Vec<Arc<Row>>>>);

impl Rows {
    pub(super) fn all(&self) -> Vec<Arc<Row>> {
        self.0.read().expect("no panic while locked").clone()
    }

    pub(super) fn push(&self, row: Row) {
        let mut rows = self.0.write().expect("no panic while locked");
        rows.push(Arc::new(row));
    }

    /// Puts another one in the place of one that begins at the same event.
    pub(super) fn replace(&self, row: Row) {
        let mut rows = self.0.write().expect("no panic while locked");
        if let Some(old) = rows.iter_mut().find(|old| old.first == row.first) {
            *old = Arc::new(row);
        }
    }

    /// The end of the last one.
    pub(super) fn head(&self) -> Head {
        let rows = self.0.read().expect("no panic while locked");
        rows.last().map(|row| row.head()).unwrap_or_default()
    }

    /// The one that begins at this event.
    pub(super) fn beginning_at(&self, first: u64) -> Option<Arc<Row>> {
        self.containing(first).filter(|row| row.first == first)
    }

    /// The one that this event is in.
    pub(super) fn containing(&self, seq: u64) -> Option<Arc<Row>> {
        let rows = self.0.read().expect("no panic while locked");
        let place = rows.partition_point(|row| row.last < seq);
        rows.get(place).filter(|row| row.first <= seq).cloned()
    }

    /// The newest that is known of a session.
    pub(super) fn summary(&self, id: &SessionId) -> Option<SessionSummary> {
        let rows = self.all();
        let mut found = rows.iter().rev().filter_map(|row| row.find(id));
        Some(found.next()?.summary)
    }

    /// The numbers of a session's events after `after`, segment by segment, oldest first.
    pub(super) fn events_of(&self, id: &SessionId, after: u64) -> impl Iterator<Item = Vec<u64>> {
        let rows = self.all().into_iter().filter(move |row| row.last > after);
        rows.filter_map(|row| Some(row.find(id)?.events))
    }

    /// The same for all of them, newest segment first.
    pub(super) fn events_of_backwards(&self, id: &SessionId) -> impl Iterator<Item = Vec<u64>> {
        let rows = self.all().into_iter().rev();
        rows.filter_map(|row| Some(row.find(id)?.events))
    }
}
