//! Decides about an operation, with Cedar policies (<https://docs.cedarpolicy.com>).
//!
//! `policies/README.md` says what a policy may name and how it is annotated.

mod annotations;
pub mod asks;
mod decide;
pub mod editor;
mod entities;
pub mod explain;
mod load;
pub mod replay;
mod schema;
mod slice;
pub mod suggest;
pub mod suite;
mod traits;
mod vocabulary;

use std::{collections::BTreeSet, fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{catalog::Catalog, identity::Principal, operation::Operation};

pub use vocabulary::KnownActions;

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
pub struct Policies {
    rules: Vec<load::Rule>,
    slices: slice::Slices,
}

impl Policies {
    /// Reads and checks policies.
    ///
    /// # Errors
    /// Everything that is wrong with them; none is taken then.
    pub fn load(sources: &[Source], catalog: &Catalog) -> Result<Self, Vec<Problem>> {
        Self::load_with(sources, catalog)
    }

    /// [`Self::load`] with another list of Google methods.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(sources: &[Source], known: &dyn KnownActions) -> Result<Self, Vec<Problem>> {
        Ok(Self::of(load::rules(sources, known)?))
    }

    fn of(rules: Vec<load::Rule>) -> Self {
        Self {
            rules,
            slices: slice::Slices::default(),
        }
    }

    /// Decides about one operation at a time that is not known: a policy that asks for it (`context.now`) denies what it could
    /// be about.
    #[must_use]
    pub fn decide(&self, principal: &Principal, operation: &Operation) -> Decision {
        self.decide_at(principal, operation, None)
    }

    /// Decides about one operation at `now`. Never fails: what goes wrong is a Deny.
    #[must_use]
    pub fn decide_at(
        &self,
        principal: &Principal,
        operation: &Operation,
        now: Option<Timestamp>,
    ) -> Decision {
        let candidates = slice::candidates(&self.rules, principal, operation);
        self.decide_among(&candidates, principal, operation, now)
    }

    fn decide_among(
        &self,
        candidates: &[usize],
        principal: &Principal,
        operation: &Operation,
        now: Option<Timestamp>,
    ) -> Decision {
        let slice = self.slices.of(candidates, &self.rules);
        decide::decide(&self.rules, &slice, principal, operation, now)
    }

    /// Every policy, in the order read.
    pub fn iter(&self) -> impl Iterator<Item = &PolicyRef> {
        self.rules.iter().map(|rule| &rule.reference)
    }

    /// The groups that `@hold` names, each with a policy that does: somebody has to be in them.
    pub fn reviewer_groups(&self) -> impl Iterator<Item = (&str, &PolicyRef)> {
        self.rules.iter().filter_map(|rule| match &rule.role {
            annotations::Role::Hold { group, .. } => Some((group.as_str(), &rule.reference)),
            _ => None,
        })
    }

    /// The same policies without one of them.
    #[must_use]
    pub fn without(&self, policy: &PolicyRef) -> Self {
        let rest = self.rules.iter().filter(|rule| rule.reference != *policy);
        Self::of(rest.cloned().collect())
    }
}

#[cfg(test)]
mod tests;
