//! Which events belong to which session. In memory: made anew from the events whenever the record is opened, so that
//! it can never disagree with them.

use std::collections::HashMap;

use holdpoint_core::approval::Answer;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    event::{Event, OperationId},
    parts::{DecisionVerdict, OutcomeResult},
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
#[derive(Default)]
pub(super) struct Index {
    by_session: HashMap<SessionId, Entry>,
    /// In the order they were opened.
    order: Vec<SessionId>,
    /// Operations without an outcome, and what has become of them as far as is known.
    unfinished: HashMap<OperationId, (SessionId, OutcomeResult)>,
    /// Holds and grants that are not over, by name, and the numbers of the events that say what they are.
    standing: HashMap<String, Vec<u64>>,
    /// The number of the last event.
    last: watch::Sender<u64>,
}

struct Entry {
    summary: SessionSummary,
    events: Vec<u64>,
}

impl Index {
    /// Takes in the next event.
    pub(super) fn add(&mut self, stored: &StoredEvent) {
        self.open(stored);
        self.follow(&stored.event);
        self.keep_standing(stored);
        let entry = stored
            .event
            .session()
            .and_then(|id| self.by_session.get_mut(id));
        if let Some(entry) = entry {
            entry.events.push(stored.seq);
            entry.summary.count(stored);
        }
        self.last.send_replace(stored.seq);
    }

    /// The number of the last event, as it grows.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// The numbers of all events after `after`, `limit` at most.
    pub(super) fn after(&self, after: u64, limit: usize) -> Vec<u64> {
        let last = *self.last.borrow();
        (after.saturating_add(1)..=last).take(limit).collect()
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
        let entry = Entry {
            summary,
            events: Vec::new(),
        };
        self.by_session.insert(session.clone(), entry);
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
            Event::GrantEnded { grant, .. } => drop(self.standing.remove(grant.as_str())),
            _ => {}
        }
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
            })
            .collect()
    }

    /// Summaries that `keep` wants, newest first, `limit` at most.
    pub(super) fn newest(
        &self,
        limit: usize,
        keep: impl Fn(&SessionSummary) -> bool,
    ) -> Vec<SessionSummary> {
        let newest_first = self.order.iter().rev();
        newest_first
            .filter_map(|id| self.summary(id))
            .filter(|summary| keep(summary))
            .take(limit)
            .cloned()
            .collect()
    }

    /// Sessions that were opened before the event `before`, newest first, with the numbers of the events that opened them.
    pub(super) fn opened_before(
        &self,
        before: u64,
    ) -> impl Iterator<Item = (&SessionSummary, u64)> {
        let end = self
            .order
            .partition_point(|id| self.opening(id).is_some_and(|(_, seq)| seq < before));
        self.order[..end]
            .iter()
            .rev()
            .filter_map(|id| self.opening(id))
    }

    fn opening(&self, id: &SessionId) -> Option<(&SessionSummary, u64)> {
        let entry = self.by_session.get(id)?;
        Some((&entry.summary, entry.events.first().copied()?))
    }

    pub(super) fn summary(&self, id: &SessionId) -> Option<&SessionSummary> {
        self.by_session.get(id).map(|entry| &entry.summary)
    }

    /// The numbers of this session's events after `after`, `limit` at most.
    pub(super) fn events_of(&self, id: &SessionId, after: u64, limit: usize) -> Vec<u64> {
        let Some(entry) = self.by_session.get(id) else {
            return Vec::new();
        };
        let start = entry.events.partition_point(|seq| *seq <= after);
        entry.events[start..].iter().take(limit).copied().collect()
    }

    /// The numbers of this session's last events, `limit` at most, oldest first.
    pub(super) fn last_events_of(&self, id: &SessionId, limit: usize) -> Vec<u64> {
        let Some(entry) = self.by_session.get(id) else {
            return Vec::new();
        };
        let start = entry.events.len().saturating_sub(limit);
        entry.events[start..].to_vec()
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
