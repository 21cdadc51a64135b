//! Numbers as they are in binary, and in digits.

use std::fmt::Write as _;

use super::{super::Unreadable, kind::Kind};

/// More digits than anything has that is looked for.
const MOST_GROUPS: i16 = 8;

/// A number in digits, as its text would be; `None` for fractions, and for what is too small or too large to be anybody's.
pub(super) fn digits(kind: Kind, value: &[u8]) -> Result<Option<String>, Unreadable> {
    Ok(match kind {
        Kind::Int { bytes: 2 } => Some(i16::from_be_bytes(exactly(value)?).into()),
        Kind::Int { bytes: 4 } => Some(i32::from_be_bytes(exactly(value)?).into()),
        Kind::Int { .. } => Some(i64::from_be_bytes(exactly(value)?)),
        Kind::Float { bytes: 4 } => whole(f32::from_be_bytes(exactly(value)?).into()),
        Kind::Float { .. } => whole(f64::from_be_bytes(exactly(value)?)),
        Kind::Numeric => return numeric(value),
        _ => None,
    }
    .map(|number: i64| number.to_string()))
}

fn exactly<const N: usize>(value: &[u8]) -> Result<[u8; N], Unreadable> {
    value.try_into().map_err(|_| Unreadable::Row)
}

/// A float that counts something.
#[expect(
    clippy::cast_possible_truncation,
    reason = "what is too large is left out before"
)]
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 9e18).then_some(number as i64)
}

/// PostgreSQL's `numeric_send`: how many groups of four digits, the first one's weight, sign, digits after the point, the groups.
fn numeric(value: &[u8]) -> Result<Option<String>, Unreadable> {
    let (head, groups) = value.split_at_checked(8).ok_or(Unreadable::Row)?;
    let of = |at: usize| i16::from_be_bytes([head[at], head[at + 1]]);
    let (count, weight) = (of(0), of(2));
    let is_finite = matches!(of(4), 0 | 0x4000);
    if usize::try_from(count).ok() != Some(groups.len() / 2) || groups.len() % 2 != 0 {
        return Err(Unreadable::Row);
    }
    if !is_finite || weight > MOST_GROUPS || count == 0 || weight < 0 {
        return Ok(None);
    }
    let mut text = String::new();
    let mut groups = groups.chunks_exact(2);
    for at in 0..=weight {
        let group = groups
            .next()
            .map_or(0, |group| u16::from_be_bytes([group[0], group[1]]));
        let _ = match at {
            0 => write!(text, "{group}"),
            _ => write!(text, "{group:04}"),
        };
    }
    Ok(Some(text))
}

/// Writes a number in place of another; it is made small enough.
pub(super) fn write(kind: Kind, is_binary: bool, number: u64, out: &mut Vec<u8>) {
    let number = match kind {
        Kind::Int { bytes: 2 } => number & 0x7fff,
        Kind::Int { bytes: 4 } => number & 0x7fff_ffff,
        Kind::Int { .. } => number & 0x7fff_ffff_ffff_ffff,
        // Every one of these is a float of four bytes.
        Kind::Float { .. } => number & 0xff_ffff,
        _ => number % 1_000_000_000_000,
    };
    if !is_binary {
        out.extend_from_slice(number.to_string().as_bytes());
        return;
    }
    match kind {
        Kind::Int { bytes } => out.extend_from_slice(&number.to_be_bytes()[8 - bytes..]),
        Kind::Float { bytes } => write_float(bytes, number, out),
        _ => write_numeric(number, out),
    }
}

#[expect(clippy::cast_precision_loss, reason = "24 bits are exact in both")]
fn write_float(bytes: usize, number: u64, out: &mut Vec<u8>) {
    match bytes {
        4 => out.extend_from_slice(&(number as f32).to_be_bytes()),
        _ => out.extend_from_slice(&(number as f64).to_be_bytes()),
    }
}

fn write_numeric(number: u64, out: &mut Vec<u8>) {
    let mut groups = Vec::new();
    let mut rest = number;
    while rest > 0 {
        groups.push(u16::try_from(rest % 10_000).expect("less than 10,000"));
        rest /= 10_000;
    }
    let count = u16::try_from(groups.len()).expect("a few");
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&count.saturating_sub(1).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    let groups = groups.iter().rev().flat_map(|group| group.to_be_bytes());
    out.extend(groups);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_that_is_written_is_read_again(number in 0..1_000_000_000_000_u64) {
            let mut out = Vec::new();
            write(Kind::Numeric, true, number, &mut out);
            let read = digits(Kind::Numeric, &out).expect("a numeric");
            prop_assert_eq!(read.unwrap_or_else(|| "0".into()), number.to_string());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            for kind in [Kind::Numeric, Kind::Float { bytes: 8 }, Kind::Int { bytes: 4 }] {
                let _ = digits(kind, &bytes);
            }
        }
    }
}
