//! What a decision hangs on where no policy that may be about an operation looks at its details: such a decision counts for as long as its
//! policies do.

use std::collections::BTreeSet;

use super::{
    asked::UNREADABLE,
    reads::{IN, Reads},
};
use crate::operation::{Action, Content, Operation, Trait};

/// The attributes that [`Matter`] has all of.
const TOLD: [&str; 7] = [
    "host", "name", "project", "location", "traits", UNREADABLE, IN,
];

/// An operation without its details. With a principal, it says which policies may be about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Matter {
    action: Action,
    resource: String,
    project: Option<String>,
    location: Option<String>,
    host: String,
    traits: BTreeSet<Trait>,
    unreadable: bool,
}

impl Matter {
    pub(super) fn of(operation: &Operation) -> Self {
        let resource = &operation.resource;
        Self {
            action: operation.action.clone(),
            resource: resource.name.clone(),
            project: resource.project.clone(),
            location: resource.location.clone(),
            host: operation.host.clone(),
            traits: operation.traits.clone(),
            unreadable: matches!(operation.content, Content::Unreadable(_)),
        }
    }

    /// Whether policies that read this see no more of an operation than it has.
    pub(super) fn tells(reads: Reads) -> bool {
        reads.only(&TOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_what_the_resource_is_and_nothing_that_changes() {
        let reads = |condition: &str| {
            let text = format!("permit(principal, action, resource) when {{ {condition} }};");
            let policy: cedar_policy::Policy = text.parse().expect("a policy");
            Reads::of(policy.to_pst().expect("any has one").body())
        };
        for told in [
            "true",
            "resource.name like \"*x\" && resource.host == \"h\"",
            "resource has project && resource has location",
            "context.traits.contains(\"opaque\") || context.unreadable",
            "principal.getTag(\"repository\") == \"r\"",
            "resource in Project::\"p\" && action in Action::\"read\"",
        ] {
            assert!(Matter::tells(reads(told)), "{told}");
        }
        for not_told in [
            "context.body.hasTag(\"statement\")",
            "context.query.hasTag(\"q\")",
            "context.method == \"GET\"",
            "context.path == \"/\"",
            "context.port == 5432",
            "context.size.vcpus > 1",
            "context has target && context.target.exists",
            "context.contains.contains(\"pii\")",
            "context.now > datetime(\"2026-01-01\")",
            "context == context",
        ] {
            assert!(!Matter::tells(reads(not_told)), "{not_told}");
        }
    }
}
