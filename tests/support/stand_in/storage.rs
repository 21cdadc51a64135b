//! Cloud Storage: the JSON API, and reads by the XML API
//! (<https://cloud.google.com/storage/docs/json_api/v1>).

use std::sync::Mutex;

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Answer, Call,
    objects::{Buckets, Object, describe, hash_header},
    upload::Uploads,
};

/// All buckets, and uploads under way.
#[derive(Default)]
pub struct Storage {
    buckets: Mutex<Buckets>,
    uploads: Uploads,
}

impl Storage {
    /// Answers one call.
    pub fn answer(&self, call: &Call) -> Answer {
        let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        let mut buckets = self.buckets.lock().expect("no panic while locked");
        match segments.as_slice() {
            ["upload" | "resumable", .., "b", bucket, "o"] => {
                self.uploads.answer(&mut buckets, bucket, call)
            }
            ["storage", "v1", "b"] => top(&mut buckets, call),
            ["storage", "v1", "b", bucket, path @ ..] => {
                in_bucket(&mut buckets, call, bucket, path)
            }
            ["download", "storage", "v1", "b", bucket, "o", name @ ..] => {
                media(&buckets, call, bucket, &name.join("/"))
            }
            [bucket, name @ ..] if call.method == "GET" => {
                media(&buckets, call, bucket, &name.join("/"))
            }
            _ => Answer::missing("the method"),
        }
    }
}

fn top(buckets: &mut Buckets, call: &Call) -> Answer {
    match call.method.as_str() {
        "GET" => {
            let prefix = call.parameter("prefix").unwrap_or_default();
            let names = buckets.all.keys().filter(|name| name.starts_with(prefix));
            let items: Vec<Value> = names.filter_map(|name| buckets.bucket(name)).collect();
            Answer::json(&json!({"kind": "storage#buckets", "items": items}))
        }
        "POST" => {
            let name = call.json()["name"].as_str().unwrap_or("unnamed").to_owned();
            buckets.all.entry(name.clone()).or_default();
            found(buckets.bucket(&name), "The bucket")
        }
        _ => Answer::missing("the method"),
    }
}

fn in_bucket(buckets: &mut Buckets, call: &Call, bucket: &str, path: &[&str]) -> Answer {
    if !buckets.all.contains_key(bucket) {
        return Answer::missing("The specified bucket");
    }
    match (call.method.as_str(), path) {
        ("GET", []) => found(buckets.bucket(bucket), "The bucket"),
        ("DELETE", []) => {
            buckets.all.remove(bucket);
            Answer::nothing()
        }
        ("GET", ["storageLayout"]) => Answer::json(&json!({
            "kind": "storage#storageLayout", "bucket": bucket, "location": "US",
            "locationType": "multi-region", "hierarchicalNamespace": {"enabled": false},
        })),
        ("GET", ["managedFolders"]) => Answer::json(&json!({"kind": "storage#managedFolders"})),
        ("GET" | "PUT", ["iam"]) => Answer::json(&json!({
            "kind": "storage#policy", "etag": "CAE=", "version": 1, "bindings": [],
        })),
        ("GET", ["o"]) => {
            let prefix = call.parameter("prefix").unwrap_or_default();
            found(
                buckets.list(bucket, prefix, call.parameter("delimiter")),
                "The bucket",
            )
        }
        (_, ["o", name @ ..]) => object(buckets, call, bucket, &name.join("/")),
        _ => Answer::missing("the method"),
    }
}

fn object(buckets: &mut Buckets, call: &Call, bucket: &str, name: &str) -> Answer {
    let missing = || Answer::missing(&format!("No such object: {bucket}/{name}"));
    match call.method.as_str() {
        "GET" if call.parameter("alt") == Some("media") => media(buckets, call, bucket, name),
        "GET" => match buckets.object(bucket, name) {
            Some(object) => Answer::json(&describe(bucket, name, object)),
            None => missing(),
        },
        "DELETE" => match buckets
            .all
            .get_mut(bucket)
            .and_then(|bucket| bucket.remove(name))
        {
            Some(_) => Answer::nothing(),
            None => missing(),
        },
        _ => Answer::missing("the method"),
    }
}

fn media(buckets: &Buckets, call: &Call, bucket: &str, name: &str) -> Answer {
    let Some(object) = buckets.object(bucket, name) else {
        return Answer::missing(&format!("No such object: {bucket}/{name}"));
    };
    let whole = Answer::of("application/octet-stream", object.data.clone());
    let answer = match call
        .header("range")
        .and_then(|range| byte_range(range, object))
    {
        Some((first, last)) => {
            Answer::of("application/octet-stream", object.data.slice(first..=last))
                .with_status(StatusCode::PARTIAL_CONTENT)
                .with_header(
                    "content-range",
                    &format!("bytes {first}-{last}/{}", object.data.len()),
                )
        }
        None => whole,
    };
    answer
        .with_header("content-type", &object.content_type)
        .with_header("x-goog-hash", &hash_header(object))
        .with_header("x-goog-generation", &object.generation().to_string())
        .with_header(
            "x-goog-stored-content-length",
            &object.data.len().to_string(),
        )
        .with_header("x-goog-stored-content-encoding", "identity")
        .with_header("x-goog-storage-class", "STANDARD")
}

fn byte_range(range: &str, object: &Object) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let end = object.data.len().checked_sub(1)?;
    let first = first.parse().ok()?;
    let last = last.parse().unwrap_or(end).min(end);
    (first <= last).then_some((first, last))
}

fn found(value: Option<Value>, what: &str) -> Answer {
    value.map_or_else(|| Answer::missing(what), |value| Answer::json(&value))
}
