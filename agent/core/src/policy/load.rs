//! From files to checked rules.

use std::collections::BTreeMap;

use cedar_policy::{Policy, PolicyId, PolicySet, ffi::DetailedError, pst};

use super::{
    PolicyRef, Problem, Source,
    annotations::{self, Role},
    asked::Asks,
    index, literals,
    plain::Plain,
    reads::{IN, Reads},
    validate,
    vocabulary::KnownActions,
};
use crate::{digest::Digest, operation::Trait};

/// One policy, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Its id is its place among all rules that were loaded together.
    pub(super) policy: Policy,
    /// The same for those whom its head is known to be about: its conditions alone, unless the head says more than names. It takes Cedar
    /// half of the time.
    pub(super) conditions: Policy,
    pub(super) reference: PolicyRef,
    pub(super) role: Role,
    pub(super) asks: Asks,
    pub(super) reads: Reads,
    /// What an operation has to be for it to match.
    pub(super) plain: Option<Plain>,
    /// Whether it matches whatever is that, and what its head names.
    pub(super) bare: bool,
}

/// A rule, and what checking it takes besides. Cedar makes a tree of a policy by reading its text again, which takes longer than
/// anything that is done with it here: so that is done once.
pub(super) struct Read {
    pub(super) rule: Rule,
    pub(super) tree: pst::Template,
}

/// Reads and checks every file.
pub(super) fn rules(
    sources: &[Source],
    known: &dyn KnownActions,
) -> Result<Vec<Rule>, Vec<Problem>> {
    let (read, mut problems) = read(sources);
    problems.extend(repeated_ids(&read));
    problems.extend(unknown_traits(&read, sources));
    problems.extend(evasive(&read, sources));
    problems.extend(validate::problems(&read, sources, known));
    if problems.is_empty() {
        Ok(read.into_iter().map(|read| read.rule).collect())
    } else {
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        problems.dedup();
        Err(problems)
    }
}

/// Each policy by itself.
pub(super) fn read(sources: &[Source]) -> (Vec<Read>, Vec<Problem>) {
    let mut read = Vec::new();
    let mut problems = Vec::new();
    for source in sources {
        match parse(source) {
            Ok(policies) => {
                for (policy, start) in policies {
                    match rule(read.len(), &policy, start, source) {
                        Ok(rule) => read.push(rule),
                        Err(found) => problems.extend(found),
                    }
                }
            }
            Err(found) => problems.extend(found),
        }
    }
    (read, problems)
}

/// Where in a file a policy begins.
#[derive(Clone, Copy)]
struct Start {
    at: usize,
    line: u32,
}

/// The policies of one file and where in it each begins, in order.
fn parse(source: &Source) -> Result<Vec<(Policy, Start)>, Vec<Problem>> {
    let set: PolicySet = source
        .text
        .parse()
        .map_err(|errors: cedar_policy::ParseErrors| {
            let errors = errors.iter().map(DetailedError::from);
            errors
                .map(|error| source.not_a_policy(&error))
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
    let mut start = Start { at: 0, line: 1 };
    let places = policies.into_iter().map(|policy| {
        // A policy prints as the text it was read from.
        let text = policy.to_string();
        let at = from + source.text[from..].find(&text).unwrap_or_default();
        from = (at + text.len()).min(source.text.len());
        start = Start {
            at,
            line: start.line + newlines(&source.text[start.at..at]),
        };
        (policy.clone(), start)
    });
    Ok(places.collect())
}

fn rule(
    place: usize,
    policy: &Policy,
    Start { at, line }: Start,
    source: &Source,
) -> Result<Read, Vec<Problem>> {
    let not_taken_apart = |error: pst::PstConstructionError| {
        let message = format!("it cannot be taken apart: {error}");
        vec![source.problem(at, message)]
    };
    let tree = policy.to_pst().map_err(not_taken_apart)?;
    let tree = tree.body().clone();
    let names_only = index::names_only(policy);
    let conditions = match names_only {
        true => without_head(&tree).map_err(not_taken_apart)?,
        false => policy.clone(),
    };
    let role = annotations::role(policy).map_err(|complaints| {
        let text = &source.text[at..];
        let problem = |complaint: String| {
            let annotation = complaint.split(['(', ' ']).next().unwrap_or_default();
            let at = at + text.find(annotation).unwrap_or_default();
            source.problem(at, complaint.clone())
        };
        complaints.into_iter().map(problem).collect::<Vec<_>>()
    })?;
    let stem = source.file.strip_suffix(".cedar").unwrap_or(&source.file);
    let id = policy
        .annotation("id")
        .map_or_else(|| format!("{stem}:{line}"), str::to_owned);
    let rule = Rule {
        policy: policy.new_id(PolicyId::new(place.to_string())),
        reference: PolicyRef {
            id,
            file: source.file.clone(),
            line,
            sha256: Some(Digest::of_bytes(policy.to_string().as_bytes())),
        },
        role,
        conditions,
        asks: Asks::of(&tree),
        reads: match names_only {
            true => Reads::of(&tree),
            false => Reads::of(&tree).and(Reads::attribute(IN)),
        },
        plain: Plain::needed_by(&tree),
        bare: names_only && Plain::is_all_of(&tree),
    };
    Ok(Read { rule, tree })
}

fn without_head(tree: &pst::Template) -> Result<Policy, pst::PstConstructionError> {
    let mut tree = tree.clone();
    tree.principal = pst::PrincipalConstraint::Any;
    tree.action = pst::ActionConstraint::Any;
    tree.resource = pst::ResourceConstraint::Any;
    tree.annotations.clear();
    let tree = pst::StaticPolicy::try_from(tree)?;
    Policy::from_pst(pst::Policy::Static(tree))
}

/// Policies that would do without the target where it cannot be looked up.
fn evasive(read: &[Read], sources: &[Source]) -> Vec<Problem> {
    let rules = read.iter().map(|read| &read.rule);
    let rules = rules.filter(|rule| rule.asks.evades);
    let problem = |rule: &Rule| {
        let message = "context.target is looked up where a policy asks for it, and the operation is denied where that is not \
            possible: do not ask whether it is there (`context has target`), nor for `context` as a whole";
        rule.problem_near(sources, "context", message.to_owned())
    };
    rules.map(problem).collect()
}

fn repeated_ids(read: &[Read]) -> Vec<Problem> {
    let mut first: BTreeMap<&str, &PolicyRef> = BTreeMap::new();
    let mut problems = Vec::new();
    for Read { rule, .. } in read {
        let reference = &rule.reference;
        if let Some(other) = first.insert(&reference.id, reference) {
            problems.push(Problem {
                file: reference.file.clone(),
                line: reference.line,
                message: format!(
                    "there is another policy with the id {:?} in {}:{}; give one of them another @id",
                    reference.id, other.file, other.line
                ),
            });
        }
    }
    problems
}

fn unknown_traits(read: &[Read], sources: &[Source]) -> Vec<Problem> {
    let known = Trait::ALL.map(|known| format!("{:?}", known.name()));
    let known = known.join(" and ");
    let of_rule = |Read { rule, tree }: &Read| {
        literals::unknown_traits(tree)
            .into_iter()
            .map(|name| {
                let message = format!("there is no trait {name:?}; there are {known}");
                rule.problem_near(sources, &format!("{name:?}"), message)
            })
            .collect::<Vec<_>>()
    };
    read.iter().flat_map(of_rule).collect()
}

/// The place of the rule that Cedar means by an id.
///
/// # Panics
/// When the id was not given by [`Rule::at`].
pub(super) fn place_of(id: &PolicyId) -> usize {
    let id: &str = id.as_ref();
    id.parse().expect("Cedar knows only ids of rules")
}

impl Rule {
    /// The same rule in another place.
    pub(super) fn at(self, place: usize) -> Self {
        let id = PolicyId::new(place.to_string());
        Self {
            policy: self.policy.new_id(id.clone()),
            conditions: self.conditions.new_id(id),
            ..self
        }
    }

    pub(super) fn forbids(&self) -> bool {
        !matches!(self.role, Role::Permit { .. })
    }

    pub(super) fn holds(&self) -> bool {
        matches!(self.role, Role::Hold { .. })
    }

    pub(super) fn source<'a>(&self, sources: &'a [Source]) -> &'a Source {
        sources
            .iter()
            .find(|source| source.file == self.reference.file)
            .expect("every rule comes from a source")
    }

    /// A problem on the line of this policy on which `text` stands.
    pub(super) fn problem_near(&self, sources: &[Source], text: &str, message: String) -> Problem {
        let own = self.policy.to_string();
        let before = own.find(text).map_or("", |at| &own[..at]);
        Problem {
            file: self.source(sources).file.clone(),
            line: self.reference.line.saturating_add(newlines(before)),
            message,
        }
    }
}

impl Source {
    pub(super) fn line(&self, at: usize) -> u32 {
        newlines(&self.text.as_bytes()[..at.min(self.text.len())]).saturating_add(1)
    }

    pub(super) fn problem(&self, at: usize, message: String) -> Problem {
        Problem {
            file: self.file.clone(),
            line: self.line(at),
            message,
        }
    }

    fn not_a_policy(&self, error: &DetailedError) -> Problem {
        let mut problem = self.complaint(error, "not a policy: ");
        let at = error.source_locations.first();
        let before = at.and_then(|label| self.text.get(..label.loc.start));
        let annotation = before.and_then(|before| Some(&before[before.rfind('@')?..]));
        if annotation.is_some_and(|it| it.contains('(') && !it.contains(')')) {
            problem.message += "; an annotation has one text in quotes, such as @min_approvals(\"2\") or @grantable(\"resource, project\")";
        }
        problem
    }

    pub(super) fn complaint(&self, error: &DetailedError, prefix: &str) -> Problem {
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

fn newlines(text: impl AsRef<[u8]>) -> u32 {
    let lines = text.as_ref().iter().filter(|byte| **byte == b'\n').count();
    u32::try_from(lines).unwrap_or(u32::MAX)
}
