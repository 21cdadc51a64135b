//! What an operation is about, as it is before the operation: looked up where a policy asks for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::Timestamp;

use crate::fields::{Fields, Json};

/// What is known of an operation's target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Nobody has looked. A policy that asks for it fails to evaluate, which denies.
    #[default]
    NotLookedUp,
    /// It was read.
    Known(Box<Attributes>),
    /// It could not be read; the text says why. A policy that asks for it fails to evaluate.
    Unknown(String),
}

impl Target {
    /// Why it is not known although somebody looked.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Unknown(why) => Some(why),
            Self::NotLookedUp | Self::Known(_) => None,
        }
    }

    /// What was read.
    #[must_use]
    pub fn attributes(&self) -> Option<&Attributes> {
        match self {
            Self::Known(attributes) => Some(attributes),
            Self::NotLookedUp | Self::Unknown(_) => None,
        }
    }
}

/// What policies may ask about a target. APIs have several names for the same thing, and leave out what has its default value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Whether there is such a thing.
    pub exists: bool,
    /// Labels, by key.
    pub labels: BTreeMap<String, String>,
    /// Network tags as they are, resource tags as `key=value`.
    pub tags: BTreeSet<String>,
    /// Whether something protects it from being deleted.
    pub deletion_protection: bool,
    /// When it was created, where it says so.
    pub created: Option<Timestamp>,
    /// All of its fields.
    pub fields: Fields,
}

impl Attributes {
    /// Those of nothing.
    #[must_use]
    pub fn absent() -> Self {
        Self {
            exists: false,
            labels: BTreeMap::new(),
            tags: BTreeSet::new(),
            deletion_protection: false,
            created: None,
            fields: Fields::default(),
        }
    }

    /// Those of a resource as its `get` method shows it.
    #[must_use]
    pub fn of(resource: &Json) -> Self {
        Self {
            exists: true,
            labels: labels(resource),
            tags: tags(resource),
            deletion_protection: deletion_protection(resource),
            created: created(resource),
            fields: Fields::of(resource),
        }
    }

    /// The labels as policies see them: `key=value`.
    pub fn label_pairs(&self) -> impl Iterator<Item = String> {
        self.labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
    }
}

/// What stands at a path of field names, whichever way they are spelled.
pub(crate) fn at<'a>(json: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.')
        .try_fold(json, |json, name| json.field(name))
}

/// Where APIs keep labels: most of them, GKE, Monitoring, Cloud SQL, Cloud Run v1.
pub(crate) const LABELS: [&str; 5] = [
    "labels",
    "resourceLabels",
    "userLabels",
    "settings.userLabels",
    "metadata.labels",
];

fn labels(resource: &Json) -> BTreeMap<String, String> {
    let maps = LABELS.iter().filter_map(|path| at(resource, path));
    maps.flat_map(pairs).collect()
}

fn pairs(map: &Json) -> impl Iterator<Item = (String, String)> {
    let pair = |(key, value): &(String, Json)| Some((key.clone(), value.text()?.to_owned()));
    map.entries().iter().filter_map(pair)
}

/// Network tags (Compute Engine `tags.items`, GKE node pools `config.tags`) and resource tags (`resourceTags`, BigQuery).
fn tags(resource: &Json) -> BTreeSet<String> {
    let lists = ["tags", "tags.items", "config.tags"];
    let texts = lists
        .iter()
        .filter_map(|path| at(resource, path))
        .flat_map(Json::items)
        .filter_map(|tag| tag.text().map(str::to_owned));
    let maps = ["tags", "resourceTags"];
    let of_map = maps
        .iter()
        .filter_map(|path| at(resource, path))
        .flat_map(pairs)
        .filter(|(key, _)| key != "fingerprint")
        .map(|(key, value)| format!("{key}={value}"));
    texts.chain(of_map).collect()
}

/// Where APIs say that something may not be deleted, and what they say: Compute Engine and many others, Cloud SQL, Memorystore,
/// Spanner, Firestore, Cloud Storage's two holds.
const PROTECTIONS: [(&str, &str); 7] = [
    ("deletionProtection", "true"),
    ("settings.deletionProtectionEnabled", "true"),
    ("deletionProtectionEnabled", "true"),
    ("enableDropProtection", "true"),
    ("deleteProtectionState", "DELETE_PROTECTION_ENABLED"),
    ("temporaryHold", "true"),
    ("eventBasedHold", "true"),
];

fn deletion_protection(resource: &Json) -> bool {
    PROTECTIONS
        .iter()
        .any(|(path, on)| at(resource, path).and_then(Json::text) == Some(*on))
}

/// Most APIs, Compute Engine, Cloud Storage, Cloud Run v1 (RFC 3339); BigQuery (milliseconds since the epoch).
fn created(resource: &Json) -> Option<Timestamp> {
    let names = [
        "createTime",
        "creationTimestamp",
        "timeCreated",
        "metadata.creationTimestamp",
        "creationTime",
    ];
    let text = names.iter().find_map(|path| at(resource, path)?.text())?;
    let of_milliseconds = || Timestamp::from_millisecond(text.parse().ok()?).ok();
    text.parse().ok().or_else(of_milliseconds)
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.exists {
            return f.write_str("does not exist");
        }
        let labels: Vec<_> = self.label_pairs().collect();
        let tags: Vec<_> = self.tags.iter().map(String::as_str).collect();
        write!(
            f,
            "labels [{}], tags [{}], deletion protection {}",
            labels.join(", "),
            tags.join(", "),
            if self.deletion_protection {
                "on"
            } else {
                "off"
            },
        )?;
        match self.created {
            Some(created) => write!(f, ", created {created}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Attributes {
        let json = Json::parse(text.as_bytes()).expect("the test's JSON is good");
        Attributes::of(&json)
    }

    #[test]
    fn every_api_has_its_own_words_for_the_same() {
        let machine = read(
            r#"{"labels":{"env":"prod","team":"web"},"tags":{"items":["ephemeral"],"fingerprint":"x"},
                "deletionProtection":true,"creationTimestamp":"2026-01-02T03:04:05.000-08:00"}"#,
        );
        assert_eq!(
            machine.label_pairs().collect::<Vec<_>>(),
            ["env=prod", "team=web"]
        );
        assert_eq!(machine.tags, ["ephemeral".to_owned()].into());
        assert!(machine.deletion_protection && machine.exists);
        assert_eq!(
            machine.created,
            "2026-01-02T11:04:05Z".parse().ok(),
            "{machine}"
        );
        let database = read(
            r#"{"createTime":"2026-01-02T03:04:05Z","settings":{"deletionProtectionEnabled":true,"userLabels":{"env":"prod"}}}"#,
        );
        assert!(database.deletion_protection && database.labels["env"] == "prod");
        let table = read(r#"{"creationTime":"1000","resourceTags":{"1/env":"prod"}}"#);
        assert_eq!(table.created, Timestamp::from_second(1).ok());
        assert_eq!(table.tags, ["1/env=prod".to_owned()].into());
        let pool = read(r#"{"config":{"tags":["a"]},"deletionProtection":false}"#);
        assert!(pool.tags.contains("a") && !pool.deletion_protection);
    }

    #[test]
    fn what_is_not_as_expected_is_not_there() {
        let odd = read(
            r#"{"labels":["env=prod"],"tags":"ephemeral","deletionProtection":["true"],"createTime":"soon"}"#,
        );
        assert!(odd.labels.is_empty() && odd.tags.is_empty());
        assert!(!odd.deletion_protection && odd.created.is_none());
    }

    proptest! {
        #[test]
        fn any_answer_has_attributes(text in "\\{\"(labels|tags|createTime)\":[\\[\\]{}\":,a0-9]{0,40}\\}") {
            if let Ok(json) = Json::parse(text.as_bytes()) {
                let _ = Attributes::of(&json).to_string();
            }
        }
    }
}
