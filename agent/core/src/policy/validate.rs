//! Whether what policies name exists, and whether Cedar's validator finds them sound.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{
    PolicyId, PolicySet, Schema, ValidationMode, Validator,
    ffi::DetailedError,
    pst::{ActionConstraint, BinaryOp, Clause, Expr, Literal, Template},
};

use super::{
    Problem, Source,
    alike::Alike,
    complaints,
    load::{Read, Rule, place_of},
    schema::{Named, Scope},
    vocabulary::{self, KnownActions, Name, OWN_ACTIONS},
};

/// Everything that is wrong with rules by themselves.
pub(super) fn problems(
    read: &[Read],
    sources: &[Source],
    known: &dyn KnownActions,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut alike = Alike::default();
    let mut all_named = BTreeMap::new();
    for (place, Read { rule, tree }) in read.iter().enumerate() {
        match named(rule, tree, sources, known) {
            Ok(named) => {
                alike.add(place, tree, &named);
                all_named.insert(place, named);
            }
            Err(found) => problems.extend(found),
        }
    }
    let mut by_schema: BTreeMap<String, Vec<&Rule>> = BTreeMap::new();
    for place in alike.doubtful() {
        let Read { rule, tree } = &read[place];
        // The validator tries each policy with each action of the schema, so that it is kept to what may matter.
        let schema = all_named[&place].schema(&Scope::of(&tree.action));
        by_schema.entry(schema).or_default().push(rule);
    }
    for (schema, some) in by_schema {
        problems.extend(unsound(&some, read, sources, &schema));
    }
    problems
}

/// The methods and services that a rule names.
fn named(
    rule: &Rule,
    tree: &Template,
    sources: &[Source],
    known: &dyn KnownActions,
) -> Result<Named, Vec<Problem>> {
    let mut named = Named::default();
    let mut problems = Vec::new();
    let compared = compared(tree);
    for literal in rule.policy.entity_literals() {
        if literal.type_name().basename() != "Action" {
            continue;
        }
        let name = literal.id().unescaped();
        match vocabulary::look_up(name, known) {
            Ok(Name::Fixed | Name::Service(_))
                if compared.contains(name) && !OWN_ACTIONS.contains(&name) =>
            {
                let message = format!(
                    "{name:?} is a group of actions, which no action is equal to: write `action in Action::{name:?}`"
                );
                problems.push(rule.problem_near(sources, &format!("{name:?}"), message));
            }
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

/// The actions, or groups of them, that something is compared with by `==` or `!=`.
fn compared(tree: &Template) -> BTreeSet<String> {
    let mut compared = BTreeSet::new();
    if let ActionConstraint::Eq(uid) = &tree.action {
        compared.insert(uid.eid.to_string());
    }
    for clause in tree.clauses() {
        let (Clause::When(condition) | Clause::Unless(condition)) = clause;
        compared.extend(condition.reduce(
            &|part| match part {
                Expr::BinaryOp {
                    op: BinaryOp::Eq | BinaryOp::NotEq,
                    left,
                    right,
                } => literal(left).or_else(|| literal(right)),
                _ => None,
            },
            &|one, other| &one | &other,
            BTreeSet::new(),
        ));
    }
    compared
}

fn literal(expression: &Expr) -> Option<BTreeSet<String>> {
    match expression {
        Expr::Literal(Literal::EntityUID(uid)) => Some([uid.eid.to_string()].into()),
        _ => None,
    }
}

/// What Cedar's validator finds. Its warnings are about policies that can never apply and text that deceives the eye:
/// neither has a place here.
fn unsound(some: &[&Rule], read: &[Read], sources: &[Source], schema: &str) -> Vec<Problem> {
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
    let found: Vec<_> = errors.chain(warnings).collect();
    let goes_without_saying = |(id, error): &&(&PolicyId, DetailedError)| {
        complaints::follows_from_others(&error.message)
            && found.iter().any(|(other, error)| {
                other == id && !complaints::follows_from_others(&error.message)
            })
    };
    let said = found.iter().filter(|it| !goes_without_saying(it));
    let mut told = BTreeSet::new();
    let mut problems = Vec::new();
    for (id, error) in said {
        let rule = &read[place_of(id)].rule;
        let prefix = format!("policy `{id}`");
        let shown = format!("policy {}", rule.reference.id);
        let mut problem = rule.source(sources).complaint(error, "");
        problem.message = complaints::reworded(&problem.message.replace(&prefix, &shown));
        if error.source_locations.is_empty() {
            problem.line = rule.reference.line;
        }
        if told.insert((problem.line, problem.message.clone())) {
            problems.push(problem);
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;
    use crate::policy::{
        load,
        tests::{Few, source},
    };

    const PRINCIPALS: [&str; 10] = [
        "principal",
        "principal == Principal::\"a#b\"",
        "principal in Group::\"agents\"",
        "principal in Group::\"\u{433}roup\"",
        "principal is Principal in Group::\"agents\"",
        "principal == Group::\"agents\"",
        "principal in Action::\"read\"",
        "principal in Nothing::\"x\"",
        "principal is Host",
        "principal in Project::\"p\"",
    ];
    const ACTIONS: [&str; 9] = [
        "action",
        "action == Action::\"sql.instances.delete\"",
        "action == Action::\"delete\"",
        "action in Action::\"delete\"",
        "action in Action::\"sql.*\"",
        "action in [Action::\"sql.instances.delete\", Action::\"sql.users.insert\", Action::\"compute.*\"]",
        "action in [Action::\"net\", Action::\"net.connect\"]",
        "action == Action::\"google.unknown\"",
        "action == Other::Action::\"read\"",
    ];
    const RESOURCES: [&str; 7] = [
        "resource",
        "resource in Project::\"p\"",
        "resource == Resource::\"//sqladmin.googleapis.com/x\"",
        "resource in Host::\"\u{430}pi.example.com\"",
        "resource in Group::\"agents\"",
        "resource is Host",
        "resource is Resource in Host::\"example.com\"",
    ];
    const CONDITIONS: [&str; 13] = [
        "",
        "when { context.port > 1 }",
        "when { context has port && context.port > 1 }",
        "when { resource.name like \"*x*\" }",
        "when { context.nothing }",
        "when { context.method }",
        "when { principal in Group::\"agents\" }",
        "when { action == Action::\"sql.instances.delete\" }",
        "when { action in Action::\"read\" && resource in Project::\"p\" }",
        "when { false }",
        "when { resource.name == \"p\u{430}ypal\" }",
        "unless { principal.hasTag(\"x\") && principal.getTag(\"x\") == \"y\" }",
        "when { principal.getTag(\"x\") == \"y\" } unless { context.now > datetime(\"never\") }",
    ];

    fn any_policy() -> impl Strategy<Value = String> {
        let parts = (
            select(&PRINCIPALS[..]),
            select(&ACTIONS[..]),
            select(&RESOURCES[..]),
            select(&CONDITIONS[..]),
        );
        parts.prop_map(|(principal, action, resource, condition)| {
            format!("forbid({principal}, {action}, {resource}) {condition};")
        })
    }

    /// What the validator says of each policy with a schema of its own.
    fn one_by_one(read: &[Read], sources: &[Source]) -> Vec<Problem> {
        let of = |Read { rule, tree }: &Read| match named(rule, tree, sources, &Few) {
            Ok(named) => {
                let schema = named.schema(&Scope::of(&tree.action));
                unsound(&[rule], read, sources, &schema)
            }
            Err(problems) => problems,
        };
        read.iter().flat_map(of).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn twins_hide_no_problem(policies in proptest::collection::vec(any_policy(), 1..8)) {
            let sources = [source(&policies.join("\n"))];
            let (read, problems) = load::read(&sources);
            prop_assert!(problems.is_empty(), "{problems:?}");
            let sort = |mut problems: Vec<Problem>| {
                problems.sort_by(|a, b| (a.line, &a.message).cmp(&(b.line, &b.message)));
                problems
            };
            prop_assert_eq!(
                sort(super::problems(&read, &sources, &Few)),
                sort(one_by_one(&read, &sources))
            );
        }
    }
}
