//! A JSON body, read within bounds and flattened to what a policy can ask about.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt,
};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// How deep objects and arrays may be nested.
pub const MAX_DEPTH: usize = 32;
/// How many values a body may hold.
pub const MAX_ENTRIES: usize = 10_000;
/// How long a field's path may be, in bytes.
pub const MAX_PATH: usize = 1024;

/// Field paths and the values found there. Arrays add nothing to a path, so that
/// `{"bindings":[{"members":["allUsers"]}]}` has `allUsers` under `bindings.members`. Numbers and booleans are
/// text as JSON spells them; null is absent. Google reads `ip_configuration` and `ipConfiguration` as the same field, so
/// what stands under a name with underscores is found under both spellings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub BTreeMap<String, BTreeSet<String>>);

impl Fields {
    /// Flattens a value.
    #[must_use]
    pub fn of(json: &Json) -> Self {
        let mut fields = Self::default();
        fields.add("", "", json);
        fields
    }

    fn add(&mut self, path: &str, camel: &str, json: &Json) {
        match json {
            Json::Null => {}
            Json::Text(text) => self.insert(path, camel, text),
            Json::Array(items) => items.iter().for_each(|item| self.add(path, camel, item)),
            Json::Object(entries) => {
                for (key, value) in entries {
                    self.add(&join(path, key), &join(camel, &camel_case(key)), value);
                }
            }
        }
    }

    fn insert(&mut self, path: &str, camel: &str, value: &str) {
        let paths = [path, camel];
        for path in &paths[..if path == camel { 1 } else { 2 }] {
            let values = self.0.entry((*path).to_owned()).or_default();
            values.insert(value.to_owned());
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        return key.to_owned();
    }
    format!("{path}.{key}")
}

/// `ip_configuration` as `ipConfiguration` (the JSON mapping of Protocol Buffers).
fn camel_case(name: &str) -> String {
    let mut upper = false;
    let mut camel = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '_' {
            upper = !camel.is_empty();
        } else if std::mem::take(&mut upper) {
            camel.push(c.to_ascii_uppercase());
        } else {
            camel.push(c);
        }
    }
    camel
}

/// A JSON value. Numbers and booleans are text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    /// `null`.
    Null,
    /// A string, number or boolean.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object; no two keys name the same field.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads one JSON text (RFC 8259).
    ///
    /// # Errors
    /// With what is wrong: not JSON, not UTF-8, more than [`MAX_DEPTH`] deep or [`MAX_ENTRIES`] large, a path longer than [`MAX_PATH`], or a field named
    /// twice in one object, of which readers differ in what it means.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut entries = 0;
        let mut reader = serde_json::Deserializer::from_slice(text);
        let seed = Seed {
            depth: 0,
            path: 0,
            entries: &mut entries,
        };
        let json = seed
            .deserialize(&mut reader)
            .map_err(|error| error.to_string())?;
        reader.end().map_err(|error| error.to_string())?;
        Ok(json)
    }

    /// The value of a field, whichever way it is spelled.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Json> {
        let Self::Object(entries) = self else {
            return None;
        };
        let found = entries.iter().find(|(key, _)| camel_case(key) == name);
        found.map(|(_, value)| value)
    }

    /// The text of a string, number or boolean.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Calls `visit` with every text and the names of the fields it lies under.
    pub fn each_text<'a>(&'a self, visit: &mut impl FnMut(&[&'a str], &'a str)) {
        self.walk(&mut Vec::new(), visit);
    }

    fn walk<'a>(&'a self, path: &mut Vec<&'a str>, visit: &mut impl FnMut(&[&'a str], &'a str)) {
        match self {
            Self::Null => {}
            Self::Text(text) => visit(path, text),
            Self::Array(items) => items.iter().for_each(|item| item.walk(path, visit)),
            Self::Object(entries) => {
                for (key, value) in entries {
                    path.push(key);
                    value.walk(path, visit);
                    path.pop();
                }
            }
        }
    }
}

struct Seed<'a> {
    depth: usize,
    path: usize,
    entries: &'a mut usize,
}

impl Seed<'_> {
    fn child<E: de::Error>(&mut self, key: &str) -> Result<Seed<'_>, E> {
        *self.entries += 1;
        if *self.entries > MAX_ENTRIES {
            return Err(E::custom(format!("more than {MAX_ENTRIES} values")));
        }
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format!("nested more than {MAX_DEPTH} deep")));
        }
        let path = self.path + key.len() + 1;
        if path > MAX_PATH {
            return Err(E::custom(format!(
                "a field's path is longer than {MAX_PATH} bytes"
            )));
        }
        Ok(Seed {
            depth: self.depth + 1,
            path,
            entries: self.entries,
        })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Text(value.to_string()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Text(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Text(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Text(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.child("")?)? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Json, A::Error> {
        let mut entries = Vec::new();
        let mut names = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if !names.insert(camel_case(&key)) {
                return Err(de::Error::custom(format!("field {key:?} is named twice")));
            }
            let value = map.next_value_seed(self.child(&key)?)?;
            entries.push((key, value));
        }
        Ok(Json::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fields(text: &str) -> Vec<(String, Vec<String>)> {
        let json = Json::parse(text.as_bytes()).expect("the test's JSON is good");
        let list = |values: BTreeSet<String>| values.into_iter().collect();
        Fields::of(&json)
            .0
            .into_iter()
            .map(|(path, values)| (path, list(values)))
            .collect()
    }

    #[test]
    fn arrays_add_nothing_to_a_path() {
        let found = fields(
            r#"{"bindings":[{"members":["a","b"]},{"members":["c"]}],"n":1.5,"t":true,"z":null}"#,
        );
        let expected = [
            ("bindings.members", vec!["a", "b", "c"]),
            ("n", vec!["1.5"]),
            ("t", vec!["true"]),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(path, values)| {
                (
                    path.to_owned(),
                    values.into_iter().map(str::to_owned).collect(),
                )
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn both_spellings_of_a_field_are_found() {
        let paths: Vec<_> = fields(r#"{"ip_configuration":{"ipv4_enabled":false}}"#)
            .into_iter()
            .map(|f| f.0)
            .collect();
        assert_eq!(
            paths,
            [
                "ipConfiguration.ipv4Enabled",
                "ip_configuration.ipv4_enabled"
            ]
        );
    }

    #[test]
    fn what_readers_may_differ_in_is_refused() {
        for bad in [
            r#"{"a":1,"a":2}"#,
            r#"{"source_ranges":[],"sourceRanges":["0/0"]}"#,
            r#"{"a":1} {"b":2}"#,
            r#"{'a':1}"#,
            "{\"a\":\"\\ud800\"}",
            "",
        ] {
            assert!(Json::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Json::parse(b"{\"a\":\"\xff\"}").is_err());
        let deep = format!("{}{}", "[".repeat(MAX_DEPTH + 1), "]".repeat(MAX_DEPTH + 1));
        assert!(Json::parse(deep.as_bytes()).is_err());
        let wide = format!("[{}1]", "1,".repeat(MAX_ENTRIES));
        assert!(Json::parse(wide.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(json) = Json::parse(&bytes) {
                let _ = Fields::of(&json);
            }
        }
    }
}
