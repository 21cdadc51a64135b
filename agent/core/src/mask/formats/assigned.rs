//! Secrets told by a word before them, in running text.

use std::ops::Range;

use super::{
    super::{find::Context, names, token},
    Seen, before, encoded, is_token, run_end, run_start,
};

/// The longest value, in bytes.
const MAX_VALUE: usize = 4096;
/// The shortest value after a word, in bytes.
const MIN_VALUE: usize = 6;
/// The longest name, in bytes.
const MAX_NAME: usize = 64;

/// `name=value`, `"name": "value"` (also with escaped quotes) and, in prose, a line `name: value`, where the name ends in the
/// anchor and is the name of a secret.
pub(super) fn secret(text: &[u8], anchor: Range<usize>, context: Context) -> Seen {
    let name = run_start(text, anchor.start, MAX_NAME, is_token)..anchor.end;
    let mut plain = Vec::new();
    names::normalise(&text[name.clone()], &mut plain);
    if !names::is_secret_field(&plain) {
        return Seen::Nothing;
    }
    let value = value_after(text, &name, context);
    let found = value.filter(|value| {
        let value = &text[value.clone()];
        value.len() >= MIN_VALUE
            && !token::is_one(value)
            && !is_reference(value)
            && names::may_be_secret(&plain, value)
    });
    found.into()
}

fn value_after(text: &[u8], name: &Range<usize>, context: Context) -> Option<Range<usize>> {
    // The closing quote of a quoted name, as often escaped as it likes.
    let after_name = run_end(text, name.end, 8, |byte| {
        matches!(byte, b'"' | b'\'' | b'\\')
    });
    let sign_at = run_end(text, after_name, 4, is_blank);
    let sign = *text.get(sign_at)?;
    let value = run_end(text, sign_at + 1, 4, is_blank);
    let quoted = run_end(text, value, 8, |byte| matches!(byte, b'"' | b'\'' | b'\\'));
    match sign {
        b'=' | b':' if quoted > value => {
            let quote = text[quoted - 1];
            let rest = &text[quoted..text.len().min(quoted + MAX_VALUE)];
            let end = memchr::memchr2(quote, b'\n', rest).unwrap_or(rest.len());
            // The backslashes of an escaped closing quote are not the value's.
            let escapes = rest[..end]
                .iter()
                .rev()
                .take_while(|byte| **byte == b'\\')
                .count();
            Some(quoted..quoted + end - escapes)
        }
        b'=' => Some(
            value..run_end(text, value, MAX_VALUE, |byte| {
                byte > b' '
                    && !matches!(
                        byte,
                        b'&' | b';' | b',' | b'"' | b'\'' | b'<' | b'>' | b')' | b'}'
                    )
            }),
        ),
        b':' if context.prose && value > sign_at + 1 && begins_line(text, name.start) => {
            let end = run_end(text, value, MAX_VALUE, |byte| byte > b' ');
            let line_ends = text
                .get(end)
                .is_none_or(|byte| matches!(byte, b'\n' | b'\r'));
            line_ends.then_some(value..end)
        }
        _ => None,
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Nothing but indentation, and a list's dash, is before it on its line.
fn begins_line(text: &[u8], at: usize) -> bool {
    let start = run_start(text, at, 256, |byte| is_blank(byte) || byte == b'-');
    before(text, start).is_none_or(|byte| byte == b'\n')
}

/// `${PASSWORD}`, `$TOKEN`, `<your-token>`, `{{ secret }}`, `...`, `****`: where a value would be.
fn is_reference(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'$' | b'<' | b'{' | b'%' | b'*')) || value.starts_with(b"...")
}

/// An AWS secret access key: 40 characters after its name.
pub(super) fn aws_secret(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    let from = run_end(text, anchor.end, 12, |byte| {
        is_blank(byte) || matches!(byte, b'"' | b'\'' | b'\\' | b'=' | b':' | b'>')
    });
    let end = run_end(text, from, 41, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'+')
    });
    (end - from == 40).then_some(from..end).into()
}

/// What follows `Bearer ` or `Basic ` (RFC 6750, RFC 7617): a token of some length, or base64 with a colon in it.
pub(super) fn authorization(text: &[u8], anchor: Range<usize>, _: Context) -> Seen {
    if before(text, anchor.start).is_some_and(|byte| byte.is_ascii_alphanumeric()) {
        return Seen::Nothing;
    }
    let end = run_end(text, anchor.end, 16 << 10, |byte| {
        is_token(byte) || matches!(byte, b'.' | b'~' | b'+' | b'/' | b'=')
    });
    let value = &text[anchor.end..end];
    let is_basic = text[anchor.start].eq_ignore_ascii_case(&b'b')
        && text[anchor.start + 1].eq_ignore_ascii_case(&b'a');
    let is_secret = if is_basic {
        value.len() >= 4
            && encoded::decode(value)
                .is_some_and(|pair| pair.contains(&b':') && pair.iter().all(|byte| *byte >= b' '))
    } else {
        value.len() >= 16 && value.iter().any(u8::is_ascii_digit)
    };
    is_secret.then_some(anchor.end..end).into()
}

#[cfg(test)]
mod tests {
    use super::super::{
        Builtin as B,
        testing::{finds_nothing, found_in},
    };
    use super::*;
    use crate::mask::fields::Hint;

    const PROSE: Context = Context {
        hint: Hint::None,
        prose: true,
    };

    #[test]
    fn assignments() {
        for (text, value) in [
            ("host=db user=u password=s3cretpw dbname=x", "s3cretpw"),
            ("Server=x;Password=s3cretpw;Y=1", "s3cretpw"),
            ("?access_token=abcdef123&x=1", "abcdef123"),
            (r#"{"client_secret": "abc def"}"#, "abc def"),
            (r#"{\"client_secret\":\"abcdef\"}"#, "abcdef"),
            ("export DB_PASSWORD='a b=c d'", "a b=c d"),
            ("  root_password: hunter22\n", "hunter22"),
            ("- token: abcdef", "abcdef"),
        ] {
            assert_eq!(found_in(B::AssignedSecret, text, PROSE), [value], "{text}");
        }
    }

    #[test]
    fn what_is_no_assignment_stays() {
        finds_nothing(
            B::AssignedSecret,
            &[
                "password: must be long",
                "the token = x",
                "pageToken=abcdef123",
                "password=${DB_PASSWORD}",
                "token=<your-token>",
                "secret=projects/p/secrets/s",
                "secretary=abcdefgh",
                "password=[masked:secret-field]",
                "password",
                "token:",
                "secret=",
            ],
        );
        assert!(found_in(B::AssignedSecret, "a password: is needed\n", PROSE).is_empty());
    }

    #[test]
    fn aws_and_authorization() {
        let key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        for text in [
            format!("aws_secret_access_key = {key}"),
            format!("\"SecretAccessKey\": \"{key}\""),
        ] {
            assert_eq!(found_in(B::AwsSecretKey, &text, PROSE), [key]);
        }
        finds_nothing(
            B::AwsSecretKey,
            &["aws_secret_access_key = short", &format!("key={key}")],
        );
        assert_eq!(
            found_in(
                B::Authorization,
                "Authorization: Bearer abc123def456ghi789",
                PROSE
            ),
            ["abc123def456ghi789"]
        );
        assert_eq!(
            found_in(B::Authorization, "authorization: basic dXNlcjpwYXNz", PROSE),
            ["dXNlcjpwYXNz"]
        );
        finds_nothing(
            B::Authorization,
            &[
                "a basic subscription",
                "the bearer of this",
                "Basic ",
                "Bearer ",
            ],
        );
    }
}
