//! Heads and conditions that contradict themselves, or what operations are like.

use cedar_policy::{
    EntityUid, Policy, ResourceConstraint,
    pst::{BinaryOp, Clause, Expr, Literal, Var},
};

use crate::{
    operation::{Action, Trait},
    policy::{
        doubts::actions,
        load::Rule,
        vocabulary::{self, KnownActions, NET, Name},
    },
};

/// Why a rule can never match.
pub(super) struct Reason {
    pub(super) message: String,
    /// Text of the policy on the line it is about.
    pub(super) near: String,
}

fn reason(near: &str, message: impl Into<String>) -> Option<Reason> {
    Some(Reason {
        message: message.into(),
        near: near.to_owned(),
    })
}

/// Why a rule can never match; none where it may.
pub(super) fn reasons(rule: &Rule, known: &dyn KnownActions) -> Vec<Reason> {
    let policy = &rule.policy;
    let about = About::of(policy);
    let conditions = conditions(policy);
    let conjuncts: Vec<&Expr> = conditions.iter().flat_map(|it| conjuncts(it)).collect();
    let literals = policy.entity_literals();
    let mut reasons: Vec<_> = literals.iter().filter_map(misspelt).collect();
    reasons.extend(in_a_project(policy, about));
    reasons.extend(conjuncts.iter().filter_map(|it| unlike(it, about)));
    reasons.extend(
        conjuncts
            .iter()
            .filter_map(|it| not_of_the_method(it, policy, known)),
    );
    reasons.extend(contradiction(&conjuncts));
    reasons
}

/// Which operations a head is about.
#[derive(Clone, Copy)]
struct About {
    connections: bool,
    hosts: bool,
    google: bool,
}

impl About {
    fn of(policy: &Policy) -> Self {
        let Some(names) = actions(policy) else {
            return Self {
                connections: true,
                hosts: true,
                google: true,
            };
        };
        let is = |wanted: &[&str]| names.iter().any(|name| wanted.contains(&name.as_str()));
        let nets = [NET, Action::NET_CONNECT, Action::NET_RESOLVE];
        Self {
            connections: is(&[NET, Action::NET_CONNECT]),
            hosts: is(&nets),
            google: names.iter().any(|name| !nets.contains(&name.as_str())),
        }
    }
}

fn conditions(policy: &Policy) -> Vec<Expr> {
    if !policy.has_non_scope_constraint() {
        return Vec::new();
    }
    let Ok(policy) = policy.to_pst() else {
        return Vec::new();
    };
    let clauses = policy.body().clauses().iter();
    let when = clauses.filter_map(|clause| match clause {
        Clause::When(condition) => Some(condition.as_ref().clone()),
        Clause::Unless(_) => None,
    });
    when.collect()
}

/// All that have to hold for the whole to hold.
fn conjuncts(condition: &Expr) -> Vec<&Expr> {
    match condition {
        Expr::BinaryOp {
            op: BinaryOp::And,
            left,
            right,
        } => [conjuncts(left), conjuncts(right)].concat(),
        other => vec![other],
    }
}

/// An entity that nothing is ever called.
fn misspelt(uid: &EntityUid) -> Option<Reason> {
    let id = uid.id().unescaped();
    let near = format!("{id:?}");
    match uid.type_name().basename() {
        "Principal" if !id.contains('#') => reason(
            &near,
            format!(
                "no principal is called {id:?}; write Principal::\"ISSUER#SUBJECT\", or Group::{id:?} for a group"
            ),
        ),
        "Project" if id.contains('/') => {
            let last = id.rsplit('/').next().unwrap_or_default();
            reason(
                &near,
                format!("no project is called {id:?}; write Project::{last:?}"),
            )
        }
        "Host" if !is_host(id) => reason(
            &near,
            format!(
                "no host is called {id:?}; write its name alone, in lower case: Host::\"example.com\" covers the names below it too"
            ),
        ),
        _ => None,
    }
}

fn is_host(id: &str) -> bool {
    let fits =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    !id.is_empty() && !id.starts_with('.') && !id.ends_with('.') && id.chars().all(fits)
}

fn in_a_project(policy: &Policy, about: About) -> Option<Reason> {
    let (ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid)) =
        policy.resource_constraint()
    else {
        return None;
    };
    let only_hosts = !about.google && uid.type_name().basename() == "Project";
    only_hosts
        .then(|| reason("Project::", NO_PROJECT))
        .flatten()
}

const NO_PROJECT: &str =
    "net.* is about hosts, which are in no project; write `resource in Host::\"...\"`";

/// A condition on something that no operation of the head has.
fn unlike(condition: &Expr, about: About) -> Option<Reason> {
    match condition {
        Expr::HasAttr { expr, attrs } => match (expr.as_ref(), attrs.first().as_str()) {
            (Expr::Var(Var::Context), "port") if !about.connections => {
                reason("port", "only net.connect has a port")
            }
            (Expr::Var(Var::Resource), "project" | "location") if !about.google => {
                reason("has", NO_PROJECT)
            }
            _ => None,
        },
        Expr::BinaryOp { op, left, right } => {
            let value = text(right)?;
            match (op, attribute_of_context(left)?) {
                (BinaryOp::Contains, "traits") => of_trait(value, about),
                (BinaryOp::HasTag, field @ ("body" | "query")) if !about.google => reason(
                    field,
                    format!("net.* is about hosts, of which context.{field} is empty"),
                ),
                (BinaryOp::Eq, "method") if value != value.to_ascii_uppercase() => reason(
                    value,
                    format!(
                        "verbs are in upper case; write {:?}",
                        value.to_ascii_uppercase()
                    ),
                ),
                (BinaryOp::Eq, "method") if !about.google => reason(
                    "method",
                    "net.* is about hosts, and context.method is empty there",
                ),
                _ => None,
            }
        }
        _ => None,
    }
}

fn of_trait(name: &str, about: About) -> Option<Reason> {
    let known = Trait::ALL.into_iter().find(|known| known.name() == name)?;
    match known {
        Trait::OwnHost | Trait::PublicResolver if !about.hosts => reason(
            name,
            format!("{name:?} is a trait of net.connect and net.resolve only"),
        ),
        Trait::OpenToInternet | Trait::PublicAccess if !about.google => reason(
            name,
            format!("{name:?} is a trait of Google's methods only"),
        ),
        _ => None,
    }
}

/// A condition that the catalog contradicts, for a head that names nothing but methods.
fn not_of_the_method(
    condition: &Expr,
    policy: &Policy,
    known: &dyn KnownActions,
) -> Option<Reason> {
    let Expr::BinaryOp { op, left, right } = condition else {
        return None;
    };
    let value = text(right)?;
    let methods = actions(policy)?;
    let all = |holds: &dyn Fn(&str) -> bool| {
        let is_method =
            |name: &str| matches!(vocabulary::look_up(name, known), Ok(Name::Method(_)));
        methods.iter().all(|name| is_method(name) && holds(name))
    };
    match (op, attribute_of_context(left)?) {
        (BinaryOp::Eq, "method") if all(&|id| known.verb(id).is_some_and(|verb| verb != value)) => {
            let first = methods.first()?;
            reason(
                value,
                format!(
                    "the verb of {first} is {:?}",
                    known.verb(first).unwrap_or_default()
                ),
            )
        }
        (BinaryOp::HasTag, "query") if all(&|id| known.takes_in_path(id, value)) => reason(
            value,
            format!(
                "{value:?} is part of the path of {}, never of the query; ask resource.name",
                methods.first()?
            ),
        ),
        _ => None,
    }
}

/// One expression that has to equal two things.
fn contradiction(conjuncts: &[&Expr]) -> Option<Reason> {
    let equations = conjuncts.iter().filter_map(|it| match it {
        Expr::BinaryOp {
            op: BinaryOp::Eq,
            left,
            right,
        } if matches!(right.as_ref(), Expr::Literal(_)) => Some((left, right)),
        _ => None,
    });
    let equations: Vec<_> = equations.collect();
    let both = equations
        .iter()
        .enumerate()
        .find_map(|(place, (left, right))| {
            let others = equations[place + 1..].iter();
            let other = others
                .clone()
                .find(|(same, other)| same == left && other != right)?;
            Some((left, right, other.1))
        });
    let (left, one, other) = both?;
    reason(
        &other.to_string(),
        format!(
            "{left} cannot be {one} and {other} at once; write `||` between them, or two policies"
        ),
    )
}

fn attribute_of_context(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::GetAttr { expr, attr } if **expr == Expr::Var(Var::Context) => Some(attr),
        _ => None,
    }
}

fn text(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Literal(Literal::String(text)) => Some(text),
        _ => None,
    }
}
