//! Custom methods (<https://google.aip.dev/136>) that change a part of what is there: `addAccessConfig`, `disks.resize`,
//! `subscriptions.modifyPushConfig`. No schema says which part; names do, for most. Where they do not, nothing is told.

use super::{Change, Edit, merge, shown};
use crate::{fields::Json, mask::names::names_a_secret, operation::Operation};

/// Where names of parameters and fields differ, it is by one of these before them: `destinationParent`, `targetSize`.
const PREFIXES: [&str; 3] = ["destination", "new", "target"];
/// Parameters that say how to do it, not what.
const MANNER: [&str; 9] = [
    "alt",
    "etag",
    "fields",
    "fingerprint",
    "key",
    "kind",
    "name",
    "requestId",
    "validateOnly",
];

/// What `operation`, of a custom method, changes of what is there; nothing where names do not tell.
pub(super) fn change(operation: &Operation, before: &Json, is_secret: bool) -> Option<Change> {
    let asked = Asked::of(operation, before, is_secret);
    let change = match asked.verb {
        "add" | "attach" => asked.added(),
        "remove" | "detach" | "delete" => asked.removed(),
        "set" | "update" | "modify" | "replace" | "change" | "patch" => asked.altered(),
        "enable" => asked.switched("false"),
        "disable" => asked.switched("true"),
        _ => None,
    };
    change.or_else(|| asked.by_name())
}

struct Asked<'a> {
    operation: &'a Operation,
    before: &'a Json,
    is_secret: bool,
    /// `add` of `addAccessConfig`.
    verb: &'a str,
    /// `accessConfig` of it.
    noun: String,
    body: Json,
}

impl<'a> Asked<'a> {
    fn of(operation: &'a Operation, before: &'a Json, is_secret: bool) -> Self {
        let id = operation.action.id();
        let name = id.rsplit('.').next().unwrap_or_default();
        let (verb, noun) = name.split_at(name.find(char::is_uppercase).unwrap_or(name.len()));
        let body = operation.json.as_deref().cloned();
        Self {
            operation,
            before,
            is_secret,
            verb,
            noun: lower(noun),
            body: body.unwrap_or(Json::Object(Vec::new())),
        }
    }

    /// The field that the method's name is about, where it is a list.
    fn list(&self) -> Option<(String, &'a [Json])> {
        let plain = &self.noun;
        let last = lower(&plain[plain.rfind(char::is_uppercase).unwrap_or_default()..]);
        let names = [
            format!("{plain}s"),
            plain.clone(),
            format!("{last}s"),
            format!("{plain}es"),
            format!("{}ies", plain.trim_end_matches('y')),
        ];
        names
            .into_iter()
            .find_map(|name| match self.before.field(&name) {
                Some(Json::Array(items)) if !plain.is_empty() => Some((name, items.as_slice())),
                _ => None,
            })
    }

    /// What the body brings: the items of its list, what it wraps, or itself.
    fn brought(&self, list: &str) -> Vec<Json> {
        if let Some(Json::Array(items)) = self.body.field(list) {
            return items.clone();
        }
        vec![self.unwrapped().clone()]
    }

    fn unwrapped(&self) -> &Json {
        let entries = self.body.entries().iter();
        let mut objects = entries.filter(|(_, value)| matches!(value, Json::Object(_)));
        let is_wrapped = self.body.entries().len() <= 2;
        match (objects.next(), objects.next()) {
            (Some((key, inner)), None) if is_wrapped && self.noun_is(key) => inner,
            _ => &self.body,
        }
    }

    fn noun_is(&self, key: &str) -> bool {
        let (key, noun) = (key.to_ascii_lowercase(), self.noun.to_ascii_lowercase());
        key.ends_with(&noun) || noun.ends_with(&key)
    }

    /// What may say which item is meant.
    fn named(&self) -> Vec<&str> {
        let in_query = self.operation.query.iter();
        let in_query =
            in_query.filter(|(name, _)| !MANNER.contains(&name.as_str()) || name == "name");
        let mut named: Vec<&str> = in_query.map(|(_, value)| value.as_str()).collect();
        if named.is_empty() {
            for json in [&self.body, self.unwrapped()] {
                json.each_text(&mut |path, text| {
                    let last = path.last().copied().unwrap_or_default();
                    if matches!(self.verb, "remove" | "detach" | "delete") || last == "name" {
                        named.push(text);
                    }
                });
            }
        }
        named
    }

    fn is_named(&self, item: &Json, named: &[&str]) -> bool {
        let text = |json: &Json| json.text().is_some_and(|text| named.contains(&text));
        text(item) || item.entries().iter().any(|(_, value)| text(value))
    }

    fn added(&self) -> Option<Change> {
        let (path, _) = self.list().or_else(|| {
            let is_new = !self.body.entries().is_empty() && !self.noun.is_empty();
            is_new.then(|| (format!("{}s", self.noun.trim_end_matches('s')), &[][..]))
        })?;
        let mut change = Change::default();
        for item in self.brought(&path) {
            change.push(self.edit(path.clone(), None, Some(&item)));
        }
        Some(change)
    }

    fn removed(&self) -> Option<Change> {
        let (path, items) = self.list()?;
        let named = self.named();
        let mut change = Change::default();
        for (place, item) in items.iter().enumerate() {
            if self.is_named(item, &named) {
                change.push(self.edit(format!("{path}[{place}]"), Some(item), None));
            }
        }
        (!change.edits.is_empty()).then_some(change)
    }

    /// A part is merged into with PATCH, and by methods that say so, and replaced otherwise.
    fn altered(&self) -> Option<Change> {
        let is_merged = self.operation.method == "PATCH" || matches!(self.verb, "patch" | "update");
        let after = |old: &Json, new: &Json| match is_merged {
            true => merge(old, new),
            false => new.clone(),
        };
        if let Some((path, items)) = self.list() {
            let named = self.named();
            let mut found = items.iter().enumerate();
            let (place, old) = found.find(|(_, item)| self.is_named(item, &named))?;
            let mut items = items.to_vec();
            items[place] = after(old, self.unwrapped());
            return Some(self.between(&path, Json::Array(items)));
        }
        let old = self.before.field(&self.noun)?;
        let new = self.body.field(&self.noun).unwrap_or(&self.body);
        Some(self.between(&self.noun, after(old, new)))
    }

    fn switched(&self, disabled: &str) -> Option<Change> {
        let is_of_the_whole = self.noun.is_empty() && self.body.entries().is_empty();
        // What is false is left out of answers.
        let has_switch = self.before.field("disabled").is_some()
            || self.operation.action.id().starts_with("iam.");
        (is_of_the_whole && has_switch)
            .then(|| self.between("disabled", Json::Text(disabled.into())))
    }

    /// Fields and parameters that are called as what is there is called.
    fn by_name(&self) -> Option<Change> {
        let in_query = self.operation.query.iter();
        let in_query = in_query.map(|(name, value)| (name.clone(), Json::Text(value.clone())));
        let mut change = Change::default();
        for (name, value) in in_query.chain(self.body.entries().iter().cloned()) {
            if let Some(known) = self.known_as(&name) {
                change.extend(self.between(&known, value));
            }
        }
        (!change.edits.is_empty()).then_some(change)
    }

    fn known_as(&self, name: &str) -> Option<String> {
        if MANNER.contains(&name) {
            return None;
        }
        let shorter = PREFIXES
            .iter()
            .filter_map(|prefix| name.strip_prefix(prefix).map(lower));
        let longer = PREFIXES
            .iter()
            .map(|prefix| format!("{prefix}{}", upper(name)));
        let mut names = [name.to_owned()].into_iter().chain(shorter).chain(longer);
        names.find(|name| self.before.field(name).is_some())
    }

    fn between(&self, path: &str, after: Json) -> Change {
        let part = |value: Option<Json>| {
            Json::Object(value.map(|it| (path.to_owned(), it)).into_iter().collect())
        };
        let before = part(self.before.field(path).cloned());
        Change::between(&before, &part(Some(after)), self.is_secret)
    }

    fn edit(&self, path: String, before: Option<&Json>, after: Option<&Json>) -> Edit {
        let is_secret = self.is_secret || names_a_secret(&path);
        let value = |json: Option<&Json>| json.map(|json| shown(json, is_secret));
        Edit {
            path,
            before: value(before),
            after: value(after),
        }
    }
}

fn lower(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

fn upper(name: &str) -> String {
    let mut chars = name.chars();
    let first = chars.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}
