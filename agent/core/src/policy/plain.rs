//! Conditions that can be told without Cedar, because few operations meet them and many policies begin with one.

use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, Template, Var};

use super::asked::UNREADABLE;
use crate::operation::{Content, Operation, Trait};

/// What an operation plainly is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Plain {
    /// `context.traits.contains("...")`
    Has(Trait),
    /// `context.unreadable`
    Unreadable,
}

impl Plain {
    /// All that this operation is.
    pub(super) fn of(operation: &Operation) -> impl Iterator<Item = Self> {
        let unreadable = matches!(operation.content, Content::Unreadable(_));
        let traits = operation.traits.iter().copied().map(Self::Has);
        traits.chain(unreadable.then_some(Self::Unreadable))
    }

    /// What an operation has to be for the only condition of `policy` to get past its first part. What is behind that is not even
    /// evaluated of others, so that it cannot fail either.
    pub(super) fn needed_by(policy: &Template) -> Option<Self> {
        match policy.clauses().as_slice() {
            [Clause::When(condition)] => Self::begins(condition),
            _ => None,
        }
    }

    /// Whether `policy` has no conditions, but for the one that [`Self::needed_by`] finds.
    pub(super) fn is_all_of(policy: &Template) -> bool {
        match policy.clauses().as_slice() {
            [] => true,
            [Clause::When(condition)] => Self::alone(condition).is_some(),
            _ => false,
        }
    }

    fn begins(condition: &Expr) -> Option<Self> {
        match condition {
            Expr::BinaryOp {
                op: BinaryOp::And,
                left,
                ..
            } => Self::begins(left),
            other => Self::alone(other),
        }
    }

    fn alone(condition: &Expr) -> Option<Self> {
        match condition {
            Expr::BinaryOp {
                op: BinaryOp::Contains,
                left,
                right,
            } if is_context(left, "traits") => match right.as_ref() {
                Expr::Literal(Literal::String(name)) => {
                    let known = Trait::ALL.into_iter().find(|known| known.name() == name);
                    known.map(Self::Has)
                }
                _ => None,
            },
            expression if is_context(expression, UNREADABLE) => Some(Self::Unreadable),
            _ => None,
        }
    }
}

fn is_context(expression: &Expr, attribute: &str) -> bool {
    matches!(expression, Expr::GetAttr { expr, attr } if **expr == Expr::Var(Var::Context) && attr == attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_part_that_has_to_hold_counts() {
        let needed = |conditions: &str| {
            let text = format!("forbid(principal, action, resource) {conditions};");
            let policy: cedar_policy::Policy = text.parse().expect("a policy");
            Plain::needed_by(policy.to_pst().expect("any has one").body())
        };
        let public = Some(Plain::Has(Trait::PublicAccess));
        for (conditions, expected) in [
            ("", None),
            (
                "when { context.traits.contains(\"public-access\") }",
                public,
            ),
            (
                "when { context.traits.contains(\"public-access\") && context.port > 1 && true }",
                public,
            ),
            ("when { context.unreadable }", Some(Plain::Unreadable)),
            ("when { !context.unreadable }", None),
            ("when { context.traits.contains(\"nothing\") }", None),
            (
                "when { context.port > 1 && context.traits.contains(\"public-access\") }",
                None,
            ),
            (
                "when { context.traits.contains(\"public-access\") || true }",
                None,
            ),
            ("when { !context.traits.contains(\"public-access\") }", None),
            (
                "unless { context.traits.contains(\"public-access\") }",
                None,
            ),
            (
                "when { context.traits.contains(\"public-access\") } when { context.port > 1 }",
                None,
            ),
        ] {
            assert_eq!(needed(conditions), expected, "{conditions}");
        }
    }
}
