//! What carries a secret, told by its name: the one table for requests, records, changes and masks.

mod text;

use std::borrow::Cow;

pub use text::masked;

use crate::fields::Json;

/// What stands where a secret is left out.
pub const MASKED: &str = "[masked]";

/// Parts of names, without underscores and hyphens.
const PARTS: [&str; 13] = [
    "assertion",
    "authorization",
    "connectionstring",
    "cookie",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "sharedkey",
    "signature",
    "token",
];
/// Whole names.
const WHOLE: [&str; 11] = [
    "apikey",
    "authkey",
    "authstring",
    "code",
    "key",
    "keystring",
    "rawkey",
    "uploadid",
    "xgoogapikey",
    "xgoogcopysourceencryptionkey",
    "xgoogencryptionkey",
];
/// Page tokens name a place in a list, and reviewers of a listing want to see them go by; the others are names of secrets,
/// and where they are kept.
const HARMLESS: [&str; 9] = [
    "pagetoken",
    "nextpagetoken",
    "secretname",
    "secretkeyref",
    "secretid",
    "secretenvironmentvariables",
    "secretvolumes",
    "secretversion",
    "tokenurl",
];

/// Whether a query parameter, a header or a field of this name carries something that lets its holder do things: tokens,
/// keys, passwords, signatures, resumable upload ids.
#[must_use]
pub fn names_a_secret(name: &str) -> bool {
    let plain = plain(name);
    let plain = plain.as_ref();
    !HARMLESS.contains(&plain)
        && (WHOLE.contains(&plain) || PARTS.iter().any(|part| plain.contains(part)))
}

/// A name without underscores and hyphens, in small letters.
#[must_use]
pub fn plain(name: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| !matches!(byte, b'_' | b'-' | b'A'..=b'Z');
    if name.bytes().all(is_plain) {
        return Cow::Borrowed(name);
    }
    let kept = name.chars().filter(|it| !matches!(it, '_' | '-'));
    Cow::Owned(kept.map(|it| it.to_ascii_lowercase()).collect())
}

/// Whether a field of a resource holds a secret by its name; where it is the value in a list of named values (metadata,
/// environment variables), by the name beside it.
#[must_use]
pub(crate) fn holds_a_secret(object: &Json, field: &str) -> bool {
    if is_what_a_pair_is_called(field) {
        return false;
    }
    let named_beside = ["key", "name"]
        .iter()
        .filter_map(|name| object.field(name)?.text());
    names_a_secret(field)
        || (field.to_ascii_lowercase().contains("value")
            && named_beside.into_iter().any(names_a_secret))
}

/// Of fields of a resource; a parameter `key` or `code` is a secret.
fn is_what_a_pair_is_called(field: &str) -> bool {
    matches!(field, "key" | "name" | "code")
}

/// Ends of names of fields whose whole value is the secret. What only has such a word in it (`passwordPolicy`, `tokenUri`,
/// `signatureAlgorithm`) tells about one.
const ENDS: [&str; 17] = [
    "accesskey",
    "apikey",
    "assertion",
    "authkey",
    "authstring",
    "connectionstring",
    "cookie",
    "keystring",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "privatekeydata",
    "secret",
    "secretkey",
    "sharedkey",
    "token",
];
/// Tokens that name a place in a list or a stream: without them a client cannot go on, and they open nothing.
const PLACES: [&str; 28] = [
    "attributiontoken",
    "changetoken",
    "completiontoken",
    "consistencytoken",
    "contexttoken",
    "continuationtoken",
    "debugtoken",
    "deduplicationtoken",
    "endtoken",
    "followuptoken",
    "pagetoken",
    "partitiontoken",
    "pointtoken",
    "precommittoken",
    "querytoken",
    "readtoken",
    "recommendationtoken",
    "resumetoken",
    "rewritetoken",
    "routingtoken",
    "separatortoken",
    "sequencetoken",
    "streamtoken",
    "synctoken",
    "tracetoken",
    "versiontoken",
    "waittoken",
    "writetoken",
];

/// A name without what does not matter in it: case, underscores, hyphens.
pub(super) fn normalise(name: &[u8], out: &mut Vec<u8>) {
    out.extend(
        name.iter()
            .filter(|byte| !matches!(byte, b'_' | b'-'))
            .map(u8::to_ascii_lowercase),
    );
}

/// Whether a field of an answer holds a secret by its (normalised) name. Narrower than [`names_a_secret`]: what is left out of
/// a record by mistake is missed by nobody, what is taken from an answer breaks the client.
pub(super) fn is_secret_field(normalised: &[u8]) -> bool {
    let ends_with = |ends: &[&str]| ends.iter().any(|end| normalised.ends_with(end.as_bytes()));
    ends_with(&ENDS)
        && !ends_with(&PLACES)
        && std::str::from_utf8(normalised).is_ok_and(|name| !HARMLESS.contains(&name))
}

/// Whether a field of this (normalised) name holds a password, which may look like anything, also like a number.
pub(super) fn is_password(normalised: &[u8]) -> bool {
    let ends: [&[u8]; 3] = [b"password", b"passwd", b"passphrase"];
    ends.iter().any(|end| normalised.ends_with(end))
}

/// Whether a value is a resource's name or an address.
pub(super) fn is_place(value: &[u8]) -> bool {
    let beginnings: [&[u8]; 4] = [b"projects/", b"//", b"https://", b"http://"];
    beginnings
        .iter()
        .any(|beginning| value.starts_with(beginning))
}

/// Whether a value may be the secret its field's name promises: not a kind, a place or a name of a resource.
pub(super) fn may_be_secret(normalised_name: &[u8], value: &[u8]) -> bool {
    if is_password(normalised_name) {
        return !value.is_empty();
    }
    let is_kind = value
        .iter()
        .all(|byte| byte.is_ascii_uppercase() || *byte == b'_')
        && value.contains(&b'_');
    !value.is_empty()
        && !is_kind
        && (!is_place(value) || value.contains(&b'?'))
        && value != b"true"
        && value != b"false"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_an_answer_is_a_secret_only_if_its_name_ends_so() {
        let is_secret = |name: &str| {
            let mut plain = Vec::new();
            normalise(name.as_bytes(), &mut plain);
            is_secret_field(&plain)
        };
        for name in [
            "rootPassword",
            "client_secret",
            "private_key",
            "privateKeyData",
            "SecretAccessKey",
            "accessToken",
            "authString",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in [
            "nextPageToken",
            "nextSyncToken",
            "passwordValidationPolicy",
            "tokenUri",
            "signatureAlgorithm",
            "key",
            "secretId",
            "publicKey",
        ] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn kinds_and_places_are_no_secrets() {
        assert!(!may_be_secret(b"secret", b"projects/p/secrets/s"));
        assert!(!may_be_secret(b"token", b"TOKEN_UNSPECIFIED"));
        assert!(!may_be_secret(b"token", b""));
        assert!(may_be_secret(b"token", b"https://x/?sig=1"));
        assert!(may_be_secret(b"rootpassword", b"PASS_WORD"));
    }

    #[test]
    fn secrets_are_known_by_name_however_it_is_spelled() {
        for name in [
            "rootPassword",
            "root_password",
            "DB_PASSWORD",
            "clientSecret",
            "privateKey",
            "privateKeyData",
            "x-goog-api-key",
            "x-goog-copy-source-encryption-key",
            "X-Goog-Signature",
            "upload_id",
            "key",
        ] {
            assert!(names_a_secret(name), "{name}");
        }
        for name in [
            "name",
            "keyRing",
            "kmsKeyName",
            "pageToken",
            "labels",
            "secretName",
            "tier",
        ] {
            assert!(!names_a_secret(name), "{name}");
        }
    }

    #[test]
    fn a_value_is_as_secret_as_its_name() {
        let pair = |name: &str| {
            let text = format!(r#"{{"name":{name:?},"value":"x"}}"#);
            Json::parse(text.as_bytes()).expect("JSON")
        };
        assert!(holds_a_secret(&pair("DB_PASSWORD"), "value"));
        assert!(!holds_a_secret(&pair("DB_HOST"), "value"));
        assert!(!holds_a_secret(&pair("DB_PASSWORD"), "name"));
        assert!(holds_a_secret(&Json::Null, "rootPassword"));
    }
}
