//! What policy said of an operation, and whether it counts.

use holdpoint_core::{
    digest::Digest,
    policy::{Decision, Denial, Hold, Policies, Terms},
};
use tokio::sync::watch;

use crate::{config::Mode, record::DecisionRecord};

/// The policies in force, and whether what they say counts.
pub struct InForce {
    /// The policies.
    pub policies: Policies,
    /// The SHA-256 of their files, as the record was told when they were loaded.
    pub digest: Digest,
    /// Whether they are enforced.
    pub mode: Mode,
}

/// A decision, and whether it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) decision: Decision,
    pub(super) mode: Mode,
}

/// What is to be done about an operation.
pub(super) enum Demand<'a> {
    Pass(&'a Terms),
    Ask(&'a Hold),
    Refuse(&'a Denial),
}

impl Ruling {
    /// One that counts whatever the mode: it is not for policy to say.
    pub(super) fn beyond_policy(decision: Decision) -> Self {
        Self {
            decision,
            mode: Mode::Enforce,
        }
    }

    pub(super) fn demand(&self) -> Demand<'_> {
        static NONE: Terms = Terms::NONE;
        match (&self.decision, self.mode) {
            (Decision::Allow(terms), _) => Demand::Pass(terms),
            (Decision::Hold(hold), Mode::Enforce) => Demand::Ask(hold),
            (Decision::Deny(denial), Mode::Enforce) => Demand::Refuse(denial),
            (Decision::Hold(hold), Mode::Observe) => Demand::Pass(&hold.terms),
            (Decision::Deny(_), Mode::Observe) => Demand::Pass(&NONE),
        }
    }

    pub(super) fn denies(&self) -> bool {
        matches!(self.decision, Decision::Deny(_))
    }

    /// Whether it passes only because policy is observed.
    pub(super) fn is_observed(&self) -> bool {
        self.mode == Mode::Observe && !matches!(self.decision, Decision::Allow(_))
    }

    pub(super) fn record(&self, in_force: Digest) -> DecisionRecord {
        DecisionRecord {
            in_force: Some(in_force),
            observed: self.is_observed(),
            ..DecisionRecord::from(&self.decision)
        }
    }
}

/// What was admitted and lasts: it goes on for as long as policy lets it pass
/// ([`Gate::no_longer_allows`](super::Gate::no_longer_allows)).
pub struct Lease {
    pub(super) rulings: Vec<Ruling>,
    /// Since before they were made.
    pub(super) changes: watch::Receiver<()>,
}
