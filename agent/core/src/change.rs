//! What a request changes, where what it changes can be read first: for the person who is asked whether it may.

mod custom;
mod diff;
mod mask;
mod policy;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use self::diff::{Difference, Step, plain};
use crate::{
    fields::{Json, camel_case, join},
    groups::Group,
    mask::names::{MASKED, holds_a_secret, masked},
    operation::{Content, Operation},
    target::{self, LABELS},
};

/// Edits that are told at most.
const MOST_EDITS: usize = 200;
/// Characters of one value, and of one path, that are told at most.
const LONGEST: usize = 512;

/// What differs after a request from before. No edits: nothing differs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What should be known of it as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What differs, 200 at most.
    pub edits: Vec<Edit>,
    /// How many more there are.
    #[serde(default)]
    pub left_out: usize,
}

/// One difference. Secrets are told to differ, and not shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The field: `settings.tier`, `disks[0].autoDelete`. For IAM policies, the role and its condition.
    pub path: String,
    /// What is there; absent where something is added.
    pub before: Option<String>,
    /// What will be there; absent where something is removed.
    pub after: Option<String>,
}

/// What has to be read to tell what a request changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The IAM policy it replaces.
    Policy,
    /// The resource itself.
    Target,
}

impl Needs {
    /// What has to be read for `operation`; nothing where reading does not tell: a new thing, a command.
    #[must_use]
    pub fn of(operation: &Operation) -> Option<Self> {
        Kind::of(operation).map(|kind| match kind {
            Kind::Policy => Self::Policy,
            Kind::Delete | Kind::Merge | Kind::Replace | Kind::Set(_) => Self::Target,
        })
    }
}

/// How a request changes what it is about.
enum Kind {
    Policy,
    Delete,
    /// What the body does not say stays.
    Merge,
    /// What the body does not say goes.
    Replace,
    /// Only this field.
    Set(String),
}

impl Kind {
    fn of(operation: &Operation) -> Option<Self> {
        let action = &operation.action;
        let name = action.id().rsplit('.').next().unwrap_or_default();
        // What is in a database, Google has no get method for.
        if !action.mutates() || operation.is_sql() {
            return None;
        }
        if name == "setIamPolicy" {
            return Some(Self::Policy);
        }
        // `removePeering` takes away a part.
        let is_deletion = ["delete", "destroy", "purge", "remove"].contains(&name);
        if action.groups().contains(Group::Delete) && (operation.method == "DELETE" || is_deletion)
        {
            return Some(Self::Delete);
        }
        match operation.method.as_str() {
            // What it brings is a part of the resource.
            "PATCH" | "PUT" if stands_in_path(operation, name) => None,
            "PATCH" => Some(Self::Merge),
            "PUT" => Some(Self::Replace),
            "POST" => name.strip_prefix("set").and_then(field_named),
            _ => None,
        }
    }
}

fn stands_in_path(operation: &Operation, name: &str) -> bool {
    operation.path.rsplit(['/', ':']).next() == Some(name)
}

/// Whether `operation` is about something that may be there already, so that its target is what it is about.
#[must_use]
pub fn is_of_what_is_there(operation: &Operation) -> bool {
    let name = operation.action.id().rsplit('.').next().unwrap_or_default();
    let makes = ["create", "insert", "import", "bulkInsert", "batchCreate"];
    !makes.iter().any(|verb| name.starts_with(verb))
}

/// What `operation`, of a custom method that [`Needs::of`] does not know, changes of `before`; nothing where that cannot be told.
#[must_use]
pub fn of_custom(operation: &Operation, before: &Json) -> Option<Change> {
    let is_known = Kind::of(operation).is_some() || !operation.action.mutates();
    if is_known || !is_of_what_is_there(operation) {
        return None;
    }
    let is_secret = operation.action.groups().contains(Group::Secret);
    custom::change(operation, before, is_secret)
}

/// `MachineType` of `setMachineType`.
fn field_named(name: &str) -> Option<Kind> {
    let first = name.chars().next().filter(char::is_ascii_uppercase)?;
    let field = format!("{}{}", first.to_ascii_lowercase(), &name[1..]);
    Some(Kind::Set(field))
}

/// What `operation` changes, given what [`Needs::of`] says has to be read; `None` where that does not exist.
///
/// # Errors
/// Why it cannot be told.
pub fn of(operation: &Operation, before: Option<&Json>) -> Result<Change, String> {
    let kind = Kind::of(operation).ok_or("it is no change of something that is there")?;
    let nothing = Json::Object(Vec::new());
    let (exists, before) = (before.is_some(), before.unwrap_or(&nothing));
    // Whoever sees a method that deals in secrets sees which fields, and not what is in them.
    let is_secret = operation.action.groups().contains(Group::Secret);
    let between = |after: &Json| Change::between(before, after, is_secret);
    let mut change = match &kind {
        Kind::Policy => policy::change(before, body(operation)?),
        Kind::Delete => gone(before),
        Kind::Merge => between(&merged(operation, before, body(operation)?)),
        Kind::Replace => between(&replaced(before, body(operation)?)),
        Kind::Set(field) => set(operation, before, field, is_secret)?,
    };
    if !exists {
        change.note = Some("there is no such thing now".to_owned());
    } else if matches!(kind, Kind::Replace) {
        change.note = Some("it replaces the whole: what it does not name is removed".to_owned());
    }
    Ok(change)
}

fn body(operation: &Operation) -> Result<&Json, String> {
    match (&operation.json, &operation.content) {
        (Some(json), _) => Ok(json),
        (None, Content::Unreadable(why)) => Err(format!("its body is unreadable: {why}")),
        (None, _) => Err("it has no JSON body".to_owned()),
    }
}

fn merged(operation: &Operation, before: &Json, body: &Json) -> Json {
    let mask = mask::of(operation, body);
    let body = mask::unwrapped(body);
    match mask {
        Some(mask) if mask.is_all() => replaced(before, body),
        Some(mask) => mask.applied(before, body),
        None => merge(before, body),
    }
}

/// JSON Merge Patch (RFC 7396), with fields found whichever way they are spelled.
fn merge(before: &Json, patch: &Json) -> Json {
    let Json::Object(changes) = patch else {
        return patch.clone();
    };
    let mut entries = before.entries().to_vec();
    for (key, value) in changes {
        let known = entries.iter().position(|(known, _)| known == key);
        let spelled = || {
            let camel = camel_case(key);
            entries.iter().position(|(known, _)| *known == camel)
        };
        let (key, old) = match known.or_else(spelled) {
            Some(place) => entries.remove(place),
            None => (key.clone(), Json::Null),
        };
        if *value != Json::Null {
            entries.push((key, merge(&old, value)));
        }
    }
    Json::Object(entries)
}

/// What only the service writes: leaving it out does not remove it.
const OUTPUT_ONLY: [&str; 16] = [
    "createTime",
    "creationTimestamp",
    "etag",
    "fingerprint",
    "generation",
    "id",
    "kind",
    "metageneration",
    "projectNumber",
    "selfLink",
    "state",
    "status",
    "timeCreated",
    "uid",
    "updateTime",
    "updated",
];

fn replaced(before: &Json, body: &Json) -> Json {
    let Json::Object(mut entries) = body.clone() else {
        return body.clone();
    };
    for (key, value) in before.entries() {
        let known = entries
            .iter()
            .position(|(known, _)| camel_case(known) == *key);
        match known {
            Some(place) => entries[place].0.clone_from(key),
            None if OUTPUT_ONLY.contains(&key.as_str()) => {
                entries.push((key.clone(), value.clone()));
            }
            None => {}
        }
    }
    Json::Object(entries)
}

/// `setX` brings the field in its body (`{"machineType": ...}`), as its body (`setTags`), or in its query.
fn set(operation: &Operation, before: &Json, field: &str, secret: bool) -> Result<Change, String> {
    let in_query = || operation.query.iter().find(|(name, _)| name == field);
    let body = operation.json.as_deref();
    let after = body.and_then(|body| body.field(field)).cloned();
    let after = after.or_else(|| Some(Json::Text(in_query()?.1.clone())));
    let whole_body = || before.field(field).and(body).cloned();
    let after = after
        .or_else(whole_body)
        .ok_or_else(|| format!("Holdpoint finds no field {field:?} in it"))?;
    let part = |value: Option<Json>| {
        Json::Object(value.map(|it| (field.to_owned(), it)).into_iter().collect())
    };
    let before = part(before.field(field).cloned());
    Ok(Change::between(&before, &part(Some(after)), secret))
}

/// What of a thing tells how bad it would be to lose it.
const NOTABLE: [&str; 31] = [
    "name",
    "displayName",
    "description",
    "tags",
    "resourceTags",
    "deletionProtection",
    "deletionProtectionEnabled",
    "settings.deletionProtectionEnabled",
    "deleteProtectionState",
    "enableDropProtection",
    "retentionPolicy.retentionPeriod",
    "createTime",
    "creationTimestamp",
    "timeCreated",
    "creationTime",
    "updated",
    "state",
    "status",
    "machineType",
    "settings.tier",
    "settings.dataDiskSizeGb",
    "databaseVersion",
    "tier",
    "size",
    "sizeGb",
    "diskSizeGb",
    "capacityGb",
    "numBytes",
    "numRows",
    "nodeCount",
    "currentNodeCount",
];

fn gone(before: &Json) -> Change {
    let mut change = Change::default();
    for path in NOTABLE.iter().chain(&LABELS) {
        if let Some(value) = target::at(before, path).filter(|value| **value != Json::Null) {
            change.push(Edit {
                path: (*path).to_owned(),
                before: Some(shown(value, false)),
                after: None,
            });
        }
    }
    change
}

impl Change {
    /// What differs between two values.
    fn between(before: &Json, after: &Json, is_secret: bool) -> Self {
        let mut change = Self::default();
        for difference in diff::between(&plain(before), &plain(after), is_secret) {
            change.push(Edit::from(difference));
        }
        change
    }

    fn push(&mut self, edit: Edit) {
        if self.edits.len() < MOST_EDITS {
            self.edits.push(Edit {
                path: cut(edit.path),
                before: edit.before.map(cut),
                after: edit.after.map(cut),
            });
        } else {
            self.left_out += 1;
        }
    }

    fn extend(&mut self, other: Self) {
        other.edits.into_iter().for_each(|edit| self.push(edit));
        self.left_out += other.left_out;
    }
}

impl From<Difference> for Edit {
    fn from(difference: Difference) -> Self {
        let value = |json: Option<Json>| json.map(|json| shown(&json, difference.is_secret));
        Self {
            path: path(&difference.path),
            before: value(difference.before),
            after: value(difference.after),
        }
    }
}

fn path(steps: &[Step]) -> String {
    steps.iter().fold(String::new(), |path, step| match step {
        Step::Field(name) => join(&path, name),
        Step::Item(place) => format!("{path}[{place}]"),
    })
}

/// A value for a person: text as it is, anything else as JSON, without secrets.
fn shown(json: &Json, is_secret: bool) -> String {
    match json {
        Json::Text(text) if !is_secret => masked(text, false),
        Json::Null => "null".to_owned(),
        _ => {
            let mut text = String::new();
            spell(&mut text, json, is_secret);
            text
        }
    }
}

fn spell(text: &mut String, json: &Json, is_secret: bool) {
    // Nobody sees more of it.
    if text.len() > 4 * LONGEST {
        return;
    }
    match json {
        Json::Null => text.push_str("null"),
        Json::Text(_) if is_secret => text.push_str(MASKED),
        Json::Text(value) => quote(text, &masked(value, false)),
        Json::Array(items) => {
            text.push('[');
            for (place, item) in items.iter().enumerate() {
                text.push_str(if place == 0 { "" } else { ", " });
                spell(text, item, is_secret);
            }
            text.push(']');
        }
        Json::Object(entries) => {
            text.push('{');
            for (place, (key, value)) in entries.iter().enumerate() {
                text.push_str(if place == 0 { "" } else { ", " });
                quote(text, key);
                text.push_str(": ");
                spell(text, value, is_secret || holds_a_secret(json, key));
            }
            text.push('}');
        }
    }
}

fn quote(text: &mut String, value: &str) {
    write!(text, "{}", serde_json::Value::from(value)).expect("a string takes anything");
}

fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
