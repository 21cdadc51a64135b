//! A principal and an operation, as Cedar sees them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
    Schema,
};
use jiff::Timestamp;

use super::vocabulary;
use crate::{
    identity::Principal,
    operation::{Content, Operation},
};

/// What Cedar is asked.
pub(super) struct Question {
    pub(super) request: Request,
    pub(super) entities: Entities,
}

impl Question {
    /// The question whether `principal` may do `operation` at this time; checked against `schema`, if there is one.
    ///
    /// # Errors
    /// When Cedar cannot represent it.
    pub(super) fn new(
        principal: &Principal,
        operation: &Operation,
        now: Option<Timestamp>,
        schema: Option<&Schema>,
    ) -> Represented<Self> {
        let who = principal_entity(principal)?;
        let what = action_entity(operation);
        let whom = resource_entity(operation)?;
        let query = fields_entity("query", &query_fields(operation))?;
        let none = BTreeMap::new();
        let body = fields_entity("body", body_fields(operation).unwrap_or(&none))?;
        let context = context(operation, now, query.uid(), body.uid())?;
        let request = Request::new(who.uid(), what.uid(), whom.uid(), context, schema)?;
        let entities = [who, what, whom, query, body];
        let entities = Entities::from_entities(entities, schema)?;
        Ok(Self { request, entities })
    }
}

macro_rules! entity_type {
    ($($constant:ident $name:literal)*) => {$(
        static $constant: LazyLock<EntityTypeName> =
            LazyLock::new(|| $name.parse().expect("the name is an identifier"));
    )*};
}

entity_type! {
    ACTION "Action"
    FIELDS "Fields"
    GROUP "Group"
    HOST "Host"
    PRINCIPAL "Principal"
    PROJECT "Project"
    RESOURCE "Resource"
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn texts<'a>(values: impl IntoIterator<Item = &'a str>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.into_iter().map(text))
}

/// Boxed: Cedar's errors are some hundred bytes.
type Represented<T> = Result<T, Box<dyn std::error::Error>>;

fn principal_entity(principal: &Principal) -> Represented<Entity> {
    Ok(Entity::new_with_tags(
        uid(&PRINCIPAL, &principal.name()),
        [
            ("issuer".to_owned(), text(&principal.issuer)),
            ("subject".to_owned(), text(&principal.subject)),
        ],
        principal.groups.iter().map(|group| uid(&GROUP, group)),
        principal
            .claims
            .iter()
            .map(|(claim, value)| (claim.clone(), text(value))),
    )?)
}

fn action_entity(operation: &Operation) -> Entity {
    let names = vocabulary::names_of(&operation.action);
    let parents = names[1..].iter().map(|name| uid(&ACTION, name));
    Entity::new_no_attrs(uid(&ACTION, operation.action.id()), parents.collect())
}

fn resource_entity(operation: &Operation) -> Represented<Entity> {
    let resource = &operation.resource;
    let optional = [
        ("project", &resource.project),
        ("location", &resource.location),
    ];
    let optional = optional
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), text(value.as_deref()?))));
    let attributes = [
        ("name".to_owned(), text(&resource.name)),
        ("host".to_owned(), text(&operation.host)),
    ];
    let project = resource.project.iter().map(|id| uid(&PROJECT, id));
    let hosts = domains(&operation.host).map(|domain| uid(&HOST, domain));
    Ok(Entity::new_with_tags(
        uid(&RESOURCE, &resource.name),
        attributes.into_iter().chain(optional),
        project.chain(hosts),
        [],
    )?)
}

/// The host and the domains it is in: `api.example.com`, `example.com`, `com`. Whole labels only, so that
/// `evil-example.com` is not in `example.com`.
fn domains(host: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(host), |domain| {
        domain.split_once('.').map(|(_, rest)| rest)
    })
    .filter(|domain| !domain.is_empty())
}

fn query_fields(operation: &Operation) -> BTreeMap<String, BTreeSet<String>> {
    let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, value) in &operation.query {
        fields
            .entry(name.clone())
            .or_default()
            .insert(value.clone());
    }
    fields
}

fn body_fields(operation: &Operation) -> Option<&BTreeMap<String, BTreeSet<String>>> {
    match &operation.content {
        Content::Fields(fields) => Some(&fields.0),
        Content::Media { metadata, .. } => Some(&metadata.0),
        Content::Empty | Content::Unreadable(_) => None,
    }
}

fn fields_entity(id: &str, fields: &BTreeMap<String, BTreeSet<String>>) -> Represented<Entity> {
    let tags = fields
        .iter()
        .map(|(path, values)| (path.clone(), texts(values.iter().map(String::as_str))));
    Ok(Entity::new_with_tags(uid(&FIELDS, id), [], [], tags)?)
}

fn context(
    operation: &Operation,
    now: Option<Timestamp>,
    query: EntityUid,
    body: EntityUid,
) -> Represented<Context> {
    let readable = !matches!(operation.content, Content::Unreadable(_));
    let traits = operation.traits.iter().map(|known| known.name());
    let port = operation
        .port
        .map(|port| ("port", RestrictedExpression::new_long(port.into())));
    let size = &operation.size;
    let size = [
        ("vcpus", size.vcpus),
        ("accelerators", size.accelerators),
        ("instances", size.instances),
    ];
    let size = size.map(|(name, count)| {
        let count = RestrictedExpression::new_long(count.into());
        (name.to_owned(), count)
    });
    // Milliseconds: Cedar knows no finer time.
    let now = now.map(|now| {
        let text = now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        ("now", RestrictedExpression::new_datetime(text))
    });
    let pairs = [
        ("method", text(&operation.method)),
        ("host", text(&operation.host)),
        ("path", text(&operation.path)),
        ("query", RestrictedExpression::new_entity_uid(query)),
        ("body", RestrictedExpression::new_entity_uid(body)),
        ("readable", RestrictedExpression::new_bool(readable)),
        ("traits", texts(traits)),
        ("size", RestrictedExpression::new_record(size)?),
    ];
    let pairs = pairs.into_iter().chain(port).chain(now);
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
    Ok(Context::from_pairs(pairs)?)
}

#[cfg(test)]
mod tests {
    use super::domains;

    #[test]
    fn a_host_is_in_its_domains_and_in_no_other() {
        let of = |host| domains(host).collect::<Vec<_>>();
        assert_eq!(
            of("api.example.com"),
            ["api.example.com", "example.com", "com"]
        );
        assert_eq!(of("evil-example.com"), ["evil-example.com", "com"]);
        assert_eq!(of(""), [""; 0]);
    }
}
