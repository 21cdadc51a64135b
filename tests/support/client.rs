//! An HTTPS client for programs that measure: one connection, one request at a time.

use std::{net::SocketAddr, path::Path, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection that requests can be sent on.
pub type Sender = SendRequest<Empty<Bytes>>;

/// TLS that trusts the certificates in a PEM file.
///
/// # Errors
/// When it cannot be read.
pub fn trusting(ca_file: &Path) -> anyhow::Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Connects to port 443 of a host; to `address` instead where one is given.
///
/// # Errors
/// When it cannot be reached, or the handshake fails.
pub async fn connect(
    host: &str,
    address: Option<SocketAddr>,
    tls: &TlsConnector,
) -> anyhow::Result<Sender> {
    let stream = match address {
        Some(address) => TcpStream::connect(address).await,
        None => TcpStream::connect((host, 443)).await,
    };
    greet(
        host,
        stream.with_context(|| format!("cannot connect to {host}"))?,
        tls,
    )
    .await
}

/// Makes a connection one that requests can be sent on.
///
/// # Errors
/// When the handshake fails.
pub async fn greet(host: &str, stream: TcpStream, tls: &TlsConnector) -> anyhow::Result<Sender> {
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(host.to_owned())?;
    let stream = tls.connect(name, stream).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Asks for a URL; the whole answer.
///
/// # Errors
/// When the connection breaks.
pub async fn get(
    sender: &mut Sender,
    url: &Uri,
    authorization: Option<&str>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let target = url.path_and_query().context("the URL has no path")?;
    let mut request = Request::get(target.as_str()).header("host", url.host().unwrap_or_default());
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    sender.ready().await?;
    let answer = sender.send_request(request.body(Empty::new())?).await?;
    let status = answer.status();
    Ok((status, answer.into_body().collect().await?.to_bytes()))
}
