//! What events tell of one operation, put together.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    approvals::{ApprovalId, GrantId},
    record::{
        BodyRecord, DecisionRecord, Event, OperationId, OperationRecord, OutcomeResult, Pairs,
        StatementAnswer, StoredEvent, Text, VoteRecord, Way,
    },
    session::SessionId,
};

/// Events after an operation's outcome that may still belong to it: its bodies are recorded on their own.
const LINGER: u64 = 2048;
/// Operations that are followed at the same time at most. The oldest is then told as far as it is known.
const MOST: usize = 4096;

/// One operation.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    /// The number of the event that begins it.
    pub seq: u64,
    /// When it was asked for.
    pub at: Timestamp,
    /// The session that asked.
    pub session: SessionId,
    /// The connection's number.
    pub connection: u64,
    /// What was asked for.
    pub operation: OperationRecord,
    /// What policy said.
    pub decision: DecisionRecord,
    /// Whom it waited for.
    pub hold: Option<HoldStory>,
    /// The grant that let it through.
    pub grant: Option<GrantId>,
    /// When it was sent on.
    pub forwarded: Option<Timestamp>,
    /// The head of the answer.
    pub answered: Option<AnsweredStory>,
    /// The request's body.
    pub request: Option<BodyStory>,
    /// The answer's body.
    pub response: Option<BodyStory>,
    /// How it ended.
    pub outcome: Option<OutcomeStory>,
}

/// A wait for people.
#[derive(Clone, Debug, Serialize)]
pub struct HoldStory {
    /// Since when.
    pub at: Timestamp,
    /// The question.
    pub approval: ApprovalId,
    /// Who is asked.
    pub groups: BTreeSet<String>,
    /// Whether it had been asked before.
    pub joined: bool,
    /// Answers, in order.
    pub answers: Vec<AnswerStory>,
    /// How the wait ended.
    pub over: Option<OverStory>,
}

/// A person's answer.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerStory {
    /// When.
    pub at: Timestamp,
    /// Who, and what.
    #[serde(flatten)]
    pub vote: VoteRecord,
    /// Whether the person approved alone what others would have had to approve, too.
    pub break_glass: bool,
}

/// How a wait ended.
#[derive(Clone, Debug, Serialize)]
pub struct OverStory {
    /// When.
    pub at: Timestamp,
    /// used, denied, expired, lapsed or withdrawn.
    pub how: &'static str,
    /// Why it was withdrawn.
    pub reason: Option<Text>,
    /// The operation that used the approval.
    pub by: Option<OperationId>,
}

/// The head of an answer.
#[derive(Clone, Debug, Serialize)]
pub struct AnsweredStory {
    /// When.
    pub at: Timestamp,
    /// The HTTP status.
    pub status: u16,
    /// The headers, masked.
    pub headers: Pairs,
    /// Microseconds since it was sent on.
    pub after_us: u64,
}

/// A body.
#[derive(Clone, Debug, Serialize)]
pub struct BodyStory {
    /// The number of its event.
    pub seq: u64,
    /// When it was over.
    pub at: Timestamp,
    /// What is known of it.
    #[serde(flatten)]
    pub record: BodyRecord,
}

/// How it ended.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeStory {
    /// When.
    pub at: Timestamp,
    /// The HTTP status of the upstream's answer.
    pub status: Option<u16>,
    /// What became of it.
    pub result: OutcomeResult,
    /// Bytes of the request's body that were sent.
    pub request_bytes: u64,
    /// Bytes of the response's body that were passed on.
    pub response_bytes: u64,
    /// What a database said, where it was a statement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<StatementAnswer>,
}

impl Story {
    /// Whether it is a statement for a database, or a part of one.
    #[must_use]
    pub fn is_statement(&self) -> bool {
        self.operation.action.as_str().starts_with("postgres.")
    }

    /// The statement, masked; where it is long its beginning, and all of it is the request's body.
    #[must_use]
    pub fn statement(&self) -> Option<&str> {
        self.operation.statement.as_ref().map(Text::as_str)
    }

    /// What the database said of it.
    #[must_use]
    pub fn answer(&self) -> Option<&StatementAnswer> {
        self.outcome.as_ref()?.statement.as_ref()
    }

    /// Microseconds from the question to the outcome; 0 while there is none.
    #[must_use]
    pub fn lasted_us(&self) -> u64 {
        let outcome = self.outcome.as_ref();
        outcome.map_or(0, |outcome| micros(self.at, outcome.at))
    }

    /// Microseconds that it waited for people; none when it did not.
    #[must_use]
    pub fn held_us(&self) -> Option<u64> {
        let hold = self.hold.as_ref()?;
        let over = hold.over.as_ref().map(|over| over.at);
        let until = over.or(self.outcome.as_ref().map(|it| it.at))?;
        Some(micros(hold.at, until))
    }

    /// The HTTP status of the answer, where there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        let answered = self.answered.as_ref().map(|it| it.status);
        answered.or(self.outcome.as_ref().and_then(|it| it.status))
    }
}

fn micros(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_microsecond() - from.as_microsecond()).unwrap_or_default()
}

/// Puts stories together.
#[derive(Debug, Default)]
pub struct Stories {
    /// By the number of the first event.
    open: BTreeMap<u64, Story>,
    by_operation: HashMap<OperationId, u64>,
    by_approval: HashMap<ApprovalId, Vec<u64>>,
    /// Those with an outcome, and the count of events at which they are complete.
    over: VecDeque<(u64, u64)>,
    heard: u64,
}

impl Stories {
    /// Takes in the next event. Whether it belongs to an operation.
    pub fn hear(&mut self, stored: &StoredEvent) -> bool {
        self.heard += 1;
        let at = stored.time;
        match &stored.event {
            Event::Intent { .. } => self.begin(stored),
            Event::Hold {
                operation,
                approval,
                groups,
                joined,
                ..
            } => {
                let hold = HoldStory {
                    at,
                    approval: approval.clone(),
                    groups: groups.clone(),
                    joined: *joined,
                    answers: Vec::new(),
                    over: None,
                };
                if let Some(story) = self.of(operation) {
                    story.hold = Some(hold);
                    let seq = story.seq;
                    let waiting = self.by_approval.entry(approval.clone()).or_default();
                    waiting.push(seq);
                }
            }
            Event::ApprovalDecided { approval, vote, .. } => {
                self.answer(approval, at, vote, false);
            }
            Event::BreakGlass { approval, vote, .. } => self.answer(approval, at, vote, true),
            Event::ApprovalUsed {
                approval,
                operation,
                ..
            } => self.end(approval, at, "used", None, Some(operation)),
            Event::ApprovalExpired { approval, .. } => {
                self.end(approval, at, "expired", None, None);
            }
            Event::ApprovalLapsed { approval, .. } => {
                self.end(approval, at, "lapsed", None, None);
            }
            Event::ApprovalWithdrawn {
                approval, reason, ..
            } => self.end(approval, at, "withdrawn", Some(reason), None),
            other => return self.hear_of_one(stored, other),
        }
        true
    }

    fn hear_of_one(&mut self, stored: &StoredEvent, event: &Event) -> bool {
        let (at, seq) = (stored.time, stored.seq);
        match event {
            Event::GrantUsed {
                grant, operation, ..
            } => self.with(operation, |story| story.grant = Some(grant.clone())),
            Event::Forwarded { operation, .. } => {
                self.with(operation, |story| story.forwarded = Some(at));
            }
            Event::Answered {
                operation,
                status,
                headers,
                after_us,
                ..
            } => self.with(operation, |story| {
                story.answered = Some(AnsweredStory {
                    at,
                    status: *status,
                    headers: headers.clone(),
                    after_us: *after_us,
                });
            }),
            Event::Body {
                operation, body, ..
            } => self.with(operation, |story| {
                let told = BodyStory {
                    seq,
                    at,
                    record: body.clone(),
                };
                match body.way {
                    Way::Request => story.request = Some(told),
                    Way::Response => story.response = Some(told),
                    Way::Asked => {}
                }
            }),
            Event::Outcome {
                operation,
                status,
                result,
                request_bytes,
                response_bytes,
                statement,
                ..
            } => {
                let due = self.heard + LINGER;
                let begun = self.by_operation.get(operation).copied();
                self.over.extend(begun.map(|begun| (begun, due)));
                self.with(operation, |story| {
                    story.outcome = Some(OutcomeStory {
                        at,
                        status: *status,
                        result: *result,
                        request_bytes: *request_bytes,
                        response_bytes: *response_bytes,
                        statement: statement.clone(),
                    });
                });
            }
            _ => return false,
        }
        true
    }

    /// One that is complete, or that there is no room for any more.
    pub fn next_ready(&mut self) -> Option<Story> {
        while self.over.front().is_some_and(|(_, due)| *due <= self.heard) {
            let (seq, _) = self.over.pop_front()?;
            if let Some(story) = self.take(seq) {
                return Some(story);
            }
        }
        if self.open.len() > MOST {
            let (seq, _) = self.open.first_key_value()?;
            let seq = *seq;
            return self.take(seq);
        }
        None
    }

    /// One of those that are left when there are no more events, oldest first.
    pub fn next_left(&mut self) -> Option<Story> {
        let (seq, _) = self.open.first_key_value()?;
        let seq = *seq;
        self.take(seq)
    }

    fn begin(&mut self, stored: &StoredEvent) {
        let Event::Intent {
            session,
            connection,
            operation,
            decision,
        } = &stored.event
        else {
            return;
        };
        self.by_operation.insert(operation.id.clone(), stored.seq);
        let story = Story {
            seq: stored.seq,
            at: stored.time,
            session: session.clone(),
            connection: *connection,
            operation: operation.clone(),
            decision: decision.clone(),
            hold: None,
            grant: None,
            forwarded: None,
            answered: None,
            request: None,
            response: None,
            outcome: None,
        };
        self.open.insert(stored.seq, story);
    }

    fn of(&mut self, operation: &OperationId) -> Option<&mut Story> {
        let seq = self.by_operation.get(operation)?;
        self.open.get_mut(seq)
    }

    fn with(&mut self, operation: &OperationId, change: impl FnOnce(&mut Story)) {
        if let Some(story) = self.of(operation) {
            change(story);
        }
    }

    fn held_for(&mut self, approval: &ApprovalId, change: impl Fn(&mut HoldStory)) {
        let waiting = self.by_approval.get(approval).into_iter().flatten();
        for seq in waiting {
            let story = self.open.get_mut(seq);
            if let Some(hold) = story.and_then(|story| story.hold.as_mut()) {
                change(hold);
            }
        }
    }

    fn answer(&mut self, approval: &ApprovalId, at: Timestamp, vote: &VoteRecord, alone: bool) {
        let denied = vote.verdict == holdpoint_core::approval::Answer::Deny;
        self.held_for(approval, |hold| {
            hold.answers.push(AnswerStory {
                at,
                vote: vote.clone(),
                break_glass: alone,
            });
        });
        if denied {
            self.end(approval, at, "denied", None, None);
        }
    }

    fn end(
        &mut self,
        approval: &ApprovalId,
        at: Timestamp,
        how: &'static str,
        reason: Option<&Text>,
        by: Option<&OperationId>,
    ) {
        self.held_for(approval, |hold| {
            hold.over.get_or_insert_with(|| OverStory {
                at,
                how,
                reason: reason.cloned(),
                by: by.cloned(),
            });
        });
    }

    fn take(&mut self, seq: u64) -> Option<Story> {
        let story = self.open.remove(&seq)?;
        self.by_operation.remove(&story.operation.id);
        if let Some(hold) = &story.hold
            && let Some(waiting) = self.by_approval.get_mut(&hold.approval)
        {
            waiting.retain(|it| *it != seq);
            if waiting.is_empty() {
                self.by_approval.remove(&hold.approval);
            }
        }
        Some(story)
    }
}
