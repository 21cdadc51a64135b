//! Whether what policies name exists, and whether Cedar's validator finds them sound.

use std::collections::BTreeMap;

use cedar_policy::{
    ActionConstraint, PolicySet, Schema, ValidationMode, Validator, ffi::DetailedError,
};

use super::{
    Problem, Source,
    load::{Rule, place_of},
    schema::{Named, Scope},
    vocabulary::{self, KnownActions, Name},
};

/// Everything that is wrong with rules by themselves.
pub(super) fn problems(
    rules: &[Rule],
    sources: &[Source],
    known: &dyn KnownActions,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut by_schema: BTreeMap<String, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        match named(rule, sources, known) {
            // The validator tries each policy with each action of the schema, so that it is kept to what may matter.
            Ok(named) => by_schema
                .entry(named.schema(&scope(rule)))
                .or_default()
                .push(rule),
            Err(found) => problems.extend(found),
        }
    }
    for (schema, some) in by_schema {
        problems.extend(unsound(&some, rules, sources, &schema));
    }
    problems
}

/// The methods and services that a rule names.
fn named(rule: &Rule, sources: &[Source], known: &dyn KnownActions) -> Result<Named, Vec<Problem>> {
    let mut named = Named::default();
    let mut problems = Vec::new();
    for literal in rule.policy.entity_literals() {
        if literal.type_name().basename() != "Action" {
            continue;
        }
        let name = literal.id().unescaped();
        match vocabulary::look_up(name, known) {
            Ok(Name::Fixed) => {}
            Ok(Name::Service(service)) => {
                named.services.insert(service.to_owned());
            }
            Ok(Name::Method(groups)) => {
                named.methods.insert(name.to_owned(), groups);
            }
            Err(message) => {
                problems.push(rule.problem_near(sources, &format!("{name:?}"), message));
            }
        }
    }
    if problems.is_empty() {
        Ok(named)
    } else {
        Err(problems)
    }
}

fn scope(rule: &Rule) -> Scope {
    let names = match rule.policy.action_constraint() {
        ActionConstraint::Any => return Scope::Everything,
        ActionConstraint::Eq(uid) => vec![uid],
        ActionConstraint::In(uids) => uids,
    };
    let names = names.iter().map(|uid| uid.id().unescaped().to_owned());
    Scope::Within(names.collect())
}

/// What Cedar's validator finds. Its warnings are about policies that can never apply and text that deceives the eye:
/// neither has a place here.
fn unsound(some: &[&Rule], rules: &[Rule], sources: &[Source], schema: &str) -> Vec<Problem> {
    let (schema, _) =
        Schema::from_cedarschema_str(schema).expect("a schema made of checked names is a schema");
    let set = PolicySet::from_policies(some.iter().map(|rule| rule.policy.clone()))
        .expect("every rule has an id of its own");
    let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
    let errors = result
        .validation_errors()
        .map(|error| (error.policy_id(), DetailedError::from(error)));
    let warnings = result
        .validation_warnings()
        .map(|warning| (warning.policy_id(), DetailedError::from(warning)));
    errors
        .chain(warnings)
        .map(|(id, error)| {
            let rule = &rules[place_of(id)];
            let prefix = format!("policy `{id}`");
            let shown = format!("policy {}", rule.reference.id);
            let mut problem = rule.source(sources).complaint(&error, "");
            problem.message = problem.message.replace(&prefix, &shown);
            if error.source_locations.is_empty() {
                problem.line = rule.reference.line;
            }
            problem
        })
        .collect()
}
