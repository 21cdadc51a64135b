//! International bank account numbers (ISO 13616).

use std::ops::Range;

use super::before;

/// Countries and the lengths of their numbers (the SWIFT registry's).
const LENGTHS: [(&[u8; 2], usize); 83] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
];

/// The number whose check digits are at `digits`, its country's letters before them: bare, or in groups of four.
pub(super) fn at(text: &[u8], digits: usize) -> Option<Range<usize>> {
    let start = digits.checked_sub(2)?;
    let country: &[u8] = &text[start..digits];
    let is_word =
        |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let known = LENGTHS
        .binary_search_by(|(known, _)| known.as_slice().cmp(country))
        .ok()?;
    if is_word(before(text, start)) {
        return None;
    }
    let mut number = Vec::with_capacity(34);
    let mut end = start;
    while number.len() < LENGTHS[known].1 {
        let byte = *text.get(end)?;
        end += 1;
        if byte == b' ' && number.len() % 4 == 0 {
            continue;
        }
        if !(byte.is_ascii_digit() || byte.is_ascii_uppercase()) {
            return None;
        }
        number.push(byte);
    }
    (!is_word(text.get(end).copied()) && passes(&number)).then_some(start..end)
}

/// ISO 7064, mod 97-10.
fn passes(number: &[u8]) -> bool {
    let rotated = number[4..].iter().chain(&number[..4]);
    let rest = rotated.fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter - b'A') + 10) % 97,
    });
    rest == 1
}

#[cfg(test)]
mod tests {
    use super::super::{
        Builtin as B,
        testing::{finds, finds_nothing},
    };
    use super::LENGTHS;

    #[test]
    fn countries_are_in_order() {
        assert!(LENGTHS.is_sorted());
    }

    #[test]
    fn numbers() {
        finds(
            B::Iban,
            &[
                "DE89370400440532013000",
                "DE89 3704 0044 0532 0130 00",
                "GB29NWBK60161331926819",
                "FR1420041010050500013M02606",
                "NO9386011117947",
            ],
        );
        finds_nothing(
            B::Iban,
            &[
                "DE89370400440532013001",
                "DE8937040044053201300",
                "XX89370400440532013000",
                "ADE89370400440532013000",
                "DE89370400440532013000A",
                "de89370400440532013000",
                "DE",
                "DE89",
            ],
        );
    }
}
