//! Telephone numbers.

use std::ops::Range;

use super::{super::fields::Hint, before, numbers::stands_alone, run_end};

/// Digits of an international number (ITU-T E.164).
const INTERNATIONAL: std::ops::RangeInclusive<usize> = 8..=15;

/// The number whose first digit is at `start`: international with `+`, North American, or national with a leading 0 in groups. Where
/// the field's name says that it is one, any 7 to 15 digits.
pub(super) fn at(text: &[u8], start: usize, hint: Hint) -> Option<Range<usize>> {
    if before(text, start) == Some(b'+') {
        return international(text, start);
    }
    if hint == Hint::Phone {
        return any(text, start);
    }
    if hint == Hint::Identifier {
        return None;
    }
    north_american(text, start).or_else(|| with_trunk_prefix(text, start))
}

fn international(text: &[u8], start: usize) -> Option<Range<usize>> {
    let end = dialled_end(text, start);
    let at = start - 1..end;
    let digits = digits(&text[start..end]);
    (text[start] != b'0' && INTERNATIONAL.contains(&digits) && stands_alone(text, &at))
        .then_some(at)
}

fn any(text: &[u8], start: usize) -> Option<Range<usize>> {
    let opening = usize::from(before(text, start) == Some(b'('));
    let at = start - opening..dialled_end(text, start);
    ((7..=15).contains(&digits(&text[at.clone()])) && stands_alone(text, &at)).then_some(at)
}

fn digits(text: &[u8]) -> usize {
    text.iter().filter(|byte| byte.is_ascii_digit()).count()
}

/// The end of what is dialled: digits, with at most two characters between two of them.
fn dialled_end(text: &[u8], start: usize) -> usize {
    let mut end = start;
    loop {
        end = run_end(text, end, 16, |byte| byte.is_ascii_digit());
        let next = run_end(text, end, 2, |byte| {
            matches!(byte, b' ' | b'-' | b'.' | b'(' | b')' | b'/')
        });
        if next == end || !text.get(next).is_some_and(u8::is_ascii_digit) || end - start > 32 {
            return end;
        }
        end = next;
    }
}

/// `415-555-2671`, `(415) 555-2671`, `1-415-555-2671`; neither area nor exchange begins with 0 or 1 (NANP).
fn north_american(text: &[u8], start: usize) -> Option<Range<usize>> {
    let from = if text[start] == b'1' && matches!(text.get(start + 1), Some(b'-' | b'.' | b' ')) {
        start + 2
    } else {
        start
    };
    let part = |at: usize, length: usize| {
        text.get(at..at + length)
            .filter(|part| part.iter().all(u8::is_ascii_digit))
    };
    let is_code = |at: usize| part(at, 3).is_some_and(|code| code[0] >= b'2');
    let in_brackets = before(text, from) == Some(b'(') && text.get(from + 3) == Some(&b')');
    let exchange = match (in_brackets, text.get(from + 3), text.get(from + 4)) {
        (true, _, Some(b' ')) => from + 5,
        (true, ..) | (_, Some(b'-' | b'.' | b' '), _) => from + 4,
        _ => return None,
    };
    let separator = *text.get(exchange + 3)?;
    let alike =
        in_brackets && matches!(separator, b'-' | b'.' | b' ') || text[from + 3] == separator;
    if !alike || !is_code(from) || !is_code(exchange) || part(exchange + 4, 4).is_none() {
        return None;
    }
    let at = start - usize::from(in_brackets && from == start)..exchange + 8;
    stands_alone(text, &at).then_some(at)
}

/// `030 1234567`, `01 23 45 67 89`, `020 7946 0958`, `0171/1234567`: 10 to 12 digits in groups with one kind of separator.
fn with_trunk_prefix(text: &[u8], start: usize) -> Option<Range<usize>> {
    if text[start] != b'0' || !matches!(text.get(start + 1), Some(b'1'..=b'9')) {
        return None;
    }
    let mut end = run_end(text, start, 13, |byte| byte.is_ascii_digit());
    let separator = *text
        .get(end)
        .filter(|byte| matches!(byte, b' ' | b'/' | b'-' | b'.'))?;
    let mut groups = 1;
    while text.get(end) == Some(&separator) {
        let next = run_end(text, end + 1, 13, |byte| byte.is_ascii_digit());
        if next - end < 3 {
            break;
        }
        end = next;
        groups += 1;
    }
    let at = start..end;
    let is_number = (2..=5).contains(&groups) && (10..=12).contains(&digits(&text[at.clone()]));
    (is_number && stands_alone(text, &at)).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::super::{
        Builtin as B,
        testing::{finds, finds_nothing, found_in},
    };
    use super::*;
    use crate::mask::find::Context;

    #[test]
    fn numbers() {
        finds(
            B::Phone,
            &[
                "+14155552671",
                "+1 415 555 2671",
                "+49 (30) 1234-5678",
                "+442079460958",
                "(415) 555-2671",
                "415-555-2671",
                "415.555.2671",
                "1-415-555-2671",
                "030 1234567",
                "01 23 45 67 89",
                "020 7946 0958",
                "0171/1234567",
            ],
        );
        let hinted = |text| {
            found_in(
                B::Phone,
                text,
                Context {
                    hint: Hint::Phone,
                    prose: false,
                },
            )
        };
        assert_eq!(hinted("4155552671"), ["4155552671"]);
        assert_eq!(hinted("(030) 123 456"), ["(030) 123 456"]);
    }

    #[test]
    fn dates_addresses_and_ids_are_no_numbers() {
        finds_nothing(
            B::Phone,
            &[
                "2024-01-02T03:04:05.123456+00:00",
                "2024-01-02 03:04:05 +0000",
                "01/02/2024",
                "01-02-2024 10:11:12",
                "10.128.0.12",
                "192.168.100.200",
                "415-555-26711",
                "115-555-2671",
                "415-155-2671",
                "a415-555-2671",
                "123456789012",
                "6f1c2d3e-415-555-2671-0a",
                "4155552671",
                "1.0.0+20130313144700",
                "+1234",
                "+",
                "0.1234567890",
                "0",
                "00 12 34 56 78 90",
                "01234567890",
                "projects/030 1234567x",
            ],
        );
    }
}
