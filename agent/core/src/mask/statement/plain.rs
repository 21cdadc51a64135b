//! The tokens of statements that are made of names, whole numbers and a few signs alone, as most that clients send again and again are: to ask
//! PostgreSQL's scanner takes longer than all else that is done to show them.

use pg_query::protobuf::Token;

use super::Lexed;

/// Digits of the longest number that is never anything but an `integer`.
const DIGITS: usize = 9;

/// What the scanner says of such a text, as far as masks want to know it (all signs are the same to them); nothing of any other.
pub(super) fn scanned(text: &str) -> Option<Vec<Lexed>> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::with_capacity(bytes.len() / 4);
    let mut at = 0;
    while let Some(first) = bytes.get(at) {
        let (token, length) = match first {
            b' ' | b'\n' => {
                at += 1;
                continue;
            }
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => (Token::Ident, run(&bytes[at..], is_of_word)),
            b'0'..=b'9' => (Token::Iconst, number(&bytes[at..])?),
            b'$' => (Token::Param, 1 + number(&bytes[at + 1..])?),
            b'(' | b')' | b',' | b';' => (Token::Ascii40, 1),
            b'.' => (Token::Ascii40, dot(&bytes[at..])?),
            _ => (Token::Ascii40, operator(&bytes[at..])?),
        };
        tokens.push((token, at, at + length));
        at += length;
    }
    Some(tokens)
}

fn run(bytes: &[u8], of: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| of(**byte)).count()
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

/// What goes on in letters or behind a point is another kind of number, or none.
fn number(bytes: &[u8]) -> Option<usize> {
    let digits = run(bytes, |it| it.is_ascii_digit());
    let ends = bytes
        .get(digits)
        .is_none_or(|it| !is_of_word(*it) && *it != b'.');
    (ends && (1..=DIGITS).contains(&digits)).then_some(digits)
}

/// Between two names.
fn dot(bytes: &[u8]) -> Option<usize> {
    let next = bytes.get(1)?;
    (!next.is_ascii_digit() && *next != b'.').then_some(1)
}

fn operator(bytes: &[u8]) -> Option<usize> {
    let length = run(bytes, |it| {
        it.is_ascii_punctuation() && !b"(),;.$_\"'".contains(&it)
    });
    matches!(
        &bytes[..length],
        b"=" | b"<" | b">" | b"*" | b"<=" | b">=" | b"<>"
    )
    .then_some(length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What masks make of a token.
    fn kind(token: Token) -> &'static str {
        match token {
            Token::Iconst => "number",
            Token::Param => "parameter",
            Token::Fconst | Token::Sconst | Token::Usconst | Token::Bconst | Token::Xconst => {
                "value"
            }
            Token::SqlComment | Token::CComment => "comment",
            _ => "other",
        }
    }

    fn by_the_scanner(text: &str) -> Option<Vec<(&'static str, usize, usize)>> {
        let place = |it: i32| usize::try_from(it).expect("in the text");
        let tokens = pg_query::scan(text).ok()?.tokens.into_iter();
        let tokens = tokens.map(|it| (kind(it.token()), place(it.start), place(it.end)));
        Some(tokens.collect())
    }

    #[test]
    fn what_clients_send_is_plain() {
        for text in [
            "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;",
            "SELECT a.b, count(*) FROM s.t AS a WHERE x >= $1 AND y <> $23",
            "UPDATE t SET a = 1 WHERE id IN (1, 2, 3)",
        ] {
            assert!(scanned(text).is_some(), "{text}");
        }
        for other in [
            "SELECT 'x'",
            "SELECT 1.5",
            "SELECT 1e5",
            "SELECT 1x",
            "SELECT a--b",
            "SELECT a /* b */",
            "SELECT $$x$$",
            "SELECT \u{e4}",
            "a ->> b",
        ] {
            assert_eq!(scanned(other), None, "{other}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn it_says_what_the_scanner_says(text in r"([a-zA-Z_]{1,3}|[0-9]{1,11}|[ \n.,;()$]|[-=<>*/+!~@#%^&|?:'\x22\[\]\\]|(SELECT|U&|E|N|x) ?){0,12}") {
            if let Some(tokens) = scanned(&text) {
                let told: Vec<_> = tokens.into_iter().map(|(token, start, end)| (kind(token), start, end)).collect();
                prop_assert_eq!(Some(told), by_the_scanner(&text));
            }
        }
    }
}
