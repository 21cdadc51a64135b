//! What policies look at. To put an operation before Cedar takes longer than to judge it, so only what is asked about is put.

use cedar_policy::pst::{BinaryOp, Clause, Expr, Template, Var};

use super::asked::{CONTAINS, TARGET, UNREADABLE};

/// No attribute, but what principals, actions and resources are in.
pub(super) const IN: &str = "in";

/// Attributes that are left out where no policy reads them. One that is not listed is always there.
const LEFT_OUT: [&str; 16] = [
    "method", "host", "port", "path", "query", "body", UNREADABLE, "traits", TARGET, "name",
    "project", "location", "size", "now", CONTAINS, IN,
];

/// A set of attributes, whosoever they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads(u16);

impl Reads {
    pub(super) const EVERYTHING: Self = Self(u16::MAX);

    /// All that the conditions of a policy may look at.
    pub(super) fn of(policy: &Template) -> Self {
        let clauses = policy.clauses().iter();
        let reads = clauses.map(|clause| match clause {
            Clause::When(condition) | Clause::Unless(condition) => Self::in_expression(condition),
        });
        reads.fold(Self::default(), Self::and)
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether this attribute has to be there.
    pub(super) fn has(self, attribute: &str) -> bool {
        let place = LEFT_OUT.iter().position(|name| *name == attribute);
        place.is_none_or(|place| self.0 & (1 << place) != 0)
    }

    /// Whether it is none but these.
    pub(super) fn only(self, attributes: &[&str]) -> bool {
        let those = attributes.iter().map(|name| Self::attribute(name));
        self.0 & !those.fold(Self::default(), Self::and).0 == 0
    }

    /// The set of this one.
    pub(super) fn attribute(name: &str) -> Self {
        let place = LEFT_OUT.iter().position(|known| *known == name);
        place.map_or_else(Self::default, |place| Self(1 << place))
    }

    fn in_expression(expression: &Expr) -> Self {
        expression.reduce(
            &|part| match part {
                Expr::GetAttr { expr, attr } => Some(Self::below(expr).and(Self::attribute(attr))),
                Expr::HasAttr { expr, attrs } => Some(
                    attrs
                        .iter()
                        .map(|attr| Self::attribute(attr))
                        .fold(Self::below(expr), Self::and),
                ),
                Expr::BinaryOp {
                    op: BinaryOp::In,
                    left,
                    right,
                } => Some(
                    Self::attribute(IN)
                        .and(Self::in_expression(left))
                        .and(Self::in_expression(right)),
                ),
                Expr::Is {
                    expr,
                    in_expr: Some(within),
                    ..
                } => Some(
                    Self::attribute(IN)
                        .and(Self::in_expression(expr))
                        .and(Self::in_expression(within)),
                ),
                // Compared or passed on as a whole.
                Expr::Var(Var::Context) => Some(Self::EVERYTHING),
                _ => None,
            },
            &Self::and,
            Self::default(),
        )
    }

    fn below(expression: &Expr) -> Self {
        match expression {
            Expr::Var(_) => Self::default(),
            other => Self::in_expression(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_condition_can_look_at_is_read() {
        for (condition, attributes) in [
            ("when { true }", &[][..]),
            (
                "when { context.method == \"GET\" } unless { context has port }",
                &["method", "port"],
            ),
            (
                "when { context.body.getTag(\"name\").contains(\"path\") }",
                &["body"],
            ),
            (
                "when { resource has project && [resource.location].contains(\"x\") }",
                &["project", "location"],
            ),
            (
                "when { if context.unreadable then true else resource.name like \"*\" }",
                &["unreadable", "name"],
            ),
            ("when { {\"x\": context}.x.path == \"\" }", &LEFT_OUT),
            (
                "when { if principal in [Group::\"g\"] then true else context.unreadable }",
                &["unreadable", IN],
            ),
            (
                "when { resource is Resource in Project::\"p\" && action == Action::\"read\" }",
                &[IN],
            ),
            (
                "when { principal is Principal && action != Action::\"read\" }",
                &[],
            ),
            ("when { context == context }", &LEFT_OUT),
        ] {
            let text = format!("forbid(principal, action, resource) {condition};");
            let policy: cedar_policy::Policy = text.parse().expect("a policy");
            let reads = Reads::of(policy.to_pst().expect("any has one").body());
            let read: Vec<_> = LEFT_OUT.into_iter().filter(|it| reads.has(it)).collect();
            let mut expected = attributes.to_vec();
            expected.sort_by_key(|it| LEFT_OUT.iter().position(|known| known == it));
            assert_eq!(read, expected, "{condition}");
            assert!(reads.has("something new"));
        }
    }
}
