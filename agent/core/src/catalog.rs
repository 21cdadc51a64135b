//! The table of Google methods: which host, verb and path is which discovery method id.

mod hosts;
mod requests;
mod router;
mod table;

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

pub use hosts::{Endpoint, normal_host};
pub use requests::{Named, Requests};
pub use router::{Found, Service};
pub(crate) use table::variable;
pub use table::{Damaged, Method};

use crate::sql::bigquery;

/// The largest table that is accepted, in bytes, decompressed.
const MAX_TABLE: usize = 32 << 20;

/// Every method of every Google API whose discovery document `cargo xtask catalog` was given.
pub struct Catalog {
    methods: Vec<Method>,
    services: HashMap<&'static str, Service>,
    locations: HashSet<&'static str>,
    aliases: HashMap<&'static str, &'static str>,
    ids: HashMap<&'static str, usize>,
    prefixes: HashSet<&'static str>,
}

impl Catalog {
    /// The catalog that is compiled in. Decompressed and indexed on first use, once.
    ///
    /// # Panics
    /// If the compiled-in table is damaged; a unit test loads it.
    #[must_use]
    pub fn built_in() -> &'static Self {
        static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
            Catalog::load(include_bytes!("../catalog.bin.zst"))
                .expect("the compiled-in table is what cargo xtask catalog wrote")
        });
        &CATALOG
    }

    /// Reads a compressed table as `cargo xtask catalog` writes it. Its text is kept for ever: a program loads one.
    ///
    /// # Errors
    /// When it is not such a table, or two of its methods cannot be told apart.
    pub fn load(compressed: &[u8]) -> Result<Self, Damaged> {
        let text = zstd::bulk::decompress(compressed, MAX_TABLE)
            .map_err(|error| Damaged(format!("it does not decompress: {error}")))?;
        let text = String::from_utf8(text).map_err(|_| Damaged("it is not text".into()))?;
        let parsed = table::parse(Box::leak(text.into_boxed_str()))?;
        let mut services = HashMap::new();
        for host in parsed.hosts {
            services.insert(host, Service::new(host));
        }
        for (index, method) in parsed.methods.iter().enumerate() {
            for host in served_at(method) {
                let service = services
                    .get_mut(host)
                    .ok_or_else(|| Damaged(format!("{} has no host", method.id)))?;
                service.add(method, index)?;
            }
        }
        let mut ids = HashMap::with_capacity(parsed.methods.len());
        for (index, method) in parsed.methods.iter().enumerate() {
            ids.entry(method.id).or_insert(index);
        }
        let prefixes = ids.keys().map(|id| prefix(id)).collect();
        Ok(Self {
            methods: parsed.methods,
            services,
            locations: parsed.locations,
            aliases: parsed.aliases,
            ids,
            prefixes,
        })
    }

    /// The HTTP verb of the method with this discovery id, if there is one; of an action of SQL that a job carries, the empty one.
    #[must_use]
    pub fn verb(&self, id: &str) -> Option<&str> {
        if bigquery::groups(id).is_some() {
            return Some("");
        }
        self.ids.get(id).map(|index| self.methods[*index].verb)
    }

    /// Any one method with this discovery id; versions of an API share ids.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<&Method> {
        self.ids.get(id).map(|index| &self.methods[*index])
    }

    /// Every method, in the table's order: by host, path and verb.
    pub fn methods(&self) -> impl ExactSizeIterator<Item = &Method> {
        self.methods.iter()
    }

    /// The known id that is spelled most like `id`.
    #[must_use]
    pub fn nearest(&self, id: &str) -> Option<&str> {
        let nearest = self
            .ids
            .keys()
            .copied()
            .chain(bigquery::names())
            .min_by_key(|known| (strsim::levenshtein(id, known), *known))?;
        (strsim::levenshtein(id, nearest) <= id.chars().count() / 2).then_some(nearest)
    }

    /// What stands before the first dot of ids, sorted.
    #[must_use]
    pub fn service_names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.prefixes.iter().copied().collect();
        names.sort_unstable();
        names
    }

    /// Whether `service` is what stands before the first dot of some id.
    #[must_use]
    pub fn has_service(&self, service: &str) -> bool {
        self.prefixes.contains(service)
    }

    /// The method that `verb` and the raw path `segments` name at `service`.
    #[must_use]
    pub fn find<'c>(&'c self, service: &Service, verb: &str, segments: &[&str]) -> Found<'c> {
        service
            .find(verb, segments)
            .map(|index| &self.methods[index])
    }
}

fn prefix(id: &'static str) -> &'static str {
    id.split('.').next().unwrap_or(id)
}

/// The hosts a method answers at: its document's, and the shared one where all Google APIs started.
fn served_at(method: &Method) -> impl Iterator<Item = &'static str> {
    const SHARED: &str = "www.googleapis.com";
    let shared = method.host != SHARED && is_legacy_path(method.template);
    std::iter::once(method.host).chain(shared.then_some(SHARED))
}

/// Whether a path names its API before the version, as in `compute/v1/...`; only such paths are unique at
/// the shared host.
fn is_legacy_path(template: &str) -> bool {
    let mut segments = template.split('/');
    segments.next().is_some_and(|first| !is_version(first)) && segments.take(2).any(is_version)
}

/// Whether a path segment is a version: `v1`, `v2beta1`, `v1p1beta1`, `v2.1`, `alpha`, `beta`.
pub(crate) fn is_version(segment: &str) -> bool {
    let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    matches!(segment, "alpha" | "beta") || segment.strip_prefix('v').is_some_and(digit)
}

#[cfg(test)]
mod tests;
