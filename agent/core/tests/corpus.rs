//! Requests that real clients sent, captured (`tests/corpus/gcp-clients.jsonl`): each is recognised as what it is.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    sync::LazyLock,
};

use holdpoint_core::{
    catalog::Catalog,
    digest::Digest,
    operation::{Action, Content},
    recognise::{Head, Malformed, Payload, Recognised, route},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::{
    prelude::*,
    sample::{Index, select},
};
use serde_json::Value;

const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/corpus/gcp-clients.jsonl"
);

fn rows() -> &'static [Value] {
    static ROWS: LazyLock<Vec<Value>> = LazyLock::new(|| {
        let text = fs::read_to_string(CORPUS).expect("the corpus is committed");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("each line is JSON"))
            .collect()
    });
    &ROWS
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

fn recognise(row: &Value) -> Recognised {
    try_recognise(row).unwrap_or_else(|error| panic!("{}: {error}", text(row, "path")))
}

fn try_recognise(row: &Value) -> Result<Recognised, Malformed> {
    let mut headers = HeaderMap::new();
    for header in row["headers"].as_array().expect("headers are a list") {
        let name = HeaderName::from_bytes(header[0].as_str().unwrap_or_default().as_bytes());
        let value = HeaderValue::from_str(header[1].as_str().unwrap_or_default());
        headers.append(
            name.expect("a header's name"),
            value.expect("a header's value"),
        );
    }
    let head = Head {
        method: text(row, "method"),
        authority: text(row, "host"),
        path: text(row, "path"),
        query: text(row, "query"),
        headers: &headers,
    };
    let body = text(row, "body").as_bytes();
    let whole = row["body_len"].as_u64() == Some(body.len() as u64);
    let payload = if whole {
        Payload::Whole(body)
    } else {
        Payload::Beginning(body)
    };
    route(Catalog::built_in(), head)?.complete(payload)
}

#[test]
fn every_captured_request_is_what_it_is() {
    let mut seen = 0;
    for row in rows().iter().filter(|row| row["discovery"].is_object()) {
        let Recognised::One(operation) = recognise(row) else {
            panic!("{} is no batch", text(row, "path"));
        };
        assert_eq!(
            Some(operation.action.id()),
            row["discovery"]["id"].as_str(),
            "{}",
            text(row, "path")
        );
        assert!(
            operation.resource.name.starts_with("//"),
            "{}",
            operation.resource.name
        );
        let captured = row["body_b64"].is_null();
        assert!(
            !captured || !matches!(operation.content, Content::Unreadable(_)),
            "{:?}",
            operation.content
        );
        seen += 1;
    }
    assert_eq!(seen, 205);
}

#[test]
fn parts_of_captured_batches_are_what_they_are() {
    let mut seen = 0;
    for row in rows().iter().filter(|row| row["batch_parts"].is_array()) {
        let Recognised::Batch(batch) = recognise(row) else {
            panic!("{} is a batch", text(row, "path"));
        };
        let expected: Vec<_> = row["batch_parts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|part| part[2].as_str())
            .collect();
        let ids: Vec<_> = batch
            .operations
            .iter()
            .map(|operation| operation.action.id())
            .collect();
        assert_eq!(ids, expected);
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn captured_requests_in_other_protocols() {
    for row in rows() {
        let expected = match text(row, "kind") {
            "grpc" | "websocket" => Action::UNKNOWN,
            "gcs-xml" => "storage.objects.get",
            _ => continue,
        };
        let Recognised::One(operation) = recognise(row) else {
            panic!("{} is no batch", text(row, "path"));
        };
        assert_eq!(operation.action.id(), expected, "{}", text(row, "path"));
    }
}

/// What clients send again after they gave up, or when the same command is run again, is the same operation.
#[test]
fn the_same_request_captured_again_has_the_same_digest() {
    let mut first = BTreeMap::new();
    let mut again = 0;
    for row in rows().iter().filter(|row| row["discovery"].is_object()) {
        let Recognised::One(operation) = recognise(row) else {
            continue;
        };
        let request = ["command", "method", "host", "path", "query", "body"]
            .map(|key| text(row, key).to_owned());
        match first.entry(request) {
            Entry::Vacant(new) => drop(new.insert(operation.digest)),
            Entry::Occupied(known) => {
                assert_eq!(*known.get(), operation.digest, "{}", text(row, "path"));
                again += 1;
            }
        }
    }
    assert!(again >= 20, "the corpus holds re-sends: {again}");
}

fn digest_of(row: &Value) -> Option<Digest> {
    match try_recognise(row).ok()? {
        Recognised::One(operation) => Some(operation.digest),
        Recognised::Batch(_) => None,
    }
}

/// `text` with another letter or digit in one place.
fn altered(text: &str, place: usize, with: char) -> Option<String> {
    let places: Vec<usize> = text
        .char_indices()
        .filter(|(_, old)| old.is_ascii_alphanumeric() && *old != with)
        .map(|(at, _)| at)
        .collect();
    let at = *places.get(place % places.len().max(1))?;
    let mut changed = text.to_owned();
    changed.replace_range(at..=at, with.encode_utf8(&mut [0; 4]));
    Some(changed)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is changed in what an operation does makes it another operation, if it is one at all.
    #[test]
    fn any_change_that_means_something_changes_the_digest(
        which: Index, part in select(vec!["path", "query", "body"]), place: usize, with in "[a-z0-9]",
    ) {
        let rows: Vec<_> = rows()
            .iter()
            .filter(|row| row["discovery"].is_object() && row["body_b64"].is_null())
            .collect();
        let row = which.get(&rows);
        let with = with.chars().next().expect("one");
        let Some(changed) = altered(text(row, part), place, with) else {
            return Ok(());
        };
        let mut other = (*row).clone();
        other[part] = changed.into();
        let same = match part {
            // Spaces and the order of keys mean nothing.
            "body" => {
                let json = |row| serde_json::from_str::<Value>(text(row, "body")).ok();
                json(row).is_none() || json(row) == json(&other)
            }
            "query" => is_noise(text(row, "query")) || is_noise(text(&other, "query")),
            _ => false,
        };
        if !same && let Some(digest) = digest_of(&other) {
            prop_assert_ne!(Some(digest), digest_of(row), "{} {}", part, text(&other, part));
        }
    }
}

/// Whether some of it may change without a change in what is asked for.
fn is_noise(query: &str) -> bool {
    let noise = [
        "prettyPrint",
        "quotaUser",
        "requestId",
        "xgafv",
        "userIp",
        "unique",
    ];
    noise.iter().any(|name| query.contains(name))
}
