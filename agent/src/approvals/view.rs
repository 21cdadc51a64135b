//! An approval as the control API shows it.

use std::collections::BTreeSet;

use holdpoint_core::{
    approval::{Answer, State, Vote},
    digest::Digest,
    policy::HoldRule,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ApprovalId, ChangeView, request::BodyView};
use crate::session::{SessionId, User};

/// One approval. Times are RFC 3339, and again in milliseconds since the epoch for programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalView {
    /// Its name.
    pub id: ApprovalId,
    /// Where it stands.
    pub state: State,
    /// The session that asked first.
    pub session: SessionId,
    /// Who the session acts for.
    pub principal: String,
    /// The user who opened the session.
    pub user: User,
    /// The action's id.
    pub action: String,
    /// The resource's name.
    pub resource: String,
    /// The effective HTTP verb.
    pub method: String,
    /// The URL, secrets masked.
    pub url: String,
    /// What policy found noteworthy, by name.
    pub traits: BTreeSet<String>,
    /// What the approval is bound to.
    pub digest: Digest,
    /// The reviewer groups that are asked.
    pub groups: BTreeSet<String>,
    /// The rules that hold it.
    pub policies: Vec<RuleView>,
    /// Connections that wait for it now.
    pub waiting: usize,
    /// When it was asked for.
    pub opened_at: Timestamp,
    /// The same in milliseconds.
    pub opened_at_ms: i64,
    /// When it expires, or lapses once it is approved.
    pub expires_at: Timestamp,
    /// The same in milliseconds.
    pub expires_at_ms: i64,
    /// When it stopped being pending.
    pub decided_at: Option<Timestamp>,
    /// The same in milliseconds.
    pub decided_at_ms: Option<i64>,
    /// The answers that count.
    pub decisions: Vec<AnswerView>,
}

/// One approval with the whole request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApprovalDetail {
    /// What a list shows of it.
    #[serde(flatten)]
    pub approval: ApprovalView,
    /// The request's headers, credentials left out.
    pub headers: Vec<(String, String)>,
    /// The request's body.
    pub body: BodyView,
    /// What it changes, where that is a question of what is there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeView>,
}

/// A rule that holds an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleView {
    /// The policy's id.
    pub id: String,
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// Why, in the author's words.
    pub reason: Option<String>,
    /// Who is asked.
    pub group: String,
    /// How many distinct people have to approve.
    pub min_approvals: u32,
}

impl From<&HoldRule> for RuleView {
    fn from(rule: &HoldRule) -> Self {
        Self {
            id: rule.policy.id.clone(),
            file: rule.policy.file.clone(),
            line: rule.policy.line,
            reason: rule.reason.clone(),
            group: rule.group.clone(),
            min_approvals: rule.min_approvals,
        }
    }
}

/// One person's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerView {
    /// The person.
    pub reviewer: String,
    /// The person's user id.
    pub uid: u32,
    /// The answer.
    pub verdict: Answer,
    /// What the person wrote.
    pub comment: Option<String>,
    /// When.
    pub at: Timestamp,
    /// The same in milliseconds.
    pub at_ms: i64,
}

impl From<&Vote> for AnswerView {
    fn from(vote: &Vote) -> Self {
        Self {
            reviewer: vote.reviewer.name.clone(),
            uid: vote.reviewer.uid,
            verdict: vote.answer,
            comment: vote.comment.clone(),
            at: vote.at,
            at_ms: vote.at.as_millisecond(),
        }
    }
}
