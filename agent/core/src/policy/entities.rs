//! A principal and an operation, as Cedar sees them.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
    Schema,
};
use jiff::Timestamp;

use super::{
    Terms,
    asked::{CONTAINS, TARGET, UNREADABLE},
    index::Party,
    kept::Kept,
    matter::Matter,
    reads::{IN, Reads},
    schema::OF_RESOURCE,
    vocabulary,
};
use crate::{
    identity::Principal,
    operation::{Action, Content, Operation, Size},
    target::Attributes,
};

/// What Cedar is asked.
pub(super) struct Question {
    pub(super) request: Request,
    pub(super) entities: Entities,
}

impl Question {
    /// The question whether `who` may do `operation`, with what `reads` names of it; checked against `schema`, if there is one.
    ///
    /// # Errors
    /// When Cedar cannot represent it.
    pub(super) fn new(
        who: &Person,
        what: &Party,
        whom: &Party,
        operation: &Operation,
        now: Option<Timestamp>,
        reads: Reads,
        schema: Option<&Schema>,
    ) -> Represented<Self> {
        let related = reads.has(IN);
        let mut entities = Vec::new();
        if related {
            entities.push(action(what));
        }
        if related || OF_RESOURCE.into_iter().any(|name| reads.has(name)) {
            entities.push(resource(whom, operation, reads)?);
        }
        let context = context(operation, now, reads, &mut entities)?;
        let person = match related {
            true => &who.related,
            false => &who.alone,
        };
        let [own, what, whom] = [&who.party, what, whom].map(|party| party.uids[0].clone());
        Ok(Self {
            request: Request::new(own, what, whom, context, schema)?,
            entities: match entities.is_empty() {
                true => person.clone(),
                false => person.clone().add_entities(entities, schema)?,
            },
        })
    }

    /// The same, with everything there is to it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn whole(
        principal: &Principal,
        operation: &Operation,
        now: Option<Timestamp>,
        schema: Option<&Schema>,
    ) -> Represented<Self> {
        let party = Party::whole(&principal_names(principal));
        let who = Person::new(party, principal, schema)?;
        let what = Party::whole(&action_names(&operation.action));
        let whom = Party::whole(&resource_names(operation));
        Self::new(
            &who,
            &what,
            &whom,
            operation,
            now,
            Reads::EVERYTHING,
            schema,
        )
    }
}

/// A principal, as Cedar sees it.
pub(super) struct Person {
    pub(super) party: Party,
    /// What it may do whatever else there is to it.
    pub(super) standing: Kept<Matter, Terms>,
    /// It, and what it is in.
    related: Entities,
    alone: Entities,
}

impl Person {
    /// `principal`, whose [`principal_names`] are those of `party`; checked against `schema`, if there is one.
    ///
    /// # Errors
    /// When Cedar cannot represent it.
    pub(super) fn new(
        party: Party,
        principal: &Principal,
        schema: Option<&Schema>,
    ) -> Represented<Self> {
        let claims = principal.claims.iter();
        let claims: Vec<_> = claims.map(|(claim, value)| (claim, text(value))).collect();
        let within = |parents: &[EntityUid]| -> Represented<Entities> {
            let entity = Entity::new_with_tags(
                party.uids[0].clone(),
                [
                    ("issuer".to_owned(), text(&principal.issuer)),
                    ("subject".to_owned(), text(&principal.subject)),
                ],
                parents.iter().cloned(),
                claims
                    .iter()
                    .map(|(claim, value)| ((*claim).clone(), value.clone())),
            )?;
            Ok(Entities::from_entities([entity], schema)?)
        };
        Ok(Self {
            related: within(&party.uids[1..])?,
            alone: within(&[])?,
            standing: Kept::default(),
            party,
        })
    }
}

/// What an entity is called.
pub(super) struct Name<'a> {
    pub(super) kind: Kind,
    pub(super) id: Cow<'a, str>,
}

impl<'a> Name<'a> {
    fn new(kind: Kind, id: impl Into<Cow<'a, str>>) -> Self {
        let id = id.into();
        Self { kind, id }
    }

    pub(super) fn uid(&self) -> EntityUid {
        uid(self.kind.entity_type(), &self.id)
    }
}

/// A principal, then its groups.
pub(super) fn principal_names(principal: &Principal) -> Vec<Name<'_>> {
    let groups = principal.groups.iter();
    let groups = groups.map(|group| Name::new(Kind::Group, group.as_str()));
    let own = Name::new(Kind::Principal, principal.name());
    std::iter::once(own).chain(groups).collect()
}

/// An action, then the groups it is in.
pub(super) fn action_names(action: &Action) -> Vec<Name<'_>> {
    let names = vocabulary::names_of(action).into_iter();
    names.map(|name| Name::new(Kind::Action, name)).collect()
}

/// A resource, then its project, its host and the domains of that.
pub(super) fn resource_names(operation: &Operation) -> Vec<Name<'_>> {
    let resource = &operation.resource;
    let project = resource.project.as_deref();
    let hosts = domains(&operation.host).map(|domain| Name::new(Kind::Host, domain));
    std::iter::once(Name::new(Kind::Resource, resource.name.as_str()))
        .chain(project.map(|id| Name::new(Kind::Project, id)))
        .chain(hosts)
        .collect()
}

macro_rules! kinds {
    ($($kind:ident)*) => {
        /// The types of entities that are asked about, and of what they are in.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Kind {
            $($kind),*
        }

        impl Kind {
            pub(super) const ALL: [Self; [$(stringify!($kind)),*].len()] = [$(Self::$kind),*];

            fn entity_type(self) -> &'static EntityTypeName {
                match self {
                    $(Self::$kind => {
                        static NAME: LazyLock<EntityTypeName> = LazyLock::new(|| type_name(stringify!($kind)));
                        &NAME
                    })*
                }
            }
        }
    };
}

kinds! { Action Group Host Principal Project Resource }

impl Kind {
    pub(super) fn of(uid: &EntityUid) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.entity_type() == uid.type_name())
    }
}

/// The type of `context.body`, `context.query` and a target's fields.
static FIELDS: LazyLock<EntityTypeName> = LazyLock::new(|| type_name("Fields"));

fn type_name(name: &str) -> EntityTypeName {
    name.parse().expect("the name is an identifier")
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
pub(super) type Represented<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn action(party: &Party) -> Entity {
    let uids = &party.uids;
    Entity::new_no_attrs(uids[0].clone(), uids[1..].iter().cloned().collect())
}

fn resource(party: &Party, operation: &Operation, reads: Reads) -> Represented<Entity> {
    let uids = &party.uids;
    let resource = &operation.resource;
    let attributes = [
        ("name", Some(resource.name.as_str())),
        ("host", Some(operation.host.as_str())),
        ("project", resource.project.as_deref()),
        ("location", resource.location.as_deref()),
    ];
    let attributes = attributes
        .into_iter()
        .filter(|(name, _)| reads.has(name))
        .filter_map(|(name, value)| Some((name.to_owned(), text(value?))));
    let parents = uids[1..].iter().cloned();
    Ok(Entity::new_with_tags(
        uids[0].clone(),
        attributes,
        parents,
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

/// The attributes of `context`, as `schema.rs` declares them. Entities they are made of go to `entities`.
fn context(
    operation: &Operation,
    now: Option<Timestamp>,
    reads: Reads,
    entities: &mut Vec<Entity>,
) -> Represented<Context> {
    let mut pairs = Vec::new();
    let mut add = |name: &str, value: &dyn Fn() -> RestrictedExpression| {
        if reads.has(name) {
            pairs.push((name.to_owned(), value()));
        }
    };
    add("method", &|| text(&operation.method));
    add("host", &|| text(&operation.host));
    add("path", &|| text(&operation.path));
    if let Some(port) = operation.port {
        add("port", &|| RestrictedExpression::new_long(port.into()));
    }
    add(UNREADABLE, &|| {
        RestrictedExpression::new_bool(matches!(operation.content, Content::Unreadable(_)))
    });
    add("traits", &|| {
        texts(operation.traits.iter().map(|known| known.name()))
    });
    // Without it a policy that asks for it fails, and what fails denies.
    if let Some(found) = &operation.contains {
        add(CONTAINS, &|| texts(found.iter().map(String::as_str)));
    }
    if let Some(now) = now {
        add("now", &|| {
            // Milliseconds: Cedar knows no finer time.
            let text = now.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
            RestrictedExpression::new_datetime(text)
        });
    }
    if reads.has("size") {
        let size = size(&operation.size)?;
        add("size", &|| size.clone());
    }
    for (name, fields) in [
        ("query", query_fields as fn(&Operation) -> Cow<'_, Texts>),
        ("body", body_fields),
    ] {
        let uid = uid(&FIELDS, name);
        add(name, &|| RestrictedExpression::new_entity_uid(uid.clone()));
        if reads.has(name) {
            entities.push(fields_entity(uid, &fields(operation))?);
        }
    }
    // Without it a policy that asks for it fails, and what fails denies.
    if let Some(found) = operation.target.attributes()
        && reads.has(TARGET)
    {
        let uid = uid(&FIELDS, TARGET);
        pairs.push((TARGET.to_owned(), target_record(found, uid.clone())?));
        entities.push(fields_entity(uid, &found.fields.0)?);
    }
    Ok(Context::from_pairs(pairs)?)
}

fn size(size: &Size) -> Represented<RestrictedExpression> {
    let parts = [
        ("vcpus", size.vcpus),
        ("accelerators", size.accelerators),
        ("instances", size.instances),
    ];
    let parts = parts.map(|(name, count)| {
        let count = RestrictedExpression::new_long(count.into());
        (name.to_owned(), count)
    });
    Ok(RestrictedExpression::new_record(parts)?)
}

type Texts = BTreeMap<String, BTreeSet<String>>;

fn query_fields(operation: &Operation) -> Cow<'_, Texts> {
    let mut fields = Texts::new();
    for (name, value) in &operation.query {
        let values = fields.entry(name.clone()).or_default();
        values.insert(value.clone());
    }
    Cow::Owned(fields)
}

fn body_fields(operation: &Operation) -> Cow<'_, Texts> {
    match &operation.content {
        Content::Fields(fields) => Cow::Borrowed(&fields.0),
        Content::Media { metadata, .. } => Cow::Borrowed(&metadata.0),
        Content::Empty | Content::Unreadable(_) => Cow::Owned(Texts::new()),
    }
}

fn fields_entity(uid: EntityUid, fields: &Texts) -> Represented<Entity> {
    let tags = fields
        .iter()
        .map(|(path, values)| (path.clone(), texts(values.iter().map(String::as_str))));
    Ok(Entity::new_with_tags(uid, [], [], tags)?)
}

fn target_record(found: &Attributes, fields: EntityUid) -> Represented<RestrictedExpression> {
    let labels: Vec<_> = found.label_pairs().collect();
    let pairs = [
        ("exists", RestrictedExpression::new_bool(found.exists)),
        ("labels", texts(labels.iter().map(String::as_str))),
        ("tags", texts(found.tags.iter().map(String::as_str))),
        (
            "deletion_protection",
            RestrictedExpression::new_bool(found.deletion_protection),
        ),
        ("fields", RestrictedExpression::new_entity_uid(fields)),
    ];
    // Milliseconds: Cedar knows no finer time.
    let created = found.created.map(|created| {
        let text = created.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        ("created", RestrictedExpression::new_datetime(text))
    });
    let pairs = pairs.into_iter().chain(created);
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value));
    Ok(RestrictedExpression::new_record(pairs)?)
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
