//! Where two JSON values differ.

use crate::{fields::Json, mask::names::holds_a_secret};

/// Beyond this many comparisons two lists are not aligned: what differs between their common beginning and end is replaced.
const MOST_COMPARISONS: usize = 1 << 14;

/// One step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Field(String),
    /// Where both sides have the item, its place in both; else its place on the side that has it.
    Item(usize),
}

/// One place at which two values differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) path: Vec<Step>,
    pub(super) before: Option<Json>,
    pub(super) after: Option<Json>,
    /// Whether the values are nobody's business.
    pub(super) is_secret: bool,
}

/// What differs between two values in [`plain`] form, in the order of the fields.
pub(super) fn between(before: &Json, after: &Json, is_secret: bool) -> Vec<Difference> {
    let mut finder = Finder::default();
    finder.compare(before, after, is_secret);
    finder.found
}

/// The same value with fields in order and without those that are null.
pub(super) fn plain(json: &Json) -> Json {
    match json {
        Json::Object(entries) => {
            let present = entries.iter().filter(|(_, value)| *value != Json::Null);
            let mut entries: Vec<_> = present
                .map(|(key, value)| (key.clone(), plain(value)))
                .collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Json::Object(entries)
        }
        Json::Array(items) => Json::Array(items.iter().map(plain).collect()),
        Json::Null | Json::Text(_) => json.clone(),
    }
}

#[derive(Default)]
struct Finder {
    path: Vec<Step>,
    found: Vec<Difference>,
}

impl Finder {
    fn compare(&mut self, before: &Json, after: &Json, is_secret: bool) {
        match (before, after) {
            (Json::Object(_), Json::Object(_)) => self.objects(before, after, is_secret),
            (Json::Array(before), Json::Array(after)) => self.arrays(before, after, is_secret),
            _ if before == after => {}
            _ => self.note(Some(before), Some(after), is_secret),
        }
    }

    fn objects(&mut self, before: &Json, after: &Json, is_secret: bool) {
        let keys = before.entries().iter().chain(after.entries());
        let mut keys: Vec<&str> = keys.map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let is_secret = is_secret || holds_a_secret(before, key) || holds_a_secret(after, key);
            self.path.push(Step::Field(key.to_owned()));
            match (entry(before, key), entry(after, key)) {
                (Some(before), Some(after)) => self.compare(before, after, is_secret),
                (before, after) => self.note(before, after, is_secret),
            }
            self.path.pop();
        }
    }

    fn arrays(&mut self, before: &[Json], after: &[Json], is_secret: bool) {
        let is_compound = |item: &Json| !matches!(item, Json::Text(_) | Json::Null);
        if before.len() == after.len() && before.iter().chain(after).any(is_compound) {
            for (place, (before, after)) in before.iter().zip(after).enumerate() {
                self.path.push(Step::Item(place));
                self.compare(before, after, is_secret);
                self.path.pop();
            }
            return;
        }
        let (gone, new) = unmatched(before, after);
        for place in gone {
            self.item(place, Some(&before[place]), None, is_secret);
        }
        for place in new {
            self.item(place, None, Some(&after[place]), is_secret);
        }
    }

    fn item(&mut self, place: usize, before: Option<&Json>, after: Option<&Json>, secret: bool) {
        self.path.push(Step::Item(place));
        self.note(before, after, secret);
        self.path.pop();
    }

    fn note(&mut self, before: Option<&Json>, after: Option<&Json>, is_secret: bool) {
        self.found.push(Difference {
            path: self.path.clone(),
            before: before.cloned(),
            after: after.cloned(),
            is_secret,
        });
    }
}

pub(super) fn entry<'a>(object: &'a Json, key: &str) -> Option<&'a Json> {
    let found = object.entries().iter().find(|(known, _)| known == key);
    found.map(|(_, value)| value)
}

/// The places in `before` and in `after` that are not in a longest common subsequence of both.
fn unmatched(before: &[Json], after: &[Json]) -> (Vec<usize>, Vec<usize>) {
    let same = |(a, b): &(&Json, &Json)| a == b;
    let start = before.iter().zip(after).take_while(same).count();
    let (old, new) = (&before[start..], &after[start..]);
    let end = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take_while(same)
        .count();
    let (old, new) = (&old[..old.len() - end], &new[..new.len() - end]);
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    if old.len().saturating_mul(new.len()) > MOST_COMPARISONS {
        gone.extend(0..old.len());
        come.extend(0..new.len());
    } else {
        let longest = common_lengths(old, new);
        let (mut i, mut j) = (0, 0);
        while i < old.len() || j < new.len() {
            if i < old.len() && j < new.len() && old[i] == new[j] {
                (i, j) = (i + 1, j + 1);
            } else if j == new.len() || (i < old.len() && longest[i + 1][j] >= longest[i][j + 1]) {
                gone.push(i);
                i += 1;
            } else {
                come.push(j);
                j += 1;
            }
        }
    }
    let shifted = |places: Vec<usize>| places.into_iter().map(|place| place + start).collect();
    (shifted(gone), shifted(come))
}

/// How long the longest common subsequence of `old[i..]` and `new[j..]` is.
fn common_lengths(old: &[Json], new: &[Json]) -> Vec<Vec<usize>> {
    let mut lengths = vec![vec![0; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            lengths[i][j] = if old[i] == new[j] {
                lengths[i + 1][j + 1] + 1
            } else {
                lengths[i + 1][j].max(lengths[i][j + 1])
            };
        }
    }
    lengths
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Carries the differences out.
    pub(crate) fn applied(before: &Json, differences: &[Difference]) -> Json {
        let mut after = before.clone();
        // A list gets shorter from its end on and longer from its beginning on; and what differs within an item of a list lies
        // in a list that keeps its length.
        let (removals, others): (Vec<_>, Vec<_>) =
            differences.iter().partition(|it| it.after.is_none());
        for difference in removals.into_iter().rev().chain(others) {
            apply(&mut after, &difference.path, difference);
        }
        plain(&after)
    }

    fn apply(json: &mut Json, path: &[Step], difference: &Difference) {
        match (path, json) {
            ([], json) => *json = difference.after.clone().expect("the root stays"),
            ([Step::Field(key)], Json::Object(entries)) => {
                entries.retain(|(known, _)| known != key);
                entries.extend(difference.after.clone().map(|value| (key.clone(), value)));
            }
            ([Step::Item(place)], Json::Array(items)) => {
                match (&difference.before, difference.after.clone()) {
                    (Some(_), Some(after)) => items[*place] = after,
                    (None, Some(after)) => items.insert(*place, after),
                    _ => drop(items.remove(*place)),
                }
            }
            ([Step::Field(key), rest @ ..], Json::Object(entries)) => {
                let entry = entries.iter_mut().find(|(known, _)| known == key);
                apply(&mut entry.expect("it is there").1, rest, difference);
            }
            ([Step::Item(place), rest @ ..], Json::Array(items)) => {
                apply(&mut items[*place], rest, difference);
            }
            _ => panic!("the path leads nowhere"),
        }
    }

    pub(crate) fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            1 => Just(Json::Null),
            6 => "[ab1]{0,2}".prop_map(Json::Text),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::Array),
                prop::collection::btree_map("[a-d]{1,2}", inner, 0..5)
                    .prop_map(|map| Json::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn applying_what_differs_gives_the_other(before in any_json(), after in any_json()) {
            let (before, after) = (plain(&before), plain(&after));
            let differences = between(&before, &after, false);
            prop_assert_eq!(applied(&before, &differences), after);
        }

        #[test]
        fn nothing_differs_from_itself(json in any_json()) {
            prop_assert!(between(&plain(&json), &plain(&json), false).is_empty());
        }

        #[test]
        fn what_differs_lies_where_it_was(before in any_json(), after in any_json()) {
            for difference in between(&plain(&before), &plain(&after), false) {
                prop_assert_ne!(difference.before, difference.after);
            }
        }
    }

    #[test]
    fn one_item_taken_out_of_a_list_is_one_difference() {
        let list = |text: &str| plain(&Json::parse(text.as_bytes()).expect("JSON"));
        let found = between(&list(r#"["a","b","c"]"#), &list(r#"["a","c"]"#), false);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, [Step::Item(1)]);
        let found = between(&list(r#"["a","b","c"]"#), &list(r#"["b","c","d"]"#), false);
        assert_eq!(found.len(), 2);
        let long: Vec<_> = (0..400).map(|n| Json::Text(n.to_string())).collect();
        let other: Vec<_> = (0..400).rev().map(|n| Json::Text(n.to_string())).collect();
        let (long, other) = (Json::Array(long), Json::Array(other));
        assert_eq!(applied(&long, &between(&long, &other, false)), other);
    }
}
