//! The names of actions that policies may use.

use std::borrow::Cow;

use crate::{
    catalog::Catalog,
    groups::{Group, Groups, classify},
    operation::Action,
    sql,
};

/// Which Google methods there are.
pub trait KnownActions {
    /// The HTTP verb of the method with this discovery id, if there is one.
    fn verb(&self, id: &str) -> Option<&str>;
    /// The known id that is spelled most like `id`.
    fn nearest(&self, id: &str) -> Option<&str>;
    /// Whether `service` is what stands before the first dot of some id.
    fn has_service(&self, service: &str) -> bool;
    /// The service that is spelled most like `service`.
    fn nearest_service(&self, service: &str) -> Option<&str>;
    /// Whether the method with this id has this parameter in its path, and so never in its query.
    fn takes_in_path(&self, id: &str, parameter: &str) -> bool;
}

impl KnownActions for Catalog {
    fn verb(&self, id: &str) -> Option<&str> {
        Self::verb(self, id)
    }

    fn nearest(&self, id: &str) -> Option<&str> {
        Self::nearest(self, id)
    }

    fn has_service(&self, service: &str) -> bool {
        Self::has_service(self, service)
    }

    fn nearest_service(&self, service: &str) -> Option<&str> {
        let names = self.service_names().into_iter();
        names.min_by_key(|name| strsim::levenshtein(name, service))
    }

    fn takes_in_path(&self, id: &str, parameter: &str) -> bool {
        // Versions of an API share ids, and differ in their paths.
        let mut all = self.methods().filter(|method| method.id == id);
        all.all(|method| method.takes_in_path(parameter))
    }
}

/// Everything on a Google host that is recognised.
pub(super) const GOOGLE: &str = "google";
/// Everything that is about hosts.
pub(super) const NET: &str = "net";
/// What stands before the dot in the actions of SQL statements.
pub(super) const POSTGRES: &str = "postgres";
/// Actions that are no Google methods.
pub(super) const OWN_ACTIONS: [&str; 3] =
    [Action::NET_CONNECT, Action::NET_RESOLVE, Action::UNKNOWN];

/// What a name that a policy uses stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// A group, [`GOOGLE`], [`NET`] or one of [`OWN_ACTIONS`].
    Fixed,
    /// `sql.*`.
    Service(&'a str),
    /// One Google method.
    Method(Groups),
}

/// Finds out what `name` stands for; if nothing, says what to write instead.
pub(super) fn look_up<'a>(name: &'a str, known: &dyn KnownActions) -> Result<Name<'a>, String> {
    if fixed().any(|fixed| fixed == name) {
        return Ok(Name::Fixed);
    }
    if let Some(service) = name.strip_suffix(".*") {
        if service == POSTGRES || known.has_service(service) {
            return Ok(Name::Service(service));
        }
    } else if let Some(groups) = sql::ACTIONS.get(name) {
        return Ok(Name::Method(*groups));
    } else if let Some(verb) = known.verb(name) {
        return Ok(Name::Method(classify(name, verb)));
    }
    Err(format!(
        "there is no action {name:?}; did you mean {:?}?",
        nearest(name, known)
    ))
}

fn fixed() -> impl Iterator<Item = &'static str> {
    Group::ALL
        .into_iter()
        .map(Group::name)
        .chain([GOOGLE, NET])
        .chain(OWN_ACTIONS)
}

fn nearest(name: &str, known: &dyn KnownActions) -> String {
    if let Some(service) = service_meant(name, known) {
        return format!("{service}.*");
    }
    let distance = |other: &str| strsim::levenshtein(name, other);
    let own = fixed()
        .chain(sql::ACTIONS.keys().copied())
        .chain(["postgres.*"])
        .min_by_key(|own| distance(own))
        .expect("there are fixed names");
    let method = known.nearest(name).map(|method| {
        if name.ends_with(".*") {
            let service = method.split('.').next().unwrap_or_default();
            format!("{service}.*")
        } else {
            method.to_owned()
        }
    });
    method
        .filter(|method| distance(method) < distance(own))
        .unwrap_or_else(|| own.to_owned())
}

/// The service that a name without other dots is most like, unless it is more like one of the fixed names.
fn service_meant<'a>(name: &str, known: &'a dyn KnownActions) -> Option<&'a str> {
    let stem = name.strip_suffix(".*").unwrap_or(name);
    let distance = |service: &&str| strsim::levenshtein(service, stem);
    let services = known.nearest_service(stem).into_iter().chain([POSTGRES]);
    let nearest = services.min_by_key(distance)?;
    let away = distance(&nearest);
    let is_meant = !stem.contains('.')
        && away * 2 <= stem.chars().count()
        && fixed().all(|fixed| strsim::levenshtein(fixed, name) > away);
    is_meant.then_some(nearest)
}

/// The names under which policies may speak of an action: itself first, then everything it is in.
pub(super) fn names_of(action: &Action) -> Vec<Cow<'_, str>> {
    let mut names = vec![action.id().into()];
    names.extend(action.groups().iter().map(|group| group.name().into()));
    match action.id() {
        Action::UNKNOWN => {}
        Action::NET_CONNECT | Action::NET_RESOLVE => names.push(NET.into()),
        _ => {
            names.push(format!("{}.*", action.service()).into());
            if action.service() != POSTGRES {
                names.push(GOOGLE.into());
            }
        }
    }
    names
}
