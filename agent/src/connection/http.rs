//! Connections that speak HTTP, with TLS around it or without: to Google, and to what sessions find at Holdpoint itself.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use holdpoint_core::refusal::{Dress, Refusal};
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use super::{Caller, HTTPS, Refused, STOPPED, is_google};
use crate::{
    binding::{self, Sandbox},
    interim::{InterimIo, Interims},
    kernel::Flow,
    metadata,
    metrics::Served,
    relay::{self, Visit},
    replay::Replay,
    reply, tls,
};

const HANDSHAKE: Duration = Duration::from_secs(15);
/// Bytes of request headers, all together.
const HEADER_LIMIT: usize = 64 << 10;

impl Caller {
    pub(super) async fn serve_tls(
        &self,
        stream: TcpStream,
        hello: Bytes,
        sni: String,
        port: u16,
    ) -> Result<Served, Refused> {
        let sni = sni.strip_suffix('.').unwrap_or(&sni).to_owned();
        self.record_connection(Some(&sni)).await?;
        if let Some(name) = self.name.as_deref().filter(|name| *name != sni) {
            let problem = format!(
                "the TLS handshake names {sni}, and the address it went to was given out for {name}"
            );
            return self
                .refuse_tls(stream, hello, &Refusal::malformed(&problem))
                .await;
        }
        if !is_google(&sni) {
            return self.pass_through(stream, hello, &sni, port, true).await;
        }
        if port != HTTPS {
            let problem = format!("Google's APIs are reached on port {HTTPS} only, not on {port}");
            return self
                .refuse_tls(stream, hello, &Refusal::malformed(&problem))
                .await;
        }
        let accept = self.house.acceptor.accept(Replay::new(hello, stream));
        let tls = timeout(HANDSHAKE, accept)
            .await
            .map_err(|_| Refused::from("the TLS handshake took too long"))?
            .map_err(|error| Refused(tls::handshake_problem(&error)))?;
        if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.serve_http2(tls, sni).await?;
        } else {
            self.serve_http1(tls, sni).await?;
        }
        Ok(Served::Google)
    }

    async fn serve_http1(
        &self,
        tls: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: String,
    ) -> Result<(), Refused> {
        let (io, interims) = InterimIo::new(tls);
        let visit = self.visit(host, Some(interims));
        let service = service_fn(move |request| relay::answer(visit.clone(), request));
        let connection = http1_builder().serve_connection(TokioIo::new(io), service);
        let served = self.until_stopped(connection).await;
        served.or_else(refused_by_hyper)
    }

    async fn serve_http2(
        &self,
        tls: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: String,
    ) -> Result<(), Refused> {
        let visit = self.visit(host, None);
        let service = service_fn(move |request| relay::answer(visit.clone(), request));
        let connection = http2_builder().serve_connection(TokioIo::new(tls), service);
        let served = self.until_stopped(connection).await;
        served.or_else(refused_by_hyper)
    }

    /// Serves a connection to its end. When the daemon stops before, what is under way is answered, and nothing more.
    async fn until_stopped<C: GracefulConnection>(&self, connection: C) -> Result<(), C::Error> {
        let mut connection = pin!(connection);
        tokio::select! {
            served = connection.as_mut() => return served,
            () = self.house.stopped() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    fn visit(&self, host: String, interims: Option<Interims>) -> Arc<Visit> {
        Arc::new(Visit {
            house: self.house.clone(),
            room: self.room.clone(),
            host,
            connection: self.id,
            interims,
        })
    }

    pub(super) async fn serve_metadata(&self, stream: TcpStream, port: u16) -> Result<(), Refused> {
        if port != 80 {
            return Err(Refused(format!("the metadata server has no port {port}")));
        }
        let room = self.room.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (head, _) = request.into_parts();
            let response = metadata::answer(
                &room.metadata,
                &head.method,
                head.uri.path(),
                head.uri.query(),
                &head.headers,
            );
            async move { Ok::<_, Infallible>(response.map(Full::new)) }
        });
        let connection = http1_builder().serve_connection(TokioIo::new(stream), service);
        let served = self.until_stopped(connection).await;
        served.or_else(refused_by_hyper)
    }

    /// What is asked here may end the session that asks.
    pub(super) async fn serve_binding(
        &self,
        sandbox: &Arc<Sandbox>,
        stream: TcpStream,
        flow: Flow,
    ) -> Result<(), Refused> {
        let port = flow.destination.port();
        if port != 80 {
            return Err(Refused(format!("{} has no port {port}", binding::NAME)));
        }
        self.outlasts.store(true, Ordering::Relaxed);
        let (house, sandbox) = (self.house.clone(), sandbox.clone());
        let served = binding::serve(house, sandbox, stream, flow.pid).await;
        served.or_else(refused_by_hyper)
    }

    pub(super) async fn serve_containers(&self, stream: TcpStream) -> Result<(), Refused> {
        let Some(containers) = self.house.containers.clone() else {
            return Err(
                "sessions here have no containers: the configuration has no [containers]".into(),
            );
        };
        let served = containers.serve(self.house.clone(), self.room.clone(), self.id, stream);
        tokio::select! {
            served = served => served.or_else(refused_by_hyper),
            () = self.house.stopped() => Err(STOPPED.into()),
        }
    }

    /// Completes the handshake only to say no in words.
    pub(super) async fn refuse_tls(
        &self,
        stream: TcpStream,
        hello: Bytes,
        refusal: &Refusal,
    ) -> Result<Served, Refused> {
        let _ = self.refusal.set(refusal.message.clone());
        let accept = self.house.acceptor.accept(Replay::new(hello, stream));
        if let Ok(Ok(tls)) = timeout(HANDSHAKE, accept).await {
            let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            self.answer_all(tls, refusal, http2).await;
        }
        Err(Refused(refusal.message.clone()))
    }

    /// Gives every request of a connection the same refusal.
    pub(super) async fn answer_all(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        refusal: &Refusal,
        http2: bool,
    ) {
        let refusal = refusal.clone().in_session(self.room.session.id.as_str());
        let service = service_fn(move |_: Request<Incoming>| {
            let response: Response<_> = reply::render(&refusal, Dress::Json);
            async move { Ok::<_, Infallible>(response) }
        });
        let io = TokioIo::new(io);
        // The client's own errors on a refused connection interest nobody.
        if http2 {
            let _ = timeout(HANDSHAKE, http2_builder().serve_connection(io, service)).await;
        } else {
            let http1 = http1_builder()
                .keep_alive(false)
                .serve_connection(io, service);
            let _ = timeout(HANDSHAKE, http1).await;
        }
    }
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .max_buf_size(HEADER_LIMIT);
    builder
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        // What a connection may send ahead of being read. Loopback needs no more.
        .initial_stream_window_size(128 << 10)
        .initial_connection_window_size(256 << 10)
        .max_header_list_size(u32::try_from(HEADER_LIMIT).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(60));
    builder
}

/// Clients come and go; only what they sent wrong is worth the record.
fn refused_by_hyper(error: hyper::Error) -> Result<(), Refused> {
    if error.is_parse() || error.is_parse_too_large() {
        return Err(Refused(format!(
            "what it sent is not HTTP that can be judged: {error}"
        )));
    }
    tracing::debug!(%error, "connection ended");
    Ok(())
}
