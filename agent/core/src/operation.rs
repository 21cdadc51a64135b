//! One thing asked for: an action on a resource, with the exact content that asks for it.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    digest::Digest,
    fields::{Fields, Json},
    groups::{Group, Groups},
    resolvers,
    target::Target,
};

/// The name of what is done, in its field's own terms: a Google discovery method id such as
/// `sql.instances.delete`, `google.unknown`, `net.connect` or `net.resolve`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Action {
    id: Arc<str>,
    groups: Groups,
}

impl Action {
    /// What is not recognised on a Google host. Policies deny it unless they name it.
    pub const UNKNOWN: &'static str = "google.unknown";
    /// A connection to a host that Holdpoint passes through unopened.
    pub const NET_CONNECT: &'static str = "net.connect";
    /// A name that a client wants resolved.
    pub const NET_RESOLVE: &'static str = "net.resolve";

    /// An action that the catalog, or one of the constants above, names.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>, groups: Groups) -> Self {
        Self {
            id: id.into(),
            groups,
        }
    }

    /// `google.unknown`: in no group, so that only a policy that names it can allow it.
    #[must_use]
    pub fn unknown() -> Self {
        Self::new(Self::UNKNOWN, Groups::default())
    }

    /// The id, for example `compute.instances.delete`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The service: what stands before the first dot of the id.
    #[must_use]
    pub fn service(&self) -> &str {
        self.id.split('.').next().unwrap_or_default()
    }

    /// The groups that policies may name.
    #[must_use]
    pub fn groups(&self) -> Groups {
        self.groups
    }

    /// Whether carrying it out may change anything. Whatever is not known to be a read may.
    #[must_use]
    pub fn mutates(&self) -> bool {
        self.groups != Groups::of(&[Group::Read])
            && self.groups != Groups::of(&[Group::Read, Group::Secret])
    }
}

/// What the action is done to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The full resource name, for example `//sqladmin.googleapis.com/projects/p/instances/i`
    /// (<https://cloud.google.com/apis/design/resource_names>), or a host name.
    pub name: String,
    /// The Google project the name lies in, where the name says so. May be a number.
    pub project: Option<String>,
    /// The zone, region or location, where the name says so.
    pub location: Option<String>,
}

/// The content of a request's body, as far as policy can see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// No body.
    Empty,
    /// Read whole and understood.
    Fields(Fields),
    /// Object media; `metadata` is what precedes it in a multipart upload. `complete` tells
    /// whether all of it was there to be digested.
    Media {
        /// The fields of the JSON part, empty where there is none.
        metadata: Fields,
        /// False when only the beginning was read.
        complete: bool,
    },
    /// There is a body, and it could not be read; the text says why.
    Unreadable(String),
}

/// Facts about a request that matter to policy and that no single field shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trait {
    /// Lets the whole internet in: a firewall or an authorised network that covers `0.0.0.0/0` or `::/0`,
    /// however it is spelled, a default included.
    OpenToInternet,
    /// Grants something to `allUsers` or `allAuthenticatedUsers`, as a binding, an ACL or a predefined ACL.
    PublicAccess,
    /// The host is one that the service in whose sandbox this happens needs for itself: a runner's way to its jobs.
    OwnHost,
    /// Goes to a resolver that is asked over TLS or HTTPS: a well-known one, or port 853.
    PublicResolver,
    /// It cannot be told what a SQL statement does.
    Opaque,
    /// An UPDATE or DELETE of every row.
    WithoutWhere,
    /// In a transaction that an earlier statement began: whatever that locked stays locked meanwhile.
    InTransaction,
}

impl Trait {
    /// Every trait.
    pub const ALL: [Self; 7] = [
        Self::OpenToInternet,
        Self::PublicAccess,
        Self::PublicResolver,
        Self::OwnHost,
        Self::Opaque,
        Self::WithoutWhere,
        Self::InTransaction,
    ];

    /// The trait of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// The name in policies: `context.traits.contains("public-access")`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenToInternet => "open-to-internet",
            Self::PublicAccess => "public-access",
            Self::OwnHost => "own-host",
            Self::PublicResolver => "public-resolver",
            Self::Opaque => "opaque",
            Self::WithoutWhere => "without-where",
            Self::InTransaction => "in-transaction",
        }
    }
}

/// More than any limit: what counts as [`Size`] where the number cannot be told.
pub const TOO_MANY: u32 = 1_000_000;

/// How much a request asks for, at most [`TOO_MANY`] of each; nothing where it is about no such thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Processors of the largest machine.
    pub vcpus: u32,
    /// GPUs and TPUs of one machine.
    pub accelerators: u32,
    /// Machines, the largest number that stands in it; 0 where none does, which usually means one.
    pub instances: u32,
}

impl Size {
    /// The larger of each.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            vcpus: self.vcpus.max(other.vcpus),
            accelerators: self.accelerators.max(other.accelerators),
            instances: self.instances.max(other.instances),
        }
    }
}

/// One thing asked for. Everything that a policy may ask about and that an approval binds.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What is done.
    pub action: Action,
    /// What it is done to.
    pub resource: Resource,
    /// The effective HTTP verb: after `X-HTTP-Method-Override`. Empty for `net.*` and SQL.
    pub method: String,
    /// The host asked, lower case, without port and trailing dot.
    pub host: String,
    /// The TCP port, for `net.connect` and SQL.
    pub port: Option<u16>,
    /// The path as sent.
    pub path: String,
    /// The query, decoded, in the order sent.
    pub query: Vec<(String, String)>,
    /// The body.
    pub content: Content,
    /// The body as it was read, where it has fields.
    pub json: Option<Arc<Json>>,
    /// What it is about, as that is now: not part of what is asked for, and not in the digest.
    pub target: Target,
    /// What policy should know and no single field says.
    pub traits: BTreeSet<Trait>,
    /// How much is asked for.
    pub size: Size,
    /// Whether what is answered is an object's content, where nothing goes wrong.
    pub answers_media: bool,
    /// The kinds of secrets and personal data that it carries out, by the names of what detects them, with the sets those are in
    /// ([`crate::contains`]). `None`: nobody has looked, so that a policy that asks fails. Not in the digest.
    pub contains: Option<BTreeSet<String>>,
    /// The digest of the canonical operation: what an approval is bound to. The principal is not in it;
    /// whoever stores an approval binds it to the principal as well.
    pub digest: Digest,
}

impl Operation {
    /// Whether it is a statement's, said to a database.
    #[must_use]
    pub fn is_sql(&self) -> bool {
        self.method.is_empty() && self.action.id().starts_with("postgres.")
    }

    /// An operation on a host rather than on a Google resource; `action` is one of `net.*`.
    #[must_use]
    pub fn on_host(action: &'static str, host: &str, port: Option<u16>) -> Self {
        let resolver = resolvers::is_public(host, port).then_some(Trait::PublicResolver);
        let port_text = port.map(|port| port.to_string()).unwrap_or_default();
        Self {
            action: Action::new(action, Groups::default()),
            resource: Resource {
                name: host.to_owned(),
                ..Resource::default()
            },
            method: String::new(),
            host: host.to_owned(),
            port,
            path: String::new(),
            query: Vec::new(),
            content: Content::Empty,
            json: None,
            target: Target::NotLookedUp,
            traits: resolver.into_iter().collect(),
            size: Size::default(),
            answers_media: false,
            // What is passed through unopened is not looked into.
            contains: Some(BTreeSet::new()),
            digest: Digest::of(&[action.as_bytes(), host.as_bytes(), port_text.as_bytes()]),
        }
    }

    /// Whether its whole content is known, so that a person can be asked about it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !matches!(
            self.content,
            Content::Media {
                complete: false,
                ..
            } | Content::Unreadable(_)
        )
    }
}
