//! Connections to the real Google, to issuers, to the host's metadata server: the one place that makes TLS clients.
//!
//! Nothing is taken out of a request here, and nothing added but a missing `host` on HTTP/1.1: what may travel upstream is
//! the caller's business.

mod connector;
mod error;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;

use std::{io, path::Path, time::Duration};

use bytes::Bytes;
use holdpoint_core::recognise::Reading;
use http::{HeaderValue, Method, Request, Response, Uri, Version, header, response::Parts};
use http_body_util::{BodyExt as _, Full, Limited, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::net::TcpStream;

pub(crate) use self::connector::{check_scheme, is_loopback};
pub use self::error::{FetchError, SendError};
pub(crate) use self::tls::{roots_of, system_roots_and};
use self::{
    connector::{Connector, Dialer},
    error::FetchCause,
};
use crate::{config, gate::Outcome, metrics::metrics};

/// A request body on its way upstream.
pub type ProxyBody = BoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// How long looking up a name, connecting and the TLS handshake may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection older than this is more likely than not closed by the other side.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const POOL_MAX_IDLE_PER_HOST: usize = 128;
/// HTTP/2 pings find out that a peer is gone while requests wait for it; TCP alone would take 15 minutes.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);

/// A pooled HTTP/1.1 and HTTP/2 client. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Upstream {
    client: Client<Connector, ProxyBody>,
    dialer: Dialer,
}

impl Upstream {
    /// A client that trusts the system's CA certificates and those of `settings.ca_file`.
    ///
    /// # Errors
    /// When `ca_file` cannot be read or holds no usable certificate, or nothing at all would be trusted.
    pub fn new(settings: &config::Upstream) -> anyhow::Result<Self> {
        let roots = system_roots_and(settings.ca_file.as_deref())?;
        Self::trusting(roots, settings)
    }

    /// A client that trusts only the CA certificates of `ca_file`: for an issuer with its own CA. Of `settings`,
    /// the address overrides count.
    ///
    /// # Errors
    /// When `ca_file` cannot be read or holds no usable certificate.
    pub fn trusting_only(ca_file: &Path, settings: &config::Upstream) -> anyhow::Result<Self> {
        Self::trusting(roots_of(ca_file)?, settings)
    }

    fn trusting(roots: rustls::RootCertStore, settings: &config::Upstream) -> anyhow::Result<Self> {
        let dialer = Dialer::new(&settings.addresses, CONNECT_TIMEOUT);
        let connector = Connector::new(dialer.clone(), tls::client(roots)?, CONNECT_TIMEOUT);
        // A pooled connection may turn out to be closed at the moment it is used. The client then takes another, but
        // only for a request that hyper handed back, and hyper hands back only what was still in its queue: at each
        // of the places in hyper 1.12 that return a message or report "canceled" (client/dispatch.rs, conn/http1.rs,
        // conn/http2.rs, proto/h1/dispatch.rs) the connection has not taken the request out, so no byte of it was
        // written. A request that was started is never sent again. The tests count what a closing server sees.
        let client = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(true)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_MAX_IDLE_PER_HOST)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
            .build(connector);
        Ok(Self { client, dialer })
    }

    /// Sends an admitted request with an absolute URI and waits for the head of its response. The HTTP version is what the
    /// other side negotiates.
    ///
    /// There is no limit to how long the answer may take: a mutating call that is given up on has an unknown outcome.
    ///
    /// # Errors
    /// [`SendError::NotSent`] when no byte of the request can have left, [`SendError::Unknown`] in every other case.
    pub async fn send(
        &self,
        outcome: &mut Outcome,
        request: Request<ProxyBody>,
    ) -> Result<Response<Incoming>, SendError> {
        outcome.sending();
        let answer = self.exchange(request).await;
        match &answer {
            Ok(response) => outcome.answered(response.status().as_u16()),
            Err(SendError::NotSent { .. }) => {
                metrics().upstream_failed(false);
                outcome.not_sent();
            }
            Err(SendError::Unknown { .. }) => metrics().upstream_failed(true),
        }
        answer
    }

    async fn exchange(
        &self,
        mut request: Request<ProxyBody>,
    ) -> Result<Response<Incoming>, SendError> {
        check_scheme(request.uri()).map_err(|why| SendError::refused(request.uri(), why))?;
        let uri = request.uri().clone();
        *request.version_mut() = Version::HTTP_11;
        let answer = self.client.request(request).await;
        answer.map_err(|error| SendError::of(&uri, &error))
    }

    /// Sends a small request and collects the whole response, whatever its status. Redirects are not followed.
    ///
    /// # Errors
    /// When nothing usable came back: not sent, broken off, a body of more than `limit` bytes, or later than `timeout`.
    pub async fn fetch(
        &self,
        request: Request<Bytes>,
        limit: usize,
        timeout: Duration,
    ) -> Result<Response<Bytes>, FetchError> {
        let uri = request.uri().clone();
        let exchange = async {
            let request =
                request.map(|body| Full::new(body).map_err(|never| match never {}).boxed());
            let (head, body) = self.exchange(request).await?.into_parts();
            let body = Limited::new(body, limit).collect().await;
            let body = body.map_err(|error| FetchCause::of_body(&*error, limit))?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(outcome) => outcome.map_err(|cause| FetchError::new(&uri, cause)),
            Err(_) => Err(FetchError::new(&uri, FetchCause::Late(timeout))),
        }
    }

    /// Sends a small request of whose answer only the head counts: whoever has answered has read it. What follows is taken for `limit` bytes and
    /// what is left of `timeout`, so that the connection may be used again.
    ///
    /// # Errors
    /// When no head came back within `timeout`.
    pub async fn tell(
        &self,
        request: Request<Bytes>,
        limit: usize,
        timeout: Duration,
    ) -> Result<Parts, FetchError> {
        let uri = request.uri().clone();
        let until = tokio::time::Instant::now() + timeout;
        let request = request.map(|body| Full::new(body).map_err(|never| match never {}).boxed());
        let answer = tokio::time::timeout_at(until, self.exchange(request)).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(|cause| FetchError::new(&uri, cause.into()))?,
            Err(_) => return Err(FetchError::new(&uri, FetchCause::Late(timeout))),
        };
        let (head, body) = answer.into_parts();
        let _ = tokio::time::timeout_at(until, Limited::new(body, limit).collect()).await;
        Ok(head)
    }

    /// Sends one of Holdpoint's own readings, which no client can make, and collects the whole answer, whatever its status.
    ///
    /// # Errors
    /// As [`Self::fetch`].
    pub async fn read(
        &self,
        reading: &Reading,
        authorization: HeaderValue,
        limit: usize,
        timeout: Duration,
    ) -> Result<Response<Bytes>, FetchError> {
        let mut request = Request::new(Bytes::from_static(reading.body()));
        *request.method_mut() = if reading.body().is_empty() {
            Method::GET
        } else {
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(header::CONTENT_TYPE, json);
            Method::POST
        };
        let uri = Uri::builder()
            .scheme("https")
            .authority(reading.host())
            .path_and_query(reading.path_and_query())
            .build();
        *request.uri_mut() = uri.map_err(|error| FetchError::unfit(reading.host(), &error))?;
        request
            .headers_mut()
            .insert(header::AUTHORIZATION, authorization);
        self.fetch(request, limit, timeout).await
    }

    /// A plain TCP connection for one of Holdpoint's own to a database.
    ///
    /// # Errors
    /// As [`Self::dial`].
    pub async fn dial_database(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let stream = self.dialer.dial(host, port).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// A plain TCP connection to `host`, or to the address that overrides it: for admitted traffic passed through unopened.
    ///
    /// # Errors
    /// When the name does not resolve or nothing answers within 10 s. The text says what was tried.
    pub async fn dial(
        &self,
        outcome: &mut Outcome,
        host: &str,
        port: u16,
    ) -> io::Result<TcpStream> {
        let dialled = self.dialer.dial(host, port).await;
        let stream = dialled.inspect_err(|_| metrics().upstream_failed(false))?;
        outcome.sending();
        Ok(stream)
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").finish_non_exhaustive()
    }
}
