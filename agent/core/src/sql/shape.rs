//! Texts that differ in whole numbers alone: clients that bind no parameters write another text for each row they look for.
//!
//! The grammar takes every whole number of up to nine digits for the same token (`ICONST`), and what a read does does not depend on which one it is. Only
//! texts of a few harmless characters are compared like this: no quotes, no comments, no operators but comparisons.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Control, Parsed};

/// A text longer than this is not compared, in bytes.
const LONGEST: usize = 1024;
/// So many are kept; when there are more, all are read anew.
const MOST: usize = 1024;
/// Digits of the longest number that is never anything but an `integer`.
const DIGITS: usize = 9;

/// What texts say, by their shape.
#[derive(Debug, Default)]
pub struct Shapes(Mutex<HashMap<Box<str>, Arc<Parsed>>>);

impl Shapes {
    /// As `parse`, which is asked where no text of this shape was read before.
    pub fn parse(&self, text: &str, parse: impl FnOnce(&str) -> Arc<Parsed>) -> Arc<Parsed> {
        let Some(shape) = shape(text) else {
            return parse(text);
        };
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(&*shape).cloned();
        if let Some(known) = known {
            return Arc::new(spanning(text, &known));
        }
        let parsed = parse(text);
        if is_one_read(text, &parsed) {
            let mut known = lock();
            if known.len() >= MOST {
                known.clear();
            }
            known.insert(shape.into(), parsed.clone());
        }
        parsed
    }
}

/// The text with a question mark for each number; nothing where it is not as simple as that.
fn shape(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let begins = bytes.get(..7)?.eq_ignore_ascii_case(b"select ");
    let body = text.trim_end().trim_end_matches(';');
    let is_simple = |byte: u8| byte.is_ascii_alphanumeric() || b"_ ,.()=<>*".contains(&byte);
    // The one number that the grammar itself looks at: `float(24)` is another type than `float(25)`, and `float(54)` none.
    let has_float = body.to_ascii_lowercase().contains("float");
    if !begins || has_float || bytes.len() > LONGEST || !body.bytes().all(is_simple) {
        return None;
    }
    let mut shape = String::with_capacity(text.len());
    let mut at = 0;
    let joins =
        |byte: Option<&u8>| byte.is_some_and(|it| it.is_ascii_alphanumeric() || b"_.".contains(it));
    while at < bytes.len() {
        let digits = bytes[at..].iter().take_while(|it| it.is_ascii_digit());
        let digits = digits.count();
        let before = at.checked_sub(1).and_then(|it| bytes.get(it));
        if digits == 0 {
            shape.push(char::from(bytes[at]));
            at += 1;
            continue;
        }
        let is_number = digits <= DIGITS && !joins(before) && !joins(bytes.get(at + digits));
        match is_number {
            true => shape.push('?'),
            false => shape.push_str(&text[at..at + digits]),
        }
        at += digits;
    }
    Some(shape)
}

/// Only reads: what a write does may hang on its numbers some day (`WHERE 1 = 1`).
fn is_one_read(text: &str, parsed: &Parsed) -> bool {
    match parsed.statements.as_slice() {
        [only] => {
            matches!(only.control, Control::None)
                && only.effects.iter().all(super::Effect::only_reads)
                && only.span == (0..end(text))
        }
        _ => false,
    }
}

fn spanning(text: &str, known: &Parsed) -> Parsed {
    let mut parsed = known.clone();
    for statement in &mut parsed.statements {
        statement.span = 0..end(text);
    }
    parsed
}

/// Where its one statement ends.
fn end(text: &str) -> usize {
    text.find(';').unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sql::parse;

    #[test]
    fn numbers_alone_make_no_other_shape() {
        let one = shape("SELECT a1 FROM t WHERE id = 17 AND b < 0;");
        assert_eq!(
            one.as_deref(),
            Some("SELECT a1 FROM t WHERE id = ? AND b < ?;")
        );
        for other in [
            "SELECT a1 FROM t WHERE id = 1234567890",
            "SELECT a1 FROM t WHERE id = 1.5",
            "SELECT a1 FROM t WHERE id = 1e5",
            "SELECT t.12 FROM t",
        ] {
            assert_eq!(shape(other).as_deref(), Some(other));
        }
        for none in [
            "SELECT 'x'",
            "SELECT \"x\"",
            "SELECT 1; DELETE FROM t",
            "SELECT 1 -- x",
            "SELECT 1 /* x */",
            "SELECT $1",
            "SELECT CAST(a AS float(24)) FROM t",
            "DELETE FROM t WHERE id = 1",
            "SELECT \u{e4} FROM t",
        ] {
            assert_eq!(shape(none), None, "{none}");
        }
    }

    #[test]
    fn what_locks_or_writes_is_read_every_time() {
        let shapes = Shapes::default();
        for text in [
            "SELECT a INTO b FROM t WHERE id = 1",
            "SELECT a FROM t WHERE id = 1 nonsense (",
        ] {
            let _ = shapes.parse(text, parse);
            assert!(shapes.0.lock().expect("no panics").is_empty(), "{text}");
        }
        let _ = shapes.parse("SELECT a FROM t WHERE id = 1", parse);
        assert_eq!(shapes.0.lock().expect("no panics").len(), 1);
    }

    proptest! {
        #[test]
        fn a_known_shape_says_what_the_parser_says(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "t1", "FROM", "WHERE", "=", "<", ",", "(", ")", "*", "count(*)", "LIMIT", "ORDER BY", "AND", "float", "pg_sleep(",
                    "int4(", "interval", "FOR UPDATE", "INTO", "x.y", ".", "UNION", "SELECT", "IN", "AS", "_b", "N",
                ]),
                0..14,
            ),
            numbers in prop::collection::vec(0_u32..2_000_000_000, 28),
            semicolon: bool,
        ) {
            let shapes = Shapes::default();
            for numbers in numbers.chunks(14) {
                let mut text = String::from("SELECT a FROM t WHERE id = 1 AND ");
                for (word, number) in words.iter().zip(numbers) {
                    match *word {
                        "N" => text.push_str(&number.to_string()),
                        word => text.push_str(word),
                    }
                    text.push(' ');
                }
                text.push_str(if semicolon { "b = 2;" } else { "b = 2" });
                let found = shapes.parse(&text, parse);
                prop_assert_eq!(&*found, &*parse(&text), "{}", text);
            }
        }
    }
}
