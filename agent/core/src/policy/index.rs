//! Cedar's time grows with the policies it is given: it gets only those whose heads can be about an operation.

use cedar_policy::{
    ActionConstraint, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint,
};

use rustc_hash::FxHashMap;

use super::{
    entities::{Kind, Name},
    load::Rule,
    plain::Plain,
    reads::Reads,
};

/// What one part of a head names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Named {
    /// Everybody, every action or everything.
    Any,
    /// `== X`
    Itself(u32),
    /// `in X`
    Within(u32),
}

/// Which principals and actions a policy's head names.
type Whose = (Named, Named);
/// Which resources it names, and what an operation plainly has to be besides.
type Of = (Named, Option<Plain>);

/// All rules, by their heads.
#[derive(Default)]
pub(super) struct Index {
    /// The entities that some rule names, in its head or anywhere else, by their ids.
    known: [FxHashMap<String, Known>; Kind::ALL.len()],
    count: u32,
    slices: FxHashMap<Whose, FxHashMap<Of, Slice>>,
}

struct Known {
    number: u32,
    uid: EntityUid,
}

/// A principal, an action or a resource: itself, then what it is in.
pub(super) struct Party {
    pub(super) uids: Vec<EntityUid>,
    /// Whatever heads can call it.
    names: Vec<Named>,
}

impl Party {
    /// For those who do not go by heads.
    pub(super) fn whole(names: &[Name]) -> Self {
        Self {
            uids: names.iter().map(Name::uid).collect(),
            names: Vec::new(),
        }
    }
}

/// Some of the rules, made ready to be asked.
#[derive(Default)]
pub(super) struct Slice {
    /// Those that ask for no more than their heads say: what finds the slice meets them. Their places.
    pub(super) certain: Vec<usize>,
    /// Permits, and forbids that deny.
    pub(super) verdict: Option<Box<PolicySet>>,
    /// Forbids that hold.
    pub(super) holds: Option<Box<PolicySet>>,
    /// What any of them looks at.
    pub(super) reads: Reads,
}

/// Whether a policy's head says nothing but what [`Index`] finds it by.
pub(super) fn names_only(policy: &Policy) -> bool {
    use {PrincipalConstraint as P, ResourceConstraint as R};
    matches!(policy.principal_constraint(), P::Any | P::Eq(_) | P::In(_))
        && matches!(policy.resource_constraint(), R::Any | R::Eq(_) | R::In(_))
}

impl Index {
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (place, rule) in rules.iter().enumerate() {
            for literal in rule.policy.entity_literals() {
                index.number(literal);
            }
            let (principal, resource) = index.head(&rule.policy);
            for action in index.actions(&rule.policy) {
                let slices = index.slices.entry((principal, action)).or_default();
                let slice = slices.entry((resource, rule.plain)).or_default();
                if rule.bare {
                    slice.certain.push(place);
                } else {
                    slice.add(rule, &rule.conditions);
                }
            }
        }
        index
    }

    /// Which principals and which resources a policy's head names.
    fn head(&mut self, policy: &Policy) -> (Named, Named) {
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => Named::Any,
            PrincipalConstraint::Eq(uid) => Named::Itself(self.number(uid)),
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
                Named::Within(self.number(uid))
            }
        };
        let resource = match policy.resource_constraint() {
            ResourceConstraint::Any | ResourceConstraint::Is(_) => Named::Any,
            ResourceConstraint::Eq(uid) => Named::Itself(self.number(uid)),
            ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
                Named::Within(self.number(uid))
            }
        };
        (principal, resource)
    }

    /// One for each that it names.
    fn actions(&mut self, policy: &Policy) -> Vec<Named> {
        let mut actions = match policy.action_constraint() {
            ActionConstraint::Any => vec![Named::Any],
            ActionConstraint::Eq(uid) => vec![Named::Itself(self.number(uid))],
            ActionConstraint::In(uids) => {
                let numbers = uids.into_iter().map(|uid| self.number(uid));
                numbers.map(Named::Within).collect()
            }
        };
        actions.sort_unstable();
        actions.dedup();
        actions
    }

    /// What is of no kind that can be asked about has a number that nobody finds.
    fn number(&mut self, uid: EntityUid) -> u32 {
        let next = self.count;
        let number = match Kind::of(&uid) {
            Some(kind) => {
                let id = uid.id().unescaped().to_owned();
                let known = Known { number: next, uid };
                self.known[kind as usize].entry(id).or_insert(known).number
            }
            None => next,
        };
        self.count = next.checked_add(1).expect("fewer policies than that");
        number
    }

    /// An entity as the rules know it. What it is in and no rule names makes no difference: `in` asks for what is named, and
    /// no attribute holds a principal, an action or a resource.
    pub(super) fn party(&self, all: &[Name]) -> Party {
        let mut uids = Vec::with_capacity(all.len());
        let mut names = Vec::with_capacity(all.len() + 2);
        names.push(Named::Any);
        for (place, name) in all.iter().enumerate() {
            let known = self.known[name.kind as usize].get(name.id.as_ref());
            match known {
                Some(Known { number, uid }) => {
                    uids.push(uid.clone());
                    names.push(Named::Within(*number));
                    if place == 0 {
                        names.push(Named::Itself(*number));
                    }
                }
                None if place == 0 => uids.push(name.uid()),
                None => {}
            }
        }
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
        let mut found = Vec::new();
        for &principal in &who.names {
            for &action in &what.names {
                let Some(slices) = self.slices.get(&(principal, action)) else {
                    continue;
                };
                for &resource in &whom.names {
                    found.extend(plain.iter().filter_map(|&it| slices.get(&(resource, it))));
                }
            }
        }
        found
    }
}

impl Slice {
    pub(super) fn of_all(rules: &[Rule]) -> Self {
        let mut slice = Self::default();
        for rule in rules {
            slice.add(rule, &rule.policy);
        }
        slice.reads = Reads::EVERYTHING;
        slice
    }

    fn add(&mut self, rule: &Rule, policy: &Policy) {
        let set = if rule.holds() {
            &mut self.holds
        } else {
            &mut self.verdict
        };
        set.get_or_insert_default()
            .add(policy.clone())
            .expect("every rule has an id of its own, and no head twice");
        self.reads = self.reads.and(rule.reads);
    }
}
