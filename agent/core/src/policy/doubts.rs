//! Rules that are valid and cannot be meant: they never match, or never matter.

mod methods;
mod never;
mod shadow;

use cedar_policy::{ActionConstraint, Policy};

use super::{Problem, Source, load::Rule, vocabulary::KnownActions};
use crate::catalog::{Catalog, Requests};

/// One for each, with what to write instead.
pub(super) fn about(rules: &[Rule], sources: &[Source], known: &dyn KnownActions) -> Vec<Problem> {
    let never = rules.iter().flat_map(|rule| {
        let reasons = never::reasons(rule, known);
        reasons.into_iter().map(|reason| {
            let id = &rule.reference.id;
            let message = format!("policy {id} can never match: {}", reason.message);
            rule.problem_near(sources, &reason.near, message)
        })
    });
    let shadowed = shadow::shadowed(rules, sources, known);
    ordered(never.chain(shadowed).collect())
}

/// What rules ask of the methods they name that those do not have.
pub(super) fn about_methods(
    rules: &[Rule],
    sources: &[Source],
    catalog: &Catalog,
    requests: &Requests,
) -> Vec<Problem> {
    ordered(methods::about(rules, sources, catalog, requests))
}

fn ordered(mut doubts: Vec<Problem>) -> Vec<Problem> {
    doubts.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    doubts.dedup();
    doubts
}

/// The actions and groups that a head names; nothing where it is about all.
fn actions(policy: &Policy) -> Option<Vec<String>> {
    let uids = match policy.action_constraint() {
        ActionConstraint::Any => return None,
        ActionConstraint::Eq(uid) => vec![uid],
        ActionConstraint::In(uids) => uids,
    };
    let names = uids.iter().map(|uid| uid.id().unescaped().to_owned());
    Some(names.collect())
}
