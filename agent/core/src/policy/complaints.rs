//! What Cedar's validator says, in words that say what to write here.

use super::schema::{OF_CONTEXT, OF_RESOURCE, OF_TARGET, TYPES};

const NO_ACTION: &str = "unable to find an applicable action given the policy scope constraints";
const IMPOSSIBLE: &str =
    "policy is impossible: the policy expression evaluates to false for all valid requests";

/// One complaint. Cedar has one for each action of the schema, most of which stand in for others and mean nothing to whoever reads it: they
/// come out the same.
pub(super) fn reworded(message: &str) -> String {
    let message = without_action(message).replace(
        IMPOSSIBLE,
        "it can never match: no request meets its head and its conditions",
    );
    advised(&message).unwrap_or(message)
}

/// Whether it is said of whatever has something else wrong with it, too.
pub(super) fn follows_from_others(message: &str) -> bool {
    message.contains(NO_ACTION)
}

fn without_action(message: &str) -> String {
    let parts = message.split_once(" for Action::\"");
    match parts.and_then(|(before, rest)| Some((before, rest.split_once('"')?.1))) {
        Some((before, after)) => format!("{before}{after}"),
        None => message.to_owned(),
    }
}

fn advised(message: &str) -> Option<String> {
    if message.contains("optional attribute `") {
        // Only resources have any.
        return Some(message.replace("`e has ", "`resource has "));
    }
    if let Some((before, rest)) = message.split_once("unrecognized entity type `") {
        let (name, _) = rest.split_once('`')?;
        let advice = match nearest(name, &TYPES) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("there are {}", TYPES.join(", ")),
        };
        return Some(format!(
            "{before}unrecognized entity type `{name}`; {advice}"
        ));
    }
    let (before, rest) = message.split_once("attribute `")?;
    let (name, rest) = rest.split_once('`')?;
    let (place, _) = rest.split_once(" not found")?;
    let advice = match place {
        " in context" => of_context(name),
        " on entity type `Principal`" => of_principal(name),
        " on entity type `Resource`" => of_resource(name),
        " on entity type `Fields`" => format!(
            "fields and parameters are tags, each with all of its values: write `.hasTag({name:?}) && .getTag({name:?}).contains(\"...\")`"
        ),
        _ => return None,
    };
    Some(format!(
        "{before}attribute `{name}`{place} not found; {advice}"
    ))
}

fn of_context(name: &str) -> String {
    let (owner, known, name) = match name.split_once('.') {
        Some(("target", name)) => ("context.target", &OF_TARGET[..], name),
        _ => ("context", &OF_CONTEXT[..], name),
    };
    one_of(owner, known, name)
}

fn of_principal(name: &str) -> String {
    if matches!(name, "group" | "groups") {
        return "write `principal in Group::\"...\"`".to_owned();
    }
    format!(
        "there are `issuer` and `subject`; other claims are tags: write `principal.hasTag({name:?}) && principal.getTag({name:?}) == \"...\"`"
    )
}

fn of_resource(name: &str) -> String {
    match nearest(name, &OF_TARGET) {
        Some(looked_up) => {
            format!(
                "write `context.target.{looked_up}`, which is looked up where a policy asks for it"
            )
        }
        None => one_of("resource", &OF_RESOURCE, name),
    }
}

fn one_of(owner: &str, known: &[&str], name: &str) -> String {
    match nearest(name, known) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("`{owner}` has {}", known.join(", ")),
    }
}

/// One that may be meant.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |other: &str| strsim::damerau_levenshtein(name, other);
    let nearest = known.iter().copied().min_by_key(|other| distance(other))?;
    (distance(nearest) * 3 <= name.chars().count()).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use crate::policy::{
        Policies,
        tests::{Few, source},
    };

    fn complaints(text: &str) -> Vec<String> {
        let loaded = Policies::load_with(&[source(text)], &Few);
        let problems = loaded.err().expect("it is wrong");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_mistake_is_told_once_with_what_to_write() {
        for (rest, expected) in [
            (
                "resource) when { context.methd == \"GET\" }",
                "attribute `methd` in context not found; did you mean `method`?",
            ),
            (
                "resource) when { context.time > 8 }",
                "attribute `time` in context not found; `context` has method, host, ",
            ),
            (
                "resource) when { context.target.label.contains(\"a\") }",
                "attribute `target.label` in context not found; did you mean `labels`?",
            ),
            (
                "resource) when { principal.email == \"a\" }",
                "write `principal.hasTag(\"email\") && principal.getTag(\"email\") == \"...\"`",
            ),
            (
                "resource) when { principal.groups.contains(\"a\") }",
                "write `principal in Group::\"...\"`",
            ),
            (
                "resource) when { resource.labels.contains(\"a\") }",
                "write `context.target.labels`",
            ),
            (
                "resource) when { resource.bucket == \"a\" }",
                "`resource` has name, host, project, location",
            ),
            (
                "resource) when { resource.project == \"a\" }",
                "with `resource has project && ..`",
            ),
            (
                "resource) when { context.body.name == \"a\" }",
                "write `.hasTag(\"name\") && .getTag(\"name\").contains(\"...\")`",
            ),
            (
                "resource in Bucket::\"a\")",
                "unrecognized entity type `Bucket`; there are Action, ",
            ),
            (
                "resource in Projcet::\"a\")",
                "unrecognized entity type `Projcet`; did you mean `Project`?",
            ),
            ("resource) when { false }", "it can never match"),
        ] {
            let text = format!("permit(principal, action, {rest};");
            let found = complaints(&text);
            let [only] = found.as_slice() else {
                panic!("{text}\n{found:#?}");
            };
            assert!(only.contains(expected), "{text}\n{only}");
        }
    }

    #[test]
    fn a_group_of_actions_is_no_action() {
        for rule in [
            "permit(principal, action == Action::\"read\", resource);",
            "permit(principal, action, resource) unless { action == Action::\"sql.*\" };",
            "permit(principal, action, resource) when { resource.name like \"a*\" || Action::\"google\" != action };",
        ] {
            let found = complaints(rule);
            assert!(
                matches!(found.as_slice(), [one] if one.contains("is a group of actions, which no action is equal to: write `action in Action::")),
                "{rule}\n{found:#?}"
            );
        }
    }
}
