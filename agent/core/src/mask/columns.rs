//! Columns of relations that are masked whatever is in them: `columns` of a `[[mask]]`.

use std::cell::OnceCell;

use super::names;
use crate::sql::parse;

/// A column that is masked: each part is `None` for any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    schema: Option<String>,
    relation: Option<String>,
    column: Option<String>,
}

/// Where a column of a result comes from, as the server's description of the row tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The relation's schema, where it is known.
    pub schema: Option<String>,
    /// The table or view.
    pub relation: String,
    /// The column's name there.
    pub attribute: String,
    /// The columns that this one is in turn: a view's of what it reads, a partition's of its table.
    pub sources: Vec<Origin>,
    /// A view computes it.
    pub is_computed: bool,
}

/// It is no column.
pub(super) struct NoColumn;

impl Pattern {
    /// `column`, `relation.column` or `schema.relation.column`; `*` is any; quoted where a name has a dot in it.
    pub(super) fn read(text: &str) -> Result<Self, NoColumn> {
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (part, after) = part(rest)?;
            parts.push(part);
            if after.is_empty() {
                break;
            }
            rest = after.strip_prefix('.').ok_or(NoColumn)?;
        }
        parts.reverse();
        let mut parts = parts.into_iter();
        let column = parts.next().flatten();
        let relation = parts.next().flatten();
        let schema = parts.next().flatten();
        let names_nothing = column.is_none() && relation.is_none();
        if parts.next().is_some() || names_nothing {
            return Err(NoColumn);
        }
        Ok(Self {
            schema,
            relation,
            column,
        })
    }

    /// Whether a column of a result is this one. Without an origin (it is computed, or nobody could say) its label alone tells.
    pub(super) fn is(&self, label: &str, origin: Option<&Origin>) -> bool {
        let Some(origin) = origin else {
            return self.column.is_some() && is(self.column.as_deref(), label);
        };
        let schema = origin.schema.as_deref();
        let is_itself = is(self.column.as_deref(), &origin.attribute)
            && is(self.relation.as_deref(), &origin.relation)
            && schema.is_none_or(|schema| is(self.schema.as_deref(), schema));
        is_itself
            || (origin.is_computed && self.is(label, None))
            || origin.sources.iter().any(|it| self.is(label, Some(it)))
    }

    /// Whether what a statement computes may be made of this column: it mentions it, or all of its relation. Words are told without
    /// reading the statement: in strings (functions that run SQL) and comments, too.
    pub(super) fn may_be_computed_in(&self, statement: &Words<'_>) -> bool {
        let has = |name: &Option<String>| {
            name.as_deref()
                .is_none_or(|name| statement.has_all_of(name))
        };
        has(&self.relation)
            && (statement.hides_words
                || (self.column.is_some() && has(&self.column))
                || (self.column.is_none() && self.relation.is_some())
                || statement.has_whole_rows())
    }
}

fn is(pattern: Option<&str>, name: &str) -> bool {
    pattern.is_none_or(|pattern| pattern.to_lowercase() == name.to_lowercase())
}

/// The first part of a column's name, and what is after it.
fn part(text: &str) -> Result<(Option<String>, &str), NoColumn> {
    if let Some(quoted) = text.strip_prefix('"') {
        let end = quoted.find('"').ok_or(NoColumn)?;
        let (name, after) = (&quoted[..end], &quoted[end + 1..]);
        return (!name.is_empty())
            .then(|| (Some(name.to_owned()), after))
            .ok_or(NoColumn);
    }
    let end = text.find('.').unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | ' ' | '-');
    match name {
        "*" => Ok((None, after)),
        "" => Err(NoColumn),
        name if name.chars().all(is_plain) => Ok((Some(name.to_owned()), after)),
        _ => Err(NoColumn),
    }
}

/// The words of a statement.
pub(super) struct Words<'a> {
    words: Vec<(&'a str, &'a str)>,
    /// Names may be spelled otherwise than they are (`U&"\0065mail"`), so any may be there.
    hides_words: bool,
    statement: &'a str,
    whole_rows: OnceCell<bool>,
}

impl<'a> Words<'a> {
    pub(super) fn of(statement: &'a str) -> Self {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let mut words = Vec::new();
        let mut rest = statement;
        while let Some(start) = rest.find(is_word) {
            let word = &rest[start..];
            let end = word.find(|c| !is_word(c)).unwrap_or(word.len());
            words.push((&word[..end], &word[end..]));
            rest = &word[end..];
        }
        let hides_words = words
            .iter()
            .any(|(word, after)| matches!(*word, "U" | "u") && after.starts_with('&'));
        Self {
            statement,
            whole_rows: OnceCell::new(),
            hides_words,
            words,
        }
    }

    /// [`Statement::whole_rows`](crate::sql::Statement::whole_rows)
    fn has_whole_rows(&self) -> bool {
        let read = || {
            parse(self.statement)
                .statements
                .iter()
                .any(|it| it.whole_rows)
        };
        *self.whole_rows.get_or_init(read)
    }

    /// Words that are names: not what is in quotes by itself (`kind = 'token'`).
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        let texts = self.words.iter();
        texts
            .filter(|(_, after)| !after.starts_with('\''))
            .map(|(word, _)| *word)
    }

    /// Whether each word of a name is there.
    fn has_all_of(&self, name: &str) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        self.hides_words
            || name
                .split(|c| !is_word(c))
                .filter(|part| !part.is_empty())
                .all(|part| self.words.iter().any(|(word, _)| is(Some(part), word)))
    }
}

/// A name as fields' rules compare it.
pub(super) fn normalised(name: &str) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    names::normalise(name.as_bytes(), &mut plain);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(schema: &str, relation: &str, attribute: &str) -> Origin {
        Origin {
            schema: Some(schema.into()),
            relation: relation.into(),
            attribute: attribute.into(),
            ..Origin::default()
        }
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::read(text).ok().expect(text)
    }

    #[test]
    fn a_column_goes_by_where_it_is_from() {
        let email = origin("public", "users", "email");
        for text in [
            "public.users.email",
            "users.email",
            "Email",
            "*.email",
            "users.*",
            "*.users.\"email\"",
        ] {
            assert!(pattern(text).is("anything", Some(&email)), "{text}");
        }
        for text in ["crm.users.email", "orders.email", "phone", "orders.*"] {
            assert!(!pattern(text).is("email", Some(&email)), "{text}");
        }
        let of_a_view = Origin {
            sources: vec![email],
            ..origin("public", "contacts", "address")
        };
        assert!(pattern("users.email").is("anything", Some(&of_a_view)));
        assert!(!pattern("users.name").is("anything", Some(&of_a_view)));
        assert!(pattern("users.email").is("email", None));
        assert!(!pattern("users.*").is("email", None));
    }

    #[test]
    fn what_names_no_column_is_refused() {
        for text in ["", ".", "*", "*.*", "a.b.c.d", "a..b", "\"a", "a b(c"] {
            assert!(Pattern::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_computed_may_be_made_of_a_column() {
        let email = pattern("public.users.email");
        for statement in [
            "SELECT upper(email) FROM users",
            "SELECT upper(x) FROM (SELECT Email AS x FROM public.users) s",
            "SELECT u::text FROM users u",
            "SELECT row_to_json(u) FROM users AS u",
            "SELECT users::text FROM users",
            "SELECT s::text FROM (SELECT * FROM users) s",
            "SELECT query_to_xml('select email from users', true, true, '')",
            "SELECT u::text FROM users /* z */ u",
            "SELECT t::text FROM (TABLE users LIMIT 5) t",
            "WITH t AS (TABLE users) SELECT t::text FROM t",
            "SELECT j::text FROM (users u JOIN orders o USING (id)) j",
            "SELECT u.to_jsonb FROM users u",
            "WITH x(a, b) AS (TABLE users) SELECT upper(b) FROM x",
            "SELECT 0, 'b' UNION ALL TABLE users",
            "INSERT INTO users VALUES (1) RETURNING users::text",
            "SELECT u FROM users u WHERE",
            "SELECT upper(U&\"\\0065mail\") FROM users",
            "SELECT (u.*)::text FROM users u",
            "SELECT b || '' FROM users AS u(a, b)",
            "SELECT b || '' FROM users /* x */ \"u\" (a, b)",
            "SELECT b || '' FROM (users CROSS JOIN t) over(a, b, c)",
        ] {
            assert!(
                email.may_be_computed_in(&Words::of(statement)),
                "{statement}"
            );
        }
        for statement in [
            "SELECT count(*) FROM users",
            "SELECT upper(name) FROM users",
            "SELECT upper(u.name) FROM users u",
            "SELECT upper(email) FROM orders",
            "SELECT now()",
            "SELECT upper(name) FROM users /* why */ WHERE id IN (1, 2)",
            "SELECT cast(name AS varchar(3)) FROM users",
            "SELECT upper(u.name) FROM users u, unnest(ARRAY[1]) AS n(i) WHERE u.id = n.i ORDER BY u.name",
        ] {
            assert!(
                !email.may_be_computed_in(&Words::of(statement)),
                "{statement}"
            );
        }
    }
}
