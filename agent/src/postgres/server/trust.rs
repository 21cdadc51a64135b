//! TLS towards a database: whose certificate is good enough.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
        verify_tls13_signature,
    },
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::{
    config::{
        connection::{Connection, Instance, TlsMode},
        in_credentials_directory,
    },
    credential::read_private,
    upstream,
};

/// By IANA's registry. Servers before PostgreSQL 17 do not look at it.
pub(crate) const ALPN: &[u8] = b"postgresql";

/// How to speak TLS with one server, or that it is not to be spoken.
pub struct ServerTls {
    pub(super) connector: Option<TlsConnector>,
    pub(super) name: ServerName<'static>,
    /// Whether whoever answers is known to be the server.
    pub(super) is_verified: bool,
}

/// As the configuration has it.
///
/// # Errors
/// When a file cannot be read or is not what it has to be.
pub(crate) fn server_tls(connection: &Connection) -> anyhow::Result<ServerTls> {
    let place = connection.place()?;
    let host = connection.server_name.as_deref().unwrap_or(&place.host);
    let name = ServerName::try_from(host.to_owned())
        .with_context(|| format!("{host} cannot be the name in a certificate"))?;
    let connector = match connection.tls {
        TlsMode::Off => None,
        _ => Some(TlsConnector::from(Arc::new(client_config(connection)?))),
    };
    Ok(ServerTls {
        connector,
        name,
        is_verified: connection.tls.is_verified(),
    })
}

/// TLS as a Cloud SQL connector speaks it with an instance: its CA as Google tells it, and a certificate for the other side.
///
/// # Errors
/// When one of them is not what it has to be.
pub(crate) fn instance_tls(
    ca: &str,
    instance: &Instance,
    certificate: &str,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut anchors = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        anchors
            .add(ca.context("its CA certificate is not valid PEM")?)
            .context("its CA certificate is none")?;
    }
    let verifier = Verifier {
        asks: Asks::Signed {
            roots: Roots {
                anchors,
                own: Vec::new(),
            },
            by_name: true,
            instance: Some(instance.clone()),
        },
        algorithms: provider.signature_verification_algorithms,
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .context("the ephemeral certificate is not valid PEM")?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .context("aws-lc-rs does not offer TLS 1.3")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .context("the ephemeral certificate is for another key")?;
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn client_config(connection: &Connection) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier::new(connection, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("aws-lc-rs offers neither TLS 1.2 nor 1.3")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&connection.certificate_file, &connection.key_file) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .with_context(|| {
                format!(
                    "{} and {} do not belong together",
                    certificate.display(),
                    key.display()
                )
            })?,
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Channel binding needs the certificate each time, and PostgreSQL gives no tickets.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = file.display();
    let pem = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .with_context(|| format!("{shown} is not valid PEM"))?;
    ensure!(!chain.is_empty(), "{shown} holds no certificate");
    Ok(chain)
}

fn private_key(file: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let context = || format!("the key_file {}", file.display());
    let pem = in_credentials_directory(file)
        .and_then(|file| read_private(&file))
        .with_context(context)?;
    // What the reader says may quote a part.
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| anyhow::anyhow!("holds no private key in PEM"))
        .with_context(context)
}

/// Says whether a server's certificate is good enough.
#[derive(Debug)]
struct Verifier {
    asks: Asks,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum Asks {
    Nothing,
    Signed {
        roots: Roots,
        /// Whether it has to be for this host, too, or for this instance.
        by_name: bool,
        instance: Option<Instance>,
    },
}

/// Whom the certificate may be signed by, or be.
#[derive(Debug)]
struct Roots {
    anchors: RootCertStore,
    /// What is in `ca_file`, to the byte: often the server's own certificate, which nobody else has signed.
    own: Vec<CertificateDer<'static>>,
}

impl Verifier {
    fn new(connection: &Connection, provider: &CryptoProvider) -> anyhow::Result<Self> {
        let asks = match connection.tls {
            TlsMode::Unverified | TlsMode::Off => Asks::Nothing,
            mode => Asks::Signed {
                roots: Roots::read(connection.ca_file.as_deref())?,
                by_name: mode == TlsMode::VerifyFull,
                instance: connection.instance.clone(),
            },
        };
        Ok(Self {
            asks,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl Roots {
    fn read(ca_file: Option<&Path>) -> anyhow::Result<Self> {
        Ok(match ca_file {
            Some(file) => Self {
                anchors: upstream::roots_of(file)?,
                own: certificates(file)?,
            },
            None => Self {
                anchors: upstream::system_roots_and(None)?,
                own: Vec::new(),
            },
        })
    }

    fn vouch_for(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        if self.own.contains(certificate) {
            return in_its_time(certificate, now);
        }
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.anchors,
            intermediates,
            now,
            algorithms.all,
        )
    }
}

fn in_its_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

/// Whether it is for this host; or, where it names no host, whether its common name is that of the instance, `PROJECT:INSTANCE`, as the per-instance CAs of
/// Cloud SQL have it.
fn is_for(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    instance: Option<&Instance>,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let named = verify_server_name(&parsed, name);
    match instance {
        Some(instance) if named.is_err() && is_of(certificate, instance) => Ok(()),
        _ => named,
    }
}

fn is_of(certificate: &CertificateDer<'_>, instance: &Instance) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return false;
    };
    let names_hosts = !matches!(parsed.subject_alternative_name(), Ok(None));
    let wanted = format!("{}:{}", instance.project, instance.id);
    let mut names = parsed.subject().iter_common_name();
    !names_hosts
        && names.next().and_then(|name| name.as_str().ok()) == Some(&wanted)
        && names.next().is_none()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Asks::Signed {
            roots,
            by_name,
            instance,
        } = &self.asks
        {
            roots.vouch_for(end_entity, intermediates, now, &self.algorithms)?;
            if *by_name {
                is_for(end_entity, server_name, instance.as_ref())?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
