//! The container engine, over its UNIX socket.

use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, time::timeout};

/// Bytes of an answer that is read here. A container's description has some 10 KB.
const MOST_ANSWER: usize = 4 << 20;
/// How long an answer that is read here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where it listens.
#[derive(Clone, Debug)]
pub struct Engine(PathBuf);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It is not there.
    #[error("the container engine is not to be reached at {0}: {1}")]
    Unreachable(PathBuf, io::Error),
    /// It does not speak HTTP.
    #[error("the container engine broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// It does not answer.
    #[error("the container engine does not answer")]
    Slow,
    /// It says something else than the Engine API has it.
    #[error("the container engine's answer is not understood")]
    Strange,
}

impl Engine {
    /// At this socket.
    pub fn new(socket: PathBuf) -> Self {
        Self(socket)
    }

    /// Sends one request, and returns with the beginning of the answer, however long that takes.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, EngineError> {
        let stream = UnixStream::connect(&self.0).await;
        let stream = stream.map_err(|error| EngineError::Unreachable(self.0.clone(), error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the answer, or when nobody reads it any more.
        tokio::spawn(connection.with_upgrades());
        Ok(sender.send_request(request).await?)
    }

    /// Asks for something small.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), EngineError> {
        let asked = async {
            let (head, body) = self.send(request(method, path, body)).await?.into_parts();
            let read = Limited::new(body, MOST_ANSWER).collect().await;
            let bytes = read.map_err(|_| EngineError::Strange)?.to_bytes();
            let value = match bytes.is_empty() {
                true => Value::Null,
                false => serde_json::from_slice(&bytes).map_err(|_| EngineError::Strange)?,
            };
            Ok((head.status, value))
        };
        timeout(PATIENCE, asked)
            .await
            .map_err(|_| EngineError::Slow)?
    }
}

/// One for the engine. Its Host means nothing: there is one engine behind a socket.
pub fn request(method: Method, path: &str, body: Option<&Value>) -> Request<Full<Bytes>> {
    let bytes = body.map_or_else(Bytes::new, |body| body.to_string().into());
    let mut request = Request::new(Full::new(bytes));
    *request.method_mut() = method;
    // What is not a target is nothing the engine has.
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("docker"));
    if body.is_some() {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
    }
    request
}
