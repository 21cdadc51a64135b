//! Which literals and parameters of a statement stand for what is called what, told by the words around them.

use std::collections::HashMap;

use pg_query::protobuf::Token;

use super::Lexed;

/// Names of values by their place.
#[derive(Default)]
pub(super) struct Places {
    by_token: HashMap<usize, String>,
    by_parameter: HashMap<usize, String>,
}

/// Functions whose arguments are secrets, or are made of them (pgcrypto).
const SECRET_CALLS: [&str; 12] = [
    "crypt",
    "decrypt",
    "decrypt_iv",
    "encrypt",
    "encrypt_iv",
    "hmac",
    "pgp_pub_decrypt",
    "pgp_pub_decrypt_bytea",
    "pgp_sym_decrypt",
    "pgp_sym_decrypt_bytea",
    "pgp_sym_encrypt",
    "pgp_sym_encrypt_bytea",
];
/// What every secret is called for which there is no name.
const SECRET: &str = "password";

impl Places {
    pub(super) fn in_statement(text: &str, tokens: &[Lexed]) -> Self {
        let mut reading = Reading {
            tokens: tokens
                .iter()
                .enumerate()
                .filter(|(_, (token, ..))| !matches!(token, Token::SqlComment | Token::CComment))
                .map(|(at, (token, start, end))| (at, *token, &text[*start..*end]))
                .collect(),
            places: Self::default(),
        };
        reading.beside();
        reading.inserted();
        reading.called();
        reading.places
    }

    pub(super) fn of_token(&self, at: usize) -> Option<&str> {
        self.by_token.get(&at).map(String::as_str)
    }

    pub(super) fn of_parameter(&self, number: usize) -> Option<&str> {
        self.by_parameter.get(&number).map(String::as_str)
    }
}

struct Reading<'a> {
    /// Where among all, what, how it is written; without comments.
    tokens: Vec<(usize, Token, &'a str)>,
    places: Places,
}

fn is_value(token: Token) -> bool {
    matches!(
        token,
        Token::Sconst
            | Token::Usconst
            | Token::Bconst
            | Token::Xconst
            | Token::Iconst
            | Token::Fconst
            | Token::Param
    )
}

/// An identifier or keyword, without quotes.
fn word(raw: &str) -> Option<String> {
    let plain = match raw.strip_prefix('"') {
        Some(quoted) => quoted.trim_end_matches('"').to_owned(),
        None => raw.to_lowercase(),
    };
    let is_name = raw.starts_with('"') || raw.starts_with(|c: char| c.is_alphabetic() || c == '_');
    is_name.then_some(plain)
}

impl<'a> Reading<'a> {
    fn raw(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |(_, _, raw)| raw)
    }

    fn name(&mut self, at: usize, name: &str) {
        let Some((token_at, token, raw)) = self.tokens.get(at) else {
            return;
        };
        if *token == Token::Param {
            if let Some(number) = raw.strip_prefix('$').and_then(|it| it.parse().ok()) {
                self.places.by_parameter.insert(number, name.to_owned());
            }
        } else if is_value(*token) {
            self.places.by_token.insert(*token_at, name.to_owned());
        }
    }

    /// `PASSWORD 'x'`, `OPTIONS (password 'x')`, `password = 'x'`, `password := 'x'`, `'x' = password`, `SET password TO 'x'`, also behind a function call
    /// or a cast (`password = crypt('x', ...)`: see [`Self::called`]).
    fn beside(&mut self) {
        for at in 0..self.tokens.len() {
            if !is_value(self.tokens[at].1) {
                continue;
            }
            let is_sign = |raw: &str| {
                matches!(raw, "=" | ":=" | "=>" | "<>" | "!=" | "~" | "~~" | "(")
                    || ["like", "ilike", "to", "is", "in", "from", "distinct", "not"]
                        .iter()
                        .any(|word| raw.eq_ignore_ascii_case(word))
            };
            let mut before = at;
            while before > 0 && at - before < 5 && is_sign(self.raw(before - 1)) {
                before -= 1;
            }
            let previous = before.checked_sub(1).and_then(|it| word(self.raw(it)));
            let next = matches!(self.raw(at + 1), "=" | "<>" | "!=")
                .then(|| self.last_of_name(at + 2))
                .flatten();
            if let Some(name) = next.or(previous) {
                self.name(at, &name);
            }
        }
    }

    /// The last part of `a.b.c` from here.
    fn last_of_name(&self, mut at: usize) -> Option<String> {
        let mut name = word(self.raw(at))?;
        while self.raw(at + 1) == "." {
            at += 2;
            name = word(self.raw(at))?;
        }
        Some(name)
    }

    /// `INSERT INTO t (a, password) VALUES ('x', 'y'), (...)` and `UPDATE t SET (a, password) = ('x', 'y')`.
    fn inserted(&mut self) {
        let mut at = 0;
        while at < self.tokens.len() {
            let Some((names, end)) = self.names_in_brackets(at) else {
                at += 1;
                continue;
            };
            let mut next = end;
            while !self.raw(next).is_empty()
                && ["overriding", "user", "system", "value", "=", "row"]
                    .iter()
                    .any(|word| self.raw(next).eq_ignore_ascii_case(word))
            {
                next += 1;
            }
            let is_values = self.raw(next).eq_ignore_ascii_case("values");
            if is_values
                || self.raw(next.saturating_sub(1)) == "="
                || self.raw(next).eq_ignore_ascii_case("select")
            {
                let opening = next + usize::from(is_values);
                at = self.tuples(
                    opening,
                    &names,
                    self.raw(next).eq_ignore_ascii_case("select"),
                );
            }
            at = at.max(end);
        }
    }

    /// `(a, b, c)`, and where it ends.
    fn names_in_brackets(&self, at: usize) -> Option<(Vec<String>, usize)> {
        if self.raw(at) != "(" {
            return None;
        }
        let mut names = vec![word(self.raw(at + 1))?];
        let mut at = at + 2;
        loop {
            match self.raw(at) {
                "," => names.push(word(self.raw(at + 1))?),
                ")" => return Some((names, at + 1)),
                _ => return None,
            }
            at += 2;
        }
    }

    /// Gives the names to what is in `(x, y), (x, y)`, or in `select x, y`. Returns where it ends.
    fn tuples(&mut self, mut at: usize, names: &[String], is_select: bool) -> usize {
        let (mut depth, mut column) = (usize::from(is_select), 0);
        at += usize::from(is_select);
        while at < self.tokens.len() {
            match self.raw(at) {
                "(" => {
                    depth += 1;
                    if depth == 1 {
                        column = 0;
                    }
                }
                ")" => depth = depth.saturating_sub(1),
                "," if depth == 1 => column += 1,
                "," => {}
                ";" => return at,
                raw if is_select && depth == 1 && raw.eq_ignore_ascii_case("from") => return at,
                _ if depth == 0 => return at,
                _ => {
                    let name = names.get(column).cloned().unwrap_or_default();
                    self.name(at, &name);
                }
            }
            at += 1;
        }
        at
    }

    /// Arguments of functions that deal in secrets.
    fn called(&mut self) {
        for at in 0..self.tokens.len() {
            let is_secret =
                word(self.raw(at)).is_some_and(|name| SECRET_CALLS.contains(&name.as_str()));
            if !is_secret || self.raw(at + 1) != "(" {
                continue;
            }
            let mut depth = 0_usize;
            for argument in at + 1..self.tokens.len() {
                match self.raw(argument) {
                    "(" => depth += 1,
                    ")" if depth == 1 => break,
                    ")" => depth -= 1,
                    _ => self.name(argument, SECRET),
                }
            }
        }
    }
}
