//! Traits are strings to Cedar: nobody else notices that one does not exist.

use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, Template, Var};

use crate::operation::Trait;

/// The strings that `context.traits` is asked for in a policy and that name no trait.
pub(super) fn unknown(policy: &Template) -> Vec<String> {
    let clauses = policy.clauses().iter();
    let mut asked: Vec<_> = clauses
        .flat_map(|clause| match clause {
            Clause::When(condition) | Clause::Unless(condition) => asked_for(condition),
        })
        .collect();
    asked.retain(|name| Trait::named(name).is_none());
    asked
}

fn asked_for(condition: &Expr) -> Vec<String> {
    let found = |expression: &Expr| match expression {
        Expr::BinaryOp {
            op: BinaryOp::Contains | BinaryOp::ContainsAll | BinaryOp::ContainsAny,
            left,
            right,
        } if is_traits(left) => Some(strings(right)),
        _ => None,
    };
    condition.reduce(&found, &joined, Vec::new())
}

fn is_traits(expression: &Expr) -> bool {
    matches!(expression, Expr::GetAttr { expr, attr } if **expr == Expr::Var(Var::Context) && attr == "traits")
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
