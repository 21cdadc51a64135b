//! SQL statements and their parameters, as people and the record may see them.
//!
//! A literal is a secret by where it is (`PASSWORD '...'`, `password = '...'`, the value for a column `api_token`, an option of a user mapping), or by
//! what is in it. Where a statement does not lex, all from its first quote on is left out: the server will not run it either, and nobody can say
//! where its literals end.

mod literal;
mod places;
mod plain;

use std::sync::Arc;

use pg_query::protobuf::Token;

use self::places::Places;
use super::{
    Context, Hint, MaskSet, Whole,
    masker::Worker,
    rows::{Column, RowMasker},
};

/// What stands where something cannot be told apart.
const UNREAD: &str = "[masked:statement]";
/// Statements in literals of statements that are read (`DO`, `EXECUTE`, function bodies). What is deeper is left out.
const MAX_NESTED: usize = 4;
/// Within comments and literals a line `password: x` is one.
const PROSE: Context = Context {
    hint: Hint::None,
    prose: true,
};

impl MaskSet {
    /// A statement without the secrets that stand in it. Without a detector for secret fields in the set, only what its detectors find by form is.
    #[must_use]
    pub fn shown_statement(self: &Arc<Self>, text: &str) -> String {
        let mut worker = Worker::new(self.clone());
        statement(&mut worker, text, 0)
    }

    /// Parameters in text, masked: for where they stand in the statement, and for what is in them. Those in binary are written as their type's text;
    /// bytes of types that nobody knows in hexadecimal digits. `None` is `NULL`.
    #[must_use]
    pub fn shown_parameters(
        self: &Arc<Self>,
        statement: &str,
        parameters: &[Bound<'_>],
    ) -> Vec<Option<String>> {
        let names = scanned(statement).map(|tokens| Places::in_statement(statement, &tokens));
        let of = |(at, bound): (usize, &Bound<'_>)| {
            let value = bound.value?;
            let name = names.as_ref().and_then(|names| names.of_parameter(at + 1));
            Some(self.shown_parameter(name, bound, value))
        };
        parameters.iter().enumerate().map(of).collect()
    }

    fn shown_parameter(
        self: &Arc<Self>,
        name: Option<&str>,
        bound: &Bound<'_>,
        value: &[u8],
    ) -> String {
        let text = literal::text_of(bound.type_oid, bound.format, value);
        let Some(text) = text else {
            // Bytes that are no text: as much as may be in them is masked in them.
            let shown = masked_field(self, name, 17, value);
            return format!("\\x{}", hex::encode(shown));
        };
        let shown = masked_field(self, name, 0, text.as_bytes());
        String::from_utf8_lossy(&shown).into_owned()
    }
}

/// A parameter of a statement.
#[derive(Clone, Copy, Debug)]
pub struct Bound<'a> {
    /// Its type's OID; 0 where the server is to find out.
    pub type_oid: u32,
    /// 0 is text, 1 binary.
    pub format: i16,
    /// `None` is `NULL`.
    pub value: Option<&'a [u8]>,
}

/// As a column of this name would be.
fn masked_field(set: &Arc<MaskSet>, name: Option<&str>, type_oid: u32, value: &[u8]) -> Vec<u8> {
    let column = Column {
        name: name.unwrap_or_default().to_owned(),
        origin: None,
        type_oid,
        format: i16::from(type_oid == 17),
    };
    // Nothing is computed: what stands there is what was sent.
    let mut masker = RowMasker::new(set.clone(), &[column], Some(""));
    masker
        .value(value)
        .unwrap_or_else(|| UNREAD.as_bytes().to_vec())
}

/// A token: what, from where, to where.
type Lexed = (Token, usize, usize);

/// The statement's tokens; `None` where it does not lex, or is said to by positions that are not in it.
fn scanned(text: &str) -> Option<Vec<Lexed>> {
    if let Some(tokens) = plain::scanned(text) {
        return Some(tokens);
    }
    let scanned = pg_query::scan(text).ok()?;
    let mut end_before = 0;
    let mut tokens = Vec::with_capacity(scanned.tokens.len());
    for token in scanned.tokens {
        let (start, end) = (
            usize::try_from(token.start).ok()?,
            usize::try_from(token.end).ok()?,
        );
        if start < end_before || end < start || text.get(start..end).is_none() {
            return None;
        }
        end_before = end;
        tokens.push((token.token(), start, end));
    }
    Some(tokens)
}

fn statement(worker: &mut Worker, text: &str, nested: usize) -> String {
    let Some(tokens) = scanned(text) else {
        return unlexed(worker, text);
    };
    let places = Places::in_statement(text, &tokens);
    let mut shown = String::with_capacity(text.len());
    let mut done = 0;
    for (at, (token, start, end)) in tokens.iter().enumerate() {
        let raw = &text[*start..*end];
        let masked = match token {
            Token::Sconst | Token::Usconst | Token::Bconst | Token::Xconst => {
                one_literal(worker, raw, places.of_token(at), nested)
            }
            Token::Iconst | Token::Fconst => a_number(worker, raw, places.of_token(at)),
            Token::SqlComment | Token::CComment => comment(worker, raw),
            _ => None,
        };
        if let Some(masked) = masked {
            shown.push_str(&text[done..*start]);
            shown.push_str(&masked);
            done = *end;
        }
    }
    shown.push_str(&text[done..]);
    // What is put together of several tokens, and names.
    within(worker, &shown).unwrap_or(shown)
}

/// All that cannot be in a literal, by form.
fn unlexed(worker: &mut Worker, text: &str) -> String {
    let end = text.find(['\'', '"', '$']).unwrap_or(text.len());
    let beginning = &text[..end];
    let mut shown = within(worker, beginning).unwrap_or_else(|| beginning.to_owned());
    if end < text.len() {
        shown.push_str(UNREAD);
    }
    shown
}

/// What stands in place of a literal; `None` where it stays.
fn one_literal(
    worker: &mut Worker,
    raw: &str,
    name: Option<&str>,
    nested: usize,
) -> Option<String> {
    let text = literal::content(raw);
    let by_name = name.and_then(|name| worker.rule_for_name(name));
    if let Some(what) = by_name {
        let masked = worker.whole(what, text.as_bytes())?;
        return Some(literal::quoted(&String::from_utf8_lossy(&masked)));
    }
    let conninfo = by_secret_field(worker).and_then(|what| literal::conninfo(worker, what, &text));
    let mut shown = conninfo.unwrap_or_else(|| text.to_string());
    if literal::may_be_statement(&shown) {
        shown = match nested {
            MAX_NESTED => UNREAD.to_owned(),
            _ => nested_statement(worker, shown, nested + 1),
        };
    }
    if let Some(masked) = within(worker, &shown) {
        shown = masked;
    }
    if shown == *text {
        return None;
    }
    Some(literal::requoted(raw, &shown))
}

/// A literal that may be SQL. What does not lex is text, such as `it's`; with a password in it, part of a statement that is put together.
fn nested_statement(worker: &mut Worker, text: String, nested: usize) -> String {
    let lexes = scanned(&text).is_some();
    if lexes || literal::may_set_password(&text) {
        return statement(worker, &text, nested);
    }
    text
}

/// A comment; what is in it begins a line.
fn comment(worker: &mut Worker, raw: &str) -> Option<String> {
    let is_sign = |c: char| c.is_whitespace() || matches!(c, '/' | '*' | '-');
    let text = raw.trim_matches(is_sign);
    let start = raw.find(text)?;
    let masked = within(worker, text)?;
    let (before, after) = (&raw[..start], &raw[start + text.len()..]);
    Some(format!("{before}{masked}{after}"))
}

/// A number that is the value of something secret, or somebody's.
fn a_number(worker: &mut Worker, raw: &str, name: Option<&str>) -> Option<String> {
    let what = name.and_then(|name| worker.rule_for_name(name));
    let masked = match what {
        Some(what) => worker.whole(what, raw.as_bytes()),
        None => worker.within(raw.as_bytes(), Context::default()),
    };
    masked.map(|masked| literal::quoted(&String::from_utf8_lossy(&masked)))
}

fn by_secret_field(worker: &Worker) -> Option<Whole> {
    worker.rule_for_name("password")
}

fn within(worker: &mut Worker, text: &str) -> Option<String> {
    let masked = worker.within(text.as_bytes(), PROSE)?;
    Some(String::from_utf8_lossy(&masked).into_owned())
}

#[cfg(test)]
mod tests;
