//! Requests that real clients sent, captured (`tests/corpus/gcp-clients.jsonl`): each is recognised as what it is.

use std::fs;

use holdpoint_core::{
    catalog::Catalog,
    operation::{Action, Content},
    recognise::{Head, Payload, Recognised, route},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

const CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../tests/corpus/gcp-clients.jsonl"
);

fn rows() -> Vec<Value> {
    let text = fs::read_to_string(CORPUS).expect("the corpus is committed");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}

fn recognise(row: &Value) -> Recognised {
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
    let recognised = route(Catalog::built_in(), head).and_then(|route| route.complete(payload));
    recognised.unwrap_or_else(|error| panic!("{} {}: {error}", head.method, head.path))
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
        let expected = match text(&row, "kind") {
            "grpc" | "websocket" => Action::UNKNOWN,
            "gcs-xml" => "storage.objects.get",
            _ => continue,
        };
        let Recognised::One(operation) = recognise(&row) else {
            panic!("{} is no batch", text(&row, "path"));
        };
        assert_eq!(operation.action.id(), expected, "{}", text(&row, "path"));
    }
}
