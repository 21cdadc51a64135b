//! What rules ask of the methods they name, and those do not have: fields, parameters, a target that can be looked up.

use crate::{
    catalog::{Catalog, Named, Requests},
    policy::{
        Problem, Source,
        asks::Asks,
        doubts::actions,
        load::Rule,
        vocabulary::{self, Name},
    },
    recognise::Reading,
    sql,
};

pub(super) fn about(
    rules: &[Rule],
    sources: &[Source],
    catalog: &Catalog,
    requests: &Requests,
) -> Vec<Problem> {
    let doubts = rules.iter().flat_map(|rule| {
        let Some(methods) = methods(rule, catalog) else {
            return Vec::new();
        };
        let asks = Asks::of(&rule.policy);
        let body = asks.body_fields().filter_map(|path| {
            let found = methods
                .iter()
                .map(|id| match sql::ACTIONS.contains_key(id.as_str()) {
                    true => statement_field(path),
                    false => requests.body_field(id, path),
                });
            unknown(path, "field", "body", &methods, found)
        });
        let query = asks.parameters().filter_map(|name| {
            let is_in_path = |id: &&str| vocabulary::KnownActions::takes_in_path(catalog, id, name);
            if methods.iter().any(|id| is_in_path(&id.as_str())) {
                return None;
            }
            let found = methods
                .iter()
                .map(|id| match sql::ACTIONS.contains_key(id.as_str()) {
                    true => Named::Unknown(None),
                    false => requests.parameter(id, name),
                });
            unknown(name, "parameter", "query", &methods, found)
        });
        let named: Vec<_> = body.chain(query).collect();
        let named = named
            .into_iter()
            .chain(not_to_be_looked_up(rule, &methods, catalog));
        named
            .map(|(near, message)| {
                let message = format!("policy {} {message}", rule.reference.id);
                rule.problem_near(sources, &near, message)
            })
            .collect()
    });
    doubts.collect()
}

/// All the methods that a rule's head is about, where it names them or their services.
fn methods(rule: &Rule, catalog: &Catalog) -> Option<Vec<String>> {
    let mut methods = Vec::new();
    for name in actions(&rule.policy)? {
        match vocabulary::look_up(&name, catalog) {
            Ok(Name::Method(_)) => methods.push(name),
            Ok(Name::Service(_)) => {
                let prefix = name.trim_end_matches('*');
                let all = catalog.methods().map(|method| method.id);
                let all = all.chain(sql::ACTIONS.keys().copied());
                methods.extend(all.filter(|id| id.starts_with(prefix)).map(str::to_owned));
            }
            Ok(Name::Fixed) | Err(_) => return None,
        }
    }
    methods.sort();
    methods.dedup();
    Some(methods)
}

/// What statements say, whatever they do.
fn statement_field(name: &str) -> Named {
    if sql::FIELDS.contains(&name) {
        return Named::Known;
    }
    let nearest = sql::FIELDS
        .into_iter()
        .min_by_key(|field| strsim::levenshtein(name, field));
    Named::Unknown(nearest.map(str::to_owned))
}

/// What to say where none of the methods has it; and the text it is about.
fn unknown(
    name: &str,
    noun: &str,
    part: &str,
    methods: &[String],
    found: impl Iterator<Item = Named>,
) -> Option<(String, String)> {
    let mut nearest = None;
    for found in found {
        match found {
            Named::Known | Named::NotTold => return None,
            Named::Unknown(near) => nearest = nearest.or(near),
        }
    }
    let advice = nearest.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    let message = format!(
        "asks for the {noun} {name:?} of context.{part}, which no request to {} has{advice}",
        these(methods)
    );
    Some((format!("{name:?}"), message))
}

fn these(methods: &[String]) -> String {
    match methods {
        [] => "anything".to_owned(),
        [one] => one.clone(),
        [first, others @ ..] => format!("{first} and {} more", others.len()),
    }
}

/// A rule of which the target is asked, and cannot be had, denies.
fn not_to_be_looked_up(
    rule: &Rule,
    methods: &[String],
    catalog: &Catalog,
) -> Option<(String, String)> {
    if !rule.asks.target {
        return None;
    }
    let (can, cannot): (Vec<_>, Vec<_>) = methods
        .iter()
        .cloned()
        .partition(|id| Reading::is_possible(catalog, id));
    let is_named = |id: &String| rule.policy.to_string().contains(&format!("{id:?}"));
    let cannot: Vec<_> = match can.is_empty() {
        true => cannot,
        // Of a service's methods, some have none: that is no surprise.
        false => cannot.into_iter().filter(is_named).collect(),
    };
    (!cannot.is_empty()).then(|| {
        let message = format!(
            "asks for context.target, which cannot be looked up for {}: Google has no get method for what that is about, so \
             that the rule denies it; leave it to another rule that does not ask",
            these(&cannot)
        );
        ("context.target".to_owned(), message)
    })
}
