//! Values of PostgreSQL's types: read from either format, and others written in their place.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::{super::Unreadable, kind::Kind};

/// The version byte of `jsonb` in binary, and the JSON.
pub(super) fn json(versioned: bool, value: &[u8]) -> Result<(&[u8], &[u8]), Unreadable> {
    if !versioned {
        return Ok((&[], value));
    }
    match value {
        [1, json @ ..] => Ok((&value[..1], json)),
        _ => Err(Unreadable::Row),
    }
}

/// Bytes of a `bytea`: in text `\x` and hexadecimal digits, or the older escapes.
pub(super) fn bytes(is_binary: bool, value: &[u8]) -> Result<Cow<'_, [u8]>, Unreadable> {
    if is_binary {
        return Ok(value.into());
    }
    if let Some(digits) = value.strip_prefix(b"\\x") {
        return hex::decode(digits)
            .map(Cow::from)
            .map_err(|_| Unreadable::Row);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (
                b'\\',
                [
                    a @ b'0'..=b'3',
                    b @ b'0'..=b'7',
                    c @ b'0'..=b'7',
                    after @ ..,
                ],
            ) => ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after),
            (b'\\', _) => return Err(Unreadable::Row),
            (byte, after) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    Ok(bytes.into())
}

pub(super) fn write_bytes(is_binary: bool, bytes: &[u8], out: &mut Vec<u8>) {
    if is_binary {
        return out.extend_from_slice(bytes);
    }
    out.extend_from_slice(b"\\x");
    out.extend_from_slice(hex::encode(bytes).as_bytes());
}

/// A UUID as text.
pub(super) fn uuid(is_binary: bool, value: &[u8]) -> Result<Cow<'_, str>, Unreadable> {
    if !is_binary {
        return std::str::from_utf8(value)
            .map(Cow::from)
            .map_err(|_| Unreadable::Row);
    }
    if value.len() != 16 {
        return Err(Unreadable::Row);
    }
    let mut text = hex::encode(value);
    for at in [20, 16, 12, 8] {
        text.insert(at, '-');
    }
    Ok(text.into())
}

/// Zeroes, or with a number one of version 8 (RFC 9562: custom).
pub(super) fn write_uuid(is_binary: bool, number: u64, out: &mut Vec<u8>) {
    let mut uuid = [0; 16];
    if number != 0 {
        uuid[8..].copy_from_slice(&number.to_be_bytes());
        uuid[6] = 0x80;
        uuid[8] = 0x80 | uuid[8] & 0x3f;
    }
    match is_binary {
        true => out.extend_from_slice(&uuid),
        false => {
            let text = self::uuid(true, &uuid);
            out.extend_from_slice(text.unwrap_or_default().as_bytes());
        }
    }
}

/// The address in a binary `inet`: family (2 or 3), prefix, whether it is a `cidr`, length, address.
pub(super) fn inet(value: &[u8]) -> Result<Option<IpAddr>, Unreadable> {
    match value {
        [2, _, _, 4, address @ ..] => {
            let address: [u8; 4] = address.try_into().map_err(|_| Unreadable::Row)?;
            Ok(Some(Ipv4Addr::from(address).into()))
        }
        [3, _, _, 16, address @ ..] => {
            let address: [u8; 16] = address.try_into().map_err(|_| Unreadable::Row)?;
            Ok(Some(Ipv6Addr::from(address).into()))
        }
        _ => Err(Unreadable::Row),
    }
}

pub(super) fn write_inet(is_binary: bool, is_cidr: bool, out: &mut Vec<u8>) {
    match (is_binary, is_cidr) {
        (true, _) => out.extend_from_slice(&[2, 32, u8::from(is_cidr), 4, 0, 0, 0, 0]),
        (false, true) => out.extend_from_slice(b"0.0.0.0/32"),
        (false, false) => out.extend_from_slice(b"0.0.0.0"),
    }
}

/// As many zeroes: how many there are is in the type, or before them in binary.
pub(super) fn write_bits(is_binary: bool, value: &[u8], out: &mut Vec<u8>) {
    let kept = match is_binary {
        true => value.len().min(4),
        false => 0,
    };
    out.extend_from_slice(&value[..kept]);
    let zero = if is_binary { 0 } else { b'0' };
    out.extend(std::iter::repeat_n(zero, value.len() - kept));
}

/// What a text of an unknown type (in `COPY`, in a composite) has to stay, so that it can be read back: a number, a UUID, a date, a truth value.
pub(super) fn kind_of_text(text: &[u8]) -> Option<Kind> {
    let is_like = |form: &[u8]| {
        text.len() >= form.len()
            && form.iter().zip(text).all(|(form, byte)| match form {
                b'9' => byte.is_ascii_digit(),
                b'f' => byte.is_ascii_hexdigit(),
                form => form == byte,
            })
    };
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_number = digits.first().is_some_and(u8::is_ascii_digit)
        && digits
            .iter()
            .all(|byte| byte.is_ascii_digit() || *byte == b'.');
    if is_number {
        Some(Kind::Numeric)
    } else if text.len() == 36 && is_like(b"ffffffff-ffff-ffff-ffff-ffffffffffff") {
        Some(Kind::Uuid)
    } else if text.len() >= 19 && is_like(b"9999-99-99 99:99:99") {
        Some(Kind::of(
            if text[19..].contains(&b'+') || text[19..].contains(&b'-') {
                TIMESTAMPTZ
            } else {
                TIMESTAMP
            },
        ))
    } else if text.len() == 10 && is_like(b"9999-99-99") {
        Some(Kind::of(DATE))
    } else if matches!(text, b"t" | b"f") {
        Some(Kind::Bool)
    } else {
        None
    }
}

const DATE: u32 = 1082;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;

/// Whether bytes of a type that is not known can only be text.
pub(super) fn is_text(value: &[u8]) -> bool {
    let is_control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    !value.iter().any(is_control) && std::str::from_utf8(value).is_ok()
}

/// Whether an integer in binary has too few digits to be anybody's: it is under 2^16.
pub(super) fn is_small(value: &[u8]) -> bool {
    let (high, _) = value.split_at(value.len().saturating_sub(2));
    high.iter().all(|byte| *byte == 0) || high.iter().all(|byte| *byte == 0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_both_spellings() {
        for text in [&b"\\x61005cff"[..], b"a\\000\\\\\\377"] {
            let read = bytes(false, text).expect("bytea");
            assert_eq!(&*read, b"a\0\\\xff");
        }
        for text in [&b"\\x6"[..], b"\\q", b"\\40"] {
            assert!(bytes(false, text).is_err());
        }
    }

    #[test]
    fn stand_ins_are_what_they_say() {
        let mut out = Vec::new();
        write_uuid(false, 0x1234, &mut out);
        assert_eq!(out, b"00000000-0000-8000-8000-000000001234");
        let mut binary = Vec::new();
        write_inet(true, false, &mut binary);
        assert_eq!(
            inet(&binary).expect("inet"),
            Some(IpAddr::from([0, 0, 0, 0]))
        );
    }
}
