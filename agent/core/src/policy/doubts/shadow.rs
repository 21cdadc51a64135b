//! Permits and holds of which an unconditional forbid leaves nothing.

use std::borrow::Cow;

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
    let denies: Vec<_> = denies
        .map(|rule| (rule, Head::of(&rule.policy, known)))
        .collect();
    let others = rules
        .iter()
        .filter(|rule| !matches!(rule.role, Role::Forbid { .. }));
    let shadowed = others.filter_map(|rule| {
        let head = Head::of(&rule.policy, known);
        let (by, _) = denies.iter().find(|(_, deny)| deny.covers(&head))?;
        let message = format!(
            "policy {} never matters: policy {} forbids all of it, without a condition; take one of them out, or give that \
             one an `unless`",
            rule.reference.id, by.reference
        );
        Some(rule.problem_near(sources, "", message))
    });
    shadowed.collect()
}

/// Made once for each policy: all denials are held against all others.
struct Head {
    principal: PrincipalConstraint,
    resource: ResourceConstraint,
    /// Each action that it names, and what that is in; `None` for all there are.
    actions: Option<Vec<Vec<String>>>,
}

impl Head {
    fn of(policy: &Policy, known: &dyn KnownActions) -> Self {
        Self {
            principal: policy.principal_constraint(),
            resource: policy.resource_constraint(),
            actions: actions(policy).map(|names| {
                let all = names.iter().map(|name| above(name, known));
                all.collect()
            }),
        }
    }

    /// Whether it is about all that `small` is about.
    fn covers(&self, small: &Self) -> bool {
        let principal = match &self.principal {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => true,
            other => *other == small.principal,
        };
        let resource = match &self.resource {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => true,
            other => *other == small.resource,
        };
        principal && resource && self.covers_actions(small)
    }

    fn covers_actions(&self, small: &Self) -> bool {
        let Some(large) = &self.actions else {
            return true;
        };
        let names: Vec<&String> = large.iter().filter_map(|above| above.first()).collect();
        let is_covered = |above: &Vec<String>| above.iter().any(|name| names.contains(&name));
        small
            .actions
            .as_ref()
            .is_some_and(|small| small.iter().all(is_covered))
    }
}

/// An action or a group of them, then every group it is wholly in.
fn above(name: &str, known: &dyn KnownActions) -> Vec<String> {
    match vocabulary::look_up(name, known) {
        Ok(Name::Method(groups)) => {
            let action = Action::new(name, groups);
            let names = vocabulary::names_of(&action);
            names.into_iter().map(Cow::into_owned).collect()
        }
        Ok(Name::Fixed) if name == Action::UNKNOWN || name == NET => vec![name.to_owned()],
        Ok(Name::Fixed) if name.starts_with("net.") => vec![name.to_owned(), NET.to_owned()],
        Ok(Name::Service(vocabulary::POSTGRES)) => vec![name.to_owned()],
        Ok(_) => vec![name.to_owned(), GOOGLE.to_owned()],
        Err(_) => Vec::new(),
    }
}
