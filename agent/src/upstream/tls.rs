//! What upstream TLS trusts.

use std::{path::Path, sync::Arc};

use anyhow::Context as _;
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// Hosts whose TLS sessions are remembered: resumption is what makes new connections cheap.
const REMEMBERED_SESSIONS: usize = 1024;

/// TLS 1.2 and 1.3 by aws-lc-rs, whatever the process's default provider is. ALPN is left to the connector.
pub(super) fn client(roots: RootCertStore) -> anyhow::Result<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .context("aws-lc-rs offers neither TLS 1.2 nor 1.3")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(REMEMBERED_SESSIONS);
    Ok(config)
}

/// The system's CA certificates and those of `ca_file`.
pub(crate) fn system_roots_and(ca_file: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = match ca_file {
        Some(file) => roots_of(file)?,
        None => RootCertStore::empty(),
    };
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the system's CA certificates cannot be read");
    }
    // A distribution's bundle may hold a few that rustls does not take; the others still count.
    roots.add_parsable_certificates(found.certs);
    anyhow::ensure!(
        !roots.is_empty(),
        "no CA certificates: install the package ca-certificates or set upstream.ca_file"
    );
    Ok(roots)
}

/// The CA certificates of a PEM file, each of which has to be usable.
pub(crate) fn roots_of(ca_file: &Path) -> anyhow::Result<RootCertStore> {
    let shown = ca_file.display();
    let pem = std::fs::read(ca_file).with_context(|| format!("cannot read the ca_file {shown}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.with_context(|| format!("{shown} is not valid PEM"))?;
        roots
            .add(certificate)
            .with_context(|| format!("{shown} holds something that is not a CA certificate"))?;
    }
    anyhow::ensure!(
        !roots.is_empty(),
        "{shown} holds no certificate: a PEM file with the CA certificates is expected"
    );
    Ok(roots)
}
