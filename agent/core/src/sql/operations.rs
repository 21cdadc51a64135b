//! From effects to operations, one for each: what policy decides on and an approval binds.

use std::collections::{BTreeMap, BTreeSet};

use super::{Database, Effect, Name, Parameter, Resolved, Statement, actions};
use crate::{
    digest::Digest,
    fields::Fields,
    operation::{Action, Content, Operation, Resource, Size, Trait},
    target::Target,
};

/// The fields of an operation's content. `reason` is why it is opaque.
pub const FIELDS: [&str; 7] = [
    "statement",
    "relation",
    "function",
    "parameter",
    "reason",
    "user",
    "database",
];

/// One operation for each effect, all of which are to be admitted together or not at all.
///
/// `text` is the whole text that the statement stands in: it is what the digest binds. The content has those of the [`FIELDS`] that there is something in.
#[must_use]
pub fn operations(
    at: &Database,
    text: &str,
    statement: &Statement,
    resolved: &Resolved,
    parameters: &[Parameter],
    in_transaction: bool,
) -> Vec<Operation> {
    let own = text.get(statement.span.clone()).unwrap_or(text);
    let said = Said {
        at,
        text,
        own,
        place: statement.span.start,
        functions: statement
            .names
            .functions
            .iter()
            .flat_map(spellings)
            .collect(),
        parameters,
        in_transaction,
    };
    resolved
        .effects
        .iter()
        .map(|it| said.operation(it))
        .collect()
}

/// What all effects of a statement have in common.
struct Said<'a> {
    at: &'a Database,
    text: &'a str,
    own: &'a str,
    place: usize,
    functions: BTreeSet<String>,
    parameters: &'a [Parameter],
    in_transaction: bool,
}

impl Said<'_> {
    fn operation(&self, effect: &Effect) -> Operation {
        let at = self.at;
        Operation {
            action: Action::new(effect.action, actions::groups(effect.action)),
            resource: self.resource(effect.relation.as_ref()),
            method: String::new(),
            host: at.host.clone(),
            port: Some(at.port),
            path: format!("/{}/{}", at.entry, at.database),
            query: Vec::new(),
            content: Content::Fields(self.fields(effect)),
            json: None,
            target: Target::NotLookedUp,
            traits: self.traits(effect),
            size: Size::default(),
            answers_media: false,
            contains: None,
            digest: self.digest(effect),
        }
    }

    fn resource(&self, relation: Option<&Name>) -> Resource {
        let at = self.at;
        let mut parts = at.instance.as_deref().unwrap_or_default().rsplitn(3, ':');
        let (instance, region, project) = (parts.next(), parts.next(), parts.next());
        let mut name = match (project, instance) {
            (Some(project), Some(instance)) => {
                format!("//sqladmin.googleapis.com/projects/{project}/instances/{instance}")
            }
            _ => format!("//{}:{}", at.host, at.port),
        };
        name.push_str(&format!("/databases/{}", at.database));
        if let Some(relation) = relation {
            if let Some(schema) = &relation.schema {
                name.push_str(&format!("/schemas/{schema}"));
            }
            name.push_str(&format!("/relations/{}", relation.name));
        }
        Resource {
            name,
            project: project.map(str::to_owned),
            location: project.and(region).map(str::to_owned),
        }
    }

    fn traits(&self, effect: &Effect) -> BTreeSet<Trait> {
        let all = [
            (effect.opaque.is_some(), Trait::Opaque),
            (effect.without_where, Trait::WithoutWhere),
            (self.in_transaction, Trait::InTransaction),
        ];
        let those = all.into_iter().filter(|(is, _)| *is);
        those.map(|(_, it)| it).collect()
    }

    fn fields(&self, effect: &Effect) -> Fields {
        let one = |value: &str| BTreeSet::from([value.to_owned()]);
        let relation = effect.relation.iter().flat_map(spellings).collect();
        let parameters = self.parameters.iter().filter_map(shown).collect();
        let all: BTreeMap<String, BTreeSet<String>> = [
            ("statement", one(self.own.trim())),
            ("relation", relation),
            ("function", self.functions.clone()),
            ("parameter", parameters),
            ("reason", effect.opaque.iter().cloned().collect()),
            ("user", one(&self.at.user)),
            ("database", one(&self.at.database)),
        ]
        .into_iter()
        .filter(|(_, values): &(_, BTreeSet<String>)| !values.is_empty())
        .map(|(name, values)| (name.to_owned(), values))
        .collect();
        Fields(all)
    }

    fn digest(&self, effect: &Effect) -> Digest {
        let place = self.place.to_string();
        let relation = effect.relation.as_ref().map(ToString::to_string);
        let numbers: Vec<_> = self
            .parameters
            .iter()
            .map(|it| {
                let null = it.value.is_none();
                format!("{} {} {null}", it.type_oid, it.format)
            })
            .collect();
        let mut parts: Vec<&[u8]> = vec![
            b"postgres",
            self.at.entry.as_bytes(),
            self.at.database.as_bytes(),
            self.at.user.as_bytes(),
            self.text.as_bytes(),
            place.as_bytes(),
            effect.action.as_bytes(),
            relation.as_deref().unwrap_or_default().as_bytes(),
        ];
        for (parameter, numbers) in self.parameters.iter().zip(&numbers) {
            parts.push(numbers.as_bytes());
            parts.push(parameter.value.as_deref().unwrap_or_default());
        }
        Digest::of(&parts)
    }
}

/// `schema.name` and `name`, so that a policy may say either.
fn spellings(name: &Name) -> BTreeSet<String> {
    [name.name.clone(), name.to_string()].into()
}

/// A parameter as text; binary ones in hexadecimal, as a `bytea` is written.
fn shown(parameter: &Parameter) -> Option<String> {
    let value = parameter.value.as_deref()?;
    match (parameter.format, std::str::from_utf8(value)) {
        (0, Ok(text)) => Some(text.to_owned()),
        _ => Some(format!("\\x{}", hex::encode(value))),
    }
}
