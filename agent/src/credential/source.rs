//! Where access tokens come from: a service account's key, or the host's metadata server.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header::CONTENT_TYPE};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{cache::Token, key::ServiceAccountKey};
use crate::{
    config::{self, CredentialSource},
    upstream::{Upstream, check_scheme},
};

const TIMEOUT: Duration = Duration::from_secs(10);
const LONGEST_ANSWER: usize = 64 * 1024;
const METADATA_FLAVOR: &str = "metadata-flavor";
pub(super) const DEFAULT_ACCOUNT: &str = "instance/service-accounts/default";

pub(super) struct Source {
    upstream: Upstream,
    scopes: Vec<String>,
    kind: Kind,
}

enum Kind {
    Metadata(SocketAddr),
    Key(Box<ServiceAccountKey>),
}

impl Source {
    pub(super) fn new(google: &config::Google, upstream: Upstream) -> anyhow::Result<Self> {
        let (kind, asked) = match &google.credential {
            CredentialSource::Metadata { address } => {
                (Kind::Metadata(*address), metadata_uri(*address, ""))
            }
            CredentialSource::ServiceAccountKey { file } => {
                let key = ServiceAccountKey::read(&config::in_credentials_directory(file)?)?;
                let uri = key.token_uri.clone();
                (Kind::Key(Box::new(key)), uri)
            }
        };
        let uri: Uri = asked
            .parse()
            .with_context(|| format!("{asked:?} is not a URL"))?;
        check_scheme(&uri)
            .map_err(|why| anyhow::anyhow!("cannot get tokens from {asked}: {why}"))?;
        Ok(Self {
            upstream,
            scopes: google.scopes.clone(),
            kind,
        })
    }

    /// For error messages.
    pub(super) fn name(&self) -> String {
        match &self.kind {
            Kind::Metadata(address) => format!("the metadata server {address}"),
            Kind::Key(key) => format!("the key of {}", key.account),
        }
    }

    pub(super) async fn token(&self) -> Result<Token, String> {
        match &self.kind {
            Kind::Metadata(address) => {
                let scopes = escaped(&self.scopes.join(","));
                let path = format!("{DEFAULT_ACCOUNT}/token?scopes={scopes}");
                token_in(&metadata(&self.upstream, *address, &path).await?)
            }
            Kind::Key(key) => self.exchange(key).await,
        }
    }

    pub(super) async fn account(&self) -> Result<String, String> {
        match &self.kind {
            Kind::Metadata(address) => {
                metadata_text(
                    &self.upstream,
                    *address,
                    &format!("{DEFAULT_ACCOUNT}/email"),
                )
                .await
            }
            Kind::Key(key) => Ok(key.account.clone()),
        }
    }

    pub(super) async fn project(&self) -> Result<String, String> {
        match &self.kind {
            Kind::Metadata(address) => {
                metadata_text(&self.upstream, *address, "project/project-id").await
            }
            Kind::Key(key) => key
                .project
                .clone()
                .ok_or_else(|| "it has no project_id".to_owned()),
        }
    }

    /// The JWT bearer grant (RFC 7523, section 2.1).
    async fn exchange(&self, key: &ServiceAccountKey) -> Result<Token, String> {
        let assertion = key.assertion(&self.scopes.join(" "), Timestamp::now())?;
        let grant = escaped("urn:ietf:params:oauth:grant-type:jwt-bearer");
        let form = format!("grant_type={grant}&assertion={assertion}");
        let request = Request::builder()
            .method(Method::POST)
            .uri(&key.token_uri)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from(form))
            .map_err(|error| error.to_string())?;
        let answer = fetch(&self.upstream, request).await?;
        match answer.status() {
            StatusCode::OK => token_in(answer.body()),
            status => Err(format!(
                "{} answered {status}{}: is the key still enabled, the clock right?",
                key.token_uri,
                oauth_error(answer.body())
            )),
        }
    }
}

/// What the metadata server has at `path`.
async fn metadata(upstream: &Upstream, address: SocketAddr, path: &str) -> Result<Bytes, String> {
    let request = Request::get(metadata_uri(address, path))
        .header(METADATA_FLAVOR, "Google")
        .body(Bytes::new())
        .map_err(|error| error.to_string())?;
    let answer = fetch(upstream, request).await?;
    // Every answer of a metadata server says so; one that does not is from somebody else.
    if answer
        .headers()
        .get(METADATA_FLAVOR)
        .is_none_or(|flavor| flavor != "Google")
    {
        return Err("what answers there is not a metadata server".to_owned());
    }
    let path = path.split('?').next().unwrap_or_default();
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        StatusCode::NOT_FOUND => Err(format!(
            "it has no {path}: does this VM have a service account?"
        )),
        status => Err(format!("it answered {status} for {path}")),
    }
}

/// The same, when it is one line of text.
pub(super) async fn metadata_text(
    upstream: &Upstream,
    address: SocketAddr,
    path: &str,
) -> Result<String, String> {
    let text = metadata(upstream, address, path).await?;
    let path = path.split('?').next().unwrap_or_default();
    match std::str::from_utf8(&text).map(str::trim) {
        Ok(text) if !text.is_empty() && !text.contains(char::is_control) => Ok(text.to_owned()),
        _ => Err(format!("{path} is not one line of text")),
    }
}

async fn fetch(upstream: &Upstream, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
    let answer = upstream.fetch(request, LONGEST_ANSWER, TIMEOUT).await;
    answer.map_err(|error| error.to_string())
}

fn metadata_uri(address: SocketAddr, path: &str) -> String {
    format!("http://{address}/computeMetadata/v1/{path}")
}

pub(super) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// The token in a successful answer (RFC 6749, section 5.1).
fn token_in(json: &[u8]) -> Result<Token, String> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: Zeroizing<String>,
        expires_in: u32,
        token_type: String,
    }
    // What serde says of a mismatch may quote the token.
    let answer: Answer = serde_json::from_slice(json)
        .map_err(|_| "its answer is not JSON with access_token, expires_in and token_type")?;
    if !answer.token_type.eq_ignore_ascii_case("bearer") {
        return Err("its token is not a bearer token".to_owned());
    }
    let bearer = Zeroizing::new(format!("Bearer {}", *answer.access_token));
    let mut authorization = HeaderValue::from_str(&bearer)
        .map_err(|_| "its token has characters that no header can hold")?;
    authorization.set_sensitive(true);
    Ok(Token {
        authorization,
        lifetime: Duration::from_secs(answer.expires_in.into()),
    })
}

/// What a refusal says (RFC 6749, section 5.2), short and on one line.
fn oauth_error(json: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        #[serde(default)]
        error_description: String,
    }
    let Ok(refusal) = serde_json::from_slice::<Refusal>(json) else {
        return String::new();
    };
    let text = format!("{} {}", refusal.error, refusal.error_description);
    let printable = text.chars().filter(|c| !c.is_control()).take(200);
    format!(" ({})", printable.collect::<String>().trim_end())
}
