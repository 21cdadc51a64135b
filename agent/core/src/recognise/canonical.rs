//! The canonical operation: everything that means something, without what clients choose anew for each attempt.

use http::HeaderMap;

use super::{is_credential_header, media_type::MediaType};
use crate::{
    digest::Digest,
    operation::{Content, Operation},
};

/// Query parameters that change nothing but the answer's looks, or name an attempt.
const NOISE_PARAMETERS: [&str; 9] = [
    "$.xgafv",
    "$prettyPrint",
    "$quotaUser",
    "$unique",
    "prettyPrint",
    "quotaUser",
    "requestId",
    "request_id",
    "userIp",
];

/// `x-goog-` headers that name a client or an attempt. All others count.
const NOISE_HEADERS: [&str; 5] = [
    "x-goog-api-client",
    "x-goog-gcs-idempotency-token",
    "x-goog-request-params",
    "x-goog-request-reason",
    "x-goog-spanner-request-id",
];

/// Headers that count beside `x-goog-`, `x-amz-` and `x-upload-`. The content coding is none where it
/// is not kept with an object: the body counts as decoded.
const HEADERS: [&str; 8] = [
    "content-range",
    "google-cloud-resource-prefix",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
];

/// Headers of an upload that are kept with the object, and say what its bytes are.
const MEDIA_HEADERS: [&str; 5] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
];

/// The digest of an operation with this body.
pub(super) fn digest(
    operation: &Operation,
    headers: &HeaderMap,
    media_type: Option<&MediaType>,
    body: &[Vec<u8>],
) -> Digest {
    let query = query(&operation.query);
    let is_media = matches!(operation.content, Content::Media { .. });
    let headers = self::headers(headers, is_media);
    let media_type = media_type.map(MediaType::canonical).unwrap_or_default();
    let counts = [query.len(), headers.len(), body.len()].map(|count| (count as u64).to_le_bytes());
    let texts = [
        "holdpoint-operation-1",
        operation.action.id(),
        &operation.resource.name,
        &operation.method,
        &operation.host,
        &operation.path,
        &media_type,
    ];
    let mut parts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
    parts.extend(counts.iter().map(<[u8; 8]>::as_slice));
    parts.extend(
        query
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]),
    );
    parts.extend(
        headers
            .iter()
            .flat_map(|(name, value)| [name.as_bytes(), *value]),
    );
    parts.extend(body.iter().map(Vec::as_slice));
    Digest::of(&parts)
}

/// Sorted by name; values of one name stay in their order.
fn query(pairs: &[(String, String)]) -> Vec<&(String, String)> {
    let noise = |name: &str| NOISE_PARAMETERS.contains(&name);
    let mut query: Vec<_> = pairs.iter().filter(|(name, _)| !noise(name)).collect();
    query.sort_by(|(a, _), (b, _)| a.cmp(b));
    query
}

fn headers(headers: &HeaderMap, is_media: bool) -> Vec<(&str, &[u8])> {
    let mut counted: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .filter(|(name, _)| counts(name) || (is_media && MEDIA_HEADERS.contains(name)))
        .collect();
    counted.sort_by_key(|(name, _)| *name);
    counted
}

fn counts(name: &str) -> bool {
    let prefixed = ["x-goog-", "x-amz-", "x-upload-"]
        .iter()
        .any(|prefix| name.starts_with(prefix));
    HEADERS.contains(&name)
        || (prefixed && !NOISE_HEADERS.contains(&name) && !is_credential_header(name))
}
