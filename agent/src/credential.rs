//! The real credential towards Google: fetched, kept while it is valid, and never shown.

mod cache;
pub mod instance;
mod key;
mod source;
#[cfg(test)]
mod tests;

use std::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use http::HeaderValue;
use tokio::sync::OnceCell;

pub(crate) use self::key::read_private;
use self::{
    cache::{Cache, Plan},
    source::Source,
};
use crate::{config, upstream::Upstream};

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// No access token.
    #[error("no access token for Google from {source_name}: {cause}")]
    Token {
        /// Where it was to come from.
        source_name: String,
        /// What happened and what to check.
        cause: String,
    },
    /// The source does not tell a name that the configuration leaves to it.
    #[error(
        "{source_name} does not tell the {what}: {cause}. Set google.{what} in the configuration"
    )]
    Name {
        /// Where it was to come from.
        source_name: String,
        /// `account` or `project`.
        what: &'static str,
        /// What happened.
        cause: String,
    },
}

/// The credential that operations are sent with.
pub struct Credentials {
    source: Source,
    cache: Mutex<Cache>,
    /// Held by the one caller that fetches a token.
    fetching: tokio::sync::Mutex<()>,
    account: OnceCell<String>,
    project: OnceCell<String>,
}

impl Credentials {
    /// The credential that `google` names. A key file is read here; nothing is fetched yet.
    ///
    /// # Errors
    /// When the key file cannot be read, others can read it, or it holds no service account's key; when the metadata
    /// server's address is neither link-local nor loopback.
    pub fn new(google: &config::Google, upstream: Upstream) -> anyhow::Result<Self> {
        Ok(Self {
            source: Source::new(google, upstream)?,
            cache: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            account: OnceCell::new_with(google.account.clone()),
            project: OnceCell::new_with(google.project.clone()),
        })
    }

    /// The value of the `authorization` header, marked sensitive. It is fetched by one caller at a time, 5 minutes before
    /// the old one expires; until then, and when that fails, the old one is used while it is valid.
    ///
    /// # Errors
    /// [`CredentialError::Token`] when there is none that is valid.
    pub async fn authorization(&self) -> Result<HeaderValue, CredentialError> {
        let old = match self.cache().plan(Instant::now()) {
            Plan::Use(token) => return Ok(token),
            Plan::Fail(cause) => return Err(self.no_token(cause)),
            Plan::Fetch { old } => old,
        };
        let _turn = match (self.fetching.try_lock(), old) {
            (Ok(turn), _) => turn,
            (Err(_), Some(old)) => return Ok(old),
            (Err(_), None) => self.fetching.lock().await,
        };
        // While this caller waited for its turn, another one fetched.
        match self.cache().plan(Instant::now()) {
            Plan::Use(token) => return Ok(token),
            Plan::Fail(cause) => return Err(self.no_token(cause)),
            Plan::Fetch { .. } => {}
        }
        let asked_at = Instant::now();
        let outcome = self.source.token().await;
        if let Err(cause) = &outcome {
            tracing::warn!(
                source = self.source.name(),
                cause,
                "cannot fetch an access token"
            );
        }
        let settled = self.cache().settle(outcome, asked_at, Instant::now());
        settled.map_err(|cause| self.no_token(cause))
    }

    /// The service account's e-mail: as configured, else the key's, else as the metadata server says, once.
    ///
    /// # Errors
    /// [`CredentialError::Name`] when it is not to be had.
    pub async fn account(&self) -> Result<String, CredentialError> {
        let fetch = || async { self.source.account().await };
        let account = self.account.get_or_try_init(fetch).await;
        account
            .cloned()
            .map_err(|cause| self.no_name("account", cause))
    }

    /// The project id: as configured, else the key's, else as the metadata server says, once.
    ///
    /// # Errors
    /// [`CredentialError::Name`] when it is not to be had.
    pub async fn project(&self) -> Result<String, CredentialError> {
        let fetch = || async { self.source.project().await };
        let project = self.project.get_or_try_init(fetch).await;
        project
            .cloned()
            .map_err(|cause| self.no_name("project", cause))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().expect("no panic while locked")
    }

    fn no_token(&self, cause: String) -> CredentialError {
        CredentialError::Token {
            source_name: self.source.name(),
            cause,
        }
    }

    fn no_name(&self, what: &'static str, cause: String) -> CredentialError {
        CredentialError::Name {
            source_name: self.source.name(),
            what,
            cause,
        }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("source", &self.source.name())
            .finish_non_exhaustive()
    }
}
