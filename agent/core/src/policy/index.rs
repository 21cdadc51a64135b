//! Cedar's time grows with the policies it is given: it gets only those whose heads can be about an operation.

use std::collections::HashMap;

use cedar_policy::{
    ActionConstraint, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint,
};

use super::{annotations::Role, load::Rule, plain::Plain, reads::Reads};

/// What one part of a head names; `None` is everybody, every action or everything.
type Named = Option<u32>;

/// What a policy's head names, and what an operation plainly has to be besides.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Head {
    principal: Named,
    action: Named,
    resource: Named,
    plain: Option<Plain>,
}

/// All rules, by their heads.
#[derive(Default)]
pub(super) struct Index {
    /// The entities that some rule names, in its head or anywhere else.
    numbers: HashMap<EntityUid, u32>,
    slices: HashMap<Head, Slice>,
}

/// A principal, an action or a resource: itself, then what it is in.
pub(super) struct Party {
    pub(super) uids: Vec<EntityUid>,
    /// Whatever heads can call it.
    names: Vec<Named>,
}

impl Party {
    /// For those who do not go by heads.
    pub(super) fn whole(uids: Vec<EntityUid>) -> Self {
        Self {
            uids,
            names: Vec::new(),
        }
    }
}

/// Some of the rules, made ready for Cedar.
#[derive(Default)]
pub(super) struct Slice {
    /// Permits, and forbids that deny.
    pub(super) verdict: PolicySet,
    /// Forbids that hold.
    pub(super) holds: PolicySet,
    /// What any of them looks at.
    pub(super) reads: Reads,
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for rule in rules {
            for literal in rule.policy.entity_literals() {
                index.number(literal);
            }
            for head in index.heads(&rule.policy, rule.plain) {
                index.slices.entry(head).or_default().add(rule);
            }
        }
        index
    }

    /// One for each action that it names.
    fn heads(&mut self, policy: &Policy, plain: Option<Plain>) -> Vec<Head> {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
            PrincipalConstraint::Eq(uid)
            | PrincipalConstraint::In(uid)
            | PrincipalConstraint::IsIn(_, uid) => Some(self.number(uid)),
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
            ResourceConstraint::Eq(uid)
            | ResourceConstraint::In(uid)
            | ResourceConstraint::IsIn(_, uid) => Some(self.number(uid)),
        };
        let mut actions = match policy.action_constraint() {
            ActionConstraint::Any => vec![None],
            ActionConstraint::Eq(uid) => vec![Some(self.number(uid))],
            ActionConstraint::In(uids) => {
                uids.into_iter().map(|uid| Some(self.number(uid))).collect()
            }
        };
        actions.sort_unstable();
        actions.dedup();
        let head = |action| Head {
            principal,
            action,
            resource,
            plain,
        };
        actions.into_iter().map(head).collect()
    }

    fn number(&mut self, uid: EntityUid) -> u32 {
        let next = u32::try_from(self.numbers.len()).expect("fewer policies than that");
        *self.numbers.entry(uid).or_insert(next)
    }

    /// An entity as the rules know it. What it is in and no rule names makes no difference: `in` asks for what is named, and
    /// no attribute holds a principal, an action or a resource.
    pub(super) fn party(&self, mut uids: Vec<EntityUid>) -> Party {
        let mut names = vec![None];
        let mut place = 0;
        uids.retain(|uid| {
            let number = self.numbers.get(uid).copied();
            names.extend(number.map(Some));
            place += 1;
            place == 1 || number.is_some()
        });
        Party { uids, names }
    }

    /// The rules whose heads may match, in slices.
    pub(super) fn slices(
        &self,
        who: &Party,
        what: &Party,
        whom: &Party,
        plain: impl Iterator<Item = Plain>,
    ) -> Vec<&Slice> {
        let plain: Vec<_> = std::iter::once(None).chain(plain.map(Some)).collect();
        let mut slices = Vec::new();
        for &principal in &who.names {
            for &action in &what.names {
                for &resource in &whom.names {
                    for &plain in &plain {
                        slices.extend(self.slices.get(&Head {
                            principal,
                            action,
                            resource,
                            plain,
                        }));
                    }
                }
            }
        }
        slices
    }
}

impl Slice {
    pub(super) fn of_all(rules: &[Rule]) -> Self {
        let mut slice = Self::default();
        rules.iter().for_each(|rule| slice.add(rule));
        slice.reads = Reads::EVERYTHING;
        slice
    }

    fn add(&mut self, rule: &Rule) {
        let set = match rule.role {
            Role::Hold { .. } => &mut self.holds,
            Role::Permit { .. } | Role::Forbid { .. } => &mut self.verdict,
        };
        set.add(rule.policy.clone())
            .expect("every rule has an id of its own, and no head twice");
        self.reads = self.reads.and(rule.reads);
    }
}
