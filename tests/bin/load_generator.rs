//! Asks for one URL over and over on kept connections and prints what it measured, as one line of JSON.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use clap::Parser;
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Measures requests a second and latency of one URL, over HTTP/1.1 and TLS.
#[derive(Parser)]
struct Args {
    /// What to ask for.
    url: Uri,
    /// Connect here instead of to the URL's host.
    #[arg(long)]
    connect: Option<SocketAddr>,
    /// Certificates to trust.
    #[arg(long, default_value = "/etc/ssl/certs/ca-certificates.crt")]
    ca_file: PathBuf,
    /// The `Authorization` header's value.
    #[arg(long)]
    authorization: Option<String>,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Seconds of measuring, after one of warming up.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Arc::new(Args::parse());
    let tls = TlsConnector::from(Arc::new(tls(&args)?));
    let warm = Instant::now() + Duration::from_secs(1);
    let end = warm + Duration::from_secs(args.seconds);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..args.connections {
        clients.spawn(client(args.clone(), tls.clone(), warm, end));
    }
    let mut latencies = Vec::new();
    while let Some(measured) = clients.join_next().await {
        latencies.extend(measured??);
    }
    ensure!(
        !latencies.is_empty(),
        "not one request was answered in time"
    );
    latencies.sort_unstable();
    let at =
        |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_micros() as u64;
    let per_second = latencies.len() as f64 / args.seconds as f64;
    println!(
        "{}",
        json!({
            "requests_per_second": per_second, "p50_us": at(0.50), "p99_us": at(0.99),
            "requests": latencies.len(),
        })
    );
    Ok(())
}

async fn client(
    args: Arc<Args>,
    tls: TlsConnector,
    warm: Instant,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut sender = connect(&args, &tls).await?;
    let mut latencies = Vec::new();
    loop {
        let begin = Instant::now();
        if begin >= end {
            return Ok(latencies);
        }
        ask(&args, &mut sender).await?;
        if begin >= warm {
            latencies.push(begin.elapsed());
        }
    }
}

async fn connect(args: &Args, tls: &TlsConnector) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
    let host = args.url.host().context("the URL has no host")?.to_owned();
    let stream = match args.connect {
        Some(address) => TcpStream::connect(address).await,
        None => TcpStream::connect((host.as_str(), 443)).await,
    };
    let stream = stream.with_context(|| format!("cannot connect to {host}"))?;
    stream.set_nodelay(true)?;
    let stream = tls.connect(ServerName::try_from(host)?, stream).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(args: &Args, sender: &mut SendRequest<Empty<Bytes>>) -> anyhow::Result<()> {
    let target = args
        .url
        .path_and_query()
        .context("the URL has no path")?
        .as_str();
    let mut request = Request::get(target).header("host", args.url.host().unwrap_or_default());
    if let Some(authorization) = &args.authorization {
        request = request.header("authorization", authorization);
    }
    sender.ready().await?;
    let answer = sender.send_request(request.body(Empty::new())?).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    ensure!(
        status.is_success(),
        "{status}: {}",
        String::from_utf8_lossy(&body)
    );
    Ok(())
}

fn tls(args: &Args) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&args.ca_file)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
