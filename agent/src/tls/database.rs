//! TLS towards clients of databases.

use std::{io, sync::Arc};

use anyhow::Context as _;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::Leaves;

/// Accepts TLS from clients of databases, many of which do not say in their ClientHello whom they mean.
#[derive(Clone)]
pub struct DatabaseAcceptor {
    leaves: Arc<Leaves>,
    config: ServerConfig,
}

impl DatabaseAcceptor {
    /// With leaves of this host's authority.
    ///
    /// # Errors
    /// When the library has no TLS.
    pub fn new(leaves: Arc<Leaves>) -> anyhow::Result<Self> {
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .context("no TLS versions")?
                .with_no_client_auth()
                .with_cert_resolver(leaves.clone());
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        // libpq resumes nothing.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { leaves, config })
    }

    /// The handshake, with a leaf for the name in the ClientHello, else for the host that the client connected to, a name or an address.
    ///
    /// # Errors
    /// When it fails.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        stream: S,
    ) -> io::Result<TlsStream<S>> {
        let mut config = self.config.clone();
        config.cert_resolver = Arc::new(For {
            host: host.to_owned(),
            leaves: self.leaves.clone(),
        });
        TlsAcceptor::from(Arc::new(config)).accept(stream).await
    }
}

#[derive(Debug)]
struct For {
    host: String,
    leaves: Arc<Leaves>,
}

impl ResolvesServerCert for For {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.leaves
            .leaf_for(hello.server_name().unwrap_or(&self.host))
    }
}
