//! Traits and kinds of data are strings to Cedar: nobody else notices that one does not exist.

use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, Template, Var};

use crate::operation::Trait;

/// The strings that `context.traits` is asked for in a policy and that name no trait.
pub(super) fn unknown_traits(policy: &Template) -> Vec<String> {
    let mut asked = of(policy, "traits");
    asked.retain(|name| Trait::named(name).is_none());
    asked
}

/// The strings that a set of the context is asked for in a policy.
pub(super) fn of(policy: &Template, set: &str) -> Vec<String> {
    let clauses = policy.clauses().iter();
    let asked = clauses.flat_map(|clause| match clause {
        Clause::When(condition) | Clause::Unless(condition) => asked_for(condition, set),
    });
    asked.collect()
}

fn asked_for(condition: &Expr, set: &str) -> Vec<String> {
    let found = |expression: &Expr| match expression {
        Expr::BinaryOp {
            op: BinaryOp::Contains | BinaryOp::ContainsAll | BinaryOp::ContainsAny,
            left,
            right,
        } if is_set(left, set) => Some(strings(right)),
        _ => None,
    };
    condition.reduce(&found, &joined, Vec::new())
}

fn is_set(expression: &Expr, set: &str) -> bool {
    matches!(expression, Expr::GetAttr { expr, attr } if **expr == Expr::Var(Var::Context) && attr == set)
}

fn strings(expression: &Expr) -> Vec<String> {
    let text = |part: &Expr| match part {
        Expr::Literal(Literal::String(text)) => Some(vec![text.to_string()]),
        _ => None,
    };
    expression.reduce(&text, &joined, Vec::new())
}

fn joined(mut some: Vec<String>, more: Vec<String>) -> Vec<String> {
    some.extend(more);
    some
}
