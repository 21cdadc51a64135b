//! Which events belong to which session. In memory, for the segment that is not complete yet: made anew from the events
//! whenever the record is opened. Complete segments have theirs in a file ([`super::sealed`]).

use std::collections::{BTreeMap, HashMap, HashSet};

use holdpoint_core::approval::Answer;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    event::{Event, OperationId},
    listing::Listing,
    parts::{DecisionVerdict, OutcomeResult, Purged},
    rows::Rows,
    sealed::{self, Contents, Extent, OpenEnds},
    store::StoredEvent,
    text::{Text, Texts},
};
use crate::session::{SessionId, User};

/// A session in few words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Its name.
    pub id: SessionId,
    /// Who it acts for: `issuer#subject`.
    pub principal: String,
    /// The caller of `holdpoint run`.
    pub user: User,
    /// The command line.
    pub command: Texts,
    /// The service in whose sandbox it is.
    #[serde(default)]
    pub service: Option<Text>,
    /// For a job in that sandbox: the service's own session.
    #[serde(default)]
    pub within: Option<SessionId>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
    /// Why it was closed.
    pub close_reason: Option<Text>,
    /// Operations asked for.
    pub operations: u64,
    /// Of these, held.
    pub held: u64,
    /// Of these, denied.
    pub denied: u64,
    /// Of the held and denied, those that passed all the same, because policy was only observed.
    #[serde(default)]
    pub observed: u64,
    /// Connections and requests that were refused before they were operations.
    pub refused: u64,
}

/// Sessions and the numbers of their events, as far as they are synced.
pub(super) struct Index {
    /// Those with events since the last segment was completed, and those that are open.
    by_session: HashMap<SessionId, Entry>,
    /// Those opened since then, in order.
    order: Vec<SessionId>,
    /// Operations without an outcome, and what has become of them as far as is known.
    unfinished: HashMap<OperationId, (SessionId, OutcomeResult)>,
    /// Holds and grants that are not over, by name, the latest login of each user, and the numbers of the events that say what they are.
    standing: BTreeMap<String, Vec<u64>>,
    /// The events that say what was purged, and the first and last event of that: without them nobody knows that it was not taken away
    /// in secret.
    purges: BTreeMap<u64, (u64, u64)>,
    /// Whether an operation was denied since the last segment was completed.
    has_denials: bool,
    /// When the first event since then was recorded, and the last one.
    span: Option<(Timestamp, Timestamp)>,
    rows: Rows,
    /// The number of the last event.
    last: watch::Sender<u64>,
}

struct Entry {
    summary: SessionSummary,
    events: Vec<u64>,
}

impl Index {
    /// One that goes on after these segments.
    pub(super) fn after(rows: Rows, open_ends: OpenEnds) -> Self {
        let summaries = open_ends.sessions.iter();
        let by_session = summaries
            .filter_map(|id| Some((id.clone(), Entry::of(rows.summary(id)?))))
            .collect();
        let unfinished = open_ends.unfinished.into_iter();
        Self {
            by_session,
            order: Vec::new(),
            unfinished: unfinished
                .map(|(operation, session, result)| (operation, (session, result)))
                .collect(),
            standing: open_ends.standing,
            purges: open_ends.purges,
            has_denials: false,
            span: None,
            last: watch::Sender::new(rows.head().seq),
            rows,
        }
    }

    /// Takes in the next event.
    pub(super) fn add(&mut self, stored: &StoredEvent) {
        let (first, _) = self.span.unwrap_or((stored.time, stored.time));
        self.span = Some((first, stored.time));
        self.open(stored);
        self.follow(&stored.event);
        self.keep_standing(stored);
        self.keep_purges(stored);
        self.has_denials |= is_denial(&stored.event);
        if let Some(id) = stored.event.session() {
            self.count(id, stored);
        }
        self.last.send_replace(stored.seq);
    }

    fn count(&mut self, id: &SessionId, stored: &StoredEvent) {
        if !self.by_session.contains_key(id)
            && let Some(summary) = self.rows.summary(id)
        {
            // It was closed in an earlier segment; this comes late.
            self.by_session.insert(id.clone(), Entry::of(summary));
        }
        if let Some(entry) = self.by_session.get_mut(id) {
            entry.events.push(stored.seq);
            entry.summary.count(stored);
        }
    }

    /// The number of the last event, as it grows.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// The numbers of all events after `after` that are there, `limit` at most.
    pub(super) fn numbers_after(&self, after: u64, limit: usize) -> Vec<u64> {
        let last = *self.last.borrow();
        let mut numbers = Vec::new();
        let mut next = after.saturating_add(1);
        while next <= last && numbers.len() < limit {
            let row = self.rows.containing(next);
            let end = row.as_ref().map_or(last, |row| row.last);
            if !row.is_some_and(|row| row.is_purged()) {
                numbers.extend((next..=end).take(limit - numbers.len()));
            }
            next = end + 1;
        }
        numbers
    }

    /// Gives away what it knows of the segment that is completed with the event it took in last, and keeps what is open.
    pub(super) fn cut(&mut self, extent: impl FnOnce(Timestamp, Timestamp) -> Extent) -> Contents {
        let (from, to) = self.span.take().unwrap_or_default();
        let mut entries = Vec::new();
        let opened = std::mem::take(&mut self.order);
        let mut take = |entry: &mut Entry, opened_here: bool| {
            let events = std::mem::take(&mut entry.events);
            // Those that are open are carried on: what tells of them first may be purged.
            if !events.is_empty() || entry.summary.closed_at.is_none() {
                entries.push(sealed::Entry {
                    summary: entry.summary.clone(),
                    opened_here,
                    events,
                });
            }
        };
        for id in &opened {
            if let Some(entry) = self.by_session.get_mut(id) {
                take(entry, true);
            }
        }
        let is_new: HashSet<_> = opened.iter().collect();
        for (id, entry) in &mut self.by_session {
            if !is_new.contains(id) {
                take(entry, false);
            }
        }
        self.by_session
            .retain(|_, entry| entry.summary.closed_at.is_none());
        Contents {
            extent: extent(from, to),
            open_ends: OpenEnds {
                sessions: self.by_session.keys().cloned().collect(),
                standing: self.standing.clone(),
                purges: self.purges.clone(),
                unfinished: self
                    .unfinished
                    .iter()
                    .map(|(operation, (session, result))| {
                        (operation.clone(), session.clone(), *result)
                    })
                    .collect(),
            },
            has_denials: std::mem::take(&mut self.has_denials),
            entries,
        }
    }

    /// A session that is opened gets an entry.
    fn open(&mut self, stored: &StoredEvent) {
        let Event::SessionOpened {
            session,
            principal,
            user,
            command,
            service,
            within,
            ..
        } = &stored.event
        else {
            return;
        };
        if self.by_session.contains_key(session) {
            return;
        }
        let summary = SessionSummary {
            id: session.clone(),
            principal: format!("{}#{}", principal.issuer, principal.subject),
            user: user.clone(),
            command: command.clone(),
            service: service.clone(),
            within: within.clone(),
            opened_at: stored.time,
            closed_at: None,
            close_reason: None,
            operations: 0,
            held: 0,
            denied: 0,
            observed: 0,
            refused: 0,
        };
        self.by_session.insert(session.clone(), Entry::of(summary));
        self.order.push(session.clone());
    }

    /// Keeps up with how operations end.
    fn follow(&mut self, event: &Event) {
        match event {
            Event::Intent {
                session,
                operation,
                decision,
                ..
            } => {
                let result = match decision.verdict {
                    _ if decision.observed => OutcomeResult::Unknown,
                    DecisionVerdict::Allow => OutcomeResult::Unknown,
                    DecisionVerdict::Hold => OutcomeResult::NotSent,
                    DecisionVerdict::Deny => OutcomeResult::Refused,
                };
                self.unfinished
                    .insert(operation.id.clone(), (session.clone(), result));
            }
            Event::ApprovalUsed { operation, .. } | Event::GrantUsed { operation, .. } => {
                if let Some((_, result)) = self.unfinished.get_mut(operation) {
                    *result = OutcomeResult::Unknown;
                }
            }
            Event::Outcome { operation, .. } => drop(self.unfinished.remove(operation)),
            _ => {}
        }
    }

    /// Keeps up with what is open.
    fn keep_standing(&mut self, stored: &StoredEvent) {
        match &stored.event {
            Event::Hold {
                approval,
                joined: false,
                ..
            } => {
                let seqs = vec![stored.seq];
                self.standing.insert(approval.to_string(), seqs);
            }
            Event::ApprovalDecided { approval, vote, .. }
            | Event::BreakGlass { approval, vote, .. } => match vote.verdict {
                Answer::Approve => {
                    if let Some(seqs) = self.standing.get_mut(approval.as_str()) {
                        seqs.push(stored.seq);
                    }
                }
                Answer::Deny => drop(self.standing.remove(approval.as_str())),
            },
            Event::ApprovalUsed { approval, .. }
            | Event::ApprovalExpired { approval, .. }
            | Event::ApprovalLapsed { approval, .. }
            | Event::ApprovalWithdrawn { approval, .. } => {
                self.standing.remove(approval.as_str());
            }
            Event::GrantMade { made, .. } => {
                self.standing.insert(made.id.to_string(), vec![stored.seq]);
            }
            Event::ReviewerLogin { user, .. } => {
                self.standing.insert(login(user.uid), vec![stored.seq]);
            }
            Event::LegalHold { session, .. } => {
                self.standing.insert(legal_hold(session), vec![stored.seq]);
            }
            Event::LegalHoldReleased { session, .. } => {
                self.standing.remove(&legal_hold(session));
            }
            Event::ReviewerLogout { user } => drop(self.standing.remove(&login(user.uid))),
            Event::GrantEnded { grant, .. } => drop(self.standing.remove(grant.as_str())),
            _ => {}
        }
    }

    fn keep_purges(&mut self, stored: &StoredEvent) {
        if let Event::RecordPurged {
            what: Purged::Events,
            first,
            last,
            ..
        } = stored.event
        {
            let in_it = |it: &(u64, u64)| first <= it.0 && it.1 <= last;
            self.purges.retain(|_, told| !in_it(told));
            self.purges.insert(stored.seq, (first, last));
        }
    }

    /// The events that say what was purged, and the first and last event of that.
    pub(super) fn purges(&self) -> &BTreeMap<u64, (u64, u64)> {
        &self.purges
    }

    /// When the first event was recorded that is in no complete segment.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.span.map(|(since, _)| since)
    }

    /// Whether a session was not closed.
    pub(super) fn is_open(&self, id: &SessionId) -> bool {
        let entry = self.by_session.get(id);
        entry.is_some_and(|entry| entry.summary.closed_at.is_none())
    }

    /// The numbers of the events that say what is open, in order.
    pub(super) fn standing(&self) -> Vec<u64> {
        let mut seqs: Vec<_> = self.standing.values().flatten().copied().collect();
        seqs.sort_unstable();
        seqs
    }

    /// The operations whose outcome is missing, as one would have to record it.
    pub(super) fn unfinished(&self) -> Vec<Event> {
        self.unfinished
            .iter()
            .map(|(operation, (session, result))| Event::Outcome {
                session: session.clone(),
                operation: operation.clone(),
                status: None,
                result: *result,
                request_bytes: 0,
                response_bytes: 0,
                statement: None,
            })
            .collect()
    }

    /// What to list sessions from, without holding up whoever writes: most are on disk.
    pub(super) fn listing(&self) -> Listing {
        let entry = |(id, entry): (&SessionId, &Entry)| {
            let opened = entry.events.first().copied().unwrap_or_default();
            (id.clone(), (entry.summary.clone(), opened))
        };
        Listing {
            in_memory: self.by_session.iter().map(entry).collect(),
            order: self.order.clone(),
            complete: self.rows.all(),
            rows: self.rows.clone(),
        }
    }

    /// What is known of a session.
    pub(super) fn summary(&self, id: &SessionId) -> Option<SessionSummary> {
        match self.by_session.get(id) {
            Some(entry) => Some(entry.summary.clone()),
            None => self.rows.summary(id),
        }
    }

    /// The numbers of this session's events after `after`, `limit` at most.
    pub(super) fn events_of(&self, id: &SessionId, after: u64, limit: usize) -> Vec<u64> {
        let recent = self.by_session.get(id).map(|entry| entry.events.clone());
        let all = self.rows.events_of(id, after).chain(recent).flatten();
        all.filter(|seq| *seq > after).take(limit).collect()
    }

    /// The numbers of this session's last events, `limit` at most, oldest first.
    pub(super) fn last_events_of(&self, id: &SessionId, limit: usize) -> Vec<u64> {
        let recent = self.by_session.get(id).map(|entry| entry.events.clone());
        let backwards = recent
            .into_iter()
            .chain(self.rows.events_of_backwards(id))
            .flat_map(|events| events.into_iter().rev());
        let mut last: Vec<_> = backwards.take(limit).collect();
        last.reverse();
        last
    }
}

impl Entry {
    fn of(summary: SessionSummary) -> Self {
        let events = Vec::new();
        Self { summary, events }
    }
}

impl SessionSummary {
    fn count(&mut self, stored: &StoredEvent) {
        match &stored.event {
            Event::Intent { decision, .. } => {
                self.operations += 1;
                self.observed += u64::from(decision.observed);
                match decision.verdict {
                    DecisionVerdict::Hold => self.held += 1,
                    DecisionVerdict::Deny => self.denied += 1,
                    DecisionVerdict::Allow => {}
                }
            }
            Event::ConnectionRefused { .. } | Event::RequestRefused { .. } => self.refused += 1,
            Event::Refused { count, .. } | Event::RefusedMore { count, .. } => {
                self.refused += count;
            }
            Event::SessionClosed { reason, .. } => {
                self.closed_at = Some(stored.time);
                self.close_reason = Some(reason.clone());
            }
            _ => {}
        }
    }
}

/// Whether it says that an operation was not let through, by policy, by people or because nobody answered.
fn is_denial(event: &Event) -> bool {
    match event {
        Event::Intent { decision, .. } => {
            decision.verdict == DecisionVerdict::Deny && !decision.observed
        }
        Event::ApprovalDecided { vote, .. } => vote.verdict == Answer::Deny,
        Event::Outcome { result, .. } => *result == OutcomeResult::Refused,
        _ => false,
    }
}

fn legal_hold(session: &SessionId) -> String {
    format!("legal hold of {session}")
}

fn login(uid: u32) -> String {
    format!("login of {uid}")
}
