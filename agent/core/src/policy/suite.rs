//! Tests of policies: requests, what is expected of each, and whether every policy is needed by one.

mod case;
mod found;
#[cfg(test)]
mod tests;

pub use case::{RawRequest, Suite, Verdict};

use super::{Decision, KnownActions, Policies, PolicyRef, Problem};
use crate::{identity::Principal, operation::Operation, recognise::Malformed};

/// Turns a request as it comes from the wire into operations, or says why it is refused before any policy is asked. The
/// outer error is about a case that is no request at all.
pub type Recognise<'a> =
    &'a dyn Fn(&RawRequest) -> Result<Result<Vec<Operation>, Malformed>, String>;

/// Runs every case against the policies, and then again without each policy in turn.
///
/// # Errors
/// Every case that does not come out as expected, and every policy that no case needs.
pub fn run(
    suite: &Suite,
    policies: &Policies,
    known: &dyn KnownActions,
    recognise: Recognise<'_>,
) -> Result<(), Vec<Problem>> {
    let mut trials = Vec::new();
    let mut problems = Vec::new();
    for case in suite.cases() {
        match case.asked(known, recognise) {
            Ok(asked) => trials.push(Trial { case, asked }),
            Err(message) => problems.push(case.problem(&message)),
        }
    }
    let outcomes: Vec<_> = trials.iter().map(|trial| trial.outcome(policies)).collect();
    for (trial, outcome) in trials.iter().zip(&outcomes) {
        if !trial.passes(outcome) {
            problems.push(trial.case.problem(&trial.case.disappointment(outcome)));
        }
    }
    if problems.is_empty() {
        problems.extend(uncovered(policies, &trials, &outcomes));
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems)
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
            reason: reason.to_owned(),
        }
    }

    fn is_decided_by(&self, policy: &PolicyRef) -> bool {
        self.policies.contains(policy)
    }
}

/// What a case asks of the policies.
struct Asked {
    principal: Principal,
    operations: Result<Vec<Operation>, Malformed>,
}

struct Trial<'a> {
    case: &'a case::Case,
    asked: Asked,
}

impl Trial<'_> {
    fn outcome(&self, policies: &Policies) -> Outcome {
        match &self.asked.operations {
            Ok(operations) => Outcome::of(
                operations
                    .iter()
                    .map(|operation| policies.decide(&self.asked.principal, operation)),
            ),
            Err(Malformed(reason)) => Outcome::refused(reason),
        }
    }

    fn passes(&self, outcome: &Outcome) -> bool {
        self.case.is_met_by(outcome)
    }
}

/// The policies that could be deleted, or apply to everything, and no case would tell.
fn uncovered(policies: &Policies, trials: &[Trial<'_>], outcomes: &[Outcome]) -> Vec<Problem> {
    let complaint = |policy: &PolicyRef| {
        let decided = |outcome: &&Outcome| outcome.is_decided_by(policy);
        if !outcomes.iter().any(|outcome| decided(&outcome)) {
            return Some("no case is decided by it: add one");
        }
        if outcomes.iter().all(|outcome| decided(&outcome)) {
            return Some("every case is decided by it: add one that is not");
        }
        let rest = policies.without(policy);
        let missed = trials
            .iter()
            .any(|trial| !trial.passes(&trial.outcome(&rest)));
        (!missed)
            .then_some("every case passes without it: add one that does not, or delete the policy")
    };
    policies
        .iter()
        .filter_map(|policy| {
            Some(Problem {
                file: policy.file.clone(),
                line: policy.line,
                message: format!("policy {}: {}", policy.id, complaint(policy)?),
            })
        })
        .collect()
}
