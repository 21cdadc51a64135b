//! TLS with Cloud SQL connectors: Holdpoint is the instance's CA, its server, and who signs the client's certificate.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use jiff::Timestamp;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SubjectPublicKeyInfo,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Authority, BACKDATED, LEAF_LIFE};

/// As long as Cloud SQL's (<https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/connect/generateEphemeralCert>).
const CLIENT_LIFE: Duration = Duration::from_hours(1);
/// A public key in PEM is shorter: RSA with 8192 bits takes 1.5 KB.
const LONGEST_KEY: usize = 8 << 10;

/// The authority that stands in for those of Cloud SQL's instances. Nothing trusts it but connectors that were handed it as one instance's.
pub struct Connector {
    authority: Authority,
    key: KeyPair,
    clients: Arc<dyn ClientCertVerifier>,
}

/// For whom a client's certificate was signed, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    /// The id of the session.
    pub session: String,
    /// The name of the `[[connection]]`.
    pub entry: String,
}

impl Connector {
    /// The one kept in this directory, made on first use: `connector-ca.key` (mode 0600) and `connector-ca.pem`.
    ///
    /// # Errors
    /// When the files cannot be read or made, or do not fit each other.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let authority = Authority::open_as(dir, "connector-ca", "Holdpoint CA for Cloud SQL")?;
        let mut roots = RootCertStore::empty();
        roots
            .add(authority.certificate.clone())
            .context("the CA for Cloud SQL connectors cannot be used")?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .context("the CA for Cloud SQL connectors cannot be used")?;
        Ok(Self {
            authority,
            key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a key")?,
            clients,
        })
    }

    /// The certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        self.authority.pem()
    }

    /// Its SHA-1 as Cloud SQL tells it, 40 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        use sha1::Digest as _;
        hex::encode(sha1::Sha1::digest(&self.authority.certificate))
    }

    /// From when to when it is good.
    #[must_use]
    pub fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        self.authority.validity()
    }

    /// A certificate for the key that a client has made, in PEM, and until when it is good.
    ///
    /// # Errors
    /// When that is no public key in PEM.
    pub fn sign(&self, public_key: &str, whose: &Whose) -> anyhow::Result<(String, Timestamp)> {
        let until = SystemTime::now() + CLIENT_LIFE;
        let certificate = self.sign_until(until, public_key, whose)?;
        Ok((certificate, Timestamp::try_from(until)?))
    }

    fn sign_until(
        &self,
        until: SystemTime,
        public_key: &str,
        whose: &Whose,
    ) -> anyhow::Result<String> {
        anyhow::ensure!(
            public_key.len() <= LONGEST_KEY,
            "the public key is too long"
        );
        // Some clients say `RSA PUBLIC KEY` and mean a SubjectPublicKeyInfo, which is not what that says.
        let key = SubjectPublicKeyInfo::from_pem(public_key)
            .context("public_key is no public key in PEM (SubjectPublicKeyInfo)")?;
        let mut params = CertificateParams::default();
        let name = &mut params.distinguished_name;
        name.push(DnType::OrganizationName, whose.session.as_str());
        name.push(DnType::OrganizationalUnitName, whose.entry.as_str());
        name.push(DnType::CommonName, "Holdpoint session");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (until - CLIENT_LIFE - BACKDATED).into();
        params.not_after = until.into();
        let signed = params
            .signed_by(&key, &self.authority.issuer)
            .context("the certificate cannot be signed")?;
        Ok(signed.pem())
    }

    /// The handshake, as the server of an instance: `PROJECT:INSTANCE` as common name, and these DNS names. Clients need a certificate of ours; whose it
    /// is comes back.
    ///
    /// # Errors
    /// When it fails.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        common_name: &str,
        dns_names: &[String],
        stream: S,
    ) -> io::Result<(TlsStream<S>, Whose)> {
        let config = self
            .server(common_name, dns_names)
            .map_err(io::Error::other)?;
        let tls = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        let whose = tls
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| whose(chain.first()?));
        let whose =
            whose.ok_or_else(|| io::Error::other("its certificate does not say whose it is"))?;
        Ok((tls, whose))
    }

    fn server(&self, common_name: &str, dns_names: &[String]) -> anyhow::Result<ServerConfig> {
        let mut params = CertificateParams::new(dns_names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let now = SystemTime::now();
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + LEAF_LIFE).into();
        let leaf = params.signed_by(&self.key, &self.authority.issuer)?;
        let chain = vec![leaf.der().clone(), self.authority.certificate.clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .context("no TLS versions")?
                .with_client_cert_verifier(self.clients.clone())
                .with_single_cert(chain, key)?;
        // Whose certificate it is has to be known each time.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

fn whose(certificate: &[u8]) -> Option<Whose> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let session = subject.iter_organization().next()?.as_str().ok()?;
    let entry = subject.iter_organizational_unit().next()?.as_str().ok()?;
    Some(Whose {
        session: session.to_owned(),
        entry: entry.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, pki_types::ServerName};
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    use tokio_rustls::TlsConnector;

    use super::*;

    fn whose_test() -> Whose {
        Whose {
            session: "s-1".to_owned(),
            entry: "orders".to_owned(),
        }
    }

    /// A handshake with a certificate for a key of the client's own, signed by `signer`.
    async fn handshake(connector: &Connector, signer: &Connector) -> io::Result<Whose> {
        let until = SystemTime::now() + CLIENT_LIFE;
        handshake_until(until, connector, signer).await
    }

    async fn handshake_until(
        until: SystemTime,
        connector: &Connector,
        signer: &Connector,
    ) -> io::Result<Whose> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let pem = signer
            .sign_until(until, &key.public_key_pem(), &whose_test())
            .expect("signed");
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        let mut roots = RootCertStore::empty();
        roots
            .add(connector.authority.certificate.clone())
            .expect("a CA");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![certificate],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .expect("they fit");
        let (near, far) = tokio::io::duplex(16 << 10);
        let name = ServerName::try_from("db.example.sql.goog").expect("a name");
        let names = ["db.example.sql.goog".to_owned()];
        let connects = TlsConnector::from(Arc::new(config));
        let client = connects.connect(name, near);
        let server = connector.accept("shop:orders", &names, far);
        let (_client, served) = tokio::join!(client, server);
        served.map(|(_, whose)| whose)
    }

    #[tokio::test]
    async fn a_client_with_our_certificate_is_let_in_and_known() {
        let dir = tempfile::tempdir().expect("a directory");
        let connector = Connector::open(dir.path()).expect("made");
        let found = handshake(&connector, &connector)
            .await
            .expect("a handshake");
        assert_eq!(found, whose_test());
    }

    #[tokio::test]
    async fn a_certificate_that_has_ended_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let connector = Connector::open(dir.path()).expect("made");
        let soon = SystemTime::now() + Duration::from_secs(60);
        assert!(handshake_until(soon, &connector, &connector).await.is_ok());
        let over = SystemTime::now() - Duration::from_secs(60);
        assert!(handshake_until(over, &connector, &connector).await.is_err());
    }

    #[tokio::test]
    async fn a_certificate_of_another_authority_is_none() {
        let (one, other) = (tempfile::tempdir(), tempfile::tempdir());
        let one = Connector::open(one.expect("a directory").path()).expect("made");
        let other = Connector::open(other.expect("a directory").path()).expect("made");
        assert!(handshake(&one, &other).await.is_err());
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_no_key_is_refused(text in "(?s).{0,300}") {
            static DIR: std::sync::LazyLock<tempfile::TempDir> = std::sync::LazyLock::new(|| tempfile::tempdir().expect("a directory"));
            let connector = Connector::open(DIR.path()).expect("made");
            proptest::prop_assert!(connector.sign(&text, &whose_test()).is_err());
        }
    }
}
