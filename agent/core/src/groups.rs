//! The groups of actions that people write policy with.

use std::fmt;

use crate::sql::bigquery;

mod effect;
mod sensitive;

/// One group of actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Group {
    /// Changes nothing.
    Read = 1,
    /// Creates or changes something.
    Write = 2,
    /// Destroys something.
    Delete = 4,
    /// Changes who may do what.
    Iam = 8,
    /// Reveals or mints a secret or a credential.
    Secret = 16,
    /// Makes code run somewhere that Holdpoint does not see.
    RunsCode = 32,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Write,
        Self::Delete,
        Self::Iam,
        Self::Secret,
        Self::RunsCode,
    ];

    /// The name in policies: `Action::"delete"`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Iam => "iam",
            Self::Secret => "secret",
            Self::RunsCode => "runs-code",
        }
    }
}

/// A set of [`Group`]s.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Groups(u8);

impl Groups {
    /// The set with just these members.
    #[must_use]
    pub const fn of(groups: &[Group]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < groups.len() {
            bits |= groups[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    /// The set and `group`.
    #[must_use]
    pub const fn with(self, group: Group) -> Self {
        Self(self.0 | group as u8)
    }

    /// Whether `group` is in the set.
    #[must_use]
    pub fn contains(self, group: Group) -> bool {
        self.0 & group as u8 != 0
    }

    /// The members, in order of declaration.
    pub fn iter(self) -> impl Iterator<Item = Group> {
        Group::ALL
            .into_iter()
            .filter(move |group| self.contains(*group))
    }
}

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The groups of a Google method, from its discovery id and its HTTP verb: one of read, write and delete, and any of
/// iam, secret and runs-code. It is read only where that is certain, because reads are recorded with less ceremony.
#[must_use]
pub fn classify(id: &str, verb: &str) -> Groups {
    if let Some(groups) = bigquery::groups(id) {
        return groups;
    }
    let method = Method::parse(id);
    let effect = effect::of(method, verb);
    let changes = effect != Group::Read;
    let mut groups = Groups::of(&[effect]);
    if changes && sensitive::is_iam(method) {
        groups = groups.with(Group::Iam);
    }
    if sensitive::is_secret(method) {
        groups = groups.with(Group::Secret);
    }
    if effect == Group::Write && sensitive::runs_code(method) {
        groups = groups.with(Group::RunsCode);
    }
    groups
}

/// The parts of a discovery id that rules look at. Case is not significant: documents disagree
/// (`sql.Backups.ListBackups`, `sql.backups.listBackups`).
#[derive(Clone, Copy)]
struct Method<'a> {
    /// Before the first dot.
    service: &'a str,
    /// The last but one part; empty in `cloudasset.exportAssets`.
    collection: &'a str,
    /// After the last dot.
    name: &'a str,
}

impl<'a> Method<'a> {
    fn parse(id: &'a str) -> Self {
        let (path, name) = id.rsplit_once('.').unwrap_or(("", id));
        let (service, rest) = path.split_once('.').unwrap_or((path, ""));
        let collection = rest.rsplit('.').next().unwrap_or_default();
        Self {
            service,
            collection,
            name,
        }
    }

    /// The words a name is made of: `batch` and `delete` of `batchDelete`.
    fn words(self) -> impl Iterator<Item = &'a str> {
        let starts = self
            .name
            .char_indices()
            .filter(|(at, c)| *at > 0 && (c.is_ascii_uppercase() || matches!(c, '_' | '-')))
            .map(|(at, _)| at)
            .chain([self.name.len()]);
        let mut from = 0;
        starts.map(move |to| {
            let word = &self.name[from..to];
            from = to;
            word.trim_start_matches(['_', '-'])
        })
    }

    fn first_word(self) -> &'a str {
        self.words().next().unwrap_or_default()
    }
}

/// Methods of one collection of one service; `*` stands for any.
struct Rule {
    service: &'static str,
    collection: &'static str,
    /// Names, separated by spaces.
    names: &'static str,
}

const fn rule(service: &'static str, collection: &'static str, names: &'static str) -> Rule {
    Rule {
        service,
        collection,
        names,
    }
}

impl Rule {
    fn covers(&self, method: Method<'_>) -> bool {
        let is = |pattern: &str, text: &str| pattern == "*" || pattern.eq_ignore_ascii_case(text);
        is(self.service, method.service)
            && is(self.collection, method.collection)
            && one_of(self.names, method.name)
    }
}

/// Whether `word` is among the words in `list`, which are separated by white space; `*` is every word.
fn one_of(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace()
        .any(|listed| listed == "*" || listed.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests;
