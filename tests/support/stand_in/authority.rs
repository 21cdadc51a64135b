//! The stand-in's certificate authority: one leaf certificate for whatever name a client asks for.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SubjectPublicKeyInfo,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A certificate authority of one run.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    leaves: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new one, named `name`.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, name.to_owned());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
            leaves: Mutex::default(),
        })
    }

    /// The authority's certificate.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A PEM certificate and a PEM key for `name`, for a server that is not ours.
    ///
    /// # Errors
    /// When `name` is not a DNS name.
    pub fn leaf_pem(&self, name: &str) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.issuer)?;
        Ok((leaf.pem(), key.serialize_pem()))
    }

    /// A PEM certificate and a PEM key for all of `names`, DNS names and IP addresses; its subject is `common_name`.
    ///
    /// # Errors
    /// When a name is neither.
    pub fn leaf_pem_for(
        &self,
        common_name: &str,
        names: &[&str],
    ) -> anyhow::Result<(String, String)> {
        self.sign(common_name, names, None)
    }

    /// As [`Self::leaf_pem_for`], and it was good until the end of 2020.
    ///
    /// # Errors
    /// When a name is neither.
    pub fn expired_leaf_pem_for(
        &self,
        common_name: &str,
        names: &[&str],
    ) -> anyhow::Result<(String, String)> {
        self.sign(common_name, names, Some(2021))
    }

    /// Good up to the beginning of a year, where one is given.
    fn sign(
        &self,
        common_name: &str,
        names: &[&str],
        until: Option<i32>,
    ) -> anyhow::Result<(String, String)> {
        let key = KeyPair::generate()?;
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        if let Some(year) = until {
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
        }
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok((leaf.pem(), key.serialize_pem()))
    }

    /// A PEM certificate for the key of a client, good until then.
    ///
    /// # Errors
    /// When `public_key` is no public key in PEM.
    pub fn client_pem(
        &self,
        public_key: &str,
        common_name: &str,
        until: SystemTime,
    ) -> anyhow::Result<String> {
        let key = SubjectPublicKeyInfo::from_pem(public_key)?;
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
        params.not_after = until.into();
        Ok(params.signed_by(&key, &self.issuer)?.pem())
    }

    /// TLS for every name, HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When rustls refuses its own defaults.
    pub fn server_config(self: Arc<Self>) -> anyhow::Result<ServerConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn leaf(&self, name: &str) -> anyhow::Result<Arc<CertifiedKey>> {
        let mut leaves = self.leaves.lock().expect("no panic while locked");
        if let Some(leaf) = leaves.get(name) {
            return Ok(leaf.clone());
        }
        let key = KeyPair::generate()?;
        let leaf = CertificateParams::new([name.to_owned()])?.signed_by(&key, &self.issuer)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = aws_lc_rs::sign::any_supported_type(&der).context("the leaf key")?;
        let leaf = Arc::new(CertifiedKey::new(vec![leaf.der().clone()], signer));
        leaves.insert(name.to_owned(), leaf.clone());
        Ok(leaf)
    }
}

impl ResolvesServerCert for Authority {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaf(hello.server_name()?).ok()
    }
}
