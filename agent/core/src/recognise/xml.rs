//! The XML API of Cloud Storage (<https://cloud.google.com/storage/docs/xml-api/reference-methods>): requests on
//! objects and the listing of a bucket, under the ids of the JSON API's methods. What it can do beyond that is
//! `google.unknown`.

use http::HeaderMap;

use super::{Malformed, path, query::Query};
use crate::operation::Resource;

/// First segments of paths that belong to other APIs of the same host.
const OTHER_APIS: [&str; 5] = ["storage", "upload", "resumable", "download", "batch"];

const OBJECT_PARAMETERS: [&str; 4] = [
    "generation",
    "response-content-disposition",
    "response-content-type",
    "userProject",
];
const LIST_PARAMETERS: [&str; 13] = [
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "generation-marker",
    "list-type",
    "marker",
    "max-keys",
    "prefix",
    "start-after",
    "startOffset",
    "userProject",
    "versions",
];

/// A request of the XML API.
#[derive(Debug)]
pub(super) struct Asked {
    /// The id of the JSON API's method, where there is one.
    pub id: Option<&'static str>,
    pub resource: Resource,
    /// Whether the body is an object's content.
    pub is_media: bool,
}

/// Whether a path at a storage host belongs to the XML API.
pub(super) fn is_xml(segments: &[&str]) -> bool {
    !segments
        .first()
        .is_some_and(|first| OTHER_APIS.contains(first))
}

/// # Errors
/// When the path climbs out of its bucket.
pub(super) fn route(
    bucket: Option<&str>,
    segments: &[&str],
    verb: &str,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Asked, Malformed> {
    let (bucket, object) = match (bucket, segments) {
        (Some(bucket), object) => (bucket, object),
        (None, [bucket, object @ ..]) => (*bucket, object),
        (None, []) => ("", segments),
    };
    let object = path::decode(&object.join("/"))?;
    path::check_climb(&object)?;
    if matches!(object.as_str(), "." | "..") {
        return Err(Malformed("no object has such a name".into()));
    }
    let id = if is_bucket(bucket) {
        id(verb, &object, query, headers)
    } else {
        None
    };
    let mut name = format!("//storage.googleapis.com/projects/_/buckets/{bucket}");
    if !object.is_empty() {
        name = format!("{name}/objects/{object}");
    } else if id == Some("storage.objects.list") {
        name += "/objects";
    }
    Ok(Asked {
        id,
        resource: Resource {
            name,
            ..Resource::default()
        },
        is_media: id == Some("storage.objects.insert"),
    })
}

fn id(verb: &str, object: &str, query: &Query, headers: &HeaderMap) -> Option<&'static str> {
    let only = |known: &[&str]| {
        query
            .0
            .iter()
            .all(|(name, _)| known.contains(&name.as_str()))
    };
    // A copy reads elsewhere; headers of Amazon's mean what Amazon says.
    let plain = |name: &str| name != "x-goog-copy-source" && !name.starts_with("x-amz-");
    if !headers.keys().all(|name| plain(name.as_str())) {
        return None;
    }
    if object.is_empty() {
        return match verb {
            "GET" if only(&LIST_PARAMETERS) => Some("storage.objects.list"),
            "HEAD" if only(&["userProject"]) => Some("storage.buckets.get"),
            "DELETE" if only(&["userProject"]) => Some("storage.buckets.delete"),
            _ => None,
        };
    }
    match verb {
        _ if !only(&OBJECT_PARAMETERS) => None,
        "GET" | "HEAD" => Some("storage.objects.get"),
        "PUT" => Some("storage.objects.insert"),
        "DELETE" => Some("storage.objects.delete"),
        _ => None,
    }
}

/// A bucket's name (<https://cloud.google.com/storage/docs/buckets#naming>).
fn is_bucket(name: &str) -> bool {
    let legal =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    (3..=222).contains(&name.len())
        && bytes.iter().all(|b| legal(*b))
        && ends(bytes.first())
        && ends(bytes.last())
}
