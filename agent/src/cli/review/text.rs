//! What agents wrote, in the cells of a screen: made safe first, then cut or wrapped by the room it takes.

use unicode_width::UnicodeWidthChar as _;

use crate::cli::approvals::screen::{Keep, safe};

/// Where a line is broken at a space, this many cells of it may stay empty.
const RAGGED: usize = 16;

/// The cells that safe text takes. Each of its characters takes one or two.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(cells).sum()
}

fn cells(character: char) -> usize {
    character.width().unwrap_or(0)
}

/// `text`, safe, in at most `room` cells; `…` stands where some is missing.
pub(super) fn cut(text: &str, room: usize, keep: Keep) -> String {
    let text = safe(text);
    if width(&text) <= room {
        return text;
    }
    let Some(room) = room.checked_sub(1) else {
        return String::new();
    };
    match keep {
        Keep::Beginning => {
            let mut kept = beginning(text.chars(), room);
            kept.push('…');
            kept
        }
        Keep::End => {
            let kept: Vec<char> = beginning(text.chars().rev(), room).chars().collect();
            ['…'].into_iter().chain(kept.into_iter().rev()).collect()
        }
    }
}

fn beginning(text: impl Iterator<Item = char>, room: usize) -> String {
    let mut left = room;
    text.take_while(|it| match left.checked_sub(cells(*it)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    })
    .collect()
}

/// `text`, safe, in exactly `room` cells.
pub(super) fn column(text: &str, room: usize, keep: Keep) -> String {
    let mut text = cut(text, room, keep);
    let missing = room - width(&text);
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

/// `text`, safe, in pieces of at most `room` cells each, two at least; nothing of it is left out. Never empty.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    let text = safe(text);
    let room = room.max(2);
    let mut pieces = Vec::new();
    let mut rest = text.as_str();
    while width(rest) > room {
        let end = beginning(rest.chars(), room).len();
        let at = match rest[..end].rfind(' ') {
            Some(space) if width(&rest[space + 1..end]) <= RAGGED.min(room / 3) => space + 1,
            _ => end,
        };
        pieces.push(rest[..at].to_owned());
        rest = &rest[at..];
    }
    pieces.push(rest.to_owned());
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_lost_or_too_wide(text in "(?s).{0,200}", room in 2_usize..40) {
            let pieces = wrap(&text, room);
            prop_assert!(pieces.iter().all(|piece| width(piece) <= room));
            prop_assert_eq!(pieces.concat(), safe(&text));
        }

        #[test]
        fn a_column_is_as_wide_as_it_says(text in "(?s).{0,80}", room in 0_usize..40) {
            for keep in [Keep::Beginning, Keep::End] {
                prop_assert_eq!(width(&column(&text, room, keep)), room);
            }
        }
    }

    #[test]
    fn lines_break_between_words_where_that_costs_little() {
        assert_eq!(
            wrap("it destroys something", 14),
            ["it destroys ", "something"]
        );
        assert_eq!(wrap("aaaaaaaaaaaaaaaa", 8), ["aaaaaaaa", "aaaaaaaa"]);
        assert_eq!(wrap("", 8), [""]);
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("instances/prod-db", 8, Keep::End), "…prod-db");
        assert_eq!(cut("gcloud sql", 7, Keep::Beginning), "gcloud…");
        assert_eq!(cut("日本語", 4, Keep::Beginning), "日…");
        assert_eq!(cut("a\u{202e}b", 20, Keep::End), "a\\u{202e}b");
    }
}
