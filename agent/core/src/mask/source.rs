//! A set as the configuration writes it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One `[[mask]]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetSource {
    /// What policies and `holdpoint mask` call it. Letters, digits, `-` and `_`.
    pub name: String,
    /// What stands in place of what is found.
    #[serde(default)]
    pub mode: Mode,
    /// Built-in detectors, or whole built-in sets.
    #[serde(default)]
    pub detectors: Vec<String>,
    /// Values to mask by where they are: `customer.name` (the end of a JSON or XML path; `$.` begins it at the root; `*` is
    /// any one name; arrays add nothing to a path), `name` (also a header, parameter or column), `grpc:1.3.2` (numbers of
    /// protobuf fields, from the message's root). Case, `_` and `-` do not matter.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Columns of databases' relations: `public.users.email`, `users.phone`, `*.ssn`. Where a result does not tell where a column is
    /// from, its name there decides; text that is computed from one (`upper(email)`) is masked, too.
    #[serde(default)]
    pub columns: Vec<String>,
    /// Regular expressions (the `regex` crate's), by the name they have in mask tokens. With a group 1, that alone is masked.
    #[serde(default)]
    pub regexes: BTreeMap<String, String>,
    /// Texts to mask wherever they are. At least four bytes each.
    #[serde(default)]
    pub literals: Vec<String>,
}

/// What stands in place of what is found. Where sets that disagree are used together, the later one of these wins.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// `[masked:DETECTOR:..1234]`, the last four characters, of values of at least twelve.
    KeepLast4,
    /// `[masked:DETECTOR:0123456789abcdef]`, 64 bits of HMAC-SHA-256 with the host's key: equal values stay equal.
    Hash,
    /// `[masked:DETECTOR]`.
    #[default]
    Replace,
    /// Nothing: the empty string where a value has to be.
    Drop,
}

/// Why a set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetProblem {
    /// A name that cannot stand in a mask token.
    #[error("mask set `{set}`: `{name}` is no name: use up to 40 letters, digits, `-` and `_`")]
    Name {
        /// The set.
        set: String,
        /// The name.
        name: String,
    },
    /// A set of this name is there already.
    #[error("mask set `{0}` is there already (`secrets`, `pii` and `minted` are built in)")]
    Twice(String),
    /// There is no such detector.
    #[error(
        "mask set `{set}`: there is no detector `{detector}`; there are {}",
        names()
    )]
    Detector {
        /// The set.
        set: String,
        /// What it names.
        detector: String,
    },
    /// A field's path that says nothing.
    #[error(
        "mask set `{set}`: `{field}` is no field: write `a.b`, `$.a.*.b`, or `grpc:1.3.2` (at most 16 parts)"
    )]
    Field {
        /// The set.
        set: String,
        /// What it names.
        field: String,
    },
    /// A column that says nothing.
    #[error(
        "mask set `{set}`: `{column}` is no column: write `schema.relation.column`, `relation.column` or `column`; `*` is any, but not all"
    )]
    Column {
        /// The set.
        set: String,
        /// What it names.
        column: String,
    },
    /// A regular expression that does not compile, or is too large.
    #[error("mask set `{set}`: regex `{name}`: {problem}")]
    Regex {
        /// The set.
        set: String,
        /// The regular expression's name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// A text that would be found everywhere.
    #[error("mask set `{0}`: a literal of less than four bytes would be found everywhere")]
    Literal(String),
    /// More than there is room for.
    #[error("mask set `{0}`: more than {MAX_OWN} fields, columns, regexes or literals")]
    TooMany(String),
}

/// How many fields, columns, regular expressions or literals one set may have, each.
pub const MAX_OWN: usize = 1000;

fn names() -> String {
    let names = super::Builtin::ALL.map(super::Builtin::name);
    names.join(", ")
}

/// There is no set of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no mask set `{0}`: define it as a [[mask]], or use `secrets`, `pii` or `minted`")]
pub struct UnknownSet(pub String);
