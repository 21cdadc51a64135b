//! Tests of policies: requests, what is expected of each, and whether every policy is needed by one.

mod case;
mod found;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Serialize;

pub use case::{RawRequest, RawSql, Suite};

pub use super::explain::Verdict;
use super::{Decision, KnownActions, Policies, PolicyRef, Problem, asks::Gaps};
use crate::{identity::Principal, operation::Operation, recognise::Malformed};

/// Turns a request as it comes from the wire into operations, or says why it is refused before any policy is asked. The
/// outer error is about a case that is no request at all.
pub type Recognise<'a> =
    &'a dyn Fn(&RawRequest) -> Result<Result<Vec<Operation>, Malformed>, String>;

/// Cases that were understood.
pub struct Trials<'a>(Vec<Trial<'a>>);

struct Trial<'a> {
    case: &'a case::Case,
    asked: Asked,
}

/// What a case asks of the policies.
pub struct Asked {
    /// Who asks.
    pub principal: Principal,
    /// For what; or why it is refused before any policy is asked.
    pub operations: Result<Vec<Operation>, Malformed>,
    /// When, if the case says so.
    pub at: Option<Timestamp>,
}

/// How well cases try a policy.
#[derive(Clone, Debug, Serialize)]
pub struct Coverage {
    /// The policy.
    pub policy: PolicyRef,
    /// How many cases it decides, alone or with others.
    pub decides: usize,
    /// Whether a case fails without it.
    pub is_needed: bool,
    /// What is missing, if anything.
    pub complaint: Option<&'static str>,
}

impl Coverage {
    /// What is missing, as a problem on the policy's line.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        Some(Problem {
            file: self.policy.file.clone(),
            line: self.policy.line,
            message: format!("policy {}: {}", self.policy.id, self.complaint?),
        })
    }
}

impl<'a> Trials<'a> {
    /// Finds out what each case of `suite` asks.
    ///
    /// # Errors
    /// Every case that asks nothing that can be.
    pub fn of(
        suite: &'a Suite,
        known: &dyn KnownActions,
        recognise: Recognise<'_>,
    ) -> Result<Self, Vec<Problem>> {
        let mut trials = Vec::new();
        let mut problems = Vec::new();
        for case in suite.cases() {
            match case.asked(known, recognise) {
                Ok(asked) => trials.push(Trial { case, asked }),
                Err(message) => problems.push(case.problem(&message)),
            }
        }
        if problems.is_empty() {
            Ok(Self(trials))
        } else {
            Err(problems)
        }
    }

    /// What the case with this name asks, or the one on this line of its file.
    #[must_use]
    pub fn find(&self, name_or_line: &str) -> Option<&Asked> {
        let wanted = |trial: &&Trial<'_>| trial.case.is_called(name_or_line);
        self.0.iter().find(wanted).map(|trial| &trial.asked)
    }

    /// Names and lines of all cases, for whoever asked for one that is not there.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|trial| trial.case.label()).collect()
    }

    /// Every case that does not come out as expected.
    #[must_use]
    pub fn failures(&self, policies: &Policies) -> Vec<Problem> {
        self.0
            .iter()
            .filter_map(|trial| trial.failure(policies))
            .collect()
    }

    /// How well the cases try each policy that `is_meant`. They all have to pass for this to mean something.
    #[must_use]
    pub fn coverage(
        &self,
        policies: &Policies,
        is_meant: impl Fn(&PolicyRef) -> bool,
    ) -> Vec<Coverage> {
        let outcomes: Vec<_> = self.0.iter().map(|trial| trial.outcome(policies)).collect();
        let judge = |policy: &PolicyRef| {
            let decides = outcomes
                .iter()
                .filter(|it| it.is_decided_by(policy))
                .count();
            let rest = policies.without(policy);
            let mut trials = self.0.iter();
            let is_needed = decides > 0 && trials.any(|it| !it.passes(&it.outcome(&rest)));
            let complaint = if decides == 0 {
                Some("no case is decided by it: add one")
            } else if decides == outcomes.len() {
                Some("every case is decided by it: add one that is not")
            } else if is_needed {
                None
            } else {
                Some("every case passes without it: add one that does not, or delete the policy")
            };
            Coverage {
                policy: policy.clone(),
                decides,
                is_needed,
                complaint,
            }
        };
        policies
            .iter()
            .filter(|it| is_meant(it))
            .map(judge)
            .collect()
    }
}

/// What came of a case.
#[derive(Debug)]
pub(super) struct Outcome {
    verdict: Verdict,
    /// The policies that decided.
    policies: Vec<PolicyRef>,
    reason: String,
}

impl Outcome {
    /// The strictest of the decisions about the parts of a request.
    fn of(decisions: impl IntoIterator<Item = Decision>) -> Self {
        let mut all = Self {
            verdict: Verdict::Allow,
            policies: Vec::new(),
            reason: String::new(),
        };
        for decision in decisions {
            let (verdict, policies, reason) = match decision {
                Decision::Allow(terms) => (Verdict::Allow, terms.policies, String::new()),
                Decision::Hold(hold) => {
                    let rules = hold.rules.into_iter().map(|rule| rule.policy);
                    let policies = rules.chain(hold.terms.policies).collect();
                    (Verdict::Hold, policies, String::new())
                }
                Decision::Deny(denial) => (Verdict::Deny, denial.policies, denial.reason),
            };
            all.policies.extend(policies);
            if verdict >= all.verdict {
                all.verdict = verdict;
                all.reason = reason;
            }
        }
        all
    }

    fn refused(reason: &str) -> Self {
        Self {
            verdict: Verdict::Deny,
            policies: Vec::new(),
            reason: format!("refused before any policy is asked: {reason}"),
        }
    }

    fn is_decided_by(&self, policy: &PolicyRef) -> bool {
        self.policies.contains(policy)
    }
}

impl Trial<'_> {
    fn outcome(&self, policies: &Policies) -> Outcome {
        let Asked {
            principal,
            operations,
            at,
        } = &self.asked;
        match operations {
            Ok(operations) => Outcome::of(
                operations
                    .iter()
                    .map(|operation| policies.decide_at(principal, operation, *at)),
            ),
            Err(Malformed(reason)) => Outcome::refused(reason),
        }
    }

    fn passes(&self, outcome: &Outcome) -> bool {
        self.case.is_met_by(outcome)
    }

    /// On lines of their own: what came of it, of what, and what would have been nearest to what was expected.
    fn failure(&self, policies: &Policies) -> Option<Problem> {
        let outcome = self.outcome(policies);
        if self.passes(&outcome) {
            return None;
        }
        let mut message = self.case.disappointment(&outcome);
        let mut line = |what: &str, text: &str| {
            let _ = write!(message, "\n    {what:<8} {text}");
        };
        if !outcome.reason.is_empty() {
            line("because", &outcome.reason);
        }
        for operation in self.asked.operations.iter().flatten() {
            let (action, resource) = (operation.action.id(), &operation.resource.name);
            line("asked", &format!("{action} on {resource}"));
            let (principal, at) = (&self.asked.principal, self.asked.at);
            let named = self.case.expected_policy();
            let named = named.map(|id| policies.obstacles(id, principal, operation, at));
            let nearest = match named {
                Some(Ok(Some(obstacles)) | Err(obstacles)) => Some(obstacles),
                Some(Ok(None)) | None => policies
                    .explain(principal, operation, at, &Gaps::default())
                    .ok()
                    .and_then(|it| it.nearest_to(self.case.expected())),
            };
            if let Some(nearest) = nearest {
                line("nearest", &nearest);
            }
        }
        Some(self.case.problem(&message))
    }
}
