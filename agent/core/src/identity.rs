//! Who a session acts for.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The verified identity behind a session, from an OIDC token (OpenID Connect Core 1.0, section 2).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Principal {
    /// The `iss` claim, as the issuer spells it.
    pub issuer: String,
    /// The `sub` claim: unique within the issuer.
    pub subject: String,
    /// Values of the configured groups claim.
    pub groups: BTreeSet<String>,
    /// Other string, number and boolean claims, as text. Policies and reviewers see these.
    pub claims: BTreeMap<String, String>,
}

impl Principal {
    /// The name that policies, records and reviewers use: `issuer#subject`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}#{}", self.issuer, self.subject)
    }
}
