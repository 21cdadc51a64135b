//! The command line's side of the control API.

mod events;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

pub use events::{Events, Told, Which};

use super::error::ErrorBody;
use crate::config::{Config, DEFAULT_PATH};

/// The socket where there is no configuration that could name another.
const DEFAULT_SOCKET: &str = "/run/holdpoint/control.sock";
/// Bytes of an answer at most.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// How to find the daemon.
#[derive(Clone, Debug, clap::Args)]
pub struct Connect {
    /// The daemon's configuration file, which names the control socket.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The control socket.
    #[arg(long, value_name = "SOCKET", global = true, conflicts_with = "config")]
    pub socket: Option<PathBuf>,
}

impl Connect {
    /// A client of the daemon these options name.
    ///
    /// # Errors
    /// When the configuration is not valid.
    pub fn client(&self) -> anyhow::Result<Client> {
        let socket = match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(config)) => Config::load(config)?.control_socket(),
            // Reviewers need not be able to read it.
            (None, None) if std::fs::File::open(DEFAULT_PATH).is_err() => DEFAULT_SOCKET.into(),
            (None, None) => Config::load(Path::new(DEFAULT_PATH))?.control_socket(),
        };
        Ok(Client { socket })
    }
}

/// Calls the control API, one connection a call.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// For this socket.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or its own error.
    pub async fn read<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or its own error.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<T> {
        self.call(Method::POST, path, body.to_string().into()).await
    }

    /// The body that an event of a session is about; what the daemon says when there is none, or none any more.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or its own error.
    pub async fn body(&self, session: &str, seq: u64) -> anyhow::Result<Result<Vec<u8>, String>> {
        let path = format!("/v1/sessions/{session}/bodies/{seq}");
        match self.collected(Method::GET, &path, Bytes::new()).await {
            Ok(body) => Ok(Ok(body.into())),
            Err(error) => match error.downcast::<DaemonSays>() {
                Ok(DaemonSays { status, message }) if status == StatusCode::GONE => {
                    Ok(Err(message))
                }
                Ok(other) => Err(other.into()),
                Err(error) => Err(error),
            },
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<T> {
        let answer = self.collected(method, path, body).await?;
        serde_json::from_slice(&answer)
            .context("the daemon's answer is not understood: is it of the same version?")
    }

    async fn collected(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let (answer, _connection) = self.send(method, path, body).await?;
        all(answer).await
    }

    /// An answer that is a success, not read yet.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<(Incoming, Connection)> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            format!(
                "cannot reach the daemon at {}: is it running (`systemctl status holdpoint`)?",
                self.socket.display()
            )
        })?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .with_context(|| format!("`{path}` is not a path"))?;
        let (response, connection) = exchange(stream, request).await.context(NO_ANSWER)?;
        let status = response.status();
        let answer = response.into_body();
        if status.is_success() {
            return Ok((answer, connection));
        }
        let error: ErrorBody = serde_json::from_slice(&all(answer).await?)
            .with_context(|| format!("the daemon answered {status}"))?;
        let message = error.error.message;
        Err(DaemonSays { status, message }.into())
    }
}

const NO_ANSWER: &str = "the daemon closed the connection without an answer";

/// The daemon's own error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct DaemonSays {
    status: StatusCode,
    message: String,
}

/// Drives a connection while it is there.
struct Connection(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn exchange(
    stream: UnixStream,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(Response<Incoming>, Connection)> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = Connection(tokio::spawn(connection));
    Ok((sender.send_request(request).await?, driver))
}

async fn all(body: Incoming) -> anyhow::Result<Bytes> {
    let body = Limited::new(body, ANSWER_LIMIT);
    let collected = body.collect().await.map_err(anyhow::Error::from_boxed);
    Ok(collected.context(NO_ANSWER)?.to_bytes())
}
