//! Why a token opens no session, and what to do about it.

use std::time::Duration;

/// Why a token was refused. Of the token's own text only names are shown (issuer, algorithm, key id), short and escaped.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is not a signed JWT.
    #[error(
        "the token is not a usable JWT: {0}. Pass the OIDC id token of the CI job, as it was issued"
    )]
    Malformed(&'static str),
    /// Its `iss` is not in the configuration.
    #[error(
        "the token's issuer {0} is not configured: compare it to the [[issuer]] urls of holdpoint.toml, to the letter"
    )]
    Issuer(String),
    /// Its `alg` is not allowed.
    #[error("the token is signed by {found}, allowed for its issuer: {allowed}")]
    Algorithm {
        /// The header's `alg`.
        found: String,
        /// The configured ones.
        allowed: String,
    },
    /// The issuer has no such key.
    #[error("the token's issuer publishes no {algorithm} key {key}: get a new token{}", again(.retry_after))]
    UnknownKey {
        /// The header's `kid`.
        key: String,
        /// The header's `alg`.
        algorithm: String,
        /// When the keys may be fetched again, if they were fetched just now.
        retry_after: Option<Duration>,
    },
    /// The signature is not by the issuer's key.
    #[error(
        "the token's signature is wrong: it was altered, or its issuer did not sign it. Get a new token"
    )]
    Signature,
    /// It is meant for somebody else.
    #[error("the token is not for this audience: request it with the audience {expected:?}")]
    Audience {
        /// The configured audience.
        expected: String,
    },
    /// Its time is over.
    #[error("the token expired {} s ago: get a new one right before `holdpoint run`", .since.as_secs())]
    Expired {
        /// How long ago.
        since: Duration,
    },
    /// Its time has not come.
    #[error("the token is valid only in {} s: check the clocks of this host and of the issuer", .until.as_secs())]
    NotYetValid {
        /// How long to wait.
        until: Duration,
    },
    /// A claim is missing or of the wrong form.
    #[error("the token's claim {claim:?} {problem}")]
    Claim {
        /// Its name.
        claim: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// It was shown before, or that cannot be told.
    #[error("the token cannot be used for this: {0}. Get a new one for every job")]
    Used(&'static str),
    /// The issuer's keys are not to be had.
    #[error(
        "the keys of the issuer {issuer} cannot be had, so no token of it can be verified: {cause}"
    )]
    Keys {
        /// The issuer's URL.
        issuer: String,
        /// What happened.
        cause: String,
    },
}

impl TokenError {
    pub(super) fn issuer(found: &str) -> Self {
        Self::Issuer(shown(found))
    }

    pub(super) fn claim(claim: &str, problem: &'static str) -> Self {
        Self::Claim {
            claim: claim.to_owned(),
            problem,
        }
    }
}

fn again(after: &Option<Duration>) -> String {
    match after {
        Some(after) => format!(
            " (the keys were fetched just now and will be again in {} s)",
            after.as_secs() + 1
        ),
        None => String::new(),
    }
}

/// A name out of an unverified token, fit to be printed.
pub(super) fn shown(name: &str) -> String {
    const LONGEST: usize = 120;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", &name[..end]),
        None => format!("{name:?}"),
    }
}
