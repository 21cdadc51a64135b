//! Rules that are valid and cannot be meant: they never match, or never matter.

mod never;
mod shadow;

use super::{Problem, Source, load::Rule, vocabulary::KnownActions};

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
    let mut doubts: Vec<_> = never
        .chain(shadow::shadowed(rules, sources, known))
        .collect();
    doubts.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    doubts.dedup();
    doubts
}
