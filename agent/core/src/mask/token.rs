//! Mask tokens: what stands where something was masked, and how it is known again.
//!
//! `[masked:DETECTOR]`, `[masked:DETECTOR:0123456789abcdef]` or `[masked:DETECTOR:..1234]`: ASCII without quotes, backslashes, angle
//! brackets, ampersands, spaces or control characters, so that it stands unescaped in JSON, XML, headers and text.

use std::ops::Range;

use memchr::memmem;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::Mode;

const OPENING: &[u8] = b"[masked:";
/// How long a detector's name may be, in bytes.
pub(super) const MAX_NAME: usize = 40;
/// Characters of a value's hash: 64 bits.
const HASH: usize = 16;
/// How long a value has to be before its last four characters are kept, in bytes.
const KEEPABLE: usize = 12;

/// The host's key for [`Mode::Hash`].
pub(super) type Key = Zeroizing<[u8; 32]>;

/// Writes what stands in place of `value`.
pub(super) fn write(mode: Mode, name: &str, value: &[u8], key: &Key, out: &mut Vec<u8>) {
    match mode {
        Mode::KeepLast4 if value.len() >= KEEPABLE => {
            let last = last4(value);
            put(name, &[b":..", &last], out);
        }
        Mode::Hash => write_of_digest(mode, name, &Sha256::digest(value).into(), key, out),
        Mode::KeepLast4 | Mode::Replace => put(name, &[], out),
        Mode::Drop => {}
    }
}

/// The last four characters, with what may stand in a token.
fn last4(value: &[u8]) -> Vec<u8> {
    let of = |byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() => *byte,
        _ => b'_',
    };
    value[value.len() - 4..].iter().map(of).collect()
}

/// Writes what stands in place of a value of which only the SHA-256 is known.
pub(super) fn write_of_digest(
    mode: Mode,
    name: &str,
    digest: &[u8; 32],
    key: &Key,
    out: &mut Vec<u8>,
) {
    match mode {
        Mode::Hash => put(name, &[b":", hash(key, digest).as_bytes()], out),
        Mode::KeepLast4 | Mode::Replace => put(name, &[], out),
        Mode::Drop => {}
    }
}

/// A number that stands in place of one, or of what is written with digits: positive, and with [`Mode::Hash`] the same for equal values.
pub(super) fn number(mode: Mode, value: &[u8], key: &Key) -> u64 {
    match mode {
        Mode::Hash => {
            let mac = hmac(key, &Sha256::digest(value));
            u64::from_be_bytes(mac[..8].try_into().expect("it has 32"))
        }
        Mode::KeepLast4 if value.len() >= KEEPABLE => {
            let digits = value[value.len() - 4..].iter();
            digits.fold(0, |number, digit| {
                number * 10 + u64::from(digit.wrapping_sub(b'0') % 10)
            })
        }
        Mode::KeepLast4 | Mode::Replace | Mode::Drop => 0,
    }
}

fn put(name: &str, tail: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(OPENING);
    out.extend_from_slice(name.as_bytes());
    tail.iter().for_each(|part| out.extend_from_slice(part));
    out.push(b']');
}

/// What stands for a value in its token, from its SHA-256: whoever has that and asks the host, which has the key, finds the value's tokens
/// without telling the value.
pub(super) fn hash(key: &Key, digest: &[u8; 32]) -> String {
    hex::encode(&hmac(key, digest)[..HASH / 2])
}

/// HMAC-SHA-256 (RFC 2104), under a prefix of its own so that the key may be used for other things.
pub(super) fn hmac(key: &Key, value: &[u8]) -> [u8; 32] {
    hmac_sha256(key.as_slice(), &[b"holdpoint mask\0", value])
}

/// An operation's digest under the host's key: equal operations stay equal, and nobody without the key tries out what may have been in one.
pub(super) fn sealed(key: &Key, digest: &[u8; 32]) -> [u8; 32] {
    hmac_sha256(key.as_slice(), &[b"holdpoint operation\0", digest])
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    const BLOCK: usize = 64;
    debug_assert!(key.len() <= BLOCK, "keys longer than a block are hashed");
    let pad = |with: u8| {
        let mut block = Zeroizing::new([with; BLOCK]);
        block.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
        block
    };
    let mut inner = Sha256::new_with_prefix(pad(0x36).as_slice());
    parts.iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new_with_prefix(pad(0x5c).as_slice());
    outer.update(inner.finalize());
    outer.finalize().into()
}

/// Whether all of `value` is one mask token.
pub(super) fn is_one(value: &[u8]) -> bool {
    value.starts_with(OPENING) && end_of(value) == Some(value.len())
}

/// The length of the token that `text`, which starts with one's opening, starts with.
fn end_of(text: &[u8]) -> Option<usize> {
    let rest = &text[OPENING.len()..];
    let close = memchr::memchr(b']', &rest[..rest.len().min(MAX_NAME + 2 + HASH)])?;
    let inner = &rest[..close];
    let (name, tail) = match memchr::memchr(b':', inner) {
        Some(colon) => (&inner[..colon], Some(&inner[colon + 1..])),
        None => (inner, None),
    };
    let is_tail = |tail: &[u8]| match tail.strip_prefix(b"..") {
        Some(last) => last.len() == 4 && last.iter().all(|byte| is_name_byte(*byte)),
        None => tail.len() == HASH && tail.iter().all(u8::is_ascii_hexdigit),
    };
    (is_name(name) && tail.is_none_or(is_tail)).then_some(OPENING.len() + close + 1)
}

/// Whether something may be called this in a token.
pub(super) fn is_name(name: &[u8]) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.iter().all(|byte| is_name_byte(*byte))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Where a mask token lies in something that is sent, in whatever dress: plain, percent-encoded (also twice), JSON- or XML-escaped, or in base64.
/// A request with one in it would write a masked value into production.
///
/// The word before the colon is enough: whoever truncates a token, or uppercases it, has not made it a value again.
#[must_use]
pub fn mask_token_in(bytes: &[u8]) -> Option<Range<usize>> {
    plain(bytes).or_else(|| in_base64(bytes))
}

/// `masked:` after an opening bracket in any spelling.
fn plain(bytes: &[u8]) -> Option<Range<usize>> {
    let mut from = 0;
    while let Some(found) = find_ignoring_case(&bytes[from..], b"masked") {
        let at = from + found;
        let after = at + b"masked".len();
        let opening = ends_with_one_of(&bytes[..at], &OPENINGS);
        let colon = starts_with_one_of(&bytes[after..], &COLONS);
        if let (Some(opening), Some(colon)) = (opening, colon) {
            return Some(at - opening..after + colon);
        }
        from = after;
    }
    None
}

/// Spellings of `[`: itself, percent-encoded once and twice, JSON's `\u005b`, XML's references.
const OPENINGS: [&[u8]; 6] = [b"[", b"%5b", b"%255b", b"\\u005b", b"&#91;", b"&#x5b;"];
/// Spellings of `:`.
const COLONS: [&[u8]; 6] = [b":", b"%3a", b"%253a", b"\\u003a", b"&#58;", b"&#x3a;"];

fn find_ignoring_case(bytes: &[u8], word: &[u8]) -> Option<usize> {
    memchr::memchr2_iter(word[0], word[0].to_ascii_uppercase(), bytes).find(|at| {
        bytes
            .get(*at..at + word.len())
            .is_some_and(|part| part.eq_ignore_ascii_case(word))
    })
}

fn ends_with_one_of(bytes: &[u8], endings: &[&[u8]]) -> Option<usize> {
    let mut lengths = endings.iter().map(|ending| (ending, ending.len()));
    let found = lengths.find(|(ending, len)| {
        bytes.len() >= *len && bytes[bytes.len() - len..].eq_ignore_ascii_case(ending)
    });
    found.map(|(_, len)| len)
}

fn starts_with_one_of(bytes: &[u8], beginnings: &[&[u8]]) -> Option<usize> {
    let mut lengths = beginnings
        .iter()
        .map(|beginning| (beginning, beginning.len()));
    let found = lengths.find(|(beginning, len)| {
        bytes.len() >= *len && bytes[..*len].eq_ignore_ascii_case(beginning)
    });
    found.map(|(_, len)| len)
}

/// `[masked:` in base64 (RFC 4648, either alphabet) by where in a group of three it begins, without the characters that depend on
/// what is beside it.
const ENCODED: [&[u8]; 3] = [b"W21hc2tlZD", b"ttYXNrZWQ6", b"bbWFza2VkO"];

fn in_base64(bytes: &[u8]) -> Option<Range<usize>> {
    ENCODED.iter().find_map(|encoded| {
        let at = memmem::find(bytes, encoded)?;
        Some(at..at + encoded.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{
        Engine as _,
        prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
    };

    fn token(mode: Mode, value: &[u8]) -> String {
        let mut out = Vec::new();
        write(mode, "card", value, &Zeroizing::new([7; 32]), &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn tokens_have_one_form() {
        assert_eq!(token(Mode::Replace, b"4111"), "[masked:card]");
        assert_eq!(token(Mode::Drop, b"4111"), "");
        assert_eq!(
            token(Mode::KeepLast4, b"4111111111111111"),
            "[masked:card:..1111]"
        );
        assert_eq!(token(Mode::KeepLast4, b"short"), "[masked:card]");
        assert_eq!(
            token(Mode::KeepLast4, b"a long secret\"\\ "),
            "[masked:card:..t___]"
        );
        let hash = token(Mode::Hash, b"4111");
        assert_eq!(hash, token(Mode::Hash, b"4111"));
        assert_ne!(hash, token(Mode::Hash, b"4112"));
        assert_eq!(hash.len(), "[masked:card:]".len() + HASH);
    }

    #[test]
    fn the_hash_is_the_standard_s() {
        // RFC 4231, test case 2.
        let mac = hmac_sha256(b"Jefe", &[b"what do ya want ", b"for nothing?"]);
        assert_eq!(
            hex::encode(mac),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_token_is_told_from_what_only_looks_like_one() {
        for text in [
            "[masked:a-b]",
            "[masked:a:0123456789abcdef]",
            "[masked:a:..12_4]",
        ] {
            assert!(is_one(text.as_bytes()), "{text}");
        }
        for text in [
            "[masked:a] and more",
            "[masked:]",
            "[masked:a b]",
            "[masked:a:secret]",
            "[masked:a:..12345]",
            "[masked:a:0123456789abcdeg]",
            "[masked:a",
        ] {
            assert!(!is_one(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_token_is_found_in_any_dress() {
        for mode in [Mode::Replace, Mode::Hash, Mode::KeepLast4] {
            let token = token(mode, b"4111111111111111");
            for text in [
                token.clone(),
                token.to_uppercase(),
                token.replace('[', "%5B").replace(':', "%3a"),
                token.replace('[', "%255B").replace(':', "%253A"),
                token.replace('[', "\\u005B").replace(':', "\\u003a"),
                token.replace('[', "&#91;").replace(':', "&#x3A;"),
            ] {
                let sent = format!(r#"{{"password":"{text}"}}"#);
                let found = mask_token_in(sent.as_bytes()).expect(&sent);
                assert!(text.as_bytes().starts_with(&sent.as_bytes()[found]));
            }
            for before in ["", "a", "ab", "abc"] {
                let text = format!("{before}{token} and on");
                for sent in [
                    BASE64_STANDARD.encode(&text),
                    BASE64_URL_SAFE_NO_PAD.encode(&text),
                ] {
                    assert!(mask_token_in(sent.as_bytes()).is_some(), "{sent}");
                }
            }
        }
        for text in [
            "",
            "unmasked: 3",
            "[mask",
            "masked:x",
            "[masked]",
            "[ masked: x",
        ] {
            assert_eq!(mask_token_in(text.as_bytes()), None, "{text}");
        }
    }
}
