//! Text from outside, cut to a size that the store can hold whatever is in it.

use std::fmt;

use holdpoint_core::mask::names::{MASKED, names_a_secret};
use serde::{Deserialize, Serialize};

/// Bytes a [`Text`] takes in JSON at most, quotes not counted.
const TEXT_LIMIT: usize = 2048;
/// Bytes all items of a [`Texts`] or [`Pairs`] take in JSON at most, punctuation not counted.
const LIST_LIMIT: usize = 8192;
/// Items of a list at most.
const LIST_ITEMS: usize = 256;
/// Bytes that one byte becomes at most (`\\u0000`).
const LONGEST_ESCAPE: usize = 6;
/// What stands where something was left out.
const MARKER: &str = "…[cut]";

/// Text of at most 2048 bytes as JSON spells it; what was longer ends in `…[cut]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same with at most 256 bytes, for names.
    #[must_use]
    pub fn short(text: &str) -> Self {
        Self::within(text, 256)
    }

    /// Whether something was left out.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.ends_with(MARKER)
    }

    fn within(text: &str, limit: usize) -> Self {
        if text.len() * LONGEST_ESCAPE <= limit {
            return Self(text.to_owned());
        }
        let mut size = 0;
        let mut keep = 0;
        for (at, character) in text.char_indices() {
            size += escaped_len(character);
            if size > limit {
                return Self(format!("{}{MARKER}", &text[..keep]));
            }
            if size + MARKER.len() <= limit {
                keep = at + character.len_utf8();
            }
        }
        Self(text.to_owned())
    }
}

impl<T: AsRef<str>> From<T> for Text {
    fn from(text: T) -> Self {
        Self::within(text.as_ref(), TEXT_LIMIT)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A list of texts, such as a command line, of at most 8192 bytes in all; a longer one ends in the item `…[cut]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Texts(Vec<Text>);

impl Texts {
    /// The items.
    #[must_use]
    pub fn as_slice(&self) -> &[Text] {
        &self.0
    }

    /// Whether all items are there, whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.0.iter().any(Text::is_cut)
    }
}

impl<T: Into<Text>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut kept = Vec::new();
        let mut room = Room::default();
        for item in items {
            let item = item.into();
            if !room.takes(&[&item]) {
                kept.push(Text(MARKER.into()));
                break;
            }
            kept.push(item);
        }
        Self(kept)
    }
}

/// Named values, such as a query, in order, of at most 8192 bytes in all; a longer one ends in a pair named `…[cut]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pairs(Vec<(Text, Text)>);

impl Pairs {
    /// The pairs.
    #[must_use]
    pub fn as_slice(&self) -> &[(Text, Text)] {
        &self.0
    }

    /// Whether all pairs are there, whole.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let cut = |(name, value): &(Text, Text)| name.is_cut() || value.is_cut();
        !self.0.iter().any(cut)
    }

    /// Those of a query, with the values masked that look like secrets by their names.
    pub fn of_query<'a>(query: impl IntoIterator<Item = &'a (String, String)>) -> Self {
        query
            .into_iter()
            .map(|(name, value)| (name.as_str(), shown_value(name, value)))
            .collect()
    }
}

impl<N: Into<Text>, V: Into<Text>> FromIterator<(N, V)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(items: I) -> Self {
        let mut kept = Vec::new();
        let mut room = Room::default();
        for (name, value) in items {
            let (name, value) = (name.into(), value.into());
            if !room.takes(&[&name, &value]) {
                kept.push((Text(MARKER.into()), Text::default()));
                break;
            }
            kept.push((name, value));
        }
        Self(kept)
    }
}

/// `value`, or what stands for it where `name` says that it is a secret.
fn shown_value<'a>(name: &str, value: &'a str) -> &'a str {
    if names_a_secret(name) { MASKED } else { value }
}

/// How much of a list's allowance is used.
#[derive(Default)]
struct Room {
    items: usize,
    bytes: usize,
}

impl Room {
    fn takes(&mut self, texts: &[&Text]) -> bool {
        let more: usize = texts
            .iter()
            .flat_map(|text| text.0.bytes())
            .map(escaped_byte)
            .sum();
        self.items += 1;
        self.bytes += more;
        self.items <= LIST_ITEMS && self.bytes <= LIST_LIMIT
    }
}

/// Bytes that `serde_json` writes for one character of a string.
fn escaped_len(character: char) -> usize {
    let mut bytes = [0; 4];
    let bytes = character.encode_utf8(&mut bytes).bytes();
    bytes.map(escaped_byte).sum()
}

/// The same for one byte of it.
fn escaped_byte(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | 8 | b'\t' | b'\n' | 12 | b'\r' => 2,
        ..=0x1f => LONGEST_ESCAPE,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_fits_and_keeps_its_beginning(text in "(?s).{0,3000}") {
            let cut = Text::from(&text);
            let json = serde_json::to_string(&cut).expect("a string");
            prop_assert!(json.len() <= TEXT_LIMIT + 2);
            match cut.as_str().strip_suffix(MARKER) {
                Some(start) => prop_assert!(text.starts_with(start)),
                None => prop_assert_eq!(cut.as_str(), text),
            }
            prop_assert_eq!(&Text::from(cut.as_str()), &cut);
        }

        #[test]
        fn lists_fit(items in prop::collection::vec("(?s).{0,400}", 0..300)) {
            let cut: Texts = items.iter().collect();
            let json = serde_json::to_string(&cut).expect("a list");
            prop_assert!(json.len() <= LIST_LIMIT + 3 * LIST_ITEMS + 20);
            if cut.0.last() != Some(&Text(MARKER.into())) {
                prop_assert_eq!(cut.0.len(), items.len());
            }
        }
    }

    #[test]
    fn secrets_in_a_query_are_masked_and_the_rest_is_not() {
        let query = [
            ("upload_id", "ABPtcP"),
            ("X-Goog-Signature", "90ab"),
            ("access_token", "ya29.x"),
            ("key", "AIza"),
            ("pageToken", "next"),
            ("alt", "json"),
            ("keyRing", "ring"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let shown = Pairs::of_query(&query);
        let values: Vec<_> = shown.0.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(
            values,
            [MASKED, MASKED, MASKED, MASKED, "next", "json", "ring"]
        );
    }
}
