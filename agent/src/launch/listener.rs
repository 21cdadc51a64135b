//! The socket `holdpoint run` talks to.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use anyhow::Context as _;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Mutex, Semaphore, mpsc},
    task::AbortHandle,
};

use super::RunRequest;

/// How many clients may be about to say what they want. More of them wait in the socket's queue.
const CLIENTS_AT_ONCE: usize = 64;
/// How many complete requests may wait for the daemon.
const QUEUE: usize = 16;

/// Accepts requests. A slow client holds up nobody else.
#[derive(Debug)]
pub struct RunListener {
    requests: Mutex<mpsc::Receiver<RunRequest>>,
    accepting: AbortHandle,
}

impl RunListener {
    /// Listens on `path`, for every user of the host. A socket that is there already is replaced: that no other daemon uses it is
    /// the caller's to know. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let what = || format!("cannot listen on {}", path.display());
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(what);
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).with_context(what)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).with_context(what)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        Ok(Self {
            requests: Mutex::new(receiver),
            accepting: tokio::spawn(accept(listener, sender)).abort_handle(),
        })
    }

    /// The next request that is complete and well-formed. Others are answered without the caller's doing.
    ///
    /// # Errors
    /// When the socket is no longer served.
    pub async fn accept(&self) -> anyhow::Result<RunRequest> {
        let request = self.requests.lock().await.recv().await;
        request.context("requests are no longer accepted")
    }
}

impl Drop for RunListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: UnixListener, requests: mpsc::Sender<RunRequest>) {
    let room = Arc::new(Semaphore::new(CLIENTS_AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    read(stream, &requests).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Too many open files, most likely: it passes, and to spin meanwhile helps nobody.
                tracing::warn!(%error, "cannot accept a client of holdpoint run");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn read(stream: UnixStream, requests: &mpsc::Sender<RunRequest>) {
    let uid = stream.peer_cred().map(|peer| peer.uid()).ok();
    match RunRequest::read(stream).await {
        Ok(request) => {
            // Without a receiver the daemon is about to end, and the client sees its socket close.
            let _ = requests.send(request).await;
        }
        Err(error) => tracing::warn!(
            uid,
            error = format!("{error:#}"),
            "refused a request to run"
        ),
    }
}
