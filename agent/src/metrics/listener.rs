//! Metrics over TCP, for a Prometheus that cannot ask the control socket.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};

use super::{CONTENT_TYPE, Scrape};

/// Who else asks at the same time is turned away.
const CONNECTIONS: usize = 8;
/// Within this time a request has to be read and answered.
const WITHIN: Duration = Duration::from_secs(10);

/// Answers `GET /metrics` at this address until dropped.
///
/// # Errors
/// When nobody can listen there.
pub async fn serve(address: SocketAddr, scrape: Scrape) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot serve metrics at {address} (metrics.listen)"))?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Ok(place) = places.clone().try_acquire_owned() {
                    let scrape = scrape.clone();
                    tokio::spawn(async move {
                        answer(stream, scrape).await;
                        drop(place);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, scrape: Scrape) {
    let service = service_fn(move |request: Request<Incoming>| {
        let scrape = scrape.clone();
        async move { Ok::<_, Infallible>(respond(&request, &scrape).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(WITHIN, served).await {
        tracing::debug!(%error, "a connection for metrics broke off");
    }
}

async fn respond(request: &Request<Incoming>, scrape: &Scrape) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, CONTENT_TYPE, scrape.text().await),
        _ => (
            StatusCode::NOT_FOUND,
            "text/plain",
            "there is GET /metrics and nothing else\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
