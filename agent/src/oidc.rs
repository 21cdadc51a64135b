//! Verifies the OIDC token that opens a session (OpenID Connect Core 1.0, RFC 7519; RFC 8725 for what to beware of).
//!
//! `issuer` fetches keys; everything else here decides, and does no IO.

mod cache;
mod claims;
mod code;
mod error;
mod issuer;
mod keys;
#[cfg(test)]
mod tests;
mod token;
mod used;

use anyhow::Context as _;
use holdpoint_core::identity::Principal;
use jiff::Timestamp;

pub use self::code::{Begun, SignIn, SignInError, random};
pub use self::{error::TokenError, used::UsedTokens};
use self::{issuer::Issuer, token::Unverified, used::Use};
use crate::{config, upstream::Upstream};

/// Verifies tokens of the configured issuers.
#[derive(Debug)]
pub struct Verifier {
    issuers: Vec<Issuer>,
    used: UsedTokens,
}

impl Verifier {
    /// A verifier of the tokens of `issuers`. Nothing is fetched yet.
    ///
    /// # Errors
    /// When an issuer is given twice, its URL is neither `https` nor `http` on loopback, its audience is empty, an
    /// algorithm is unknown or not asymmetric, or its `ca_file` cannot be used.
    pub fn new(issuers: &[config::Issuer], upstream: &config::Upstream) -> anyhow::Result<Self> {
        let shared = Upstream::new(upstream)?;
        let mut verified = Vec::<Issuer>::new();
        for settings in issuers {
            let context = || format!("the configuration's issuer {:?}", settings.url);
            let upstream = match &settings.ca_file {
                Some(file) => Upstream::trusting_only(file, upstream).with_context(context)?,
                None => shared.clone(),
            };
            let issuer = Issuer::new(settings, upstream).with_context(context)?;
            anyhow::ensure!(
                verified.iter().all(|other| other.url() != issuer.url()),
                "{} is there twice: merge the two",
                context()
            );
            verified.push(issuer);
        }
        Ok(Self {
            issuers: verified,
            used: UsedTokens::since(Timestamp::now()),
        })
    }

    /// Who the token speaks for.
    ///
    /// # Errors
    /// When it is not a valid token of a configured issuer for our audience, now. The error never holds the token.
    pub async fn verify(&self, token: &str) -> Result<Principal, TokenError> {
        self.verify_at(token, Timestamp::now()).await
    }

    /// Who the token speaks for, and that it has not been shown here before: it is used up, whatever comes of it.
    ///
    /// # Errors
    /// As [`Self::verify`], and when the token was used already or that cannot be told.
    pub async fn verify_once(&self, token: &str) -> Result<Principal, TokenError> {
        let now = Timestamp::now();
        let (principal, usage) = self.accept_at(token, now).await?;
        self.used.spend(usage, now)?;
        Ok(principal)
    }

    /// As [`Self::verify_once`], and until when the token is valid.
    ///
    /// # Errors
    /// As [`Self::verify_once`].
    pub async fn verify_login(&self, token: &str) -> Result<(Principal, Timestamp), TokenError> {
        let now = Timestamp::now();
        let (principal, usage) = self.accept_at(token, now).await?;
        let expires = usage.expires;
        self.used.spend(usage, now)?;
        Ok((principal, expires))
    }

    /// The audience that tokens of this issuer have to be for.
    #[must_use]
    pub fn audience(&self, issuer: &str) -> Option<&str> {
        let issuer = self.issuers.iter().find(|known| known.url() == issuer)?;
        Some(&issuer.rules().audience)
    }

    /// Fetches every issuer's keys, and tells how many there are, or why there are none.
    pub async fn reach(&self) -> Vec<(&str, Result<usize, String>)> {
        let mut reached = Vec::new();
        for issuer in &self.issuers {
            reached.push((issuer.url(), issuer.reach().await));
        }
        reached
    }

    async fn verify_at(&self, token: &str, now: Timestamp) -> Result<Principal, TokenError> {
        Ok(self.accept_at(token, now).await?.0)
    }

    async fn accept_at(&self, token: &str, now: Timestamp) -> Result<(Principal, Use), TokenError> {
        let token = Unverified::parse(token)?;
        let issuer = self
            .issuers
            .iter()
            .find(|issuer| issuer.url() == token.issuer())
            .ok_or_else(|| TokenError::issuer(token.issuer()))?;
        let algorithm = token.algorithm(issuer.algorithms())?;
        let key = issuer.key(token.key_id(), algorithm).await?;
        token.verify(algorithm, &key)?.accept(issuer.rules(), now)
    }
}
