//! The Cedar schema that policies are validated against.
//!
//! A schema with all 28 thousand Google methods takes most of a second to parse, and the validator tries a policy with every
//! action there is. So each policy gets a schema of its own (the same one as others like it): with the methods and services it
//! names, and stand-ins for all the others, one for each combination that a policy can tell apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use cedar_policy::pst::ActionConstraint;

use super::vocabulary::{GOOGLE, NET, OWN_ACTIONS, POSTGRES};
use crate::{
    catalog::Catalog,
    groups::{Group, Groups, classify},
    sql,
};

/// The types of entities that policies name.
pub(super) const TYPES: [&str; 6] = [
    "Action",
    "Group",
    "Host",
    "Principal",
    "Project",
    "Resource",
];
/// The attributes in [`DECLARATIONS`].
pub(super) const OF_RESOURCE: [&str; 4] = ["name", "host", "project", "location"];
pub(super) const OF_TARGET: [&str; 6] = [
    "exists",
    "labels",
    "tags",
    "deletion_protection",
    "created",
    "fields",
];
pub(super) const OF_CONTEXT: [&str; 12] = [
    "method",
    "host",
    "port",
    "path",
    "query",
    "body",
    "unreadable",
    "traits",
    "contains",
    "target",
    "size",
    "now",
];

const DECLARATIONS: &str = r"
entity Group;
entity Project;
entity Host;
entity Principal in [Group] { issuer: String, subject: String } tags String;
entity Resource in [Project, Host] { name: String, host: String, project?: String, location?: String };
entity Fields tags Set<String>;
type Target = {
    exists: Bool,
    labels: Set<String>,
    tags: Set<String>,
    deletion_protection: Bool,
    created?: datetime,
    fields: Fields,
};
type Context = {
    method: String,
    host: String,
    port?: Long,
    path: String,
    query: Fields,
    body: Fields,
    unreadable: Bool,
    traits: Set<String>,
    contains: Set<String>,
    target: Target,
    size: { vcpus: Long, accelerators: Long, instances: Long },
    now: datetime,
};
";

/// The schema with every service, and those of `names` that are methods.
pub(super) fn for_people(names: impl Iterator<Item = String>, catalog: &Catalog) -> String {
    let methods = names.filter_map(|name| {
        let google = || Some(classify(&name, catalog.verb(&name)?));
        let groups = sql::ACTIONS.get(name.as_str()).copied().or_else(google)?;
        Some((name, groups))
    });
    let services = catalog.service_names();
    let named = Named {
        methods: methods.collect(),
        services: services
            .into_iter()
            .chain([POSTGRES])
            .map(str::to_owned)
            .collect(),
    };
    format!("{EXPLANATION}{}", named.schema(&Scope::Everything))
}

const EXPLANATION: &str = "\
// What Holdpoint's policies may name: Cedar schema, for people and editors. Holdpoint makes its own when it loads policies.
// Principal: \"ISSUER#SUBJECT\", in a Group for each group of its token; its other claims are tags.
// Resource: a full resource name (//sqladmin.googleapis.com/projects/p/instances/i), in its Project, its Host and every domain of
// that; or a host. Fields: the values of each query parameter, or of each field of a JSON body, as tags.
// Actions: groups (read, write, delete, iam, secret, runs-code; google: all of Google's; net: hosts), services (\"sql.*\"), and
// methods by their discovery ids. Only methods that the policies name are listed; \"any other ...\" stand for the rest.
";

/// The names of actions that a policy uses, beyond the fixed ones.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    pub(super) methods: BTreeMap<String, Groups>,
    pub(super) services: BTreeSet<String>,
}

/// The actions that a policy's head lets it be about.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    Everything,
    /// These, and what is in them.
    Within(BTreeSet<String>),
}

impl Scope {
    pub(super) fn of(head: &ActionConstraint) -> Self {
        let names = match head {
            ActionConstraint::Any => return Self::Everything,
            ActionConstraint::Eq(uid) => std::slice::from_ref(uid),
            ActionConstraint::In(uids) => uids,
        };
        Self::Within(names.iter().map(|uid| uid.eid.to_string()).collect())
    }

    fn includes(&self, action: &str, parents: &[&str]) -> bool {
        match self {
            Self::Everything => true,
            Self::Within(names) => {
                names.contains(action) || parents.iter().any(|parent| names.contains(*parent))
            }
        }
    }
}

impl Named {
    /// The schema, in Cedar's own syntax. Actions outside of `scope` are names only.
    pub(super) fn schema(&self, scope: &Scope) -> String {
        let mut text = Text {
            text: DECLARATIONS.to_owned(),
            scope,
        };
        for group in Group::ALL.into_iter().map(Group::name).chain([GOOGLE, NET]) {
            text.declare_group(group);
        }
        for own in OWN_ACTIONS {
            let parents: &[&str] = if own.starts_with("net.") { &[NET] } else { &[] };
            text.declare(own, parents);
        }
        for service in &self.services {
            text.declare_group(&format!("{service}.*"));
            self.declare_stand_ins(&mut text, Some(service));
        }
        self.declare_stand_ins(&mut text, None);
        for (method, groups) in &self.methods {
            let service = method.split('.').next().unwrap_or_default();
            self.declare_method(&mut text, method, *groups, Some(service));
        }
        text.text
    }

    fn declare_stand_ins(&self, text: &mut Text<'_>, service: Option<&str>) {
        let single = Group::ALL.into_iter().map(|group| Groups::of(&[group]));
        let sets = [Groups::default(), Groups::of(&Group::ALL)];
        for groups in single.chain(sets) {
            let name = format!("any other {} {groups:?}", service.unwrap_or_default());
            self.declare_method(text, &name, groups, service);
        }
    }

    fn declare_method(
        &self,
        text: &mut Text<'_>,
        name: &str,
        groups: Groups,
        service: Option<&str>,
    ) {
        let family = service
            .filter(|service| self.services.contains(*service))
            .map(|service| format!("{service}.*"));
        let mut parents: Vec<&str> = groups.iter().map(Group::name).collect();
        parents.extend(family.as_deref());
        if service != Some(POSTGRES) {
            parents.push(GOOGLE);
        }
        text.declare(name, &parents);
    }
}

struct Text<'a> {
    text: String,
    scope: &'a Scope,
}

impl Text<'_> {
    fn declare_group(&mut self, name: &str) {
        writeln!(self.text, "action {name:?};").expect("a string takes anything");
    }

    fn declare(&mut self, name: &str, parents: &[&str]) {
        let within = match parents {
            [] => String::new(),
            parents => format!(" in {parents:?}"),
        };
        let applies = match self.scope.includes(name, parents) {
            true => " appliesTo { principal: Principal, resource: Resource, context: Context }",
            false => "",
        };
        writeln!(self.text, "action {name:?}{within}{applies};").expect("a string takes anything");
    }
}
