//! One issuer: its rules, and its keys, fetched when needed and kept for a while.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{
    cache::Cache,
    claims::Rules,
    error::{TokenError, shown},
    keys::Keys,
};
use crate::{
    config,
    upstream::{Upstream, is_loopback},
};

/// For the discovery document and the keys, each.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_ANSWER: usize = 1024 * 1024;

/// The parts of a discovery document that matter (OpenID Connect Discovery 1.0, section 3).
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
    #[serde(flatten)]
    endpoints: Option<Endpoints>,
}

/// Where people sign in. An issuer of CI tokens has none.
#[derive(Debug, Deserialize)]
pub(super) struct Endpoints {
    pub(super) authorization_endpoint: String,
    pub(super) token_endpoint: String,
    pub(super) scopes_supported: Option<Vec<String>>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

impl Endpoints {
    /// Whether clients authenticate by the header, as they do where nothing is said.
    pub(super) fn takes_basic(&self) -> bool {
        let methods = self.token_endpoint_auth_methods_supported.as_ref();
        methods.is_none_or(|all| all.iter().any(|it| it == "client_secret_basic"))
    }
}

#[derive(Debug)]
pub(super) struct Issuer {
    url: String,
    algorithms: Vec<Algorithm>,
    rules: Rules,
    upstream: Upstream,
    /// Locked while keys are fetched, so that one caller fetches and the others wait for what it gets.
    cache: Mutex<Cache>,
}

impl Issuer {
    pub(super) fn new(settings: &config::Issuer, upstream: Upstream) -> anyhow::Result<Self> {
        check_url(&settings.url)?;
        anyhow::ensure!(
            !settings.audience.is_empty(),
            "its audience is empty: tokens meant for anybody would open sessions"
        );
        Ok(Self {
            url: settings.url.clone(),
            algorithms: algorithms(&settings.algorithms)?,
            rules: Rules {
                audience: settings.audience.clone(),
                groups_claim: settings.groups_claim.clone(),
            },
            upstream,
            cache: Mutex::default(),
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The issuer's key `id` for `algorithm`, from the cache or fetched.
    pub(super) async fn key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, TokenError> {
        let mut cache = self.cache.lock().await;
        if cache.wants_fetch(id, algorithm, Instant::now()) {
            cache.attempt(Instant::now());
            let outcome = self.fetch_keys().await;
            if let Err(cause) = &outcome {
                tracing::warn!(issuer = self.url, cause, "cannot fetch the issuer's keys");
            }
            cache.take(outcome, Instant::now());
        }
        let now = Instant::now();
        let keys = cache.usable(now).map_err(|cause| TokenError::Keys {
            issuer: self.url.clone(),
            cause,
        })?;
        keys.find(id, algorithm)
            .ok_or_else(|| TokenError::UnknownKey {
                key: id.map_or_else(|| "(none is named)".to_owned(), shown),
                algorithm: format!("{algorithm:?}"),
                retry_after: cache.pause(now),
            })
    }

    /// How many keys it publishes now.
    pub(super) async fn reach(&self) -> Result<usize, String> {
        Ok(self.fetch_keys().await?.count())
    }

    /// Lets time pass, as far as the cache can tell.
    #[cfg(test)]
    pub(super) async fn elapse(&self, time: Duration) {
        self.cache.lock().await.elapse(time);
    }

    async fn fetch_keys(&self) -> Result<Keys, String> {
        let discovery = self.discover().await?;
        Keys::parse(&self.fetch(&discovery.jwks_uri).await?)
            .map_err(|problem| format!("{}: {problem}", discovery.jwks_uri))
    }

    /// Where browsers and codes go, as the issuer says now.
    pub(super) async fn endpoints(&self) -> Result<Endpoints, String> {
        let endpoints = self.discover().await?.endpoints;
        let endpoints = endpoints.ok_or("it has no endpoints to sign in at")?;
        check_reached(
            "authorization_endpoint",
            &endpoints.authorization_endpoint,
            &self.url,
        )?;
        check_reached("token_endpoint", &endpoints.token_endpoint, &self.url)?;
        Ok(endpoints)
    }

    /// Sends a form, with this authorization if there is one. The text of an error is the issuer's no further than its status.
    pub(super) async fn post_form(
        &self,
        uri: &str,
        form: &str,
        authorization: Option<&str>,
    ) -> Result<Bytes, String> {
        let mut request = Request::post(uri)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::from_str(authorization)
                .map_err(|_| "its client secret does not fit into a header".to_owned())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request
            .body(Bytes::copy_from_slice(form.as_bytes()))
            .map_err(|_| format!("{} is not a URL", shown(uri)))?;
        self.exchange(uri, request).await
    }

    /// OpenID Connect Discovery 1.0, section 4.
    async fn discover(&self) -> Result<Discovery, String> {
        let base = self.url.strip_suffix('/').unwrap_or(&self.url);
        let document = format!("{base}/.well-known/openid-configuration");
        let json = self.fetch(&document).await?;
        let discovery: Discovery = serde_json::from_slice(&json)
            .map_err(|_| format!("{document} is not a discovery document"))?;
        if discovery.issuer != self.url {
            return Err(format!(
                "{document} is of the issuer {}: the configured url has to be that, to the letter",
                shown(&discovery.issuer)
            ));
        }
        check_reached("jwks_uri", &discovery.jwks_uri, &self.url)?;
        Ok(discovery)
    }

    async fn fetch(&self, uri: &str) -> Result<Bytes, String> {
        let request = Request::get(uri)
            .header(ACCEPT, "application/json")
            .body(Bytes::new())
            .map_err(|_| format!("{} is not a URL", shown(uri)))?;
        self.exchange(uri, request).await
    }

    async fn exchange(&self, uri: &str, request: Request<Bytes>) -> Result<Bytes, String> {
        let answer = self
            .upstream
            .fetch(request, LONGEST_ANSWER, FETCH_TIMEOUT)
            .await;
        let answer = answer.map_err(|error| error.to_string())?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(format!("{uri} answered {status}, 200 was expected")),
        }
    }
}

fn algorithms(names: &[String]) -> anyhow::Result<Vec<Algorithm>> {
    anyhow::ensure!(!names.is_empty(), "its list of algorithms is empty");
    names.iter().map(|name| asymmetric(name)).collect()
}

fn asymmetric(name: &str) -> anyhow::Result<Algorithm> {
    const KNOWN: &str = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA";
    match name.parse::<Algorithm>() {
        Ok(algorithm) if algorithm.family() != AlgorithmFamily::Hmac => Ok(algorithm),
        Ok(_) => anyhow::bail!(
            "{name} signs with a secret that whoever verifies could sign with as well: use one of {KNOWN}"
        ),
        Err(_) => {
            anyhow::bail!("{name} is not an algorithm that can be allowed: use one of {KNOWN}")
        }
    }
}

/// An issuer is an `https` URL without query and fragment (Discovery 1.0, section 3); `http` on loopback is for tests
/// and for issuers on this host.
fn check_url(url: &str) -> anyhow::Result<()> {
    let uri: Uri = url
        .parse()
        .map_err(|_| anyhow::anyhow!("its url is not a URL"))?;
    anyhow::ensure!(
        uri.query().is_none() && !url.contains('#'),
        "its url must have neither query nor fragment"
    );
    anyhow::ensure!(
        uri.host().is_some() && (uri.scheme_str() == Some("https") || is_clear_loopback(&uri)),
        "its url must be https (http only on loopback)"
    );
    Ok(())
}

/// Keys and codes travel by `https`; in clear only where the issuer itself is in clear on loopback.
fn check_reached(name: &str, uri: &str, issuer: &str) -> Result<(), String> {
    let clear_loopback = |text: &str| text.parse().is_ok_and(|uri| is_clear_loopback(&uri));
    if uri.starts_with("https://") || (clear_loopback(issuer) && clear_loopback(uri)) {
        Ok(())
    } else {
        Err(format!("its {name} {} is not https", shown(uri)))
    }
}

fn is_clear_loopback(uri: &Uri) -> bool {
    uri.scheme_str() == Some("http") && uri.host().is_some_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_asymmetric_algorithms_are_configurable() {
        for name in [
            "HS256", "HS384", "HS512", "none", "None", "", "rs256", "ES512",
        ] {
            assert!(asymmetric(name).is_err(), "{name}");
        }
        for name in ["RS256", "PS512", "ES384", "EdDSA"] {
            assert!(asymmetric(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn issuers_and_keys_are_reached_by_https() {
        for url in [
            "https://a.example",
            "https://a.example/t/",
            "http://127.0.0.1:80",
            "http://[::1]:1/x",
        ] {
            assert!(check_url(url).is_ok(), "{url}");
        }
        for url in [
            "http://a.example",
            "https://a.example/?x",
            "https://a.example/#x",
            "a.example",
            "ftp://localhost",
            "",
        ] {
            assert!(check_url(url).is_err(), "{url}");
        }
        let remote = "https://a.example";
        let local = "http://localhost:1";
        assert!(check_reached("jwks_uri", "https://b.example/keys", remote).is_ok());
        assert!(check_reached("jwks_uri", "http://127.0.0.1/keys", local).is_ok());
        assert!(check_reached("jwks_uri", "http://127.0.0.1/keys", remote).is_err());
        assert!(check_reached("jwks_uri", "http://169.254.169.254/keys", local).is_err());
        assert!(check_reached("jwks_uri", "http://b.example/keys", local).is_err());
    }
}
