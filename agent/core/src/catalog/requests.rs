//! What the requests of Google's methods may say: the fields of their bodies and the parameters of their queries. For whoever writes
//! policy; nothing is decided by it, and only who checks policies loads it.
//!
//! The text of the table: `#` the format's version; `=` the beginning of an API, with the parameters that all its methods take; `>`
//! a method: its id, the schema of its body and the parameters of its query; anything else a schema: its name and its fields. A field
//! is a name, `*` where it is a map, `?` where anything may stand in it, and `:SCHEMA` where it is an object (or a list or map of such).

use std::collections::{HashMap, HashSet};

use super::Damaged;
use crate::fields::camel_case;

const FORMAT: &str = "#holdpoint-requests 1\n";
/// The largest table that is accepted, in bytes, decompressed.
const MAX_TABLE: usize = 16 << 20;
/// Paths that are looked at for the nearest one.
const MOST_PATHS: usize = 20_000;
/// Fields within fields, where schemas contain themselves.
const DEEPEST: usize = 6;

/// The requests of every method.
pub struct Requests {
    text: String,
    /// Where the lines of a method begin, by its id: one for each version of its API.
    methods: HashMap<String, Vec<usize>>,
}

/// Whether there is such a field or parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// There is.
    Known,
    /// There is none; the one that is spelled most like it.
    Unknown(Option<String>),
    /// The table does not say.
    NotTold,
}

impl Requests {
    /// The table that is compiled in, decompressed: about 5 MB, for as long as it is kept.
    ///
    /// # Errors
    /// Never, as a unit test finds out.
    pub fn built_in() -> Result<Self, Damaged> {
        Self::load(include_bytes!("../../requests.bin.zst"))
    }

    /// Reads a compressed table as `cargo xtask catalog` writes it.
    ///
    /// # Errors
    /// When it is not such a table.
    pub fn load(compressed: &[u8]) -> Result<Self, Damaged> {
        let text = zstd::bulk::decompress(compressed, MAX_TABLE)
            .map_err(|error| Damaged(format!("it does not decompress: {error}")))?;
        let text = String::from_utf8(text).map_err(|_| Damaged("it is not text".into()))?;
        if !text.starts_with(FORMAT) {
            return Err(Damaged("it has another format".into()));
        }
        let mut methods: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, start) in text.match_indices("\n>") {
            let id = text[at + start.len()..].split('\t').next();
            let id = id.unwrap_or_default().to_owned();
            methods.entry(id).or_default().push(at);
        }
        Ok(Self { text, methods })
    }

    /// Whether the body of a request to the method `id` may have a value at `path`, as [`crate::fields::Fields`] spells paths, in any
    /// version of its API.
    #[must_use]
    pub fn body_field(&self, id: &str, path: &str) -> Named {
        let methods = self.methods(id);
        if methods.is_empty() || methods.iter().any(Method::takes_anything) {
            return Named::NotTold;
        }
        let steps = steps(path);
        if methods.iter().any(|it| it.has(it.body, &steps)) {
            return Named::Known;
        }
        // The key of a map is known to whoever writes policy, where there is a map before it.
        let last = match steps.as_slice() {
            [_, .., last] => last,
            _ => "KEY",
        };
        let known = methods.iter().flat_map(|method| method.paths(last));
        Named::Unknown(nearest(path, known))
    }

    /// Whether the query of a request to the method `id` may have this parameter, in any version of its API.
    #[must_use]
    pub fn parameter(&self, id: &str, name: &str) -> Named {
        let methods = self.methods(id);
        if methods.is_empty() {
            return Named::NotTold;
        }
        let known: HashSet<&str> = methods.iter().flat_map(Method::parameters).collect();
        if known.contains(name) || name.starts_with('$') {
            return Named::Known;
        }
        Named::Unknown(nearest(name, known.into_iter().map(str::to_owned)))
    }

    fn methods<'a>(&'a self, id: &str) -> Vec<Method<'a>> {
        let found = self.methods.get(id).into_iter().flatten();
        found.map(|at| Method::at(&self.text, *at)).collect()
    }
}

/// One method in one version of its API.
struct Method<'a> {
    /// The text of its API.
    api: &'a str,
    body: &'a str,
    query: &'a str,
}

struct Field<'a> {
    name: &'a str,
    is_map: bool,
    is_anything: bool,
    schema: &'a str,
}

impl<'a> Method<'a> {
    fn at(text: &'a str, place: usize) -> Self {
        let start = text[..place].rfind("\n=").unwrap_or_default();
        let end = text[place..]
            .find("\n=")
            .map_or(text.len(), |at| place + at);
        let line = text[place + 1..].lines().next().unwrap_or_default();
        let mut columns = line.split('\t').skip(1);
        Self {
            api: &text[start..end],
            body: columns.next().unwrap_or_default(),
            query: columns.next().unwrap_or_default(),
        }
    }

    fn takes_anything(&self) -> bool {
        self.body == "HttpBody"
    }

    fn parameters(&self) -> impl Iterator<Item = &'a str> {
        let common = self.api[1..].lines().next().unwrap_or_default();
        let common = common.trim_start_matches('=').split(',');
        self.query
            .split(',')
            .chain(common)
            .filter(|it| !it.is_empty())
    }

    fn fields(&self, schema: &str) -> impl Iterator<Item = Field<'a>> {
        let line = format!("\n{schema}\t");
        let at = self.api.find(&line).filter(|_| !schema.is_empty());
        let fields = at.and_then(|at| self.api[at + line.len()..].lines().next());
        fields
            .unwrap_or_default()
            .split(',')
            .filter(|it| !it.is_empty())
            .map(|field| {
                let (field, schema) = field.split_once(':').unwrap_or((field, ""));
                Field {
                    name: field.trim_end_matches(['*', '?']),
                    is_map: field.contains('*'),
                    is_anything: field.contains('?'),
                    schema,
                }
            })
    }

    fn has(&self, schema: &str, steps: &[String]) -> bool {
        let Some((step, rest)) = steps.split_first() else {
            return false;
        };
        let Some(field) = self.fields(schema).find(|field| field.name == step) else {
            return false;
        };
        let rest = match (field.is_map, rest) {
            (true, []) => return false,
            (true, [_, rest @ ..]) => rest,
            (false, rest) => rest,
        };
        match field.schema {
            _ if field.is_anything => true,
            "" => rest.is_empty(),
            schema => self.has(schema, rest),
        }
    }

    /// The paths to all values, shortest first; a map's key is called `key`.
    fn paths(&self, key: &str) -> Vec<String> {
        let mut paths = Vec::new();
        let mut open = vec![(String::new(), self.body)];
        for _ in 0..DEEPEST {
            let mut below = Vec::new();
            for (path, schema) in open {
                for field in self.fields(schema) {
                    let key = if field.is_map {
                        format!(".{key}")
                    } else {
                        String::new()
                    };
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{}{key}", field.name);
                    match field.schema {
                        "" => paths.push(path),
                        schema => below.push((path, schema)),
                    }
                }
                if paths.len() + below.len() > MOST_PATHS {
                    return paths;
                }
            }
            open = below;
        }
        paths
    }
}

/// The names in a path, in lower camel case; a name in quotes is a map's key.
fn steps(path: &str) -> Vec<String> {
    let mut steps = vec![String::new()];
    let mut is_quoted = false;
    for letter in path.chars() {
        match letter {
            '\'' => is_quoted = !is_quoted,
            '.' if !is_quoted => steps.push(String::new()),
            letter => steps.last_mut().expect("there is one").push(letter),
        }
    }
    steps.iter().map(|step| camel_case(step)).collect()
}

fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let distance = |other: &str| strsim::levenshtein(name, other);
    // One that lacks what it lies in is near, too.
    let lacks = |other: &str| !other.ends_with(&format!(".{name}"));
    let found = known.min_by_key(|other| (lacks(other), distance(other), other.clone()))?;
    (!lacks(&found) || distance(&found) <= name.chars().count() / 2).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(nearest: &str) -> Named {
        Named::Unknown(Some(nearest.to_owned()))
    }

    #[test]
    fn the_fields_of_a_body_are_known() {
        let requests = Requests::built_in().expect("it is what cargo xtask catalog wrote");
        for (id, path) in [
            ("sql.instances.insert", "settings.tier"),
            (
                "sql.instances.insert",
                "settings.ip_configuration.authorizedNetworks.value",
            ),
            ("sql.instances.insert", "settings.userLabels.env"),
            (
                "compute.instances.insert",
                "networkInterfaces.accessConfigs.natIP",
            ),
            ("compute.instances.insert", "labels.'a.b'"),
            (
                "container.projects.locations.clusters.create",
                "cluster.initialNodeCount",
            ),
            (
                "cloudresourcemanager.projects.setIamPolicy",
                "policy.bindings.members",
            ),
        ] {
            assert_eq!(requests.body_field(id, path), Named::Known, "{path}");
        }
        for (path, expected) in [
            ("settings.teir", unknown("settings.tier")),
            ("tier", unknown("settings.tier")),
            (
                "settings.ipConfigurations.requireSsl",
                unknown("settings.ipConfiguration.requireSsl"),
            ),
            ("settings.usrLabels.env", unknown("settings.userLabels.env")),
            ("qqqqqqqqqqqqqqq", Named::Unknown(None)),
        ] {
            assert_eq!(
                requests.body_field("sql.instances.insert", path),
                expected,
                "{path}"
            );
        }
        // A value stands at neither: an object does.
        assert!(matches!(
            requests.body_field("sql.instances.insert", "settings"),
            Named::Unknown(_)
        ));
        assert!(matches!(
            requests.body_field("sql.instances.insert", "settings.userLabels"),
            Named::Unknown(_)
        ));
        assert_eq!(
            requests.body_field("sql.instances.get", "a"),
            Named::Unknown(None)
        );
        assert_eq!(requests.body_field("no.such.method", "a"), Named::NotTold);
    }

    #[test]
    fn the_parameters_of_a_query_are_known() {
        let requests = Requests::built_in().expect("it is what cargo xtask catalog wrote");
        let named = |name| requests.parameter("compute.instances.setDeletionProtection", name);
        assert_eq!(named("deletionProtection"), Named::Known);
        assert_eq!(named("alt"), Named::Known);
        assert_eq!(named("deletionProtecton"), unknown("deletionProtection"));
    }

    #[test]
    fn a_table_that_is_none_is_refused() {
        for text in ["", "#holdpoint-catalog 1\n", "#holdpoint-requests 2\n"] {
            let compressed = zstd::bulk::compress(text.as_bytes(), 1).expect("it compresses");
            assert!(Requests::load(&compressed).is_err(), "{text:?}");
        }
        assert!(Requests::load(b"x").is_err());
    }
}
