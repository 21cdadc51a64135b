//! The sessions as they were at one time, to be looked through while others write.

use std::{collections::HashMap, sync::Arc};

use super::{
    index::SessionSummary,
    rows::{Row, Rows},
};
use crate::session::SessionId;

/// All sessions.
pub(super) struct Listing {
    /// Those with events since the last segment was completed, and those that are open; of those opened since then, the number
    /// of the event that did.
    pub(super) in_memory: HashMap<SessionId, (SessionSummary, u64)>,
    /// Those opened since then, in order.
    pub(super) order: Vec<SessionId>,
    /// The segments that were complete then.
    pub(super) complete: Vec<Arc<Row>>,
    pub(super) rows: Rows,
}

impl Listing {
    /// Summaries that `keep` wants, newest first, `limit` at most.
    pub(super) fn newest(
        &self,
        limit: usize,
        keep: impl Fn(&SessionSummary) -> bool,
    ) -> Vec<SessionSummary> {
        let found = self.opened_before(u64::MAX, limit, keep).into_iter();
        found.map(|(summary, _)| summary).collect()
    }

    /// Sessions that `keep` wants, newest first, `limit` at most, with the numbers of the events that opened them, which are below
    /// `before`; 0 where that event was purged.
    pub(super) fn opened_before(
        &self,
        before: u64,
        limit: usize,
        keep: impl Fn(&SessionSummary) -> bool,
    ) -> Vec<(SessionSummary, u64)> {
        let newest_first = self.order.iter().rev();
        let mut found: Vec<_> = newest_first
            .filter_map(|id| self.in_memory.get(id))
            .filter(|(summary, opened)| *opened < before && keep(summary))
            .take(limit)
            .cloned()
            .collect();
        for row in self.complete.iter().rev().filter(|row| row.first < before) {
            let goes_on = row.each_newest_first(|entry| {
                let opened = entry.events.first().copied().unwrap_or_default();
                if found.len() < limit && entry.opened_here && opened < before {
                    let latest = self.latest(entry.summary).filter(&keep);
                    found.extend(latest.map(|summary| (summary, opened)));
                }
                found.len() < limit
            });
            if !goes_on {
                return found;
            }
        }
        if before > 0 {
            let left = limit.saturating_sub(found.len());
            let older = self.older_than_the_record(keep).into_iter();
            found.extend(older.map(|summary| (summary, 0)).take(left));
        }
        found
    }

    /// What is known of a session by now that was opened in an earlier segment.
    fn latest(&self, then: SessionSummary) -> Option<SessionSummary> {
        match self.in_memory.get(&then.id) {
            Some((summary, _)) => Some(summary.clone()),
            None if then.closed_at.is_some() => Some(then),
            None => self.rows.summary(&then.id),
        }
    }

    /// Sessions that are open, and whose opening was purged, newest first.
    fn older_than_the_record(&self, keep: impl Fn(&SessionSummary) -> bool) -> Vec<SessionSummary> {
        if !self.complete.iter().any(|row| row.is_purged()) {
            return Vec::new();
        }
        let is_told_of = |id: &SessionId| {
            let opened_here = |row: &Arc<Row>| row.find(id).is_some_and(|entry| entry.opened_here);
            self.order.contains(id) || self.complete.iter().any(opened_here)
        };
        let all = self.in_memory.values().map(|(summary, _)| summary);
        let mut older: Vec<_> = all
            .filter(|summary| keep(summary) && !is_told_of(&summary.id))
            .cloned()
            .collect();
        older.sort_by_key(|summary| std::cmp::Reverse(summary.opened_at));
        older
    }
}
