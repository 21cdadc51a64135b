//! An approval as the control API shows it.

use std::collections::BTreeSet;

use holdpoint_core::{
    approval::{Answer, Channel, State, Vote},
    digest::Digest,
    grant::{Over, Scope},
    policy::HoldRule,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ApprovalId, GrantId, GrantRecord, RequestView,
    request::{BodyView, LookedUp},
};
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
    /// Whether somebody approved it alone by breaking the glass.
    #[serde(default)]
    pub break_glass: bool,
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
    /// What Holdpoint has read for reviewers: the target's labels and protection, and what the request changes.
    #[serde(default, flatten)]
    pub looked_up: Option<LookedUp>,
}

impl ApprovalDetail {
    pub(super) fn new(approval: ApprovalView, request: RequestView) -> Self {
        Self {
            approval,
            headers: request.headers,
            body: request.body,
            looked_up: request.looked_up,
        }
    }
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
    /// How much of it a reviewer may grant at once. Empty: nothing.
    #[serde(default)]
    pub grantable: BTreeSet<Scope>,
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
            grantable: rule.grantable.clone(),
        }
    }
}

/// One person's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerView {
    /// The person.
    pub reviewer: String,
    /// The person's user id, where the person has one here.
    pub uid: Option<u32>,
    /// The answer.
    pub verdict: Answer,
    /// Whether it counts alone.
    #[serde(default)]
    pub break_glass: bool,
    /// Where it was given.
    #[serde(default)]
    pub channel: Channel,
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
            break_glass: vote.break_glass,
            channel: vote.channel,
            comment: vote.comment.clone(),
            at: vote.at,
            at_ms: vote.at.as_millisecond(),
        }
    }
}

/// A grant that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    /// Its name.
    pub id: GrantId,
    /// The held operation it was made from.
    pub approval: ApprovalId,
    /// Who may.
    pub principal: String,
    /// The user whose sessions may.
    pub uid: u32,
    /// What they may do.
    pub action: String,
    /// To what.
    pub over: Over,
    /// The rules it stands in for.
    pub policies: Vec<RuleView>,
    /// The person who made it.
    pub by: String,
    /// The person's user id, where the person has one here.
    pub by_uid: Option<u32>,
    /// What the person wrote.
    pub comment: Option<String>,
    /// When.
    pub made_at: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
    /// The same in milliseconds.
    pub until_ms: i64,
}

impl From<&GrantRecord> for GrantView {
    fn from(record: &GrantRecord) -> Self {
        let grant = &record.grant;
        Self {
            id: record.id.clone(),
            approval: record.approval.clone(),
            principal: grant.principal().to_owned(),
            uid: grant.uid(),
            action: grant.action().to_owned(),
            over: grant.over().clone(),
            policies: grant.rules().iter().map(Into::into).collect(),
            by: record.by.to_string(),
            by_uid: record.by_uid,
            comment: record.comment.as_ref().map(ToString::to_string),
            made_at: record.made_at,
            until: grant.until(),
            until_ms: grant.until().as_millisecond(),
        }
    }
}
