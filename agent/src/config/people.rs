//! Whose tokens count, and who may answer what is held.

use std::{collections::BTreeMap, path::PathBuf};

use holdpoint_core::identity::Principal;
use serde::Deserialize;

/// One OIDC issuer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The `iss` of its tokens, to the letter; its discovery document is under `/.well-known/openid-configuration`.
    pub url: String,
    /// The `aud` its tokens must carry.
    pub audience: String,
    /// Signature algorithms accepted (RFC 7518 names). Asymmetric ones only.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// The claim that lists groups (an array of strings, or one string).
    pub groups_claim: Option<String>,
    /// PEM file of CA certificates to trust for this issuer instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Only of a reviewer's issuer: this client of it lets reviewers sign in with a browser ([`super::Answers`]).
    pub client_id: Option<String>,
    /// The file with that client's secret, if it has one. `${CREDENTIALS_DIRECTORY}` at its start stands for systemd's.
    pub client_secret_file: Option<PathBuf>,
}

/// Who may answer for one reviewer group.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reviewers {
    /// Unix groups whose members may.
    #[serde(default)]
    pub unix_groups: Vec<String>,
    /// Unix users who may.
    #[serde(default)]
    pub users: Vec<String>,
    /// People who may, as an OIDC issuer knows them, once they have shown a token of theirs (`holdpoint login`).
    #[serde(default)]
    pub oidc: Vec<People>,
}

/// Some of the people an OIDC issuer knows: those of whom one of these is true.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// The issuer, one of the [[reviewer_issuer]]s.
    pub issuer: String,
    /// They are in one of these groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Their `sub` is one of these.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// They have all of these claims.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
}

impl People {
    /// Whether this is one of them.
    #[must_use]
    pub fn include(&self, person: &Principal) -> bool {
        let has = |(name, value)| person.claims.get(name) == Some(value);
        self.issuer == person.issuer
            && (self.groups.iter().any(|it| person.groups.contains(it))
                || self.subjects.contains(&person.subject)
                || (!self.claims.is_empty() && self.claims.iter().all(has)))
    }
}

/// What people may do with what is held.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApprovalSettings {
    /// The reviewer group whose members may approve anything alone, with a reason.
    pub break_glass: Option<String>,
    /// Claims of a session's token, and of a reviewer's, that name a person: nobody answers for themselves by another user.
    pub owner_claims: Vec<String>,
    /// How long a grant may last, in seconds.
    pub max_grant_seconds: u64,
}

impl Default for ApprovalSettings {
    fn default() -> Self {
        let claims = [
            "email",
            "user_email",
            "preferred_username",
            "upn",
            "actor",
            "user_login",
        ];
        Self {
            break_glass: None,
            owner_claims: claims.map(str::to_owned).to_vec(),
            max_grant_seconds: 4 * 3600,
        }
    }
}

fn default_algorithms() -> Vec<String> {
    vec!["RS256".into(), "ES256".into()]
}
