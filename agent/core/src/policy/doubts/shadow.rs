//! Permits and holds of which an unconditional forbid leaves nothing.

use cedar_policy::{Policy, PrincipalConstraint, ResourceConstraint};

use crate::{
    operation::Action,
    policy::{
        Problem, Source,
        annotations::Role,
        doubts::actions,
        load::Rule,
        vocabulary::{self, GOOGLE, KnownActions, NET, Name},
    },
};

pub(super) fn shadowed(
    rules: &[Rule],
    sources: &[Source],
    known: &dyn KnownActions,
) -> Vec<Problem> {
    let denies = rules.iter().filter(|rule| {
        matches!(rule.role, Role::Forbid { .. }) && !rule.policy.has_non_scope_constraint()
    });
    let denies: Vec<_> = denies.collect();
    let others = rules
        .iter()
        .filter(|rule| !matches!(rule.role, Role::Forbid { .. }));
    let shadowed = others.filter_map(|rule| {
        let by = denies
            .iter()
            .find(|deny| covers(&deny.policy, &rule.policy, known))?;
        let message = format!(
            "policy {} never matters: policy {} forbids all of it, without a condition; take one of them out, or give that \
             one an `unless`",
            rule.reference.id, by.reference
        );
        Some(rule.problem_near(sources, "", message))
    });
    shadowed.collect()
}

/// Whether all that the head of `small` covers, that of `large` does.
fn covers(large: &Policy, small: &Policy, known: &dyn KnownActions) -> bool {
    let principal = match large.principal_constraint() {
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
        other => other == small.principal_constraint(),
    };
    let resource = match large.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::Is(_) => true,
        other => other == small.resource_constraint(),
    };
    let action = match (actions(large), actions(small)) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(large), Some(small)) => small
            .iter()
            .all(|name| above(name, known).iter().any(|it| large.contains(it))),
    };
    principal && resource && action
}

/// An action or a group of them, and every group it is wholly in.
fn above(name: &str, known: &dyn KnownActions) -> Vec<String> {
    match vocabulary::look_up(name, known) {
        Ok(Name::Method(groups)) => vocabulary::names_of(&Action::new(name, groups)),
        Ok(Name::Fixed) if name == Action::UNKNOWN || name == NET => vec![name.to_owned()],
        Ok(Name::Fixed) if name.starts_with("net.") => vec![name.to_owned(), NET.to_owned()],
        Ok(_) => vec![name.to_owned(), GOOGLE.to_owned()],
        Err(_) => Vec::new(),
    }
}
