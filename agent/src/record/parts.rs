//! What events are made of: identities, processes, operations and decisions, cut to size.

use std::{collections::BTreeSet, fmt};

use holdpoint_core::{
    approval::{Answer, Channel, Vote},
    digest::Digest,
    identity::Principal,
    operation::{Content, Operation},
    policy::{Decision, PolicyRef},
    target::Target,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    event::OperationId,
    seen::Seen,
    text::{Pairs, Text, Texts},
};

/// A verified identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalRecord {
    /// The `iss` claim.
    pub issuer: Text,
    /// The `sub` claim.
    pub subject: Text,
    /// Groups.
    pub groups: Texts,
    /// Other claims.
    pub claims: Pairs,
}

impl From<&Principal> for PrincipalRecord {
    fn from(principal: &Principal) -> Self {
        Self {
            issuer: (&principal.issuer).into(),
            subject: (&principal.subject).into(),
            groups: principal.groups.iter().collect(),
            claims: principal.claims.iter().collect(),
        }
    }
}

impl PrincipalRecord {
    /// Who it was, where the record has all of it.
    #[must_use]
    pub fn whole(&self) -> Option<Principal> {
        let names = [&self.issuer, &self.subject]
            .into_iter()
            .chain(self.groups.as_slice());
        let is_whole = !names.into_iter().any(Text::is_cut) && self.claims.is_whole();
        is_whole.then(|| Principal {
            issuer: self.issuer.to_string(),
            subject: self.subject.to_string(),
            groups: self
                .groups
                .as_slice()
                .iter()
                .map(ToString::to_string)
                .collect(),
            claims: self
                .claims
                .as_slice()
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
        })
    }
}

/// A process, as it was when it connected. It says this about itself: evidence, not identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id on the host.
    pub pid: u32,
    /// The file it executes.
    pub executable: Option<Text>,
    /// Its command line; of one that was gone already, the name of its thread.
    pub arguments: Texts,
}

/// A program, by what its file contains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinaryRecord {
    /// The file.
    pub path: Text,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
}

/// What was taken out of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purged {
    /// The bodies that were stored along with a segment, and the salts of their digests.
    Bodies,
    /// A segment: its events, of which the hashes are left, and their bodies.
    Events,
}

/// An operation. Of its content, what policy can ask about and what is no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// Its name.
    pub id: OperationId,
    /// The action's id.
    pub action: Text,
    /// The resource's name.
    pub resource: Text,
    /// The effective HTTP verb; empty for `net.*`.
    pub method: Text,
    /// The host.
    pub host: Text,
    /// The TCP port, for `net.connect`.
    pub port: Option<u16>,
    /// The path as sent.
    pub path: Text,
    /// The query; values that look like secrets by their names are masked.
    pub query: Pairs,
    /// HMAC-SHA-256 by the host's key of the SHA-256 of the whole canonical operation ([`holdpoint_core::mask::MaskSet::sealed`]).
    pub digest: Digest,
    /// What it is about, where policy asked for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetRecord>,
    /// The SQL that it is, or is a part of, masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<Text>,
    /// What else policy could see, so that other policies can be tried on it. Daemons before this was kept left none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Box<Seen>>,
}

/// What was known of an operation's target when it was decided about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetRecord {
    /// It was read.
    Known {
        /// Whether there is such a thing.
        exists: bool,
        /// Its labels, as `key=value`.
        labels: Texts,
        /// Its tags.
        tags: Texts,
        /// Whether something protects it from being deleted.
        deletion_protection: bool,
        /// When it was created.
        created: Option<Timestamp>,
    },
    /// It could not be read.
    Unknown {
        /// Why.
        why: Text,
    },
}

impl TargetRecord {
    fn new(target: &Target) -> Option<Self> {
        Some(match target {
            Target::NotLookedUp => return None,
            Target::Known(known) => Self::Known {
                exists: known.exists,
                labels: known.label_pairs().collect(),
                tags: known.tags.iter().collect(),
                deletion_protection: known.deletion_protection,
                created: known.created,
            },
            Target::Unknown(why) => Self::Unknown { why: why.into() },
        })
    }
}

impl OperationRecord {
    /// What of `operation` goes into the record under this id.
    #[must_use]
    pub fn new(id: OperationId, operation: &Operation) -> Self {
        Self {
            id,
            action: operation.action.id().into(),
            resource: (&operation.resource.name).into(),
            method: (&operation.method).into(),
            host: (&operation.host).into(),
            port: operation.port,
            path: (&operation.path).into(),
            query: Pairs::of_query(&operation.query),
            digest: operation.digest,
            target: TargetRecord::new(&operation.target),
            statement: statement(operation),
            seen: Some(Box::new(Seen::of(operation))),
        }
    }
}

fn statement(operation: &Operation) -> Option<Text> {
    let Content::Fields(fields) = &operation.content else {
        return None;
    };
    let is_sql = operation.action.service() == "postgres";
    let said = fields.0.get("statement").filter(|_| is_sql)?;
    said.first().map(Text::from)
}

/// A decision of policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Allow, hold or deny.
    pub verdict: DecisionVerdict,
    /// The policies that led to it, 32 at most.
    pub policies: Vec<PolicyRecord>,
    /// Why, for hold and deny.
    pub reason: Option<Text>,
    /// The digest of the policies in force, as [`Event::PoliciesLoaded`](super::Event::PoliciesLoaded) told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force: Option<Digest>,
    /// Policy was only observed: it held or denied, nobody was asked, and the operation passed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub observed: bool,
}

/// What policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionVerdict {
    /// It may happen.
    Allow,
    /// People are asked.
    Hold,
    /// It may not happen.
    Deny,
}

/// A policy, by the name and place its author knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// The policy's id.
    pub id: Text,
    /// The file's name.
    pub file: Text,
    /// The line, from 1.
    pub line: u32,
    /// The SHA-256 of its text, annotations included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

impl fmt::Display for PolicyRecord {
    /// With as much of the digest as tells one text from another.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{}", self.id, self.file, self.line)?;
        if let Some(sha256) = &self.sha256 {
            write!(f, ", sha256 {:.12}", sha256.to_string())?;
        }
        f.write_str(")")
    }
}

impl From<&PolicyRef> for PolicyRecord {
    fn from(policy: &PolicyRef) -> Self {
        Self {
            id: Text::short(&policy.id),
            file: Text::short(&policy.file),
            line: policy.line,
            sha256: policy.sha256,
        }
    }
}

impl From<&Decision> for DecisionRecord {
    fn from(decision: &Decision) -> Self {
        let (verdict, policies, reason): (_, Vec<&PolicyRef>, _) = match decision {
            Decision::Allow(terms) => (
                DecisionVerdict::Allow,
                terms.policies.iter().collect(),
                None,
            ),
            Decision::Hold(hold) => (
                DecisionVerdict::Hold,
                hold.rules.iter().map(|rule| &rule.policy).collect(),
                hold.rules.iter().find_map(|rule| rule.reason.as_deref()),
            ),
            Decision::Deny(denial) => (
                DecisionVerdict::Deny,
                denial.policies.iter().collect(),
                Some(denial.reason.as_str()),
            ),
        };
        Self {
            verdict,
            policies: policies
                .into_iter()
                .take(32)
                .map(PolicyRecord::from)
                .collect(),
            reason: reason.map(Text::from),
            in_force: None,
            observed: false,
        }
    }
}

/// A person's answer: enough to count it again after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteRecord {
    /// The person.
    pub reviewer: Text,
    /// The person's user id, where the person has one here.
    pub uid: Option<u32>,
    /// The reviewer groups the person was in.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// What else the person is called.
    #[serde(default)]
    pub names: BTreeSet<String>,
    /// The answer.
    pub verdict: Answer,
    /// What the person wrote.
    pub comment: Option<Text>,
    /// When it was given.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// Where it was given.
    #[serde(default)]
    pub channel: Channel,
}

impl From<&Vote> for VoteRecord {
    fn from(vote: &Vote) -> Self {
        Self {
            reviewer: Text::short(&vote.reviewer.name),
            uid: vote.reviewer.uid,
            groups: vote.reviewer.groups.clone(),
            names: vote.reviewer.names.clone(),
            verdict: vote.answer,
            comment: vote.comment.as_ref().map(Text::from),
            at: Some(vote.at),
            channel: vote.channel,
        }
    }
}

/// What a database said of a statement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementAnswer {
    /// The command tag, such as `DELETE 3`, of the last command that completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Text>,
    /// SQLSTATE, where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<Text>,
    /// Rows that were passed on, those of a COPY included where it was one to the client.
    pub rows: u64,
}

impl StatementAnswer {
    /// For a person: the command tag, or why it failed, and how many rows came.
    #[must_use]
    pub fn described(&self) -> String {
        let rows = match self.rows {
            0 => None,
            1 => Some("1 row returned".to_owned()),
            rows => Some(format!("{rows} rows returned")),
        };
        let failed = (self.sqlstate.as_ref()).map(|it| format!("failed with SQLSTATE {it}"));
        let tag = self.tag.as_ref().map(|it| it.as_str().to_owned());
        let all: Vec<_> = [tag, failed, rows].into_iter().flatten().collect();
        all.join(", ")
    }
}

/// What became of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeResult {
    /// The upstream answered; its whole answer was passed on.
    Completed,
    /// Holdpoint refused it: denied, expired, too late.
    Refused,
    /// It certainly did not reach the upstream.
    NotSent,
    /// It may have reached the upstream, and the answer was lost. Never sent again by Holdpoint.
    Unknown,
    /// It was let through, and broken off when that was no longer so: what had been sent by then may have had its effect.
    Cut,
}
