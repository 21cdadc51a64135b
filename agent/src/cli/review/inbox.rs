//! What waits, in order: grouped by session, filtered, with a cursor and marks that stay with what they were set on,
//! whatever comes and goes around it.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet, hash_map},
};

use jiff::Timestamp;

use crate::{
    approvals::{ApprovalId, ApprovalView},
    session::SessionId,
};

/// One line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Session(SessionId),
    Hold(ApprovalId),
}

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    TimeLeft,
    Newest,
}

impl Sort {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TimeLeft => "least time left first",
            Self::Newest => "newest first",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) view: ApprovalView,
    /// No longer pending; kept in its place until the cursor leaves it.
    pub(super) gone: bool,
    /// By this reviewer, who need not be told that it is gone.
    answered: bool,
    haystack: String,
}

impl Entry {
    fn new(view: ApprovalView) -> Self {
        let words = [
            view.id.as_str(),
            view.session.as_str(),
            &view.user.name,
            &view.principal,
            &view.action,
            &view.resource,
        ];
        let haystack = words.join("\n").to_lowercase();
        Self {
            view,
            gone: false,
            answered: false,
            haystack,
        }
    }
}

/// A session's pending operations, as far as the filter shows them.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) user: String,
    pub(super) principal: String,
    pub(super) ids: Vec<ApprovalId>,
    pub(super) oldest: Timestamp,
    pub(super) soonest: Timestamp,
    newest: Timestamp,
}

#[derive(Debug)]
pub(super) struct Inbox {
    entries: HashMap<ApprovalId, Entry>,
    groups: HashMap<SessionId, Group>,
    rows: Vec<Row>,
    cursor: usize,
    /// The first row on screen.
    top: usize,
    marks: BTreeSet<ApprovalId>,
    filter: String,
    sort: Sort,
    /// Entries that are no longer pending.
    gone: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::new(),
            groups: HashMap::new(),
            rows: Vec::new(),
            cursor: 0,
            top: 0,
            marks: BTreeSet::new(),
            filter: String::new(),
            sort: Sort::TimeLeft,
            gone: 0,
        }
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn entry(&self, id: &ApprovalId) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// Whether it can still be answered, as far as is known.
    pub(super) fn is_pending(&self, id: &ApprovalId) -> bool {
        self.entries.get(id).is_some_and(|entry| !entry.gone)
    }

    pub(super) fn group(&self, id: &SessionId) -> Option<&Group> {
        self.groups.get(id)
    }

    pub(super) fn cursor(&self) -> Option<&Row> {
        self.rows.get(self.cursor)
    }

    pub(super) fn cursor_index(&self) -> usize {
        self.cursor
    }

    pub(super) fn top(&self) -> usize {
        self.top
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    pub(super) fn sort(&self) -> Sort {
        self.sort
    }

    pub(super) fn is_marked(&self, id: &ApprovalId) -> bool {
        self.marks.contains(id)
    }

    pub(super) fn marks(&self) -> usize {
        self.marks.len()
    }

    pub(super) fn pending(&self) -> usize {
        self.entries.len() - self.gone
    }

    /// Takes what waits now, instead of what waited before; tells what is new, and what is no longer there.
    pub(super) fn take(&mut self, pending: Vec<ApprovalView>) -> Change {
        let mut entries: HashMap<_, _> = pending
            .into_iter()
            .map(|view| (view.id.clone(), Entry::new(view)))
            .collect();
        let old = std::mem::take(&mut self.entries);
        let arrived = entries.keys().filter(|id| !old.contains_key(*id)).count();
        let mut left = Vec::new();
        for (id, entry) in old {
            match entries.entry(id) {
                // The list may be older than the answer.
                hash_map::Entry::Occupied(mut place) => place.get_mut().answered = entry.answered,
                hash_map::Entry::Vacant(place) => {
                    left.extend((!entry.gone).then(|| place.key().clone()));
                    place.insert(Entry {
                        gone: true,
                        ..entry
                    });
                }
            }
        }
        let was_empty = self.rows.is_empty();
        self.marks
            .retain(|id| entries.get(id).is_some_and(|entry| !entry.gone));
        self.entries = entries;
        self.arrange();
        if was_empty {
            // On an operation, not on the line above that stands for all of them.
            self.cursor = 1.min(self.rows.len().saturating_sub(1));
        }
        Change { arrived, left }
    }

    /// A newer view of one that is listed.
    pub(super) fn renew(&mut self, view: &ApprovalView) {
        if let Some(entry) = self.entries.get_mut(&view.id) {
            entry.view = view.clone();
        }
    }

    /// This reviewer has answered it: it goes without leaving a trace.
    pub(super) fn answered(&mut self, id: &ApprovalId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.answered = true;
            self.arrange();
        }
    }

    pub(super) fn set_filter(&mut self, filter: String) {
        self.filter = filter;
        self.arrange();
    }

    pub(super) fn change_sort(&mut self) {
        self.sort = match self.sort {
            Sort::TimeLeft => Sort::Newest,
            Sort::Newest => Sort::TimeLeft,
        };
        self.arrange();
    }

    pub(super) fn move_by(&mut self, rows: isize) {
        self.move_to(self.cursor.saturating_add_signed(rows));
    }

    pub(super) fn move_to(&mut self, row: usize) {
        self.cursor = row.min(self.rows.len().saturating_sub(1));
        if self.gone > 0 {
            self.arrange();
        }
    }

    /// Marks or unmarks what the cursor is on: one operation, or all of a session that are shown.
    pub(super) fn toggle_mark(&mut self) {
        let ids = self.under_cursor();
        if ids.iter().all(|id| self.marks.contains(id)) {
            self.marks.retain(|id| !ids.contains(id));
        } else {
            self.marks.extend(ids);
        }
    }

    pub(super) fn clear_marks(&mut self) {
        self.marks.clear();
    }

    /// What an answer would be about: all that is marked, else what the cursor is on. In the order of the list; what the
    /// filter hides comes last.
    pub(super) fn chosen(&self) -> Vec<ApprovalId> {
        if self.marks.is_empty() {
            return self.under_cursor();
        }
        let shown = self.rows.iter().filter_map(|row| match row {
            Row::Hold(id) if self.marks.contains(id) => Some(id.clone()),
            _ => None,
        });
        let mut chosen: Vec<_> = shown.collect();
        let listed: HashSet<_> = chosen.iter().cloned().collect();
        chosen.extend(self.marks.iter().filter(|id| !listed.contains(id)).cloned());
        chosen
    }

    fn under_cursor(&self) -> Vec<ApprovalId> {
        match self.cursor() {
            Some(Row::Hold(id)) if self.is_pending(id) => vec![id.clone()],
            Some(Row::Session(id)) => {
                let ids = self.groups.get(id).into_iter().flat_map(|group| &group.ids);
                ids.filter(|id| self.is_pending(id)).cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Keeps the cursor on screen, in a list of `height` rows.
    pub(super) fn scroll_into(&mut self, height: usize) {
        let lowest = (self.cursor + 1).saturating_sub(height);
        let mut highest = self.cursor;
        // Its session's line too, where it is the first below.
        if matches!(
            highest.checked_sub(1).and_then(|it| self.rows.get(it)),
            Some(Row::Session(_))
        ) && height > 1
        {
            highest -= 1;
        }
        self.top = self.top.clamp(lowest.min(highest), highest);
        self.top = self.top.min(self.rows.len().saturating_sub(height));
    }

    /// Makes the rows anew. The cursor stays on what it is on, and that where it is on the screen.
    fn arrange(&mut self) {
        let at = self.cursor().cloned();
        let kept = match &at {
            Some(Row::Hold(id)) => Some(id),
            _ => None,
        };
        self.entries
            .retain(|id, entry| !entry.gone || (Some(id) == kept && !entry.answered));
        self.gone = self.entries.values().filter(|entry| entry.gone).count();
        self.groups = self.grouped(kept);
        self.rows = self.ordered();
        let found = at.and_then(|row| self.rows.iter().position(|it| *it == row));
        let now = found.unwrap_or_else(|| self.cursor.min(self.rows.len().saturating_sub(1)));
        let moved = now.cast_signed() - self.cursor.cast_signed();
        self.top = self.top.saturating_add_signed(moved);
        self.cursor = now;
    }

    fn grouped(&self, kept: Option<&ApprovalId>) -> HashMap<SessionId, Group> {
        let filter = self.filter.to_lowercase();
        let mut shown: Vec<&ApprovalView> = self
            .entries
            .iter()
            .filter(|(id, entry)| Some(*id) == kept || entry.haystack.contains(&filter))
            .map(|(_, entry)| &entry.view)
            .collect();
        match self.sort {
            Sort::TimeLeft => shown.sort_by_key(|it| (it.expires_at, it.opened_at, &it.id)),
            Sort::Newest => shown.sort_by_key(|it| (Reverse(it.opened_at), &it.id)),
        }
        let mut groups: HashMap<SessionId, Group> = HashMap::new();
        for view in shown {
            match groups.get_mut(&view.session) {
                Some(group) => group.add(view),
                None => drop(groups.insert(view.session.clone(), Group::of(view))),
            }
        }
        groups
    }

    fn ordered(&self) -> Vec<Row> {
        let mut groups: Vec<_> = self.groups.iter().collect();
        match self.sort {
            Sort::TimeLeft => groups.sort_by_key(|(id, group)| (group.soonest, *id)),
            Sort::Newest => groups.sort_by_key(|(id, group)| (Reverse(group.newest), *id)),
        }
        let rows = groups.into_iter().flat_map(|(session, group)| {
            let holds = group.ids.iter().cloned().map(Row::Hold);
            [Row::Session(session.clone())].into_iter().chain(holds)
        });
        rows.collect()
    }
}

impl Group {
    fn of(view: &ApprovalView) -> Self {
        Self {
            user: view.user.name.clone(),
            principal: view.principal.clone(),
            ids: vec![view.id.clone()],
            oldest: view.opened_at,
            soonest: view.expires_at,
            newest: view.opened_at,
        }
    }

    fn add(&mut self, view: &ApprovalView) {
        self.ids.push(view.id.clone());
        self.oldest = self.oldest.min(view.opened_at);
        self.newest = self.newest.max(view.opened_at);
        self.soonest = self.soonest.min(view.expires_at);
    }
}

/// What a new list changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) arrived: usize,
    pub(super) left: Vec<ApprovalId>,
}
