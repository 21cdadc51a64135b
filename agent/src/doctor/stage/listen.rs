//! Listeners that note what they hear, and answer politely.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    time::timeout,
};

use super::seen::Seen;

/// How long to wait for the first bytes, and for more of them.
const FIRST: Duration = Duration::from_secs(3);
const MORE: Duration = Duration::from_millis(100);
/// More than any attack sends.
const LIMIT: usize = 64 << 10;

/// One thread for all of them.
pub fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder
        .enable_all()
        .build()
        .context("cannot start a thread")
}

/// On all addresses of the caller's network namespace, IPv4 ones where there is no IPv6.
pub async fn everywhere(port: u16) -> anyhow::Result<TcpListener> {
    let listener = match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
        listener => listener,
    };
    listener.with_context(|| format!("cannot listen on port {port} of a namespace of its own"))
}

/// Serves a TCP listener for ever.
pub async fn tcp(listener: TcpListener, seen: Seen) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = seen.clone();
        tokio::spawn(async move { hear(stream, &seen).await });
    }
}

/// Serves a UNIX listener for ever.
pub async fn unix(listener: UnixListener, seen: Seen) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = seen.clone();
        tokio::spawn(async move { hear(stream, &seen).await });
    }
}

/// Notes all that one connection brings, and answers as a web server would.
pub async fn hear(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen) {
    let heard = read(&mut stream).await;
    seen.note(&heard);
    let _ = answer(&mut stream, "{}").await;
}

/// What somebody says first, and what follows closely.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut heard = Vec::new();
    let mut part = vec![0; 4096];
    let mut patience = FIRST;
    while heard.len() < LIMIT {
        match timeout(patience, stream.read(&mut part)).await {
            Ok(Ok(length)) if length > 0 => heard.extend_from_slice(&part[..length]),
            _ => break,
        }
        patience = MORE;
    }
    heard
}

/// 200, with JSON.
pub async fn answer(stream: &mut (impl AsyncWrite + Unpin), json: &str) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmetadata-flavor: Google\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{json}",
        json.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
