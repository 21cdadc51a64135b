//! Literals: what is in them, and others written in their place.

use std::borrow::Cow;

use super::super::{Whole, masker::Worker};

/// What a literal says: without quotes, with its escapes undone. As the server reads it with `standard_conforming_strings` on.
pub(super) fn content(raw: &str) -> Cow<'_, str> {
    if let Some(body) = dollar_quoted(raw) {
        return body.into();
    }
    let Some(start) = raw.find('\'') else {
        return raw.into();
    };
    let prefix = &raw[..start];
    let inner = raw[start + 1..]
        .strip_suffix('\'')
        .unwrap_or(&raw[start + 1..]);
    let is_escaped = prefix.eq_ignore_ascii_case("e");
    let has_code_points = prefix.eq_ignore_ascii_case("u&");
    if prefix.eq_ignore_ascii_case("x")
        && let Some(bytes) = hex::decode(inner).ok()
        && let Ok(text) = String::from_utf8(bytes)
    {
        return text.into();
    }
    // Literals that a line's end divides are one: 'a' <newline> 'b'.
    match (is_escaped, has_code_points) {
        (true, _) => unescaped(inner).into(),
        (_, true) => code_points(inner).into(),
        _ => joined(inner),
    }
}

fn dollar_quoted(raw: &str) -> Option<&str> {
    let tag = &raw[..raw.strip_prefix('$')?.find('$')? + 2];
    raw.strip_prefix(tag)?.strip_suffix(tag)
}

/// `''` is a quote; a quote that ends one part of a literal is followed by white space and the quote that begins the next.
fn joined(inner: &str) -> Cow<'_, str> {
    if !inner.contains('\'') {
        return inner.into();
    }
    let mut text = String::with_capacity(inner.len());
    let mut parts = inner.split('\'');
    text.extend(parts.next());
    while let Some(part) = parts.next() {
        if part.is_empty() {
            text.push('\'');
        } else if !part.chars().all(char::is_whitespace) {
            text.push_str(part);
            continue;
        }
        text.extend(parts.next());
    }
    text.into()
}

/// `E'...'`.
fn unescaped(inner: &str) -> String {
    let joined = joined(inner);
    let mut bytes = Vec::with_capacity(joined.len());
    let mut rest = &*joined;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let after = &rest[at + 1..];
        let Some(escaped) = after.chars().next() else {
            break;
        };
        let (base, from, most) = match escaped {
            'x' => (16, 1, 2),
            'u' => (16, 1, 4),
            'U' => (16, 1, 8),
            '0'..='7' => (8, 0, 3),
            _ => (0, 0, 0),
        };
        let digits: String = after[from.min(after.len())..]
            .chars()
            .take(most)
            .take_while(|digit| digit.is_digit(base.max(2)))
            .collect();
        rest = &after[from.min(after.len()) + digits.len()..];
        match (escaped, u32::from_str_radix(&digits, base.max(2))) {
            ('u' | 'U', Ok(code)) => put(char::from_u32(code).unwrap_or('?'), &mut bytes),
            (_, Ok(code)) if base > 0 => bytes.push((code & 0xff) as u8),
            _ => {
                let plain = match escaped {
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    other => other,
                };
                put(plain, &mut bytes);
                rest = &after[escaped.len_utf8()..];
            }
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

fn put(character: char, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}

/// `U&'...'` with the usual escape character.
fn code_points(inner: &str) -> String {
    let joined = joined(inner);
    let mut text = String::with_capacity(joined.len());
    let mut rest = &*joined;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (from, digits) = match after.strip_prefix('+') {
            Some(_) => (1, 6),
            None => (0, 4),
        };
        let code = after
            .get(from..from + digits)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .and_then(char::from_u32);
        match code {
            Some(character) => {
                text.push(character);
                rest = &after[from + digits..];
            }
            None => {
                text.push('\\');
                rest = after.strip_prefix('\\').unwrap_or(after);
            }
        }
    }
    text.push_str(rest);
    text
}

/// A literal of this text.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The same kind of literal, with this text.
pub(super) fn requoted(raw: &str, text: &str) -> String {
    let body = dollar_quoted(raw);
    match body {
        Some(body) => {
            let tag = &raw[..(raw.len() - body.len()) / 2];
            format!("{tag}{text}{tag}")
        }
        None => quoted(text),
    }
}

/// Whether a text may be SQL with a literal, or with a password, in it.
pub(super) fn may_be_statement(text: &str) -> bool {
    text.contains('\'') && text.trim().contains(char::is_whitespace)
}

/// Whether a text, which is no whole statement, may be the part of one that sets a password.
pub(super) fn may_set_password(text: &str) -> bool {
    text.to_ascii_lowercase().contains("passw")
}

/// A connection string (`host=h password=p`), without its passwords however short they are.
pub(super) fn conninfo(worker: &mut Worker, what: Whole, text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let mut shown = String::with_capacity(text.len());
    let mut done = 0;
    for (at, word) in lower.match_indices("passw") {
        if at < done {
            continue;
        }
        let name_end =
            at + word.len() + lower[at + word.len()..].find(|c: char| !c.is_alphanumeric())?;
        let sign = lower[name_end..].trim_start();
        let Some(after) = sign.strip_prefix('=') else {
            continue;
        };
        let value = after.trim_start();
        let start = text.len() - value.len();
        let end = start + value_end(&text[start..]);
        let Some(masked) = worker.whole(what, &text.as_bytes()[start..end]) else {
            continue;
        };
        shown.push_str(&text[done..start]);
        shown.push_str(&String::from_utf8_lossy(&masked));
        done = end;
    }
    (done > 0).then(|| shown + &text[done..])
}

/// Where a value of a connection string ends: a quoted one at its quote, another one at white space, `;` or `&`.
fn value_end(text: &str) -> usize {
    let mut quoted = text.strip_prefix('\'').map(|_| ());
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(usize::from(quoted.is_some())) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\'' if quoted.take().is_some() => return at + 1,
            c if quoted.is_none() && (c.is_whitespace() || matches!(c, ';' | '&')) => return at,
            _ => {}
        }
    }
    text.len()
}

/// A parameter as its type's text; `None` for bytes that are none.
pub(super) fn text_of(type_oid: u32, format: i16, value: &[u8]) -> Option<String> {
    const MICROSECONDS: i64 = 1_000_000;
    if format == 0 {
        return Some(String::from_utf8_lossy(value).into_owned());
    }
    Some(match (type_oid, value) {
        (16, [byte]) => (if *byte == 0 { "false" } else { "true" }).to_owned(),
        (21, value) => i16::from_be_bytes(value.try_into().ok()?).to_string(),
        (23 | 26, value) => i32::from_be_bytes(value.try_into().ok()?).to_string(),
        (20, value) => i64::from_be_bytes(value.try_into().ok()?).to_string(),
        (700, value) => f32::from_be_bytes(value.try_into().ok()?).to_string(),
        (701, value) => f64::from_be_bytes(value.try_into().ok()?).to_string(),
        (1082, value) => format!(
            "2000-01-01 + {} days",
            i32::from_be_bytes(value.try_into().ok()?)
        ),
        (1114 | 1184, value) => format!(
            "2000-01-01 + {} s",
            i64::from_be_bytes(value.try_into().ok()?) / MICROSECONDS
        ),
        (3802, [1, json @ ..]) => std::str::from_utf8(json).ok()?.to_owned(),
        (17, _) => return None,
        (_, value) if !value.contains(&0) => std::str::from_utf8(value).ok()?.to_owned(),
        _ => return None,
    })
}
