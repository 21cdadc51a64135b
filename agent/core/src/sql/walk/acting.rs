//! PostgreSQL's own functions that do what a command does: `nextval`, `setval`, `pg_notify`, advisory locks.

use pg_query::protobuf::Node;

use super::{Walk, last_two, session::constant};
use crate::sql::{Name, facts};

impl Walk {
    /// Adds what a call of such a function does. Which function it really is, is for the look-up to find out.
    pub(super) fn acting_function(&mut self, function: &[Node], args: &[Node]) {
        let Some(name) = last_two(function) else {
            return;
        };
        if name.schema.is_some_and(|schema| schema != "pg_catalog") {
            return;
        }
        let Some(action) = facts::called(&name.name) else {
            return;
        };
        let is_sequence = matches!(name.name.as_str(), "nextval" | "setval");
        let first = args.first().filter(|_| is_sequence).and_then(constant);
        let relation = first.as_deref().and_then(relation_in);
        self.names.relations.extend(relation.clone());
        self.does(action, relation);
    }

    /// What is looked at now, and runs later, if at all: the default of a column.
    pub(super) fn kept(&mut self, node: Option<&Node>) {
        let already = self.effects.len();
        self.maybe(node);
        let mut at = 0;
        self.effects.retain(|effect| {
            at += 1;
            at <= already || effect.opaque.is_some()
        });
    }
}

/// The relation that a text names, as the input function of `regclass` reads it.
fn relation_in(text: &str) -> Option<Name> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_part(quoted)?,
            None => {
                let end = rest.find(['.', '"']).unwrap_or(rest.len());
                (rest[..end].trim().to_ascii_lowercase(), &rest[end..])
            }
        };
        if part.is_empty() {
            return None;
        }
        parts.push(part);
        match after.trim_start().strip_prefix('.') {
            Some(next) => rest = next.trim_start(),
            None if after.trim_start().is_empty() => break,
            None => return None,
        }
    }
    let name = parts.pop()?;
    Some(Name {
        schema: parts.pop(),
        name,
    })
}

/// Up to its closing quote, doubled quotes made one; and what comes after.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"')?;
        part.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(after) => {
                part.push('"');
                rest = after;
            }
            None => return Some((part, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn relations_are_read_as_the_server_reads_them() {
        let name = |text: &str| relation_in(text).map(|it| it.to_string());
        for (text, expected) in [
            ("s", Some("s")),
            (" Public.Tickets ", Some("public.tickets")),
            ("\"S\".\"a.b\"\"c\"", Some("S.a.b\"c")),
            ("shop.public.s", Some("public.s")),
            ("", None),
            (".", None),
            ("a.", None),
            ("\"a", None),
            ("\"a\"b", None),
        ] {
            assert_eq!(name(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_names_one_relation_or_none(text in "[ .a-cA-Z\"é]{0,12}") {
            if let Some(name) = relation_in(&text) {
                prop_assert!(!name.name.is_empty());
            }
        }
    }
}
