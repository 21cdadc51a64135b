//! Servers for tests: real TLS or clear text on loopback.

use std::{
    convert::Infallible,
    io::Write as _,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use crate::config;

/// One request as a [`TestServer`] got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
    pub body: Bytes,
}

type Handler = Arc<dyn Fn(&Seen) -> Response<Bytes> + Send + Sync>;

/// Answers requests on loopback until dropped.
pub(crate) struct TestServer {
    pub address: SocketAddr,
    ca: tempfile::NamedTempFile,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl TestServer {
    /// A TLS server whose certificate, from a CA of its own, names `names`; `alpn` is what it offers.
    pub(crate) async fn tls(
        names: &[&str],
        alpn: &[&str],
        handler: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let (ca, config) = certificates(names, alpn);
        Self::start(
            ca,
            Some(TlsAcceptor::from(Arc::new(config))),
            Arc::new(handler),
        )
        .await
    }

    /// A clear-text HTTP/1.1 server.
    pub(crate) async fn plain(
        handler: impl Fn(&Seen) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        let nothing = tempfile::NamedTempFile::new().expect("a temporary file");
        Self::start(nothing, None, Arc::new(handler)).await
    }

    async fn start(
        ca: tempfile::NamedTempFile,
        tls: Option<TlsAcceptor>,
        handler: Handler,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(accept(listener, tls, handler, Arc::clone(&seen)));
        Self {
            address,
            ca,
            seen,
            task,
        }
    }

    /// The PEM file of the server's CA.
    pub(crate) fn ca_file(&self) -> &Path {
        self.ca.path()
    }

    /// Settings under which every name leads here and the server is trusted.
    pub(crate) fn settings(&self) -> config::Upstream {
        config::Upstream {
            ca_file: Some(self.ca_file().to_owned()),
            addresses: [("*".to_owned(), self.address)].into(),
        }
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic while locked").clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A JSON answer.
pub(crate) fn json(status: u16, value: &serde_json::Value) -> Response<Bytes> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(value.to_string().into())
        .expect("a valid response")
}

fn certificates(names: &[&str], alpn: &[&str]) -> (tempfile::NamedTempFile, rustls::ServerConfig) {
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let mut ca = rcgen::CertificateParams::new([]).expect("valid names");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("self-signed");
    let mut ca_file = tempfile::NamedTempFile::new().expect("a temporary file");
    ca_file
        .write_all(ca_certificate.pem().as_bytes())
        .expect("written");

    let key = rcgen::KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = rcgen::CertificateParams::new(names)
        .expect("valid names")
        .signed_by(&key, &rcgen::Issuer::from_params(&ca, &ca_key))
        .expect("signed");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
        )
        .expect("a fitting key");
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    (ca_file, config)
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handler: Handler,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (tls, handler, seen) = (tls.clone(), Arc::clone(&handler), Arc::clone(&seen));
        connections.spawn(async move {
            let Some(tls) = tls else {
                return serve(tcp, false, handler, seen).await;
            };
            if let Ok(stream) = tls.accept(tcp).await {
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                serve(stream, h2, handler, seen).await;
            }
        });
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    h2: bool,
    handler: Handler,
    seen: Arc<Mutex<Vec<Seen>>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (handler, seen) = (Arc::clone(&handler), Arc::clone(&seen));
        async move {
            let (head, body) = request.into_parts();
            let body = body
                .collect()
                .await
                .map(|body| body.to_bytes())
                .unwrap_or_default();
            let one = Seen {
                method: head.method,
                uri: head.uri,
                version: head.version,
                headers: head.headers,
                body,
            };
            seen.lock()
                .expect("no panic while locked")
                .push(one.clone());
            Ok::<_, Infallible>(handler(&one).map(Full::new))
        }
    });
    // How a connection ends is what the client under test reports.
    let io = TokioIo::new(stream);
    if h2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, service)
            .await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(io, service)
            .await;
    }
}
