//! From files to checked rules.

use std::collections::BTreeMap;

use cedar_policy::{
    Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator, ffi::DetailedError,
};

use super::{
    PolicyRef, Problem, Source,
    annotations::{self, Role},
    schema::Named,
    slice::Scope,
    traits,
    vocabulary::{self, KnownActions, Name},
};
use crate::operation::Trait;

/// One policy, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// With an id of its own among all rules that were loaded together.
    pub(super) policy: Policy,
    pub(super) reference: PolicyRef,
    pub(super) role: Role,
    pub(super) scope: Scope,
}

/// Reads and checks every file.
pub(super) fn rules(
    sources: &[Source],
    known: &dyn KnownActions,
) -> Result<Vec<Rule>, Vec<Problem>> {
    let mut rules = Vec::new();
    let mut problems = Vec::new();
    for source in sources {
        match parse(source) {
            Ok(policies) => {
                for (policy, start) in policies {
                    match rule(rules.len(), &policy, start, source) {
                        Ok(rule) => rules.push(rule),
                        Err(found) => problems.extend(found),
                    }
                }
            }
            Err(found) => problems.extend(found),
        }
    }
    problems.extend(repeated_ids(&rules));
    problems.extend(unknown_traits(&rules, sources));
    let named = named_actions(&rules, sources, known).unwrap_or_else(|found| {
        problems.extend(found);
        None
    });
    if let Some(named) = named {
        problems.extend(invalid(&rules, sources, &named));
    }
    if problems.is_empty() {
        Ok(rules)
    } else {
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        problems.dedup();
        Err(problems)
    }
}

/// The policies of one file and where in it each begins, in order.
fn parse(source: &Source) -> Result<Vec<(Policy, usize)>, Vec<Problem>> {
    let set: PolicySet = source
        .text
        .parse()
        .map_err(|errors: cedar_policy::ParseErrors| {
            let errors = errors.iter().map(DetailedError::from);
            errors
                .map(|error| source.complaint(&error, "not a policy: "))
                .collect::<Vec<_>>()
        })?;
    if let Some(template) = set.templates().next() {
        let at = source.text.find(&template.to_string()).unwrap_or_default();
        let message = "a policy with ?principal or ?resource is a template; name them instead";
        return Err(vec![source.problem(at, message.to_owned())]);
    }
    let mut policies: Vec<_> = set.policies().collect();
    // Cedar numbers them as they come: policy0, policy1, ...
    policies.sort_by_key(|policy| {
        let id: &str = policy.id().as_ref();
        id.trim_start_matches(|c: char| !c.is_ascii_digit())
            .parse::<usize>()
            .unwrap_or(usize::MAX)
    });
    let mut from = 0;
    let places = policies.into_iter().map(|policy| {
        // A policy prints as the text it was read from.
        let text = policy.to_string();
        let start = from + source.text[from..].find(&text).unwrap_or_default();
        from = (start + text.len()).min(source.text.len());
        (policy.clone(), start)
    });
    Ok(places.collect())
}

fn rule(
    place: usize,
    policy: &Policy,
    start: usize,
    source: &Source,
) -> Result<Rule, Vec<Problem>> {
    let line = source.line(start);
    let role = annotations::role(policy).map_err(|complaints| {
        let text = &source.text[start..];
        let problem = |complaint: String| {
            let annotation = complaint.split(['(', ' ']).next().unwrap_or_default();
            let at = start + text.find(annotation).unwrap_or_default();
            source.problem(at, complaint.clone())
        };
        complaints.into_iter().map(problem).collect::<Vec<_>>()
    })?;
    let stem = source.file.strip_suffix(".cedar").unwrap_or(&source.file);
    let id = policy
        .annotation("id")
        .map_or_else(|| format!("{stem}:{line}"), str::to_owned);
    Ok(Rule {
        policy: policy.new_id(PolicyId::new(place.to_string())),
        reference: PolicyRef {
            id,
            file: source.file.clone(),
            line,
        },
        role,
        scope: Scope::of(policy),
    })
}

fn repeated_ids(rules: &[Rule]) -> Vec<Problem> {
    let mut first: BTreeMap<&str, &PolicyRef> = BTreeMap::new();
    let mut problems = Vec::new();
    for rule in rules {
        let reference = &rule.reference;
        if let Some(other) = first.insert(&reference.id, reference) {
            problems.push(Problem {
                file: reference.file.clone(),
                line: reference.line,
                message: format!(
                    "there is another policy with the id {:?} in {}:{}",
                    reference.id, other.file, other.line
                ),
            });
        }
    }
    problems
}

fn unknown_traits(rules: &[Rule], sources: &[Source]) -> Vec<Problem> {
    let known = Trait::ALL.map(|known| format!("{:?}", known.name()));
    let known = known.join(" and ");
    let of_rule = |rule: &Rule| {
        traits::unknown(&rule.policy)
            .into_iter()
            .map(|name| {
                let message = format!("there is no trait {name:?}; there are {known}");
                rule.problem_near(sources, &format!("{name:?}"), message)
            })
            .collect::<Vec<_>>()
    };
    rules.iter().flat_map(of_rule).collect()
}

/// The methods and services that the rules name. `None` where a name stands for nothing.
fn named_actions(
    rules: &[Rule],
    sources: &[Source],
    known: &dyn KnownActions,
) -> Result<Option<Named>, Vec<Problem>> {
    let mut named = Named::default();
    let mut problems = Vec::new();
    for rule in rules {
        for literal in rule.policy.entity_literals() {
            if literal.type_name().to_string() != "Action" {
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
                    problems.push(rule.problem_near(sources, &format!("{name:?}"), message))
                }
            }
        }
    }
    if problems.is_empty() {
        Ok(Some(named))
    } else {
        Err(problems)
    }
}

/// What Cedar's validator finds. Its warnings are about policies that can never apply and text that deceives the eye:
/// neither has a place here.
fn invalid(rules: &[Rule], sources: &[Source], named: &Named) -> Vec<Problem> {
    let (schema, _) = Schema::from_cedarschema_str(&named.schema())
        .expect("a schema made of checked names is a schema");
    let set = PolicySet::from_policies(rules.iter().map(|rule| rule.policy.clone()))
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
            let rule = rule_of(rules, id);
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

/// The rule that Cedar means by an id.
///
/// # Panics
/// When the id was not given by [`rule`].
pub(super) fn rule_of<'a>(rules: &'a [Rule], id: &PolicyId) -> &'a Rule {
    rules
        .iter()
        .find(|rule| rule.policy.id() == id)
        .expect("Cedar knows only ids of rules")
}

impl Rule {
    fn source<'a>(&self, sources: &'a [Source]) -> &'a Source {
        sources
            .iter()
            .find(|source| source.file == self.reference.file)
            .expect("every rule comes from a source")
    }

    /// A problem on the line of this policy on which `text` stands.
    fn problem_near(&self, sources: &[Source], text: &str, message: String) -> Problem {
        let own = self.policy.to_string();
        let before = own.find(text).map_or("", |at| &own[..at]);
        let lines = before.matches('\n').count();
        Problem {
            file: self.source(sources).file.clone(),
            line: self.reference.line + u32::try_from(lines).unwrap_or(u32::MAX),
            message,
        }
    }
}

impl Source {
    pub(super) fn line(&self, at: usize) -> u32 {
        let before = self.text.as_bytes().iter().take(at);
        let lines = before.filter(|byte| **byte == b'\n').count();
        u32::try_from(lines + 1).unwrap_or(u32::MAX)
    }

    pub(super) fn problem(&self, at: usize, message: String) -> Problem {
        Problem {
            file: self.file.clone(),
            line: self.line(at),
            message,
        }
    }

    fn complaint(&self, error: &DetailedError, prefix: &str) -> Problem {
        let at = error
            .source_locations
            .first()
            .map_or(0, |label| label.loc.start);
        let label = error
            .source_locations
            .first()
            .and_then(|label| label.label.as_deref())
            .map(|label| format!(" ({label})"));
        let help = error.help.as_deref().map(|help| format!("; {help}"));
        self.problem(
            at,
            format!(
                "{prefix}{}{}{}",
                error.message,
                label.unwrap_or_default(),
                help.unwrap_or_default()
            ),
        )
    }
}
