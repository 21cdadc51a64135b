//! The Cedar schema that policies are validated against.
//!
//! A schema with all 28 thousand Google methods takes most of a second to parse, so that each set of policies gets one
//! of its own: with the methods and services it names, and stand-ins for all the others, one for each combination that
//! a policy can tell apart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::vocabulary::{GOOGLE, NET, OWN_ACTIONS};
use crate::groups::{Group, Groups};

const TYPES: &str = r"
entity Group;
entity Project;
entity Host;
entity Principal in [Group] { issuer: String, subject: String } tags String;
entity Resource in [Project, Host] { name: String, host: String, project?: String, location?: String };
entity Fields tags Set<String>;
type Context = {
    method: String,
    host: String,
    port?: Long,
    path: String,
    query: Fields,
    body: Fields,
    readable: Bool,
    traits: Set<String>,
    size: { vcpus: Long, accelerators: Long, instances: Long },
    now: datetime,
};
";

/// The names of actions that a set of policies uses, beyond the fixed ones.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) methods: BTreeMap<String, Groups>,
    pub(super) services: BTreeSet<String>,
}

impl Named {
    /// The schema, in Cedar's own syntax.
    pub(super) fn schema(&self) -> String {
        let mut text = TYPES.to_owned();
        for group in Group::ALL.into_iter().map(Group::name).chain([GOOGLE, NET]) {
            declare_group(&mut text, group);
        }
        for own in OWN_ACTIONS {
            let parents: &[&str] = if own.starts_with("net.") { &[NET] } else { &[] };
            declare(&mut text, own, parents);
        }
        for service in &self.services {
            declare_group(&mut text, &format!("{service}.*"));
            self.declare_stand_ins(&mut text, Some(service));
        }
        self.declare_stand_ins(&mut text, None);
        for (method, groups) in &self.methods {
            let service = method.split('.').next().unwrap_or_default();
            self.declare_method(&mut text, method, *groups, Some(service));
        }
        text
    }

    fn declare_stand_ins(&self, text: &mut String, service: Option<&str>) {
        let single = Group::ALL.into_iter().map(|group| Groups::of(&[group]));
        let sets = [Groups::default(), Groups::of(&Group::ALL)];
        for groups in single.chain(sets) {
            let name = format!("any other {} {groups:?}", service.unwrap_or_default());
            self.declare_method(text, &name, groups, service);
        }
    }

    fn declare_method(&self, text: &mut String, name: &str, groups: Groups, service: Option<&str>) {
        let family = service
            .filter(|service| self.services.contains(*service))
            .map(|service| format!("{service}.*"));
        let mut parents: Vec<&str> = groups.iter().map(Group::name).collect();
        parents.extend(family.as_deref());
        parents.push(GOOGLE);
        declare(text, name, &parents);
    }
}

fn declare_group(text: &mut String, name: &str) {
    writeln!(text, "action {name:?};").expect("a string takes anything");
}

fn declare(text: &mut String, name: &str, parents: &[&str]) {
    let within = match parents {
        [] => String::new(),
        parents => format!(" in {parents:?}"),
    };
    writeln!(
        text,
        "action {name:?}{within} appliesTo {{ principal: Principal, resource: Resource, context: Context }};"
    )
    .expect("a string takes anything");
}
