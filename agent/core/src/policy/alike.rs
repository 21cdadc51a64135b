//! Policies that are the same but for the names in their heads.
//!
//! Cedar's validator wants a schema that has every method a policy names, and to make one takes longer than all else. What it finds does
//! not depend on what methods, groups, projects and hosts are called, only on what is in what. So it is shown a *twin* of each policy, in
//! which they are called `s0.m0`, and thousands of policies come down to a few dozen schemas and a few hundred twins.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cedar_policy::{
    Policy, PolicySet, Schema, ValidationMode, Validator,
    pst::{
        ActionConstraint, Clause, Effect, EntityOrSlot, EntityUID, Expr, Literal,
        PrincipalConstraint, ResourceConstraint, StaticPolicy, Template,
    },
};

use super::schema::{Named, Scope};

/// Tells the policies that Cedar's validator may have something to say about from those that are sound.
#[derive(Default)]
pub(super) struct Alike {
    by_schema: BTreeMap<(Named, Scope), Family>,
    /// The places of those that have no twin.
    alone: BTreeSet<usize>,
}

/// Twins that have a schema in common.
#[derive(Default)]
struct Family {
    twins: HashMap<String, Member>,
}

struct Member {
    policy: Template,
    /// Whose twin it is.
    places: Vec<usize>,
}

impl Alike {
    /// One more policy: its place, its tree and the actions that it names.
    pub(super) fn add(&mut self, place: usize, tree: &Template, named: &Named) {
        if names_entities(tree) {
            self.alone.insert(place);
            return;
        }
        let (policy, named) = Twin::of(named).policy(tree);
        let family = self
            .by_schema
            .entry((named, Scope::of(&policy.action)))
            .or_default();
        let member = family.twins.entry(format!("{policy:?}"));
        let member = member.or_insert_with(|| Member {
            policy,
            places: Vec::new(),
        });
        member.places.push(place);
    }

    /// The places of those that have to be validated as they are.
    pub(super) fn doubtful(self) -> BTreeSet<usize> {
        let mut places = self.alone;
        for ((named, scope), family) in self.by_schema {
            places.extend(family.unsound(&named.schema(&scope)));
        }
        places
    }
}

impl Family {
    fn unsound(self, schema: &str) -> Vec<usize> {
        let (schema, _) =
            Schema::from_cedarschema_str(schema).expect("a schema made of such names is a schema");
        let validator = Validator::new(schema);
        let members = self.twins.into_values();
        let unsound = members.filter(|member| !is_sound(&member.policy, &validator));
        unsound.flat_map(|member| member.places).collect()
    }
}

fn is_sound(policy: &Template, validator: &Validator) -> bool {
    let policy = StaticPolicy::try_from(policy.clone()).ok();
    let policy = policy.and_then(|policy| Policy::from_pst(policy.into()).ok());
    let alone = policy.and_then(|policy| PolicySet::from_policies([policy]).ok());
    alone.is_some_and(|alone| {
        let result = validator.validate(&alone, ValidationMode::Strict);
        result.validation_passed_without_warnings()
    })
}

/// Whether its conditions do. What they compare with each other the validator tells apart by name.
fn names_entities(tree: &Template) -> bool {
    tree.clauses().iter().any(|clause| match clause {
        Clause::When(condition) | Clause::Unless(condition) => condition.reduce(
            &|part| matches!(part, Expr::Literal(Literal::EntityUID(_))).then_some(true),
            &|one, other| one || other,
            false,
        ),
    })
}

/// The other names, by those that a policy has.
struct Twin<'a> {
    named: &'a Named,
    services: Vec<String>,
    methods: Vec<String>,
    others: Vec<EntityUID>,
}

impl<'a> Twin<'a> {
    fn of(named: &'a Named) -> Self {
        Self {
            named,
            services: Vec::new(),
            methods: Vec::new(),
            others: Vec::new(),
        }
    }

    fn policy(mut self, tree: &Template) -> (Template, Named) {
        let principal = match &tree.principal {
            PrincipalConstraint::Eq(it) => PrincipalConstraint::Eq(self.entity(it)),
            PrincipalConstraint::In(it) => PrincipalConstraint::In(self.entity(it)),
            PrincipalConstraint::IsIn(kind, it) => {
                PrincipalConstraint::IsIn(kind.clone(), self.entity(it))
            }
            other @ (PrincipalConstraint::Any | PrincipalConstraint::Is(_)) => other.clone(),
        };
        let resource = match &tree.resource {
            ResourceConstraint::Eq(it) => ResourceConstraint::Eq(self.entity(it)),
            ResourceConstraint::In(it) => ResourceConstraint::In(self.entity(it)),
            ResourceConstraint::IsIn(kind, it) => {
                ResourceConstraint::IsIn(kind.clone(), self.entity(it))
            }
            other @ (ResourceConstraint::Any | ResourceConstraint::Is(_)) => other.clone(),
        };
        let mut named = Named::default();
        let action = match &tree.action {
            ActionConstraint::Any => ActionConstraint::Any,
            ActionConstraint::Eq(uid) => ActionConstraint::Eq(self.action(uid, &mut named)),
            ActionConstraint::In(uids) => {
                let uids = uids.iter().map(|uid| self.action(uid, &mut named));
                ActionConstraint::In(uids.collect())
            }
        };
        let head = Template::new("twin", Effect::Permit, principal, action, resource);
        let twin = head.try_with_clauses(tree.clauses().iter().cloned());
        (twin.expect("clauses of a policy are fit for one"), named)
    }

    fn action(&mut self, uid: &EntityUID, names: &mut Named) -> EntityUID {
        let name = uid.eid.as_str();
        let renamed = if let Some(groups) = self.named.methods.get(name) {
            let service = name.split('.').next().unwrap_or_default();
            let service = number(&mut self.services, service.to_owned());
            let method = number(&mut self.methods, name.to_owned());
            let renamed = format!("s{service}.m{method}");
            names.methods.insert(renamed.clone(), *groups);
            renamed
        } else if let Some(service) = name.strip_suffix(".*") {
            let service = number(&mut self.services, service.to_owned());
            names.services.insert(format!("s{service}"));
            format!("s{service}.*")
        } else {
            name.to_owned()
        };
        EntityUID {
            eid: renamed.into(),
            ..uid.clone()
        }
    }

    /// The validator looks at the letters of names as well: at those that may be taken for others.
    fn entity(&mut self, of: &EntityOrSlot) -> EntityOrSlot {
        match of {
            EntityOrSlot::Entity(uid) if is_plain(&uid.eid) => {
                let number = number(&mut self.others, uid.clone());
                EntityOrSlot::Entity(EntityUID {
                    eid: number.to_string().into(),
                    ..uid.clone()
                })
            }
            other => other.clone(),
        }
    }
}

fn number<T: PartialEq>(known: &mut Vec<T>, one: T) -> usize {
    known.iter().position(|it| *it == one).unwrap_or_else(|| {
        known.push(one);
        known.len() - 1
    })
}

fn is_plain(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_graphic())
}
