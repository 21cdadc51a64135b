//! Asks for one URL over and over on kept connections and prints what it measured, as one line of JSON.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use clap::Parser;
use holdpoint_tests::client;
use http::Uri;
use serde_json::json;
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
    let tls = client::trusting(&args.ca_file)?;
    let warm = Instant::now() + Duration::from_secs(1);
    let end = warm + Duration::from_secs(args.seconds);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..args.connections {
        clients.spawn(measure(args.clone(), tls.clone(), warm, end));
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

async fn measure(
    args: Arc<Args>,
    tls: TlsConnector,
    warm: Instant,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let host = args.url.host().context("the URL has no host")?;
    let mut sender = client::connect(host, args.connect, &tls).await?;
    let mut latencies = Vec::new();
    loop {
        let begin = Instant::now();
        if begin >= end {
            return Ok(latencies);
        }
        let (status, body) =
            client::get(&mut sender, &args.url, args.authorization.as_deref()).await?;
        ensure!(
            status.is_success(),
            "{status}: {}",
            String::from_utf8_lossy(&body)
        );
        if begin >= warm {
            latencies.push(begin.elapsed());
        }
    }
}
