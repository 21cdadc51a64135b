//! What carries a secret, told by its name.

mod text;

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
    let plain: String = name
        .chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    !HARMLESS.contains(&plain.as_str())
        && (WHOLE.contains(&plain.as_str()) || PARTS.iter().any(|part| plain.contains(part)))
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

#[cfg(test)]
mod tests {
    use super::*;

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
