//! TLS towards the sandboxes: the per-host certificate authority, leaf certificates, and the look at a ClientHello before
//! anything is decided.

mod connector;
mod database;
mod truststore;

use std::{
    fs,
    io::{self, Write as _},
    net::IpAddr,
    num::NonZeroUsize,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use jiff::Timestamp;
use lru::LruCache;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{Acceptor, ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;
use x509_parser::time::ASN1Time;

pub use self::{
    connector::{Connector, Whose},
    database::DatabaseAcceptor,
};

/// Leaf certificates kept; more names than this cost 12 us each again.
const MOST_LEAVES: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
const LEAF_LIFE: Duration = Duration::from_hours(7 * 24);
const CA_LIFE: Duration = Duration::from_hours(5 * 365 * 24);
/// Clocks of clients may be behind.
const BACKDATED: Duration = Duration::from_hours(1);

/// The certificate authority of this host. Sandboxes trust it, nothing else does.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    /// The authority kept in this directory, made on first use: `ca.key` (mode 0600) and `ca.pem`.
    ///
    /// # Errors
    /// When the files cannot be read or made, or do not fit each other.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        Self::open_as(dir, "ca", "Holdpoint CA of this host")
    }

    /// As [`Self::open`], one of another name and for another purpose.
    fn open_as(dir: &Path, file: &str, name: &str) -> anyhow::Result<Self> {
        let (key_file, certificate_file) = (
            dir.join(format!("{file}.key")),
            dir.join(format!("{file}.pem")),
        );
        if !key_file.exists() {
            create(&key_file, &certificate_file, name)?;
        }
        let key = fs::read_to_string(&key_file)
            .with_context(|| format!("cannot read the CA key {}", key_file.display()))?;
        let pem = fs::read_to_string(&certificate_file).with_context(|| {
            format!(
                "cannot read the CA certificate {}",
                certificate_file.display()
            )
        })?;
        let key = KeyPair::from_pem(&key)
            .with_context(|| format!("{} is not a private key", key_file.display()))?;
        let certificate = rustls_pki_types::pem::PemObject::from_pem_slice(pem.as_bytes())
            .map_err(|error| anyhow::anyhow!("{}: {error:?}", certificate_file.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)
            .with_context(|| format!("{} is not a CA certificate", certificate_file.display()))?;
        Ok(Self {
            issuer,
            certificate,
            pem,
        })
    }

    /// From when to when the certificate is good. `None` when it does not say so in a way that clients understand.
    #[must_use]
    pub fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        let (_, certificate) = x509_parser::parse_x509_certificate(&self.certificate).ok()?;
        let validity = certificate.validity();
        let time = |time: ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        Some((time(validity.not_before)?, time(validity.not_after)?))
    }

    /// The certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

fn create(key_file: &Path, certificate_file: &Path, name: &str) -> anyhow::Result<()> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a CA key")?;
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Holdpoint");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + CA_LIFE).into();
    let certificate = params
        .self_signed(&key)
        .context("cannot sign the CA certificate")?;
    // The key last: while it is missing, both are made anew.
    fs::write(certificate_file, certificate.pem())
        .with_context(|| format!("cannot write {}", certificate_file.display()))?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(key_file)
        .with_context(|| format!("cannot write {}", key_file.display()))?;
    file.write_all(key.serialize_pem().as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("cannot write {}", key_file.display()))
}

/// Accepts TLS from sandboxes, with a leaf certificate for whatever name was asked for.
///
/// # Errors
/// When the library has no TLS.
pub fn acceptor(leaves: Arc<Leaves>) -> anyhow::Result<TlsAcceptor> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("no TLS versions")?
        .with_no_client_auth()
        .with_cert_resolver(leaves);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Leaf certificates by name, all with one key.
pub struct Leaves {
    authority: Authority,
    key: KeyPair,
    signing_key: Arc<dyn rustls::sign::SigningKey>,
    made: Mutex<LruCache<String, Leaf>>,
}

struct Leaf {
    key: Arc<CertifiedKey>,
    renew_at: SystemTime,
}

impl Leaves {
    /// None yet.
    ///
    /// # Errors
    /// When no leaf key can be made.
    pub fn new(authority: Authority) -> anyhow::Result<Self> {
        let provider = aws_lc_rs::default_provider();
        let key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("cannot make a leaf key")?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signing_key = provider
            .key_provider
            .load_private_key(der)
            .context("cannot use the leaf key")?;
        Ok(Self {
            authority,
            key,
            signing_key,
            made: Mutex::new(LruCache::new(MOST_LEAVES)),
        })
    }

    fn leaf_for(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.leaf(name)
            .inspect_err(|error| tracing::warn!(name, %error, "no leaf certificate"))
            .ok()
    }

    fn leaf(&self, name: &str) -> anyhow::Result<Arc<CertifiedKey>> {
        let now = SystemTime::now();
        if let Some(leaf) = self.made.lock().expect("no panic while locked").get(name)
            && leaf.renew_at > now
        {
            return Ok(leaf.key.clone());
        }
        let key = Arc::new(self.sign(name, now)?);
        let leaf = Leaf {
            key: key.clone(),
            renew_at: now + LEAF_LIFE / 2,
        };
        self.made
            .lock()
            .expect("no panic while locked")
            .put(name.to_owned(), leaf);
        Ok(key)
    }

    fn sign(&self, name: &str, now: SystemTime) -> anyhow::Result<CertifiedKey> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        // libpq before version 15 looks for addresses here only.
        let is_address = name.parse::<IpAddr>().is_ok();
        params.distinguished_name.push(
            DnType::CommonName,
            if is_address { name } else { "Holdpoint" },
        );
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (now - BACKDATED).into();
        params.not_after = (now + LEAF_LIFE).into();
        let leaf = params.signed_by(&self.key, &self.authority.issuer)?;
        let chain = vec![leaf.der().clone(), self.authority.certificate.clone()];
        Ok(CertifiedKey::new(chain, self.signing_key.clone()))
    }
}

impl ResolvesServerCert for Leaves {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaf_for(hello.server_name()?)
    }
}

impl std::fmt::Debug for Leaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leaves")
    }
}

/// Reads a ClientHello, and nothing but it, out of the first bytes of a connection.
#[derive(Default)]
pub struct HelloReader(Acceptor);

/// What [`HelloReader`] made of the bytes so far.
pub enum Hello {
    /// More bytes are needed.
    Incomplete,
    /// A ClientHello, with the server name (RFC 6066, section 3) in lower case where it has one.
    Complete(Option<String>),
    /// Not TLS. What a TLS server says to that.
    NotTls(Vec<u8>),
}

impl HelloReader {
    /// Takes more bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Hello {
        while !bytes.is_empty() {
            if self.0.read_tls(&mut bytes).is_err() {
                return Hello::NotTls(Vec::new());
            }
            match self.0.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    let name = accepted
                        .client_hello()
                        .server_name()
                        .map(str::to_ascii_lowercase);
                    return Hello::Complete(name);
                }
                Err((_, mut alert)) => {
                    let mut answer = Vec::new();
                    // Writing to a Vec cannot fail.
                    let _ = alert.write(&mut answer);
                    return Hello::NotTls(answer);
                }
            }
        }
        Hello::Incomplete
    }
}

/// Writes what sandboxes see in place of the system's CA bundle and of Java's truststores: the system's roots, so that passed-through
/// hosts are verified as ever, and this host's authority.
///
/// # Errors
/// When one cannot be written.
pub fn write_trust(authority: &Authority, bundle: &Path, truststore: &Path) -> anyhow::Result<()> {
    let mut certificates = rustls_native_certs::load_native_certs().certs;
    certificates.push(authority.certificate.clone());
    let pem: String = certificates.iter().map(certificate_pem).collect();
    replace(bundle, pem.as_bytes())?;
    replace(truststore, &truststore::from(&certificates)?)
}

/// For everybody to read, and whole at any time.
fn replace(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    let temporary = file.with_extension("new");
    fs::write(&temporary, content)
        .and_then(|()| {
            fs::set_permissions(
                &temporary,
                std::os::unix::fs::PermissionsExt::from_mode(0o644),
            )
        })
        .and_then(|()| fs::rename(&temporary, file))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// RFC 7468.
fn certificate_pem(der: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// The error of a handshake, in words for the record.
#[must_use]
pub fn handshake_problem(error: &io::Error) -> String {
    format!(
        "the TLS handshake failed: {error} (does the client trust the bundle in SSL_CERT_FILE?)"
    )
}

#[cfg(test)]
mod tests {
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn client(authority: &Authority, name: &str) -> ClientConnection {
        let mut roots = RootCertStore::empty();
        roots
            .add(authority.certificate.clone())
            .expect("a CA certificate");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = name.to_owned().try_into().expect("a DNS name");
        ClientConnection::new(Arc::new(config), name).expect("a client")
    }

    #[test]
    fn the_authority_is_kept_and_its_key_is_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Authority::open(dir.path()).expect("made");
        let again = Authority::open(dir.path()).expect("read");
        assert_eq!(first.pem(), again.pem());
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(dir.path().join("ca.key"))
                .expect("there")
                .permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_client_that_trusts_the_authority_completes_a_handshake() {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::open(dir.path()).expect("made");
        let mut client = client(&authority, "sqladmin.googleapis.com");
        let leaves = Leaves::new(authority).expect("a key");
        let acceptor = acceptor(Arc::new(leaves)).expect("an acceptor");
        let (near, far) = tokio::io::duplex(16 * 1024);
        let server = tokio::spawn(async move { acceptor.accept(far).await.map(drop) });
        let mut near = near;
        while client.is_handshaking() {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut out = Vec::new();
            client.write_tls(&mut out).expect("a Vec");
            near.write_all(&out).await.expect("the server reads");
            if client.is_handshaking() {
                let mut buffer = vec![0; 16 * 1024];
                let n = near.read(&mut buffer).await.expect("the server writes");
                client.read_tls(&mut &buffer[..n]).expect("a slice");
                client
                    .process_new_packets()
                    .expect("the certificate is good");
            }
        }
        let mut out = Vec::new();
        client.write_tls(&mut out).expect("a Vec");
        let _ = tokio::io::AsyncWriteExt::write_all(&mut near, &out).await;
        server.await.expect("no panic").expect("a handshake");
    }

    #[test]
    fn the_name_is_read_however_the_hello_is_cut() {
        let dir = tempfile::tempdir().expect("a directory");
        let authority = Authority::open(dir.path()).expect("made");
        let mut bytes = Vec::new();
        client(&authority, "Storage.GoogleApis.com")
            .write_tls(&mut bytes)
            .expect("a Vec");
        for cut in 1..bytes.len() {
            let mut reader = HelloReader::default();
            assert!(
                matches!(reader.feed(&bytes[..cut]), Hello::Incomplete),
                "at {cut}"
            );
            let Hello::Complete(Some(name)) = reader.feed(&bytes[cut..]) else {
                panic!("no name when cut at {cut}")
            };
            assert_eq!(name, "storage.googleapis.com");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let _ = HelloReader::default().feed(&bytes);
        }
    }
}
