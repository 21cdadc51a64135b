//! Numbers of people and accounts: one look over the digits of a text.

use std::ops::Range;

use super::{super::fields::Hint, before, iban, phone, run_end};

/// What to look for, and as which of the set's detectors.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Wanted {
    pub(in super::super) phone: Option<u16>,
    pub(in super::super) iban: Option<u16>,
    pub(in super::super) card: Option<u16>,
    pub(in super::super) ssn: Option<u16>,
}

impl Wanted {
    pub(in super::super) fn any(&self) -> bool {
        self.phone
            .or(self.iban)
            .or(self.card)
            .or(self.ssn)
            .is_some()
    }
}

/// Calls `emit` for each number.
pub(in super::super) fn find(
    text: &[u8],
    hint: Hint,
    wanted: &Wanted,
    mut emit: impl FnMut(Range<usize>, u16),
) {
    let mut at = 0;
    while let Some(found) = text[at..].iter().position(u8::is_ascii_digit) {
        let start = at + found;
        match kind(text, start, hint, wanted) {
            Some((range, detector)) => {
                at = range.end;
                emit(range, detector);
            }
            None => at = run_end(text, start, usize::MAX, |byte| byte.is_ascii_digit()),
        }
    }
}

/// What begins at a text's digits, the most particular first.
fn kind(text: &[u8], start: usize, hint: Hint, wanted: &Wanted) -> Option<(Range<usize>, u16)> {
    let of = |found: Option<Range<usize>>, detector: u16| Some((found?, detector));
    wanted
        .iban
        .and_then(|detector| of(iban::at(text, start), detector))
        .or_else(|| {
            wanted
                .card
                .and_then(|detector| of(card(text, start, hint), detector))
        })
        .or_else(|| {
            wanted
                .ssn
                .and_then(|detector| of(ssn(text, start, hint), detector))
        })
        .or_else(|| {
            wanted
                .phone
                .and_then(|detector| of(phone::at(text, start, hint), detector))
        })
}

/// Whether nothing is beside it that makes it part of a longer name, number, path or address.
pub(super) fn stands_alone(text: &[u8], at: &Range<usize>) -> bool {
    let joins = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'-' | b'/' | b'+' | b'%' | b'@' | b'#' | b'~')
    };
    let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let point_before = before(text, at.start) == Some(b'.');
    let point_after = matches!(text.get(at.end), Some(b'.' | b':')) && is_digit(at.end + 1);
    !before(text, at.start).is_some_and(joins)
        && !text.get(at.end).copied().is_some_and(joins)
        && !point_before
        && !point_after
}

/// Digits in groups of these lengths, with the same separator (space or hyphen) between them.
pub(super) fn grouped(text: &[u8], start: usize, groups: &[usize]) -> Option<Range<usize>> {
    let mut at = start;
    let mut separator = None;
    for (index, length) in groups.iter().enumerate() {
        if index > 0 {
            let found = *text.get(at).filter(|byte| matches!(byte, b' ' | b'-'))?;
            if *separator.get_or_insert(found) != found {
                return None;
            }
            at += 1;
        }
        if !text.get(at..at + length)?.iter().all(u8::is_ascii_digit) {
            return None;
        }
        at += length;
    }
    Some(start..at)
}

/// How card numbers are written in groups.
const CARD_GROUPS: [&[usize]; 4] = [&[4, 4, 4, 4, 3], &[4, 4, 4, 4], &[4, 6, 5], &[4, 6, 4]];

/// A payment card number: Luhn's check digit, and a length that its issuer's range has.
///
/// Every tenth number passes Luhn, and Google's ids have up to 19 digits: without separators it has to have 15 or 16 digits and not
/// to be called an identifier; other lengths count only where the field's name says that it is a card.
fn card(text: &[u8], start: usize, hint: Hint) -> Option<Range<usize>> {
    let in_groups = CARD_GROUPS
        .iter()
        .filter_map(|groups| grouped(text, start, groups))
        .find(|at| stands_alone(text, at) && is_card(&text[at.clone()], hint));
    if in_groups.is_some() {
        return in_groups;
    }
    let end = run_end(text, start, 20, |byte| byte.is_ascii_digit());
    let at = start..end;
    let usual = matches!(at.len(), 15 | 16) && hint != Hint::Identifier;
    ((usual || hint == Hint::Card) && stands_alone(text, &at) && is_card(&text[at.clone()], hint))
        .then_some(at)
}

fn is_card(text: &[u8], hint: Hint) -> bool {
    let digits: Vec<u8> = text
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .map(|byte| byte - b'0')
        .collect();
    (12..=19).contains(&digits.len()) && has_issuer(&digits, hint) && passes_luhn(&digits)
}

/// Issuers' ranges (ISO/IEC 7812) and the lengths in use: Visa, Mastercard, American Express, Discover, Diners Club, JCB, UnionPay,
/// Mir, and, where the name says card, Maestro.
fn has_issuer(digits: &[u8], hint: Hint) -> bool {
    let prefix = |length: usize| {
        digits[..length]
            .iter()
            .fold(0_u32, |sum, digit| sum * 10 + u32::from(*digit))
    };
    let (two, three, four) = (prefix(2), prefix(3), prefix(4));
    match digits.len() {
        13 => digits[0] == 4,
        14 => matches!(three, 300..=305 | 309) || matches!(two, 36 | 38 | 39),
        15 => matches!(two, 34 | 37),
        16 => {
            digits[0] == 4
                || matches!(two, 51..=55 | 62 | 65)
                || matches!(three, 644..=649)
                || matches!(four, 2200..=2204 | 2221..=2720 | 3528..=3589 | 6011)
                || (hint == Hint::Card && matches!(two, 50 | 56..=61 | 63..=69 | 81 | 82))
        }
        19 => {
            digits[0] == 4
                || matches!(two, 62 | 65)
                || matches!(four, 3528..=3589 | 6011)
                || hint == Hint::Card && two == 50
        }
        12 | 17 | 18 => hint == Hint::Card && matches!(two, 50 | 56..=69),
        _ => false,
    }
}

/// ISO/IEC 7812-1, annex B.
fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, u32::from(*digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// A US social security number as it is written, `AAA-GG-SSSS`, or where the name says so, bare or with spaces. Areas 000, 666 and
/// 900-999, group 00 and serial 0000 are not given out (Social Security Administration, POMS RM 10201.035).
fn ssn(text: &[u8], start: usize, hint: Hint) -> Option<Range<usize>> {
    let mut found = grouped(text, start, &[3, 2, 4])
        .filter(|at| hint == Hint::Ssn || text[at.start + 3] == b'-');
    if found.is_none() && hint == Hint::Ssn {
        found = grouped(text, start, &[9]);
    }
    let at = found.filter(|at| stands_alone(text, at))?;
    let digits: Vec<u8> = text[at.clone()]
        .iter()
        .copied()
        .filter(u8::is_ascii_digit)
        .collect();
    let (area, group, serial) = (&digits[..3], &digits[3..5], &digits[5..]);
    let is_given =
        area != b"000" && area != b"666" && area[0] != b'9' && group != b"00" && serial != b"0000";
    is_given.then_some(at)
}

#[cfg(test)]
mod tests {
    use super::super::{
        Builtin as B,
        testing::{finds, finds_nothing, found_in},
    };
    use super::*;
    use crate::mask::find::Context;

    fn hinted(builtin: B, text: &str, hint: Hint) -> Vec<String> {
        found_in(builtin, text, Context { hint, prose: false })
    }

    #[test]
    fn cards() {
        for card in [
            "4111111111111111",
            "4111 1111 1111 1111",
            "4111-1111-1111-1111",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "3782 822463 10005",
            "6011111111111117",
            "3530111333300000",
        ] {
            for (before, after) in [
                ("", ""),
                ("card: ", ", "),
                ("\"", "\""),
                ("(", ")."),
                ("=", "&"),
            ] {
                let text = format!("{before}{card}{after}");
                assert_eq!(
                    found_in(B::Card, &text, Context::default()),
                    [card],
                    "{text}"
                );
            }
        }
        assert_eq!(
            hinted(B::Card, "4222222222222", Hint::Card),
            ["4222222222222"]
        );
        assert_eq!(
            hinted(B::Card, "6304000000000000", Hint::Card),
            ["6304000000000000"]
        );
    }

    #[test]
    fn ids_that_pass_luhn_by_luck_are_no_cards() {
        finds_nothing(
            B::Card,
            &[
                "4111111111111112",
                "4222222222222",
                "4000000000000000006",
                "0.4111111111111111",
                "-4111111111111111",
                "instances/4111111111111111",
                "x4111111111111111",
                "4111111111111111abc",
                "4111-1111 1111-1111",
                "1732121752000000",
            ],
        );
        assert!(hinted(B::Card, "4111111111111111", Hint::Identifier).is_empty());
    }

    #[test]
    fn social_security_numbers() {
        finds(B::UsSsn, &["078-05-1120", "219-09-9999"]);
        finds_nothing(
            B::UsSsn,
            &[
                "000-12-3456",
                "666-12-3456",
                "900-12-3456",
                "123-00-4567",
                "123-45-0000",
                "1078-05-1120",
                "078-05-11201",
                "078-05-1120-1",
                "078051120",
                "078 05 1120",
            ],
        );
        assert_eq!(hinted(B::UsSsn, "078051120", Hint::Ssn), ["078051120"]);
        assert_eq!(hinted(B::UsSsn, "078 05 1120", Hint::Ssn), ["078 05 1120"]);
    }
}
