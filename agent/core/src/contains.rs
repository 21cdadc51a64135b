//! What a request carries out: known kinds of secrets and personal data, for `context.contains`.

use std::{collections::BTreeSet, sync::Arc};

use http::header;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    mask::{Builtin, Form, Found, MaskSet},
    recognise::{self, Head, Payload, is_credential_header},
};

/// Something in it was not read: too long, compressed in an unknown way, not what it says it is.
pub const UNREAD: &str = "unread";

/// Headers that say how to answer, or who asks.
const MEANINGLESS: [&str; 12] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "connection",
    "content-length",
    "content-type",
    "date",
    "expect",
    "host",
    "transfer-encoding",
    "user-agent",
    "x-goog-api-client",
];

/// Parameters that name a place: in a list, or of an upload that goes on.
const PLACES: [&str; 3] = ["pageToken", "page_token", "upload_id"];

/// The names of the detectors that find something in a request, each with the built-in set it is in; and [`UNREAD`], where not all
/// could be looked at.
#[must_use]
pub fn found_in(set: &Arc<MaskSet>, head: &Head<'_>, payload: Payload<'_>) -> BTreeSet<String> {
    let mut kinds = BTreeSet::new();
    scan(set, &Form::UrlEncoded, &named_values(head), &mut kinds);
    let (Payload::Whole(body) | Payload::Beginning(body)) = payload;
    if body.is_empty() {
        return kinds;
    }
    let decoded = match head.headers.contains_key(header::CONTENT_ENCODING) {
        true => recognise::decoded(body, head.headers),
        false => Some(body.to_vec()),
    };
    let content_type = head.headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    match (payload, decoded) {
        (Payload::Whole(_), Some(body)) => scan(set, &form(content_type), &body, &mut kinds),
        (_, decoded) => {
            kinds.insert(UNREAD.to_owned());
            let body = decoded.unwrap_or_else(|| body.to_vec());
            scan(set, &Form::Text, &body, &mut kinds);
        }
    }
    kinds
}

/// Whatever is not known is looked through as text: most formats of secrets stand out of any bytes.
fn form(content_type: Option<&str>) -> Form {
    match Form::of(content_type) {
        Form::Opaque => Form::Text,
        form => form,
    }
}

fn scan(set: &Arc<MaskSet>, form: &Form, bytes: &[u8], kinds: &mut BTreeSet<String>) {
    match set.scan(form.clone(), bytes) {
        Ok(found) => note(&found, kinds),
        Err(_) => {
            kinds.insert(UNREAD.to_owned());
            if let Ok(found) = set.scan(Form::Text, bytes) {
                note(&found, kinds);
            }
        }
    }
}

fn note(found: &Found, kinds: &mut BTreeSet<String>) {
    for name in found.0.keys() {
        kinds.insert(name.to_string());
        kinds.extend(Builtin::named(name).map(|known| known.set().to_owned()));
    }
}

/// The query, and the headers that mean something, as one form.
fn named_values(head: &Head<'_>) -> Vec<u8> {
    let mut form: Vec<String> = head
        .query
        .split('&')
        .filter(|pair| !PLACES.contains(&pair.split('=').next().unwrap_or_default()))
        .map(str::to_owned)
        .collect();
    let means = |name: &str| !MEANINGLESS.contains(&name) && !is_credential_header(name);
    for (name, value) in head.headers.iter().filter(|(name, _)| means(name.as_str())) {
        let value = String::from_utf8_lossy(value.as_bytes());
        let value = utf8_percent_encode(&value, NON_ALPHANUMERIC);
        form.push(format!("{name}={value}"));
    }
    form.retain(|pair| !pair.is_empty());
    form.join("&").into_bytes()
}
