//! Decides about an operation, with Cedar policies.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{catalog::Catalog, identity::Principal, operation::Operation};

/// What policy says about one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may happen, on these terms.
    Allow(Terms),
    /// It may happen on these terms once people have approved it.
    Hold(Hold),
    /// It may not happen.
    Deny(Denial),
}

/// A policy, by the name and place its author knows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PolicyRef {
    /// The `@id` annotation, else the file's stem and the line.
    pub id: String,
    /// The file's name.
    pub file: String,
    /// The line on which the policy starts, from 1.
    pub line: u32,
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.id, self.file, self.line)
    }
}

/// What goes with an Allow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The policies that permit.
    pub policies: Vec<PolicyRef>,
    /// The mask sets (`@mask("set")`) of all of them.
    pub masks: BTreeSet<String>,
    /// The fullest recording (`@record`) any of them asks for.
    pub record: Recording,
}

/// How much of an operation the record keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Recording {
    /// That it happened.
    #[default]
    Summary,
    /// And its headers.
    Headers,
    /// And its bodies.
    Bodies,
}

/// Every hold rule that matched; all of them have to be satisfied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// At least one.
    pub rules: Vec<HoldRule>,
    /// What holds once it is approved.
    pub terms: Terms,
}

/// One `forbid` with `@hold`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRule {
    /// The policy.
    pub policy: PolicyRef,
    /// The reviewer group named in `@hold("group")`.
    pub group: String,
    /// `@min_approvals`: how many distinct people have to approve. At least 1.
    pub min_approvals: u32,
    /// `@hold_for`: how long the request waits for them, and how long an approval is good for.
    pub hold_for: Duration,
    /// `@reason`: why, in the author's words.
    pub reason: Option<String>,
}

/// Why an operation may not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// One sentence for the person at the terminal; stands alone.
    pub reason: String,
    /// The policies that forbid it; empty when none permits it.
    pub policies: Vec<PolicyRef>,
}

/// One file of policies.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, for messages.
    pub file: String,
    /// Its text.
    pub text: String,
}

/// One thing that is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// A set of policies that was read, checked and indexed.
pub struct Policies {}

impl Policies {
    /// Reads and checks policies.
    ///
    /// # Errors
    /// Everything that is wrong with them; none is taken then.
    pub fn load(_sources: &[Source], _catalog: &Catalog) -> Result<Self, Vec<Problem>> {
        Ok(Self {})
    }

    /// Decides about one operation. Never fails: what goes wrong is a Deny.
    #[must_use]
    pub fn decide(&self, _principal: &Principal, _operation: &Operation) -> Decision {
        Decision::Deny(Denial {
            reason: "not written yet".into(),
            policies: Vec::new(),
        })
    }
}
