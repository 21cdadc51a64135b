//! TLS, limits and time-outs around the routes.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use super::{Desk, limits::Limits, routes};
use crate::{
    approvals::Approvals,
    config::{Answers, Config, in_credentials_directory},
    control::Logins,
    credential::read_private,
    notifications::Links,
};

/// Connections at once, of everybody.
const CONNECTIONS: usize = 128;
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// For all of a connection: one request, and what an issuer is asked for it.
const WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked whether there is another certificate.
const CERTIFICATE_EVERY: Duration = Duration::from_secs(60);
/// Before an address that is taken, say, is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// The answer endpoint, about to serve.
pub struct Server {
    settings: Answers,
    certificate: Certificate,
    desk: Arc<Desk>,
    limits: Limits,
}

impl Server {
    /// What `answers` asks for; it serves nobody yet.
    ///
    /// # Errors
    /// When certificate, key or an issuer's client cannot be used.
    pub fn new(
        config: &Config,
        answers: &Answers,
        approvals: Approvals,
        links: Arc<Links>,
        logins: Arc<Logins>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            settings: answers.clone(),
            certificate: Certificate::read(answers).context("[answers]")?,
            desk: Arc::new(Desk::new(config, approvals, links, logins)?),
            limits: Limits::default(),
        })
    }

    /// Serves until dropped. No hold depends on it: what goes wrong is logged.
    pub async fn serve(self) -> Infallible {
        let (server, places) = (Arc::new(self), Arc::new(Semaphore::new(CONNECTIONS)));
        let listener = server.listen().await;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Full means no: dropping the stream closes it.
                    if let Ok(place) = places.clone().try_acquire_owned() {
                        let server = server.clone();
                        tokio::spawn(async move {
                            server.connection(stream).await;
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of a reviewer");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn listen(&self) -> TcpListener {
        let address = self.settings.listen;
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    tracing::info!(%address, "reviewers may answer by links");
                    return listener;
                }
                Err(error) => {
                    tracing::error!(%address, %error, "cannot listen for answers (answers.listen)");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// One request, one answer.
    async fn connection(&self, stream: TcpStream) {
        let Ok(peer) = stream.peer_addr() else {
            return;
        };
        let Some(_admitted) = self.limits.admit(peer.ip(), Instant::now()) else {
            crate::metrics::metrics().answer_request("turned_away");
            return;
        };
        let acceptor = TlsAcceptor::from(self.certificate.current());
        let Ok(Ok(stream)) = timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await else {
            return;
        };
        let router = routes::router(self.desk.clone());
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .keep_alive(false)
            .max_buf_size(32 * 1024)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        if let Ok(Err(error)) = timeout(WITHIN, served).await {
            tracing::debug!(%error, "a connection of a reviewer broke off");
        }
    }
}

/// A certificate and its key, read anew when the file has changed: they are short-lived today.
struct Certificate {
    files: (PathBuf, PathBuf),
    read: Mutex<Read>,
}

struct Read {
    config: Arc<ServerConfig>,
    changed: Option<SystemTime>,
    looked: Instant,
}

impl Certificate {
    fn read(answers: &Answers) -> anyhow::Result<Self> {
        let files = (
            in_credentials_directory(&answers.certificate)?,
            in_credentials_directory(&answers.key)?,
        );
        let read = Mutex::new(Read {
            config: server_config(&files.0, &files.1)?,
            changed: changed(&files.0).ok(),
            looked: Instant::now(),
        });
        Ok(Self { files, read })
    }

    /// One that cannot be used leaves the one before in its place.
    fn current(&self) -> Arc<ServerConfig> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.looked.elapsed() < CERTIFICATE_EVERY {
            return read.config.clone();
        }
        read.looked = Instant::now();
        let now = changed(&self.files.0).ok();
        if now != read.changed {
            match server_config(&self.files.0, &self.files.1) {
                Ok(config) => (read.config, read.changed) = (config, now),
                Err(error) => {
                    tracing::warn!("the certificate for answers stays as it was: {error:#}")
                }
            }
        }
        read.config.clone()
    }
}

fn changed(file: &Path) -> io::Result<SystemTime> {
    std::fs::metadata(file)?.modified()
}

fn server_config(certificate: &Path, key: &Path) -> anyhow::Result<Arc<ServerConfig>> {
    let context = || format!("the certificate {}", certificate.display());
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
        .with_context(context)?
        .collect();
    let chain = chain.with_context(context)?;
    let context = || format!("the key {}", key.display());
    let pem: Zeroizing<Vec<u8>> = read_private(key).with_context(context)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).with_context(context)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("no TLS versions")?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("certificate and key do not belong together, or cannot be used")?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
