//! Policies that ask about what needs care: `context.target`, which has to be looked up, and `context.unreadable`.

use cedar_policy::pst::{Clause, Expr, Template, Var};

/// The attribute of the context that is looked up.
pub(super) const TARGET: &str = "target";
/// The attribute of the context that tells that a body could not be read.
pub(super) const UNREADABLE: &str = "unreadable";

/// The attribute of the context that takes scanning the request.
pub(super) const CONTAINS: &str = "contains";

/// What a policy asks about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asks {
    /// The target, or it may.
    pub(super) target: bool,
    /// Whether the body could be read.
    pub(super) unreadable: bool,
    /// What it contains, or it may.
    pub(super) contains: bool,
    /// It would have an answer without the target being known.
    pub(super) evades: bool,
}

impl Asks {
    pub(super) fn of(policy: &Template) -> Self {
        let clauses = policy.clauses().iter();
        let asks = clauses.map(|clause| match clause {
            Clause::When(condition) | Clause::Unless(condition) => Self::in_expression(condition),
        });
        asks.fold(Self::default(), Self::and)
    }

    fn anything() -> Self {
        Self {
            target: true,
            unreadable: false,
            contains: true,
            evades: true,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            target: self.target | other.target,
            unreadable: self.unreadable | other.unreadable,
            contains: self.contains | other.contains,
            evades: self.evades | other.evades,
        }
    }

    /// An attribute that is not there fails the evaluation, which denies. To ask whether it is there does not, and neither does
    /// comparing the context as a whole.
    fn in_expression(expression: &Expr) -> Self {
        expression.reduce(
            &|part| match part {
                Expr::GetAttr { expr, attr } if is_context(expr) => Some(Self {
                    target: attr == TARGET,
                    unreadable: attr == UNREADABLE,
                    contains: attr == CONTAINS,
                    evades: false,
                }),
                Expr::HasAttr { expr, attrs } if is_context(expr) => {
                    let asks = |name| attrs.iter().next().is_some_and(|attr| attr == name);
                    let target = asks(TARGET);
                    Some(Self {
                        target,
                        unreadable: false,
                        contains: asks(CONTAINS),
                        evades: target,
                    })
                }
                Expr::Var(Var::Context) => Some(Self::anything()),
                _ => None,
            },
            &Self::and,
            Self::default(),
        )
    }
}

fn is_context(expression: &Expr) -> bool {
    matches!(expression, Expr::Var(Var::Context))
}
