//! Holdpoint's own way to an instance: as a Cloud SQL connector goes it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_RSA_SHA256, RsaKeySize};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_rustls::{TlsConnector, client::TlsStream};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::PORT;
use crate::{
    config::connection::Instance, credential::Credentials, postgres::server::trust::instance_tls,
    upstream::Upstream,
};

/// Bytes of an answer of Google's.
const LIMIT: usize = 256 << 10;
const DEADLINE: Duration = Duration::from_secs(5);
/// So long before it ends, a certificate is not used any more: as the connectors have it.
const MARGIN: Duration = Duration::from_mins(4);
/// What was learnt of an instance that does not answer is asked for anew no sooner: agents decide how often they connect.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Opens connections to one instance with a certificate that is Holdpoint's own.
pub struct Dialer {
    instance: Instance,
    /// Whether the certificate is to log in by itself (IAM database authentication).
    iam: bool,
    upstream: Upstream,
    credentials: Arc<Credentials>,
    ready: Mutex<Option<Arc<Ready>>>,
}

/// What was learnt of an instance.
struct Ready {
    host: String,
    name: ServerName<'static>,
    connector: TlsConnector,
    /// The header with the access token that is in the certificate, where one is.
    token: Option<HeaderValue>,
    since: Instant,
    until: Instant,
}

impl Dialer {
    /// To this instance.
    #[must_use]
    pub fn new(
        instance: Instance,
        iam: bool,
        upstream: Upstream,
        credentials: Arc<Credentials>,
    ) -> Self {
        Self {
            instance,
            iam,
            upstream,
            credentials,
            ready: Mutex::new(None),
        }
    }

    /// A connection, and the certificate of the other side, which has been verified.
    ///
    /// # Errors
    /// When Google does not tell the way, or nobody is there who should be.
    pub async fn open(&self) -> anyhow::Result<(TlsStream<TcpStream>, Vec<u8>)> {
        let ready = self.ready().await?;
        match self.handshake(&ready).await {
            // It may have moved, or have another CA.
            Err(_) if ready.since.elapsed() > ASKED_AGAIN_AFTER => {
                self.forget(&ready).await;
                let ready = self.ready().await?;
                self.handshake(&ready).await
            }
            opened => opened,
        }
    }

    async fn handshake(&self, ready: &Ready) -> anyhow::Result<(TlsStream<TcpStream>, Vec<u8>)> {
        let at = || format!("{}:{PORT}", ready.host);
        let tcp = self.upstream.dial_database(&ready.host, PORT).await;
        let connecting = ready.connector.connect(ready.name.clone(), tcp?);
        let tls = connecting
            .await
            .with_context(|| format!("TLS with {} failed", at()))?;
        let certificates = tls.get_ref().1.peer_certificates();
        let certificate = certificates
            .and_then(|chain| chain.first())
            .map(|it| it.to_vec());
        Ok((tls, certificate.unwrap_or_default()))
    }

    async fn ready(&self) -> anyhow::Result<Arc<Ready>> {
        let mut ready = self.ready.lock().await;
        let token = self.token().await?;
        // The one in a certificate may end before that does; there is another one in good time.
        let is_good = |it: &&Arc<Ready>| it.until > Instant::now() && it.token == token;
        if let Some(ready) = ready.as_ref().filter(is_good) {
            return Ok(ready.clone());
        }
        let made = Arc::new(self.prepare(token).await?);
        *ready = Some(made.clone());
        Ok(made)
    }

    async fn forget(&self, what: &Arc<Ready>) {
        let mut ready = self.ready.lock().await;
        if ready.as_ref().is_some_and(|it| Arc::ptr_eq(it, what)) {
            *ready = None;
        }
    }

    async fn token(&self) -> anyhow::Result<Option<HeaderValue>> {
        match self.iam {
            true => Ok(Some(self.authorization().await?)),
            false => Ok(None),
        }
    }

    async fn prepare(&self, token: Option<HeaderValue>) -> anyhow::Result<Ready> {
        let settings = self
            .ask(Method::GET, "/connectSettings", Bytes::new())
            .await
            .context("connectSettings")?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let region = text(&settings["region"]).unwrap_or_default();
        ensure!(
            region == self.instance.region,
            "{} is in the region {region:?}",
            self.instance
        );
        let version = text(&settings["databaseVersion"]).unwrap_or_default();
        ensure!(
            version.starts_with("POSTGRES"),
            "{} is no PostgreSQL but {version:?}",
            self.instance
        );
        let ca = text(&settings["serverCaCert"]["cert"]).context("connectSettings name no CA")?;
        let host = host(&settings).context("connectSettings name no address")?;
        let name = dns_name(&settings).unwrap_or_else(|| self.instance.id.clone());
        let name = ServerName::try_from(name).context("its DNS name is none")?;

        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)
            .context("cannot make a key")?;
        let mut body = json!({"public_key": key.public_key_pem()});
        if let Some(token) = &token {
            let token = token.to_str().ok();
            let token = token.and_then(|it| it.strip_prefix("Bearer "));
            body["access_token"] = json!(token.context("the access token is no bearer token")?);
        }
        let answer = self
            .ask(
                Method::POST,
                ":generateEphemeralCert",
                body.to_string().into(),
            )
            .await;
        let answer = answer.context("generateEphemeralCert")?;
        let certificate =
            text(&answer["ephemeralCert"]["cert"]).context("generateEphemeralCert gave none")?;
        let until = Instant::now() + usable(&certificate)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Ready {
            host,
            name,
            connector: instance_tls(&ca, &self.instance, &certificate, key)?,
            token,
            since: Instant::now(),
            until,
        })
    }

    async fn authorization(&self) -> anyhow::Result<HeaderValue> {
        Ok(self.credentials.authorization().await?)
    }

    async fn ask(&self, method: Method, what: &str, body: Bytes) -> anyhow::Result<Value> {
        let Instance { project, id, .. } = &self.instance;
        let request = Request::builder()
            .method(method)
            .uri(format!("https://sqladmin.googleapis.com/sql/v1beta4/projects/{project}/instances/{id}{what}"))
            .header(header::AUTHORIZATION, self.authorization().await?)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)?;
        let answer = self.upstream.fetch(request, LIMIT, DEADLINE).await?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "Google answered {status} for {}",
            self.instance
        );
        serde_json::from_slice(answer.body()).context("Google's answer is no JSON")
    }
}

/// The private address before the public one; or the name for Private Service Connect.
fn host(settings: &Value) -> Option<String> {
    let addresses = settings["ipAddresses"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let of = |kind: &str| {
        let found = addresses.iter().find(|it| it["type"] == kind)?;
        found["ipAddress"].as_str().map(str::to_owned)
    };
    let by_name = || match settings["pscEnabled"].as_bool() {
        Some(true) => dns_name(settings),
        _ => None,
    };
    of("PRIVATE").or_else(by_name).or_else(|| of("PRIMARY"))
}

fn dns_name(settings: &Value) -> Option<String> {
    let listed = settings["dnsNames"][0]["name"].as_str();
    let name = listed.or_else(|| settings["dnsName"].as_str())?;
    let name = name.trim_end_matches('.');
    (!name.is_empty()).then(|| name.to_owned())
}

/// How long a certificate may be used from now on.
fn usable(certificate: &str) -> anyhow::Result<Duration> {
    let der = rustls_pki_types::CertificateDer::from_pem_slice(certificate.as_bytes())
        .context("the ephemeral certificate is not valid PEM")?;
    let (_, parsed) =
        X509Certificate::from_der(&der).context("the ephemeral certificate is none")?;
    let left = parsed.validity().not_after.timestamp() - Timestamp::now().as_second();
    let left = Duration::from_secs(u64::try_from(left).unwrap_or_default());
    Ok(left.saturating_sub(MARGIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_address_comes_first() {
        let both = json!({"ipAddresses": [{"type": "PRIMARY", "ipAddress": "203.0.113.10"}, {"type": "PRIVATE", "ipAddress": "10.0.0.5"}]});
        assert_eq!(host(&both).as_deref(), Some("10.0.0.5"));
        let psc = json!({"pscEnabled": true, "dnsName": "x.sql.goog.", "ipAddresses": [{"type": "PRIMARY", "ipAddress": "203.0.113.10"}]});
        assert_eq!(host(&psc).as_deref(), Some("x.sql.goog"));
        assert_eq!(host(&json!({})), None);
    }
}
