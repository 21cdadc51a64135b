//! A JSON body, read within bounds and flattened to what a policy can ask about.

use std::{
    borrow::Cow,
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
/// Up to here an IEEE 754 double holds every integer (RFC 8259, section 6).
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;

/// Field paths and the values found there. Arrays add nothing to a path, so that
/// `{"bindings":[{"members":["allUsers"]}]}` has `allUsers` under `bindings.members`. Numbers and booleans are
/// text, numbers in their plain spelling (`1e3` is `1000`); null is absent. Google reads `ip_configuration` and
/// `ipConfiguration` as the same field, and `"1e3"` as a number where it expects one, so that both spellings are found.
///
/// A name with a dot in it, as keys of maps have, stands in quotes: `annotations.'run.googleapis.com/ingress'`. So no
/// such name passes for a field in a field.
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
            values.extend(plain_number(value));
        }
    }
}

/// The path of the field `key` in what lies at `path`.
pub(crate) fn join(path: &str, key: &str) -> String {
    let key = quoted(key);
    if path.is_empty() {
        return key.into_owned();
    }
    format!("{path}.{key}")
}

/// A key as it stands in a path: in quotes where it would divide one.
fn quoted(key: &str) -> Cow<'_, str> {
    if key.is_empty() || key.contains(['.', '\'']) {
        return format!("'{}'", key.replace('\'', "''")).into();
    }
    key.into()
}

/// A number in digits, sign and decimal point alone, where `text` is one and spelled otherwise. Beyond the 53 bits that all
/// readers of JSON have in common, a number is left as it is spelled.
fn plain_number(text: &str) -> Option<String> {
    let is_spelled_so = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    if text.len() > 64 || !text.bytes().all(is_spelled_so) {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    // Minus zero is zero.
    let plain = (number + 0.0).to_string();
    (number.abs() <= MAX_SAFE_INTEGER && plain != text).then_some(plain)
}

/// `ip_configuration` as `ipConfiguration` (the JSON mapping of Protocol Buffers).
pub(crate) fn camel_case(name: &str) -> String {
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

    /// A field that is none of these, as it is spelled.
    #[must_use]
    pub fn other_field(&self, known: &[&str]) -> Option<&str> {
        let mut names = self.entries().iter().map(|(name, _)| name.as_str());
        names.find(|name| !known.contains(&camel_case(name).as_str()))
    }

    /// The text of a string, number or boolean.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The fields of an object; of anything else, none.
    #[must_use]
    pub fn entries(&self) -> &[(String, Json)] {
        match self {
            Self::Object(entries) => entries,
            _ => &[],
        }
    }

    /// The items of an array; of anything else, none.
    #[must_use]
    pub fn items(&self) -> &[Json] {
        match self {
            Self::Array(items) => items,
            _ => &[],
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

    /// Minus zero is zero.
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Text((value + 0.0).to_string()))
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

    #[test]
    fn a_number_is_found_in_its_plain_spelling() {
        for (text, plain) in [
            ("1e3", "1000"),
            ("\"1e3\"", "1000"),
            ("10.0", "10"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("\"+7\"", "7"),
            ("\"0.50\"", "0.5"),
            ("1.5e-3", "0.0015"),
        ] {
            let found = fields(&format!(r#"{{"n":{text}}}"#));
            assert!(found[0].1.iter().any(|value| value == plain), "{text}");
        }
        // Too large to say what others make of it: as it is spelled.
        assert_eq!(
            fields(r#"{"n":"9007199254740993"}"#)[0].1,
            ["9007199254740993"]
        );
        assert!(Json::parse(b"[1e999]").is_err());
        let digits = format!("[{}]", "9".repeat(400));
        assert!(Json::parse(digits.as_bytes()).is_err());
        for text in ["infinity", "NaN", "e", "1-1", "--1", ""] {
            assert_eq!(plain_number(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_with_a_dot_passes_for_no_path() {
        let paths = |text| -> Vec<_> { fields(text).into_iter().map(|f| f.0).collect() };
        assert_eq!(paths(r#"{"a":{"b":1}}"#), ["a.b"]);
        assert_eq!(paths(r#"{"a.b":1}"#), ["'a.b'"]);
        assert_eq!(paths(r#"{"a'.'b":1}"#), ["'a''.''b'"]);
        assert_eq!(paths(r#"{"a.":{".b":1}}"#), ["'a.'.'.b'"]);
        assert_eq!(paths(r#"{"":{"b":1}}"#), ["''.b"]);
    }

    #[test]
    fn nothing_ends_early_or_starts_late() {
        let found = fields("{\"a\":\"x\\u0000y\"}");
        assert_eq!(found[0].1, ["x\0y"]);
        for bad in [
            &b"\xef\xbb\xbf{}"[..],
            b"\xff\xfe{\0}\0",
            b"{\"a\":\"x\0y\"}",
            b"{}\0",
            b"\0{}",
            b"+ADw-{}",
        ] {
            assert!(Json::parse(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn two_lists_of_names_are_two_paths(
            a in proptest::collection::vec("[.'a]{0,4}", 1..4),
            b in proptest::collection::vec("[.'a]{0,4}", 1..4),
        ) {
            let path = |names: &[String]| names.iter().fold(None, |path: Option<String>, name| {
                Some(path.map_or_else(|| join("", name), |path| join(&path, name)))
            });
            prop_assert_eq!(a == b, path(&a) == path(&b));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(json) = Json::parse(&bytes) {
                let _ = Fields::of(&json);
            }
        }
    }
}
