//! Approvals, put together from events: they outlive the requests, and often the sessions, that asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use holdpoint_core::{approval::Answer, digest::Digest};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    approvals::ApprovalId,
    record::{
        Event, OperationId, OperationRecord, OutcomeResult, PolicyRecord, StoredEvent, Text,
        VoteRecord, Way,
    },
    session::SessionId,
};

/// One question, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Question {
    pub(super) approval: ApprovalId,
    /// When it was asked.
    pub(super) at: Timestamp,
    /// The session that asked first.
    pub(super) session: SessionId,
    /// All that asked for it: the same again joins it.
    pub(super) sessions: BTreeSet<SessionId>,
    /// Who they acted for.
    pub(super) principal: String,
    pub(super) groups: BTreeSet<String>,
    /// The policies that asked for people, and why.
    pub(super) policies: Vec<PolicyRecord>,
    pub(super) reason: Option<Text>,
    /// The exact request; its digest is what was approved.
    pub(super) request: OperationRecord,
    /// The digest of all that people were shown, and the event of the body that it is.
    pub(super) shown: Option<Digest>,
    pub(super) shown_in: Option<u64>,
    pub(super) answers: Vec<Given>,
    /// Answers that did not count, and why.
    pub(super) not_taken: Vec<NotTaken>,
    pub(super) ended: Option<Ended>,
    /// The operation that used the approval, and how that ended.
    pub(super) used_by: Option<OperationId>,
    pub(super) result: Option<OutcomeResult>,
    pub(super) status: Option<u16>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Given {
    pub(super) at: Timestamp,
    #[serde(flatten)]
    pub(super) vote: VoteRecord,
    pub(super) break_glass: bool,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct NotTaken {
    pub(super) at: Timestamp,
    pub(super) reviewer: Text,
    pub(super) verdict: Answer,
    pub(super) reason: Text,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Ended {
    pub(super) at: Timestamp,
    /// used, denied, expired, lapsed or withdrawn.
    pub(super) how: &'static str,
}

/// Puts questions together.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: BTreeMap<ApprovalId, Question>,
    principals: HashMap<SessionId, String>,
    /// Operations that policy holds, until it is known whether they ask or join.
    asking: HashMap<OperationId, Asking>,
    /// Operations that have used an approval, until their outcome.
    using: HashMap<OperationId, ApprovalId>,
}

#[derive(Clone, Debug)]
struct Asking {
    operation: OperationRecord,
    policies: Vec<PolicyRecord>,
    reason: Option<Text>,
}

impl Questions {
    /// Takes in the next event; a question that this has ended.
    pub(super) fn hear(&mut self, stored: &StoredEvent) -> Option<Question> {
        let at = stored.time;
        match &stored.event {
            Event::SessionOpened {
                session, principal, ..
            } => {
                let principal = format!("{}#{}", principal.issuer, principal.subject);
                self.principals.insert(session.clone(), principal);
            }
            Event::SessionClosed { session, .. } => drop(self.principals.remove(session)),
            Event::Intent {
                operation,
                decision,
                ..
            } if decision.verdict == crate::record::DecisionVerdict::Hold => {
                let asking = Asking {
                    operation: operation.clone(),
                    policies: decision.policies.clone(),
                    reason: decision.reason.clone(),
                };
                self.asking.insert(operation.id.clone(), asking);
            }
            Event::Hold { .. } => self.ask(stored),
            Event::ApprovalDecided { approval, vote, .. } => {
                return self.answer(approval, at, vote, false);
            }
            Event::BreakGlass { approval, vote, .. } => {
                return self.answer(approval, at, vote, true);
            }
            Event::ApprovalRefused {
                approval,
                reviewer,
                verdict,
                reason,
                ..
            } => self.with(approval, |question| {
                question.not_taken.push(NotTaken {
                    at,
                    reviewer: reviewer.clone(),
                    verdict: *verdict,
                    reason: reason.clone(),
                });
            }),
            Event::Body {
                operation, body, ..
            } if body.way == Way::Asked && body.kept.is_some() && !body.cut => {
                let mut open = self.open.values_mut();
                if let Some(question) = open.find(|it| it.request.id == *operation) {
                    question.shown_in = Some(stored.seq);
                }
            }
            Event::ApprovalUsed {
                approval,
                operation,
                ..
            } => {
                self.using.insert(operation.clone(), approval.clone());
                let ended = Ended { at, how: "used" };
                self.with(approval, |question| {
                    question.used_by = Some(operation.clone());
                    question.ended = Some(ended.clone());
                });
            }
            Event::ApprovalExpired { approval, .. } => return self.end(approval, at, "expired"),
            Event::ApprovalLapsed { approval, .. } => return self.end(approval, at, "lapsed"),
            Event::ApprovalWithdrawn { approval, .. } => {
                return self.end(approval, at, "withdrawn");
            }
            Event::Outcome {
                operation,
                status,
                result,
                ..
            } => {
                self.asking.remove(operation);
                let approval = self.using.remove(operation)?;
                self.with(&approval, |question| {
                    question.result = Some(*result);
                    question.status = *status;
                });
                return self.open.remove(&approval);
            }
            _ => {}
        }
        None
    }

    /// What has no end yet, oldest first.
    pub(super) fn left(self) -> Vec<Question> {
        let mut left: Vec<_> = self.open.into_values().collect();
        left.sort_by_key(|question| question.at);
        left
    }

    fn ask(&mut self, stored: &StoredEvent) {
        let Event::Hold {
            session,
            operation,
            approval,
            groups,
            kept,
            ..
        } = &stored.event
        else {
            return;
        };
        let Some(asking) = self.asking.remove(operation) else {
            return;
        };
        let principal = self.principals.get(session).cloned();
        // One that joins adds nothing but itself, unless the first was before what is read.
        let question = self.open.entry(approval.clone()).or_insert(Question {
            approval: approval.clone(),
            at: stored.time,
            session: session.clone(),
            sessions: BTreeSet::new(),
            principal: principal.unwrap_or_default(),
            groups: groups.clone(),
            policies: asking.policies,
            reason: asking.reason,
            request: asking.operation,
            shown: *kept,
            shown_in: None,
            answers: Vec::new(),
            not_taken: Vec::new(),
            ended: None,
            used_by: None,
            result: None,
            status: None,
        });
        question.sessions.insert(session.clone());
    }

    fn with(&mut self, approval: &ApprovalId, change: impl FnOnce(&mut Question)) {
        if let Some(question) = self.open.get_mut(approval) {
            change(question);
        }
    }

    fn answer(
        &mut self,
        approval: &ApprovalId,
        at: Timestamp,
        vote: &VoteRecord,
        break_glass: bool,
    ) -> Option<Question> {
        self.with(approval, |question| {
            question.answers.push(Given {
                at,
                vote: vote.clone(),
                break_glass,
            });
        });
        match vote.verdict {
            Answer::Deny => self.end(approval, at, "denied"),
            Answer::Approve => None,
        }
    }

    fn end(&mut self, approval: &ApprovalId, at: Timestamp, how: &'static str) -> Option<Question> {
        let mut question = self.open.remove(approval)?;
        question.ended = Some(Ended { at, how });
        Some(question)
    }
}
