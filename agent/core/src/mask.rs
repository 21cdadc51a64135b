//! Masks: what is secret or personal in what passes, and what stands in its place.
//!
//! A *detector* knows one thing: a form (`jwt`, `card`) or a place (a field's name or path). A *set* is some detectors and a mode.
//! A [`Masker`] takes a body in pieces and gives it back masked, in bounded memory, the same whatever the pieces; what it cannot
//! read is an error, never passed.

mod columns;
mod detector;
mod dress;
mod fields;
mod find;
mod form;
mod formats;
mod masker;
pub mod names;
mod own;
pub mod rows;
mod source;
mod statement;
mod token;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, RwLock},
};

use regex::bytes::Regex;
use zeroize::Zeroizing;

use crate::digest::Digest;

pub use self::{
    columns::Origin,
    detector::Builtin,
    form::Form,
    masker::{Found, Masker, Unreadable},
    source::{MAX_OWN, Mode, SetProblem, SetSource, UnknownSet},
    statement::Bound,
    token::mask_token_in,
};
use self::{
    dress::dresses,
    fields::{Fields, Hint, StandIn, Whole},
    find::{Context, Finder, Hit, Literals},
    own::OwnSet,
};

/// The built-in sets: credentials by their form or name; personal data; what token-minting methods return.
pub const BUILT_IN: [&str; 3] = ["secrets", "pii", "minted"];
/// What values are called that Holdpoint itself has injected.
const INJECTED: &str = "injected";
/// How many unions are kept ready.
const KEPT_UNIONS: usize = 256;

/// Every set that is known, by name.
pub struct Masks {
    own: BTreeMap<String, OwnSet>,
    key: token::Key,
    ready: RwLock<HashMap<BTreeSet<String>, Arc<MaskSet>>>,
}

impl Masks {
    /// The built-in sets, and `own`. `key` is the host's, for [`Mode::Hash`].
    ///
    /// # Errors
    /// When one of `own` has a name that is taken or cannot stand in a token, names a detector that does not exist, or has a field
    /// or regular expression that cannot be used.
    pub fn new(own: &[SetSource], key: [u8; 32]) -> Result<Self, SetProblem> {
        let mut sets = BTreeMap::new();
        for source in own {
            let set = OwnSet::read(source)?;
            let is_taken = BUILT_IN.contains(&source.name.as_str());
            if is_taken || sets.insert(source.name.clone(), set).is_some() {
                return Err(SetProblem::Twice(source.name.clone()));
            }
        }
        Ok(Self {
            own: sets,
            key: Zeroizing::new(key),
            ready: RwLock::default(),
        })
    }

    /// How tokens of a value with this SHA-256 end, in sets with [`Mode::Hash`]: whoever knows the value's digest finds its tokens without telling
    /// the value. What is normalised (an e-mail address in small letters, digits without what is between them) has that form's digest.
    #[must_use]
    pub fn token_end(&self, sha256: &[u8; 32]) -> String {
        format!(":{}]", token::hash(&self.key, sha256))
    }

    /// Whether there is a set of this name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        BUILT_IN.contains(&name) || self.own.contains_key(name)
    }

    /// All of these sets at once. Where two have the same detector, the mode that keeps less wins.
    ///
    /// # Errors
    /// When there is no set of one of the names.
    pub fn union<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Arc<MaskSet>, UnknownSet> {
        let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        if let Some(unknown) = names.iter().find(|name| !self.knows(name)) {
            return Err(UnknownSet(unknown.clone()));
        }
        if let Ok(ready) = self.ready.read()
            && let Some(set) = ready.get(&names)
        {
            return Ok(set.clone());
        }
        let set = Arc::new(self.compile(&names));
        if let Ok(mut ready) = self.ready.write()
            && ready.len() < KEPT_UNIONS
        {
            ready.insert(names, set.clone());
        }
        Ok(set)
    }

    fn compile(&self, names: &BTreeSet<String>) -> MaskSet {
        let mut modes: BTreeMap<Builtin, Mode> = BTreeMap::new();
        let mut add = |builtin, mode: Mode| {
            let strictest = modes.entry(builtin).or_insert(mode);
            *strictest = mode.max(*strictest);
        };
        for builtin in Builtin::ALL {
            if names.contains(builtin.set()) {
                add(builtin, Mode::Replace);
            }
        }
        let own: Vec<(&String, &OwnSet)> = names
            .iter()
            .filter_map(|name| self.own.get_key_value(name))
            .collect();
        for (_, set) in &own {
            set.builtins
                .iter()
                .for_each(|builtin| add(*builtin, set.mode));
        }
        let mut building = Building::default();
        let builtins: Vec<(Builtin, u16)> = modes
            .into_iter()
            .map(|(builtin, mode)| {
                (
                    builtin,
                    building.detector(builtin.name(), mode, Some(builtin)),
                )
            })
            .collect();
        own.into_iter()
            .for_each(|(name, set)| building.add_own(name, set));
        building.finish(&builtins, self.key.clone())
    }
}

/// A set on its way to being one.
#[derive(Default)]
struct Building {
    detectors: Vec<Detector>,
    fields: Fields,
    columns: Vec<(columns::Pattern, u16)>,
    regexes: Vec<(Regex, u16)>,
    literals: Vec<(Zeroizing<Vec<u8>>, u16)>,
}

impl Building {
    fn detector(&mut self, name: &str, mode: Mode, builtin: Option<Builtin>) -> u16 {
        self.detectors.push(Detector {
            name: name.into(),
            mode,
            builtin,
        });
        u16::try_from(self.detectors.len() - 1)
            .expect("at most as many as fit into the configuration's limits")
    }

    /// Fields, columns and literals go by the set's name, regular expressions by their own.
    fn add_own(&mut self, name: &str, set: &OwnSet) {
        if !set.fields.is_empty() || !set.columns.is_empty() || !set.literals.is_empty() {
            let index = self.detector(name, set.mode, None);
            for field in &set.fields {
                let added = self.fields.add(field, index, StandIn::Token);
                debug_assert!(added.is_ok(), "was read before");
            }
            let columns = set.columns.iter().cloned();
            self.columns.extend(columns.map(|column| (column, index)));
            let literals = set.literals.iter().flat_map(|literal| dresses(literal));
            self.literals
                .extend(literals.map(|literal| (literal, index)));
        }
        for (name, regex) in &set.regexes {
            let index = self.detector(name, set.mode, None);
            self.regexes.push((regex.clone(), index));
        }
    }

    fn finish(mut self, builtins: &[(Builtin, u16)], key: token::Key) -> MaskSet {
        let index = |builtin| {
            builtins
                .iter()
                .find(|(other, _)| *other == builtin)
                .map(|(_, index)| *index)
        };
        if let Some(minted) = index(Builtin::Minted) {
            self.fields.add_minted(minted);
        }
        self.fields.by_name = index(Builtin::SecretField);
        let injected = self.detector(INJECTED, Mode::Replace, None);
        MaskSet {
            base: Arc::new(Base {
                finder: Finder::new(builtins, self.regexes, self.literals),
                detectors: self.detectors,
                fields: self.fields,
                columns: self.columns,
                injected,
                key,
            }),
            injected: Vec::new(),
        }
    }
}

/// Detectors, ready to look.
#[derive(Clone, Debug)]
pub struct MaskSet {
    base: Arc<Base>,
    injected: Vec<Literals>,
}

struct Base {
    detectors: Vec<Detector>,
    finder: Finder,
    fields: Fields,
    columns: Vec<(columns::Pattern, u16)>,
    /// The index of what Holdpoint injected.
    injected: u16,
    key: token::Key,
}

impl std::fmt::Debug for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.detectors.iter().map(|detector| &detector.name))
            .finish()
    }
}

#[derive(Clone, Debug)]
struct Detector {
    name: Arc<str>,
    mode: Mode,
    builtin: Option<Builtin>,
}

impl MaskSet {
    /// An operation's digest as the record and people may have it: HMAC-SHA-256 by the host's key. The plain one would let whoever reads it
    /// try out a short secret in an operation of which the rest is known.
    #[must_use]
    pub fn sealed(&self, digest: &Digest) -> Digest {
        Digest::from_bytes(token::sealed(&self.base.key, digest.as_bytes()))
    }

    /// Whether it looks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.base.detectors.len() == 1 && self.injected.is_empty()
    }

    /// Whether [`Builtin::Minted`], if it is in the set, sees what it looks for in such a body: it goes by fields' names, which text and
    /// protobuf do not have. An answer that mints something and comes in such a form (`alt=proto`, `callback=`) has to be withheld.
    #[must_use]
    pub fn sees_minted(&self, form: &Form) -> bool {
        let mut detectors = self.base.detectors.iter();
        let mints = detectors.any(|detector| detector.builtin == Some(Builtin::Minted));
        !mints || !matches!(form, Form::Text | Form::Protobuf | Form::Grpc)
    }

    /// The same set, which also masks these texts wherever they are, also percent-encoded or in base64: values that Holdpoint injected.
    #[must_use]
    pub fn and_literals(
        self: &Arc<Self>,
        secrets: impl IntoIterator<Item = Zeroizing<Vec<u8>>>,
    ) -> Arc<Self> {
        let index = self.base.injected;
        let texts: Vec<_> = secrets
            .into_iter()
            .flat_map(|secret| dresses(&secret))
            .map(|text| (text, index))
            .collect();
        let Some(more) = Literals::new(texts) else {
            return self.clone();
        };
        let mut set = Self::clone(self);
        set.injected.push(more);
        Arc::new(set)
    }

    /// A header's, query or form parameter's, or column's value, masked by its name or by what is in it.
    #[must_use]
    pub fn value<'v>(&self, name: &str, value: &'v str) -> Cow<'v, str> {
        if self.leaves(name, value.as_bytes()) {
            return value.into();
        }
        let mut masker = masker::Worker::new(Arc::new(self.clone()));
        let masked = masker.value(name, value.as_bytes());
        match masked {
            Some(masked) => String::from_utf8_lossy(&masked).into_owned().into(),
            None => value.into(),
        }
    }

    /// Whether a value of this name has nothing in it, as most have.
    fn leaves(&self, name: &str, value: &[u8]) -> bool {
        if self.base.fields.named(name).is_some() {
            return false;
        }
        let mut hits = Vec::new();
        self.find(value, Context::of_value(name), &mut hits);
        hits.is_empty()
    }

    /// What is in a whole body, for policy's `contains`.
    ///
    /// # Errors
    /// When it cannot be read as what it says it is.
    pub fn scan(self: &Arc<Self>, form: Form, bytes: &[u8]) -> Result<Found, Unreadable> {
        let mut masker = Masker::new(self.clone(), form);
        let mut masked = Zeroizing::new(Vec::new());
        for piece in bytes.chunks(64 << 10) {
            masked.clear();
            masker.push(piece, &mut masked)?;
        }
        masker.finish(&mut masked)
    }

    /// Everything in `text` by its form, in order and without overlaps.
    fn find(&self, text: &[u8], context: Context, hits: &mut Vec<Hit>) {
        self.base.finder.find(text, context, hits);
        if !self.injected.is_empty() {
            self.injected
                .iter()
                .for_each(|literals| literals.find(text, hits));
            find::join(hits);
        }
    }

    /// Whether it looks for anything by its form.
    fn looks_at_text(&self) -> bool {
        !self.base.finder.is_idle() || !self.injected.is_empty()
    }

    /// Whether it looks for anything by a field's name or path.
    fn looks_at_fields(&self) -> bool {
        !self.base.fields.is_empty()
    }

    /// Whether it looks for anything that a number may be.
    fn looks_at_numbers(&self) -> bool {
        self.base.finder.looks_at_numbers() || !self.injected.is_empty()
    }

    /// Whether it looks for texts or expressions of the configuration's own, which may be anywhere.
    fn looks_for_own_texts(&self) -> bool {
        self.base.finder.looks_for_own() || !self.injected.is_empty()
    }

    /// A number that stands in place of `value`: by the mode 0, made of its digest or of its last four digits.
    fn number_for(&self, detector: u16, value: &[u8]) -> u64 {
        let Detector { mode, .. } = &self.base.detectors[usize::from(detector)];
        token::number(*mode, value, &self.base.key)
    }

    /// Writes what stands in place of `value`.
    fn write_token(&self, detector: u16, value: &[u8], out: &mut Vec<u8>) {
        let Detector {
            name,
            mode,
            builtin,
        } = &self.base.detectors[usize::from(detector)];
        let normalised = builtin.map(|builtin| builtin.normalised(value));
        let value = normalised.as_deref().unwrap_or(value);
        token::write(*mode, name, value, &self.base.key, out);
    }

    /// The same for a value of which only the SHA-256 is there.
    fn write_token_of_digest(&self, detector: u16, digest: &[u8; 32], out: &mut Vec<u8>) {
        let Detector { name, mode, .. } = &self.base.detectors[usize::from(detector)];
        token::write_of_digest(*mode, name, digest, &self.base.key, out);
    }
}

#[cfg(test)]
mod tests;
