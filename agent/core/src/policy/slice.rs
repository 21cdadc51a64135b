//! Cedar's time grows with the policies it is given: it gets only those that can apply.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use cedar_policy::{ActionConstraint, EntityUid, Policy, PolicySet, PrincipalConstraint};

use super::{annotations::Role, load::Rule, vocabulary};
use crate::{identity::Principal, operation::Operation};

/// How many slices are kept. There is one for each combination of policies that some principal and some action meet.
const MOST_SLICES: usize = 1024;

/// Whom and what the head of a policy is about, by the names of the entities; `None` is everybody or everything.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    principal: Option<String>,
    actions: Option<Vec<String>>,
}

impl Scope {
    pub(super) fn of(policy: &Policy) -> Self {
        let name = |uid: EntityUid| uid.id().unescaped().to_owned();
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
            PrincipalConstraint::Eq(uid)
            | PrincipalConstraint::In(uid)
            | PrincipalConstraint::IsIn(_, uid) => Some(name(uid)),
        };
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => None,
            ActionConstraint::Eq(uid) => Some(vec![name(uid)]),
            ActionConstraint::In(uids) => Some(uids.into_iter().map(name).collect()),
        };
        Self { principal, actions }
    }

    fn may_cover(&self, principal: &Principal, subject: &str, action: &[String]) -> bool {
        let covers_principal = self
            .principal
            .as_ref()
            .is_none_or(|named| named == subject || principal.groups.contains(named));
        let covers_action = self
            .actions
            .as_ref()
            .is_none_or(|named| named.iter().any(|name| action.contains(name)));
        covers_principal && covers_action
    }
}

/// The rules that can apply, by their places in `rules`, in order.
pub(super) fn candidates(
    rules: &[Rule],
    principal: &Principal,
    operation: &Operation,
) -> Vec<usize> {
    let subject = principal.name();
    let action = vocabulary::names_of(&operation.action);
    (0..rules.len())
        .filter(|at| rules[*at].scope.may_cover(principal, &subject, &action))
        .collect()
}

/// Some of the rules, made ready for Cedar.
#[derive(Default)]
pub(super) struct Slice {
    /// Permits, and forbids that deny.
    pub(super) verdict: PolicySet,
    /// Forbids that hold.
    pub(super) holds: PolicySet,
}

impl Slice {
    fn new(places: &[usize], rules: &[Rule]) -> Self {
        let mut slice = Self::default();
        for place in places {
            let rule = &rules[*place];
            let set = match rule.role {
                Role::Hold { .. } => &mut slice.holds,
                Role::Permit { .. } | Role::Forbid { .. } => &mut slice.verdict,
            };
            set.add(rule.policy.clone())
                .expect("every rule has an id of its own");
        }
        slice
    }
}

/// The slices made so far.
#[derive(Default)]
pub(super) struct Slices(RwLock<HashMap<Box<[usize]>, Arc<Slice>>>);

impl Slices {
    pub(super) fn of(&self, places: &[usize], rules: &[Rule]) -> Arc<Slice> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(slice) = known.get(places) {
            return Arc::clone(slice);
        }
        drop(known);
        let slice = Arc::new(Slice::new(places, rules));
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_SLICES {
            known.clear();
        }
        known.insert(places.into(), Arc::clone(&slice));
        slice
    }
}
