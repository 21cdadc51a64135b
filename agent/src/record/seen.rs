//! What policy saw of an operation beyond its name: kept so that other policies can be tried on it, as far as it is no
//! secret and has room.

use std::collections::{BTreeMap, BTreeSet};

use holdpoint_core::{
    fields::Fields,
    mask::{
        mask_token_in,
        names::{names_a_secret, plain},
    },
    operation::{Content, Operation, Size},
};
use serde::{Deserialize, Serialize};

use super::text::{Text, Texts};

/// Field paths kept at most.
const MOST_FIELDS: usize = 256;
/// Bytes of field paths and values kept at most.
const MOST_BYTES: usize = 16 * 1024;
/// Values of one field kept at most.
const MOST_VALUES: usize = 64;
/// Bytes of a value kept at most: policies ask for names, numbers and kinds.
const LONGEST_VALUE: usize = 256;
/// Bytes of a field's path kept at most.
const LONGEST_PATH: usize = 256;

/// What policy saw of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The project its resource is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Text>,
    /// Where its resource is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Text>,
    /// Its traits, by their names in policies.
    #[serde(default)]
    pub traits: BTreeSet<String>,
    /// How much it asks for.
    #[serde(default)]
    pub size: Size,
    /// The kinds of secrets and personal data in it, where policy asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<BTreeSet<String>>,
    /// What its body says.
    pub content: ContentRecord,
}

/// What a body says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContentRecord {
    /// There is none.
    #[default]
    Empty,
    /// These fields.
    Fields(FieldsRecord),
    /// Object media with these fields of metadata.
    Media {
        /// The metadata.
        metadata: FieldsRecord,
        /// Whether all of it was read before it was judged.
        complete: bool,
    },
    /// It could not be read.
    Unreadable,
}

/// The fields of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldsRecord {
    /// Paths and values.
    pub values: BTreeMap<String, Texts>,
    /// Paths of which the values are withheld: they may be secret, or are too long.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub withheld: BTreeSet<String>,
    /// Whether there are more paths.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl Seen {
    /// What of `operation` is kept.
    #[must_use]
    pub fn of(operation: &Operation) -> Self {
        let resource = &operation.resource;
        Self {
            project: resource.project.as_deref().map(Text::from),
            location: resource.location.as_deref().map(Text::from),
            traits: operation
                .traits
                .iter()
                .map(|it| it.name().to_owned())
                .collect(),
            size: operation.size,
            contains: operation.contains.clone(),
            content: match &operation.content {
                Content::Empty => ContentRecord::Empty,
                Content::Fields(fields) => ContentRecord::Fields(FieldsRecord::of(fields)),
                Content::Media { metadata, complete } => ContentRecord::Media {
                    metadata: FieldsRecord::of(metadata),
                    complete: *complete,
                },
                Content::Unreadable(_) => ContentRecord::Unreadable,
            },
        }
    }
}

impl FieldsRecord {
    fn of(fields: &Fields) -> Self {
        let mut record = Self::default();
        let mut bytes = 0;
        for (path, values) in &fields.0 {
            let size: usize = values.iter().map(String::len).sum();
            let shown = is_harmless(path)
                && values.len() <= MOST_VALUES
                && values.iter().all(|value| is_plain(value))
                && !values
                    .iter()
                    .any(|it| mask_token_in(it.as_bytes()).is_some())
                && bytes + path.len() + size <= MOST_BYTES;
            bytes += path.len() + if shown { size } else { 0 };
            let count = record.values.len() + record.withheld.len();
            if path.len() > LONGEST_PATH || bytes > MOST_BYTES || count == MOST_FIELDS {
                record.more = true;
            } else if shown {
                let texts = values.iter().map(Text::from).collect();
                record.values.insert(path.clone(), texts);
            } else {
                record.withheld.insert(path.clone());
            }
        }
        record
    }
}

/// Whether a field of this path carries no secret, to judge by its names, and no text or program of somebody's own, which
/// may have one in it.
fn is_harmless(path: &str) -> bool {
    /// What stands below is named by whoever wrote it.
    const BELOW: [&str; 8] = [
        "env",
        "environment",
        "environmentvariables",
        "envvars",
        "metadataitems",
        "parameters",
        "substitutions",
        "variables",
    ];
    const FREE: [&str; 24] = [
        "arg",
        "args",
        "argument",
        "arguments",
        "body",
        "code",
        "command",
        "commandline",
        "commands",
        "content",
        "contents",
        "data",
        "description",
        "message",
        "messages",
        "payload",
        "pem",
        "query",
        "script",
        "sql",
        "statement",
        "text",
        "value",
        "values",
    ];
    let last = path.rsplit('.').next().unwrap_or_default();
    let is_secret = |name: &str| {
        let name = plain(name);
        names_a_secret(&name) || name.contains("key") || name.contains("certificate")
    };
    let mut names = path.split('.');
    !FREE.contains(&plain(last).as_ref())
        && !names.any(|name| is_secret(name) || BELOW.contains(&plain(name).as_ref()))
}

/// Names, numbers and kinds: short, and of what those are made of. A long run of letters and digits without a word in it
/// may be a key.
fn is_plain(value: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-+*,=[]() ".contains(&byte);
    let run = |value: &str| {
        let is_run = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'=';
        let longest = value
            .as_bytes()
            .split(|byte| !is_run(*byte))
            .map(<[u8]>::len);
        longest.max().unwrap_or_default()
    };
    value.len() <= LONGEST_VALUE && value.bytes().all(fits) && run(value) <= 32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(pairs: &[(&str, &str)]) -> FieldsRecord {
        let mut fields = Fields::default();
        for (path, value) in pairs {
            let values = fields.0.entry((*path).to_owned()).or_default();
            values.insert((*value).to_owned());
        }
        FieldsRecord::of(&fields)
    }

    #[test]
    fn what_policies_ask_for_is_kept_and_secrets_are_not() {
        for (path, value) in [
            (
                "machineType",
                "zones/us-central1-a/machineTypes/n2-standard-8",
            ),
            (
                "bindings.members",
                "serviceAccount:robot@shop.iam.gserviceaccount.com",
            ),
            ("settings.ipConfiguration.ipv4Enabled", "true"),
            ("sourceRanges", "10.0.0.0/8"),
            ("labels.team", "shop"),
            ("configuration.query.destinationTable.projectId", "shop"),
        ] {
            let record = kept(&[(path, value)]);
            assert!(record.values.contains_key(path), "{path}");
        }
        for (path, value) in [
            ("password", "hunter2"),
            ("rootPassword", "hunter2"),
            ("payload.data", "aHVudGVyMg=="),
            ("metadata.items.value", "#!/bin/sh"),
            ("template.containers.env.value", "hunter2"),
            ("steps.args", "--token=x"),
            ("config.environment_variables.STAGE", "prod"),
            ("privateKeyData", "x"),
            ("diskEncryptionKey.rawKey", "x"),
            ("configuration.query.query", "SELECT 1"),
            ("name", "AIzaSyA1234567890abcdefghijklmnopqrstuv"),
            ("name", "-----BEGIN\nx"),
        ] {
            let record = kept(&[(path, value)]);
            assert!(record.withheld.contains(path), "{path}");
            let json = serde_json::to_string(&record).expect("JSON");
            assert!(!json.contains(value), "{json}");
        }
    }

    fn size(record: &FieldsRecord) -> usize {
        serde_json::to_string(record).expect("JSON").len()
    }

    #[test]
    fn very_many_fields_leave_the_rest_out() {
        let field = |at: usize| (format!("a{at}"), ["x".repeat(200)].into());
        let record = FieldsRecord::of(&Fields((0..5000).map(field).collect()));
        assert!(record.more);
        assert!(record.values.len() + record.withheld.len() <= MOST_FIELDS);
        assert!(size(&record) < 3 * MOST_BYTES);
    }

    proptest! {
        #[test]
        fn what_is_kept_has_room(fields in prop::collection::btree_map(".{0,20}", prop::collection::btree_set("[a-z ]{0,20}", 0..4), 0..20)) {
            let total = fields.len();
            let record = FieldsRecord::of(&Fields(fields));
            prop_assert_eq!(record.more, record.values.len() + record.withheld.len() < total);
            prop_assert!(size(&record) <= 6 * MOST_BYTES);
            for (path, values) in &record.values {
                prop_assert!(is_harmless(path) && values.is_whole());
            }
        }
    }
}
