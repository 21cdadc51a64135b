//! The command line's side of the control API.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

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

    /// `GET path`, as it comes.
    ///
    /// # Errors
    /// When the daemon cannot be reached, or its own error.
    pub async fn read_bytes(&self, path: &str) -> anyhow::Result<Bytes> {
        self.call_bytes(Method::GET, path, Bytes::new()).await
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

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<T> {
        let answer = self.call_bytes(method, path, body).await?;
        serde_json::from_slice(&answer)
            .context("the daemon's answer is not understood: is it of the same version?")
    }

    async fn call_bytes(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Bytes> {
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
        let (status, answer) = exchange(stream, request)
            .await
            .context("the daemon closed the connection without an answer")?;
        if status.is_success() {
            return Ok(answer);
        }
        let error: ErrorBody = serde_json::from_slice(&answer)
            .with_context(|| format!("the daemon answered {status}"))?;
        Err(anyhow::Error::msg(error.error.message))
    }
}

async fn exchange(
    stream: UnixStream,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_LIMIT);
    let collected = body.collect().await.map_err(anyhow::Error::from_boxed)?;
    drop(sender);
    driver.abort();
    Ok((status, collected.to_bytes()))
}
