//! What a reviewer sees of the request.

use std::collections::{BTreeMap, BTreeSet};

use holdpoint_core::{
    change::Change,
    groups::Group,
    mask::names::masked,
    operation::{Content, Operation},
    recognise,
    target::{Attributes, Target},
};
use http::{HeaderMap, header::CONTENT_TYPE};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};

use crate::masking::Shown;

/// Bytes of a body that reviewers see at most.
const BODY_LIMIT: usize = 64 * 1024;
/// Bytes of one header's value that reviewers see at most.
const HEADER_LIMIT: usize = 4096;

/// The request as a reviewer sees it; what the default sets find is masked, object media included. On disk while people are asked, and deleted soon after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestView {
    /// The action's id.
    pub action: String,
    /// The resource's name.
    pub resource: String,
    /// The effective HTTP verb.
    pub method: String,
    /// `https://HOST/PATH?QUERY`, as sent but for secrets; of SQL, `postgresql://USER@HOST:PORT/DATABASE`, the user being who Holdpoint is there.
    pub url: String,
    /// What policy found noteworthy, by name.
    pub traits: BTreeSet<String>,
    /// The headers, credentials left out, in order.
    pub headers: Vec<(String, String)>,
    /// The body as text.
    pub body: BodyView,
    /// What Holdpoint has read for reviewers. The digest does not depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_up: Option<LookedUp>,
}

/// What is there of an operation's target, and how the operation would change it. Read once, when the operation was first asked for:
/// what stands under an approval's id stays what it is, so that no re-send changes what a reviewer is looking at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookedUp {
    /// When it was read.
    pub read_at: Timestamp,
    /// What the operation is about, where that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetView>,
    /// What it changes, where that is a question of what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeView>,
    /// How many rows of a database it touches, where it is a statement that does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<RowsView>,
}

impl LookedUp {
    /// What is there, for a person, field by field.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let target = self.target.iter().flat_map(TargetView::lines);
        target
            .chain(self.rows.iter().flat_map(RowsView::lines))
            .collect()
    }
}

/// How many rows a statement would touch, as the server's planner expects, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RowsView {
    /// By the server's statistics, without what triggers and foreign keys do besides.
    Estimated {
        /// For each relation.
        changes: Vec<RowsEstimate>,
    },
    /// The planner was not asked, or did not say.
    Unknown {
        /// Why.
        why: String,
    },
}

/// Rows of one relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsEstimate {
    /// insert, update, delete, merge, truncate or drop table.
    pub does: String,
    /// The relation.
    pub relation: String,
    /// About how many.
    pub rows: u64,
    /// About how many it has, where these are not all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
}

impl RowsView {
    /// For a person, line by line.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Unknown { why } => vec![("rows", format!("not estimated: {why}"))],
            Self::Estimated { changes } if changes.is_empty() => {
                vec![("rows", "none, as the server plans it".to_owned())]
            }
            Self::Estimated { changes } => {
                let note = (
                    "",
                    "as the server plans it, without what triggers and foreign keys do besides"
                        .to_owned(),
                );
                let lines = changes.iter().map(|it| ("rows", it.line()));
                lines.chain([note]).collect()
            }
        }
    }
}

impl RowsEstimate {
    fn line(&self) -> String {
        let Self {
            does,
            relation,
            rows,
            of,
        } = self;
        match of {
            None => format!("{does}: all of about {rows} rows of {relation}"),
            Some(of) if does == "insert" => {
                format!("insert: about {rows} rows into {relation} (which has about {of})")
            }
            Some(of) => format!("{does}: about {rows} rows of {relation} (of about {of})"),
        }
    }
}

/// What an operation is about, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum TargetView {
    /// It was read.
    Known {
        /// Whether there is such a thing.
        exists: bool,
        /// Its labels.
        labels: BTreeMap<String, String>,
        /// Network tags as they are, resource tags as `key=value`.
        tags: BTreeSet<String>,
        /// Whether something protects it from being deleted.
        deletion_protection: bool,
        /// When it was created, where it says so.
        created: Option<Timestamp>,
        /// What it says of its state: `RUNNING`, `ENABLED`.
        status: Option<String>,
    },
    /// It could not be read.
    Unknown {
        /// Why.
        why: String,
    },
}

impl From<&Attributes> for TargetView {
    fn from(attributes: &Attributes) -> Self {
        let status = ["status", "state"].iter().find_map(|name| {
            let values = attributes.fields.0.get(*name)?;
            values.first().cloned()
        });
        Self::Known {
            exists: attributes.exists,
            labels: attributes.labels.clone(),
            tags: attributes.tags.clone(),
            deletion_protection: attributes.deletion_protection,
            created: attributes.created,
            status,
        }
    }
}

impl TargetView {
    /// Of what was looked up; nothing where nobody has looked.
    #[must_use]
    pub fn of(target: &Target) -> Option<Self> {
        match target {
            Target::NotLookedUp => None,
            Target::Known(attributes) => Some((&**attributes).into()),
            Target::Unknown(why) => Some(Self::Unknown { why: why.clone() }),
        }
    }

    /// For a person, field by field.
    #[must_use]
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Unknown { why } => vec![("target", format!("could not be read: {why}"))],
            Self::Known { exists: false, .. } => vec![("target", "there is no such thing".into())],
            Self::Known {
                labels,
                tags,
                deletion_protection,
                created,
                status,
                ..
            } => {
                let labels: Vec<_> = labels
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                let tags: Vec<_> = tags.iter().map(String::as_str).collect();
                let none_or = |texts: String| {
                    if texts.is_empty() {
                        "none".to_owned()
                    } else {
                        texts
                    }
                };
                let mut lines = vec![
                    ("labels", none_or(labels.join(", "))),
                    ("tags", none_or(tags.join(", "))),
                    (
                        "protection",
                        (if *deletion_protection {
                            "ON: it is protected from deletion"
                        } else {
                            "off"
                        })
                        .to_owned(),
                    ),
                ];
                lines.extend(status.as_ref().map(|status| ("status", status.clone())));
                lines.extend(created.map(|created| ("created", created.to_string())));
                lines
            }
        }
    }
}

/// What a request changes, or why that cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ChangeView {
    /// As things were when they were read.
    Known(Change),
    /// What is there could not be read, or not be compared.
    Unknown {
        /// Why.
        why: String,
    },
}

impl From<Result<Change, String>> for ChangeView {
    fn from(change: Result<Change, String>) -> Self {
        match change {
            Ok(change) => Self::Known(change),
            Err(why) => Self::Unknown { why },
        }
    }
}

/// A body as a reviewer sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyView {
    /// The beginning, about 64 KiB, secrets masked as far as names give them away. Bytes that are not UTF-8 show as U+FFFD.
    pub text: String,
    /// Bytes in all.
    pub length: u64,
    /// Whether there is more than `text` shows.
    pub cut: bool,
}

impl RequestView {
    /// What reviewers see of `operation`, asked for with these headers and this body. Of a body that policy could read they
    /// see what policy saw.
    #[must_use]
    pub fn new(shown: &Shown, operation: &Operation, headers: &HeaderMap, body: &[u8]) -> Self {
        let decoded = match &operation.content {
            Content::Fields(_) => recognise::decoded(body, headers),
            _ => None,
        };
        let content_type = headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        Self {
            action: operation.action.id().to_owned(),
            resource: shown.value("", &operation.resource.name).into_owned(),
            method: operation.method.clone(),
            url: url(shown, operation),
            traits: operation
                .traits
                .iter()
                .map(|it| it.name().to_owned())
                .collect(),
            // A statement has none; how it is looked into says one.
            headers: match operation.is_sql() {
                true => Vec::new(),
                false => shown_headers(shown, headers),
            },
            body: BodyView::new(
                shown,
                content_type,
                decoded.as_deref().unwrap_or(body),
                operation.action.groups().contains(Group::Secret),
            ),
            looked_up: None,
        }
    }
}

impl BodyView {
    fn new(shown: &Shown, content_type: Option<&str>, body: &[u8], of_secrets: bool) -> Self {
        let (known, cut) = shown.body(content_type, body, BODY_LIMIT);
        // And what only people take for a secret: assignments in scripts, JSON within strings, values cut off from their names.
        Self {
            text: masked(&String::from_utf8_lossy(&known), of_secrets),
            length: body.len() as u64,
            cut,
        }
    }
}

/// What would look like the end of a piece of a query and is none.
const PIECE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'=');

fn url(shown: &Shown, operation: &Operation) -> String {
    if operation.is_sql() {
        return database(operation);
    }
    let query: Vec<_> = operation
        .query
        .iter()
        .map(|(name, value)| {
            let piece = |text| utf8_percent_encode(text, PIECE).to_string();
            format!("{}={}", piece(name), piece(&shown.value(name, value)))
        })
        .collect();
    let separator = if query.is_empty() { "" } else { "?" };
    format!(
        "https://{}{}{separator}{}",
        operation.host,
        shown.value("", &operation.path),
        query.join("&")
    )
}

/// Where a statement is to run, as libpq writes it.
fn database(operation: &Operation) -> String {
    let field = |name: &str| {
        let values = match &operation.content {
            Content::Fields(fields) => fields.0.get(name),
            _ => None,
        };
        let value = values.and_then(|values| values.first());
        value.map_or_else(String::new, |it| {
            utf8_percent_encode(it, NON_ALPHANUMERIC).to_string()
        })
    };
    let port = operation
        .port
        .map_or_else(String::new, |port| format!(":{port}"));
    let host = match operation.host.contains(':') {
        true => format!("[{}]", operation.host),
        false => operation.host.clone(),
    };
    format!(
        "postgresql://{}@{host}{port}/{}",
        field("user"),
        field("database")
    )
}

fn shown_headers(shown: &Shown, headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|(_, value)| !value.is_sensitive())
        .map(|(name, value)| {
            let text = String::from_utf8_lossy(value.as_bytes());
            let text = shown.value(name.as_str(), &text);
            let end = text.floor_char_boundary(HEADER_LIMIT);
            (name.to_string(), text[..end].to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use holdpoint_core::{
        catalog::Catalog,
        policy::suite::RawSql,
        recognise::{Head, Payload, Recognised},
    };
    use http::HeaderValue;

    use super::*;

    fn view(query: &str, coding: &'static str, body: &[u8]) -> RequestView {
        let mut headers = HeaderMap::new();
        headers.insert("content-encoding", HeaderValue::from_static(coding));
        let head = Head {
            method: "PATCH",
            authority: "sqladmin.googleapis.com",
            path: "/v1/projects/p/instances/i",
            query,
            headers: &headers,
        };
        let route = recognise::route(Catalog::built_in(), head).expect("well formed");
        let recognised = route.complete(Payload::Whole(body)).expect("well formed");
        let Recognised::One(operation) = recognised else {
            panic!("no batch")
        };
        RequestView::new(&Shown::plainly(), &operation, &headers, body)
    }

    #[test]
    fn of_a_statement_it_says_where_it_runs_and_as_whom() {
        let sql = RawSql {
            text: "DROP TABLE orders".to_owned(),
            instance: None,
            database: "my shop".to_owned(),
            user: "agent@p.iam".to_owned(),
        };
        let operations = sql.operations().expect("a statement");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let view = RequestView::new(
            &Shown::plainly(),
            &operations[0],
            &headers,
            b"DROP TABLE orders;\n",
        );
        assert_eq!(
            view.url,
            "postgresql://agent%40p%2Eiam@sample:5432/my%20shop"
        );
        assert!(view.headers.is_empty());
        assert_eq!(view.body.text, "DROP TABLE orders;\n");
    }

    #[test]
    fn a_compressed_body_is_shown_as_it_is_judged() {
        const GZIP: &[u8] = &[
            31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 74, 84, 178, 82, 74, 82, 170, 5, 0, 156, 92,
            246, 107, 9, 0, 0, 0,
        ];
        let shown = view("", "gzip", GZIP);
        assert_eq!(shown.body.text, r#"{"a":"b"}"#);
        assert_eq!(view("", "identity", b"{}").body.text, "{}");
    }

    #[test]
    fn secrets_are_neither_kept_nor_shown() {
        let body = br#"{"rootPassword":"hunter","settings":{"tier":"x","databaseFlags":[{"name":"a","value":"b"}]}}"#;
        let shown = serde_json::to_string(&view("", "identity", body)).expect("JSON");
        assert!(
            !shown.contains("hunter") && shown.contains("databaseFlags"),
            "{shown}"
        );
        let long = format!(
            "{{\"pad\":\"{}\",\"password\":\"hunter\"}}",
            "x".repeat(BODY_LIMIT)
        );
        let shown = view("", "identity", long.as_bytes()).body;
        assert!(shown.cut && !shown.text.contains("hunter"));
    }

    #[test]
    fn secrets_are_not_shown_wherever_they_stand() {
        const KEY: &str = "AIzaSyA-1234567890abcdefghijklmnopqrstu";
        let shown = view(
            &format!("filter={KEY}"),
            "identity",
            format!(r#"{{"note":"{KEY}","rootPassword":"hunter2"}}"#).as_bytes(),
        );
        let all = serde_json::to_string(&shown).expect("JSON");
        assert!(!all.contains(KEY) && !all.contains("hunter2"), "{all}");
        assert!(shown.body.text.contains("masked"), "{all}");
    }

    #[test]
    fn a_value_does_not_pass_for_another_parameter() {
        let shown = view("x=1%26validateOnly%3Dtrue%23&y=a+b", "identity", b"{}");
        assert!(
            shown.url.ends_with("?x=1%26validateOnly%3Dtrue%23&y=a%20b"),
            "{}",
            shown.url
        );
    }
}
