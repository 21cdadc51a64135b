//! Field masks (<https://google.aip.dev/161>): which fields of a body count.

use super::diff::entry;
use crate::{
    fields::{Json, camel_case},
    operation::Operation,
};

/// The names a mask goes by, in a query or in a body.
const NAMES: [&str; 2] = ["updateMask", "fieldMask"];

/// Paths of fields in lower camel case.
pub(super) struct Mask(Vec<Vec<String>>);

/// The mask of a request: in its query or in its body.
pub(super) fn of(operation: &Operation, body: &Json) -> Option<Mask> {
    let in_query = operation
        .query
        .iter()
        .find(|(name, _)| NAMES.contains(&camel_case(name).as_str()));
    in_query
        .map(|(_, value)| Mask::parse(value))
        .or_else(|| of_body(body))
}

/// The mask in a body.
pub(super) fn of_body(body: &Json) -> Option<Mask> {
    let text = NAMES.iter().find_map(|name| body.field(name)?.text());
    text.map(Mask::parse)
}

/// What a body with a mask wraps: some methods take `{"instance": {...}, "fieldMask": "..."}`.
pub(super) fn unwrapped(body: &Json) -> &Json {
    let mut others = body
        .entries()
        .iter()
        .filter(|(key, _)| !NAMES.contains(&camel_case(key).as_str()));
    match (of_body(body), others.next(), others.next()) {
        (Some(_), Some((_, inner @ Json::Object(_))), None) => inner,
        _ => body,
    }
}

impl Mask {
    fn parse(text: &str) -> Self {
        let paths = text
            .split(',')
            .map(str::trim)
            .filter(|path| !path.is_empty());
        Self(
            paths
                .map(|path| path.split('.').map(camel_case).collect())
                .collect(),
        )
    }

    /// Whether everything counts, what is absent included.
    pub(super) fn is_all(&self) -> bool {
        self.0.iter().any(|path| path == &["*"])
    }

    /// Whether something of this field counts.
    pub(super) fn covers(&self, field: &str) -> bool {
        self.is_all() || self.0.iter().any(|path| path[0] == field)
    }

    /// `before` with what the mask names taken from `body`; what `body` does not have is gone then.
    pub(super) fn applied(&self, before: &Json, body: &Json) -> Json {
        self.0.iter().fold(before.clone(), |after, path| {
            let value = path.iter().try_fold(body, |json, name| {
                json.field(name).or_else(|| entry(json, name))
            });
            put(after, path, value)
        })
    }
}

fn put(json: Json, path: &[String], value: Option<&Json>) -> Json {
    let Some((name, rest)) = path.split_first() else {
        return value.cloned().unwrap_or(Json::Null);
    };
    let mut entries = match json {
        Json::Object(entries) => entries,
        _ if value.is_none() => return json,
        _ => Vec::new(),
    };
    let place = entries.iter().position(|(key, _)| camel_case(key) == *name);
    let (key, old) = match place {
        Some(place) => entries.remove(place),
        None => (name.clone(), Json::Null),
    };
    let new = put(old, rest, value);
    if new != Json::Null {
        entries.push((key, new));
    }
    Json::Object(entries)
}
