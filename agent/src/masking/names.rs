//! The names that policies use for what is masked and what is found.

use holdpoint_core::{
    contains::UNREAD,
    mask::{BUILT_IN, Builtin, SetSource},
    policy::{Policies, PolicyRef, Problem},
};

/// Every name in policies that the configuration does not know.
#[must_use]
pub fn unknown(policies: &Policies, own: &[SetSource]) -> Vec<Problem> {
    let sets = sets(own);
    let unknown_sets = policies
        .mask_sets()
        .filter(|(name, _)| !sets.contains(name))
        .map(|(name, policy)| {
            let nearest = nearest(name, &sets);
            let message = format!(
                "@mask({name:?}): the configuration has no [[mask]] of this name; did you mean {nearest:?}?"
            );
            problem(policy, message)
        });
    let kinds = kinds(own);
    let unknown_kinds = policies
        .kinds_asked_for()
        .filter(|(name, _)| !kinds.contains(&name.as_str()))
        .map(|(name, policy)| {
            let nearest = nearest(&name, &kinds);
            let message = format!(
                "context.contains has no {name:?}: nothing detects that; did you mean {nearest:?}?"
            );
            problem(policy, message)
        });
    unknown_sets.chain(unknown_kinds).collect()
}

fn problem(policy: &PolicyRef, message: String) -> Problem {
    Problem {
        file: policy.file.clone(),
        line: policy.line,
        message,
    }
}

fn sets(own: &[SetSource]) -> Vec<&str> {
    let mut sets = BUILT_IN.to_vec();
    sets.extend(own.iter().map(|set| set.name.as_str()));
    sets
}

/// What `context.contains` can have in it: detectors, sets, and that something was not read.
fn kinds(own: &[SetSource]) -> Vec<&str> {
    let mut kinds = sets(own);
    kinds.push(UNREAD);
    for builtin in Builtin::ALL {
        kinds.push(builtin.name());
    }
    let regexes = own.iter().flat_map(|set| set.regexes.keys());
    kinds.extend(regexes.map(String::as_str));
    kinds
}

fn nearest<'a>(name: &str, known: &[&'a str]) -> &'a str {
    let distance = |other: &&&str| strsim::levenshtein(name, other);
    known
        .iter()
        .min_by_key(distance)
        .copied()
        .unwrap_or_default()
}
