//! Decides about an operation, with Cedar policies (<https://docs.cedarpolicy.com>).
//!
//! `policies/README.md` says what a policy may name and how it is annotated.

mod alike;
mod annotations;
mod asked;
pub mod asks;
mod complaints;
mod decide;
mod doubts;
pub mod editor;
mod entities;
pub mod explain;
mod index;
mod kept;
mod literals;
mod load;
mod matter;
mod plain;
mod reads;
pub mod replay;
mod schema;
pub mod suggest;
pub mod suite;
mod validate;
mod vocabulary;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    catalog::{Catalog, Requests},
    digest::Digest,
    grant::Scope,
    identity::Principal,
    operation::{Action, Operation},
    target::Target,
};
use asked::CONTAINS;
use decide::Asked;
use entities::{Person, Question, Represented};
use index::{Index, Party, Slice};
use kept::Kept;
use load::Rule;
use matter::Matter;
use plain::Plain;
use reads::Reads;

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
    /// The SHA-256 (FIPS 180-4) of its text, annotations included. Not in what versions before 0.1 wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
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
    /// Whether one of them says `@mask("none")`: what the reply mints is for the agent to see.
    pub unmasked: bool,
    /// The fullest recording (`@record`) any of them asks for.
    pub record: Recording,
}

impl Terms {
    /// Whether an operation may happen in the same way, whichever policies say so.
    #[must_use]
    pub fn are_the_same(&self, other: &Self) -> bool {
        (&self.masks, self.unmasked, self.record) == (&other.masks, other.unmasked, other.record)
    }

    /// No policy's.
    pub const NONE: Self = Self {
        policies: Vec::new(),
        masks: BTreeSet::new(),
        unmasked: false,
        record: Recording::Summary,
    };
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
    /// `@grantable`: for how much at once a reviewer may grant what it holds. Empty: not at all.
    #[serde(default)]
    pub grantable: BTreeSet<Scope>,
}

impl HoldRule {
    /// Whether both ask the same of the same people, wherever in its file the policy stands now.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.policy.id == other.policy.id
            && self.policy.file == other.policy.file
            && self.group == other.group
            && self.min_approvals == other.min_approvals
            && self.hold_for == other.hold_for
            && self.grantable == other.grantable
    }
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
    rules: Vec<Rule>,
    index: Index,
    people: Kept<Principal, Person>,
    actions: Kept<Action, Party>,
    /// Whether any of them asks about targets.
    asks_target: bool,
    /// Whether any of them asks what requests contain.
    asks_contains: bool,
    all: OnceLock<Slice>,
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

    fn of(rules: impl IntoIterator<Item = Rule>) -> Self {
        let numbered = rules.into_iter().enumerate();
        let rules: Vec<_> = numbered.map(|(place, rule)| rule.at(place)).collect();
        Self {
            index: Index::new(&rules),
            people: Kept::default(),
            actions: Kept::default(),
            asks_target: rules.iter().any(|rule| rule.asks.target),
            asks_contains: rules.iter().any(|rule| rule.asks.contains),
            all: OnceLock::new(),
            rules,
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
        self.person(principal)
            .and_then(|who| match standing(&who, operation) {
                Some(terms) => Ok(Decision::Allow(terms)),
                None => self.decided(&who, principal, operation, now),
            })
            .unwrap_or_else(|error| Decision::Deny(decide::unaskable(&*error, operation)))
    }

    fn person(&self, principal: &Principal) -> Represented<Arc<Person>> {
        self.people.find(principal, |principal| {
            let party = self.index.party(&entities::principal_names(principal));
            Person::new(party, principal, None)
        })
    }

    fn decided(
        &self,
        who: &Person,
        principal: &Principal,
        operation: &Operation,
        now: Option<Timestamp>,
    ) -> Represented<Decision> {
        let (decision, stands) = self.put(who, operation, now, |slices, asked| {
            let decision = decide::decide(&self.rules, slices, asked, principal, operation);
            (decision, Matter::tells(read_by(slices)))
        })?;
        if let (Decision::Allow(terms), true) = (&decision, stands) {
            who.standing
                .keep(Matter::of(operation), Arc::new(terms.clone()));
        }
        Ok(decision)
    }

    /// Whether [`Self::decide_at`] denies only because the operation's target was not looked up yet.
    #[must_use]
    pub fn needs_target(
        &self,
        principal: &Principal,
        operation: &Operation,
        now: Option<Timestamp>,
    ) -> bool {
        matches!(operation.target, Target::NotLookedUp)
            && self.asks_target
            && self
                .unless_standing(principal, operation, now, |slices, asked| {
                    decide::needs_target(&self.rules, slices, asked)
                })
                .unwrap_or(false)
    }

    /// As [`Self::put`]; `false` where the decision stands already.
    fn unless_standing(
        &self,
        principal: &Principal,
        operation: &Operation,
        now: Option<Timestamp>,
        answer: impl FnOnce(&[&Slice], &Asked) -> bool,
    ) -> Represented<bool> {
        let who = self.person(principal)?;
        match standing(&who, operation) {
            Some(_) => Ok(false),
            None => self.put(&who, operation, now, answer),
        }
    }

    /// Puts an operation before those policies that may be about it.
    fn put<T>(
        &self,
        who: &Person,
        operation: &Operation,
        now: Option<Timestamp>,
        answer: impl FnOnce(&[&Slice], &Asked) -> T,
    ) -> Represented<T> {
        let index = &self.index;
        let what = self.actions.find(&operation.action, |action| {
            Represented::Ok(index.party(&entities::action_names(action)))
        })?;
        let whom = index.party(&entities::resource_names(operation));
        let slices = index.slices(&who.party, &what, &whom, Plain::of(operation));
        let reads = read_by(&slices);
        let question = || Question::new(who, &what, &whom, operation, now, reads, None);
        Ok(answer(&slices, &Asked::new(&question)))
    }

    /// As [`Self::decide`], with Cedar told everything and asked about every policy: what [`Self::decide`] is tested and
    /// measured against.
    #[must_use]
    pub fn decide_unsliced(&self, principal: &Principal, operation: &Operation) -> Decision {
        let all = self.all.get_or_init(|| Slice::of_all(&self.rules));
        let question = || Question::whole(principal, operation, None, None);
        decide::decide(
            &self.rules,
            &[all],
            &Asked::new(&question),
            principal,
            operation,
        )
    }

    /// What is odd about policies that were loaded from `sources`, and stops nothing: rules that can never match or never matter.
    #[must_use]
    pub fn doubts(&self, sources: &[Source], known: &dyn KnownActions) -> Vec<Problem> {
        doubts::about(&self.rules, sources, known)
    }

    /// What these policies, loaded from `sources`, ask of the methods they name that those do not have: fields of a body, parameters of
    /// a query, a target that can be looked up. Stops nothing.
    #[must_use]
    pub fn doubts_about_methods(
        &self,
        sources: &[Source],
        catalog: &Catalog,
        requests: &Requests,
    ) -> Vec<Problem> {
        doubts::about_methods(&self.rules, sources, catalog, requests)
    }

    /// The Cedar schema of what policies may name, for people and their editors: the types, the groups, every service, and
    /// the methods that these policies name.
    #[must_use]
    pub fn schema(&self, catalog: &Catalog) -> String {
        let methods = self
            .rules
            .iter()
            .flat_map(|rule| rule.policy.entity_literals());
        let methods = methods.map(|literal| literal.id().unescaped().to_owned());
        schema::for_people(methods, catalog)
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

    /// The sets that `@mask` names, each with a policy that does: the configuration has to know them.
    pub fn mask_sets(&self) -> impl Iterator<Item = (&str, &PolicyRef)> {
        self.rules.iter().filter_map(|rule| match &rule.role {
            annotations::Role::Permit {
                mask: annotations::Mask::Set(name),
                ..
            } => Some((name.as_str(), &rule.reference)),
            _ => None,
        })
    }

    /// What `context.contains` is asked for, each with a policy that does: a detector, a set or "unread".
    pub fn kinds_asked_for(&self) -> impl Iterator<Item = (String, &PolicyRef)> {
        self.rules.iter().flat_map(|rule| {
            let tree = rule.asks.contains.then(|| rule.policy.to_pst());
            let asked = tree.and_then(Result::ok);
            let asked = asked.map(|tree| literals::of(tree.body(), CONTAINS));
            let names = asked.into_iter().flatten();
            names.map(|name| (name, &rule.reference))
        })
    }

    /// Whether a policy that may be about this operation asks what it contains.
    #[must_use]
    pub fn asks_what_it_contains(
        &self,
        principal: &Principal,
        operation: &Operation,
        now: Option<Timestamp>,
    ) -> bool {
        self.asks_contains
            && self
                .unless_standing(principal, operation, now, |slices, _| {
                    read_by(slices).has(CONTAINS)
                })
                .unwrap_or(true)
    }

    /// What `@hold` asks, of all policies that have it.
    pub fn hold_rules(&self) -> impl Iterator<Item = HoldRule> {
        self.rules.iter().filter_map(decide::hold_rule)
    }

    /// The same policies without one of them.
    #[must_use]
    pub fn without(&self, policy: &PolicyRef) -> Self {
        let rest = self.rules.iter().filter(|rule| rule.reference != *policy);
        Self::of(rest.cloned())
    }
}

/// The terms on which `who` may do what is no different from `operation` for any policy that may be about it, where that was
/// decided before.
fn standing(who: &Person, operation: &Operation) -> Option<Terms> {
    let terms = who.standing.look(&Matter::of(operation))?;
    Some(Terms::clone(&terms))
}

/// What any of the policies looks at.
fn read_by(slices: &[&Slice]) -> Reads {
    let reads = slices.iter().map(|slice| slice.reads);
    reads.fold(Reads::default(), Reads::and)
}

#[cfg(test)]
mod asked_tests;
#[cfg(test)]
mod tests;
