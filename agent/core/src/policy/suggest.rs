//! The least set of permits that covers what was done, as Cedar text for a person to edit.
//!
//! Nothing is permitted that was not done: each permit names methods, and the projects, buckets or hosts they were used on.
//! What is dangerous is held for people as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::decide::is_unread_change;
use crate::{
    groups::Group,
    identity::Principal,
    operation::{Action, Operation, Trait},
};

/// Something that was done.
#[derive(Clone, Copy, Debug)]
pub struct Done<'a> {
    /// By whom.
    pub principal: &'a Principal,
    /// What.
    pub operation: &'a Operation,
}

/// Policies to edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// The text. The same for the same operations, in whatever order.
    pub text: String,
    /// What it does not cover, and why.
    pub left_out: BTreeSet<String>,
}

/// Groups of which every method is held.
const DANGEROUS: [Group; 4] = [Group::Delete, Group::Iam, Group::Secret, Group::RunsCode];
/// What is held of SQL, whatever its action.
const SQL: [Trait; 2] = [Trait::Opaque, Trait::WithoutWhere];
const BUCKETS: &str = "//storage.googleapis.com/projects/_/buckets/";

/// Whether the suggestion holds it for people.
#[must_use]
pub fn is_held(operation: &Operation) -> bool {
    let bad = [Trait::OpenToInternet, Trait::PublicAccess];
    is_dangerous(&operation.action)
        || bad
            .iter()
            .chain(&SQL)
            .any(|it| operation.traits.contains(it))
}

fn is_dangerous(action: &Action) -> bool {
    action.id() == Action::UNKNOWN || DANGEROUS.iter().any(|it| action.groups().contains(*it))
}

/// Suggests policies under which all of `done` may happen, once people of `group` have approved what is dangerous.
///
/// # Panics
/// Never: a string takes anything.
#[must_use]
pub fn suggest(done: &[Done<'_>], group: &str) -> Suggestion {
    let mut left_out = BTreeSet::new();
    let mut kept = Vec::new();
    for it in done {
        match objection(it) {
            Some(why) => drop(left_out.insert(shown(&format!("{}: {why}", what(it.operation))))),
            None => kept.push(*it),
        }
    }
    let mut text = Text::default();
    text.comment(&format!(
        "Suggested by `holdpoint policy suggest` from {} operations: what was done, and no more. Read it as if somebody had asked",
        kept.len()
    ));
    text.comment("for these rights: that something was done is no reason for it to be allowed.");
    let by_who = by_who(&kept);
    for (who, operations) in &by_who {
        text.section(&who.words());
        let (dangerous, harmless): (Vec<&Operation>, Vec<&Operation>) = operations
            .iter()
            .copied()
            .partition(|it: &&Operation| is_dangerous(&it.action));
        let (net, google): (Vec<&Operation>, Vec<&Operation>) = harmless
            .into_iter()
            .partition(|it| it.action.id().starts_with("net."));
        text.permits(who, &google);
        if !net.is_empty() {
            text.line("");
            text.comment("Connections to these hosts pass through unopened: whatever can be read can be sent there.");
            text.permits(who, &net);
        }
        if !dangerous.is_empty() {
            text.line("");
            text.comment("DANGEROUS, and only permitted because the holds below ask people every time: what deletes, changes access,");
            text.comment("reveals secrets or runs code elsewhere. Take out what is not needed.");
            text.permits(who, &dangerous);
        }
    }
    let has = |is: fn(&Operation) -> bool| kept.iter().any(|it| is(it.operation));
    text.holds(
        group,
        has(|it| it.action.id() == Action::UNKNOWN),
        has(|it| it.is_sql() || SQL.iter().any(|bad| it.traits.contains(bad))),
    );
    for it in &left_out {
        text.comment(&format!("Left out: {it}"));
    }
    Suggestion {
        text: text.0,
        left_out,
    }
}

/// Why nothing should be suggested for it.
fn objection(done: &Done<'_>) -> Option<&'static str> {
    let operation = done.operation;
    if operation.traits.contains(&Trait::PublicResolver) {
        return Some("names are resolved by Holdpoint, not elsewhere");
    }
    if is_unread_change(operation) {
        return Some(
            "it is a change that Holdpoint cannot read: who permits that has to say so (`context.unreadable`)",
        );
    }
    let place = Place::of(operation);
    let names = [operation.action.id(), place.name(), &operation.host];
    if !names.into_iter().all(is_plain) {
        return Some("its name has characters that do not belong into a policy");
    }
    let principal = done.principal;
    if !is_plain(&principal.issuer) || !is_plain(&principal.subject) {
        return Some("its principal's name has characters that do not belong into a policy");
    }
    None
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

fn what(operation: &Operation) -> String {
    format!("{} on {}", operation.action.id(), operation.resource.name)
}

/// Whom a permit is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Principal(String),
    Group(String),
}

impl Who {
    fn scope(&self) -> String {
        match self {
            Self::Principal(name) => format!("principal == Principal::{name:?}"),
            Self::Group(name) => format!("principal in Group::{name:?}"),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Principal(name) => format!("For {name}"),
            Self::Group(name) => format!("For everybody in the group {name}"),
        }
    }
}

/// One principal, or a group that all are in; else each principal for itself.
fn by_who<'a>(done: &[Done<'a>]) -> BTreeMap<Who, Vec<&'a Operation>> {
    let names: BTreeSet<_> = done.iter().map(|it| it.principal.name()).collect();
    let mut groups = done.iter().map(|it| it.principal.groups.clone());
    let common = groups
        .next()
        .map(|first| groups.fold(first, |common, more| &common & &more))
        .unwrap_or_default();
    let common = common.into_iter().find(|group| is_plain(group));
    let mut by_who: BTreeMap<Who, Vec<&Operation>> = BTreeMap::new();
    for it in done {
        let who = match &common {
            Some(group) if names.len() > 1 => Who::Group(group.clone()),
            _ => Who::Principal(it.principal.name()),
        };
        by_who.entry(who).or_default().push(it.operation);
    }
    by_who
}

/// Where something was done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Project(String),
    /// All of a bucket, by its full resource name.
    Bucket(String),
    /// A relation, or all of a database where a statement names none, by its full resource name.
    Relation(String),
    Host(String),
    Port(String, u16),
}

impl Place {
    fn of(operation: &Operation) -> Self {
        let resource = &operation.resource;
        let host = operation.host.clone();
        if operation.is_sql() {
            return Self::Relation(resource.name.clone());
        }
        if let (Action::NET_CONNECT, Some(port)) = (operation.action.id(), operation.port) {
            return Self::Port(host, port);
        }
        if operation.action.id() == Action::UNKNOWN {
            return Self::Host(host);
        }
        if let Some(project) = &resource.project {
            return Self::Project(project.clone());
        }
        let bucket = resource.name.strip_prefix(BUCKETS);
        let bucket = bucket.and_then(|rest| rest.split('/').next());
        match bucket.filter(|bucket| !bucket.is_empty()) {
            Some(bucket) => Self::Bucket(format!("{BUCKETS}{bucket}")),
            None => Self::Host(host),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Project(name)
            | Self::Bucket(name)
            | Self::Relation(name)
            | Self::Host(name)
            | Self::Port(name, _) => name,
        }
    }

    fn condition(&self) -> String {
        match self {
            Self::Project(name) => format!("resource in Project::{name:?}"),
            Self::Bucket(name) => {
                // In a pattern, an asterisk of the name's own is escaped.
                let below = format!("{name:?}").replace('*', "\\*");
                let below = below.trim_end_matches('"');
                format!("resource.name == {name:?} || resource.name like {below}/*\"")
            }
            Self::Relation(name) => format!("resource.name == {name:?}"),
            Self::Host(name) => format!("resource.host == {name:?}"),
            Self::Port(name, port) => {
                format!("resource.host == {name:?} && context has port && context.port == {port}")
            }
        }
    }
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        writeln!(self.0, "{line}").expect("a string takes anything");
    }

    fn comment(&mut self, text: &str) {
        self.line(&format!("// {text}"));
    }

    fn section(&mut self, words: &str) {
        self.line("");
        self.comment(&shown(words));
    }

    /// One permit for each service and set of places. Methods that were used in the same places share it.
    fn permits(&mut self, who: &Who, operations: &[&Operation]) {
        let mut services: BTreeMap<&str, BTreeMap<&str, BTreeSet<Place>>> = BTreeMap::new();
        for operation in operations {
            let places = services
                .entry(operation.action.service())
                .or_default()
                .entry(operation.action.id())
                .or_default();
            places.insert(Place::of(operation));
        }
        for (service, actions) in services {
            let mut by_places: BTreeMap<BTreeSet<Place>, Vec<&str>> = BTreeMap::new();
            for (action, places) in actions {
                by_places.entry(places).or_default().push(action);
            }
            for (places, actions) in by_places {
                let is_here = |it: &&&Operation| {
                    actions.contains(&it.action.id()) && places.contains(&Place::of(it))
                };
                let count = operations.iter().filter(is_here).count();
                self.line("");
                self.comment(&format!("{service}: {count} operations"));
                if places.iter().any(|it| matches!(it, Place::Host(_))) && service != "net" {
                    self.comment("Some name no project: whatever these methods are used on there is covered.");
                }
                self.permit(who, &actions, &places);
            }
        }
    }

    fn permit(&mut self, who: &Who, actions: &[&str], places: &BTreeSet<Place>) {
        let actions = match actions {
            [one] => format!("action == Action::{one:?}"),
            several => {
                let names: Vec<_> = several
                    .iter()
                    .map(|it| format!("    Action::{it:?}"))
                    .collect();
                format!("action in [\n{}\n  ]", names.join(",\n"))
            }
        };
        let mut in_order = places.iter();
        let (resource, condition) = match (in_order.next(), in_order.next()) {
            (Some(project @ Place::Project(_)), None) => (project.condition(), None),
            _ => {
                let each: Vec<_> = places.iter().map(Place::condition).collect();
                let each = each.iter().map(|it| format!("  ({it})"));
                let each: Vec<_> = each.collect();
                ("resource".to_owned(), Some(each.join(" ||\n")))
            }
        };
        self.line(&format!(
            "permit(\n  {},\n  {actions},\n  {resource}\n)",
            who.scope()
        ));
        if let Some(condition) = condition {
            self.line(&format!("when {{\n{condition}\n}}"));
        }
        self.0.pop();
        self.line(";");
    }

    fn holds(&mut self, group: &str, unknown: bool, sql: bool) {
        self.line("");
        self.comment("What waits for a person, whoever asks and whatever is permitted above.");
        let groups = DANGEROUS.map(|it| format!("Action::{:?}", it.name()));
        let mut hold = |id: &str, reason: &str, rest: &str| {
            self.line(&format!(
                "\n@id({id:?})\n@hold({group:?})\n@reason({reason:?})\nforbid(principal, {rest};"
            ));
        };
        hold(
            "suggested-hold-dangerous",
            "it deletes, changes access, reveals a secret or runs code elsewhere",
            &format!("action in [{}], resource)", groups.join(", ")),
        );
        hold(
            "suggested-hold-public",
            "it opens something to everybody",
            "action, resource)\nwhen { context.traits.containsAny([\"open-to-internet\", \"public-access\"]) }",
        );
        if unknown {
            hold(
                "suggested-hold-unknown",
                "it is a method that Holdpoint does not know",
                "action == Action::\"google.unknown\", resource)",
            );
        }
        if sql {
            hold(
                "suggested-hold-opaque-sql",
                "it is SQL that Holdpoint cannot see through",
                "action, resource)\nwhen { context.traits.contains(\"opaque\") }",
            );
            hold(
                "suggested-hold-every-row",
                "it changes or deletes every row of a table",
                "action, resource)\nwhen { context.traits.contains(\"without-where\") }",
            );
        }
        self.line("");
    }
}

/// For a comment: no control character, nothing endless.
fn shown(text: &str) -> String {
    let plain = text.chars().map(|c| match c {
        ' '..='~' => c,
        _ => '?',
    });
    plain.take(400).collect()
}

#[cfg(test)]
mod tests;
