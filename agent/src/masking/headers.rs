//! The heads of answers: what is masked in them, and what no longer holds once a body is altered.

use holdpoint_core::mask::MaskSet;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::injected::Injected;

/// What says how a body travels, or where an upload goes on: clients need it, and it is none of the content.
const NEEDED: [HeaderName; 10] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::LOCATION,
    HeaderName::from_static("x-goog-upload-control-url"),
    HeaderName::from_static("x-goog-upload-url"),
    HeaderName::from_static("x-guploader-uploadid"),
    HeaderName::from_static("grpc-status"),
];

/// What vouches for the bytes of a body (RFC 9530, RFC 3230, Cloud Storage).
const DIGESTS: [&str; 6] = [
    "content-digest",
    "content-md5",
    "digest",
    "repr-digest",
    "x-goog-hash",
    "want-digest",
];

/// Whether somebody may compare the body with a hash.
pub fn has_digest(headers: &HeaderMap) -> bool {
    DIGESTS.iter().any(|name| headers.contains_key(*name))
}

/// What was injected is overwritten, in every header.
pub fn guard(headers: &mut HeaderMap, injected: &Injected) {
    for value in headers.values_mut() {
        if injected.is_in(value.as_bytes()) {
            let mut bytes = value.as_bytes().to_vec();
            injected.blot_out(&mut bytes);
            *value = HeaderValue::from_bytes(&bytes).unwrap_or(HeaderValue::from_static("*"));
        }
    }
}

/// What policy wants masked, in all that is not [`NEEDED`].
pub fn mask(headers: &mut HeaderMap, set: &MaskSet) {
    let names: Vec<_> = headers.keys().cloned().collect();
    for name in names.iter().filter(|name| !NEEDED.contains(name)) {
        mask_one(headers, name, set);
    }
}

fn mask_one(headers: &mut HeaderMap, name: &HeaderName, set: &MaskSet) {
    for value in headers
        .iter_mut()
        .filter_map(|(known, value)| (known == name).then_some(value))
    {
        // What is not text cannot be told to be harmless.
        let masked = match value.to_str() {
            Ok(text) => set.value(name.as_str(), text).into_owned(),
            Err(_) => set
                .value(name.as_str(), &String::from_utf8_lossy(value.as_bytes()))
                .into_owned(),
        };
        if masked.as_bytes() != value.as_bytes() {
            *value = HeaderValue::from_str(&masked).unwrap_or(HeaderValue::from_static("[masked]"));
        }
    }
}

/// As [`mask`], for what comes behind a body. Details of a gRPC error are protobuf in base64, and the client does without them.
pub fn mask_trailers(trailers: &mut HeaderMap, set: &MaskSet) {
    mask(trailers, set);
    let binary: Vec<_> = trailers
        .keys()
        .filter(|name| name.as_str().ends_with("-bin"))
        .cloned()
        .collect();
    for name in binary {
        trailers.remove(name);
    }
}

/// The body is not, or may not be, what Google sent: its length and hashes are no longer right, and an entity tag stands for something
/// like it (RFC 9110, section 8.8.1).
pub fn altered(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    for name in DIGESTS {
        headers.remove(name);
    }
    let weak = headers.get(header::ETAG).and_then(|tag| {
        let tag = tag.to_str().ok().filter(|tag| tag.starts_with('"'))?;
        HeaderValue::from_str(&format!("W/{tag}")).ok()
    });
    if let Some(weak) = weak {
        headers.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_altered_body_is_not_vouched_for() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-length", "3"),
            ("etag", "\"abc\""),
            ("x-goog-hash", "crc32c=AAAAAA=="),
            ("content-type", "application/json"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        assert!(has_digest(&headers));
        altered(&mut headers);
        assert_eq!(headers.len(), 2);
        assert_eq!(headers["etag"], "W/\"abc\"");
        altered(&mut headers);
        assert_eq!(headers["etag"], "W/\"abc\"");
    }
}
