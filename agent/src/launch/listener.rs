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
    turned_away: Mutex<mpsc::Receiver<TurnedAway>>,
    accepting: AbortHandle,
}

/// Somebody whose request was not understood, or who may not make one.
#[derive(Clone, Debug)]
pub struct TurnedAway {
    /// The user, where the kernel says.
    pub uid: Option<u32>,
    /// The process.
    pub pid: Option<u32>,
    /// Why.
    pub reason: String,
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
        let (turned, turned_away) = mpsc::channel(QUEUE);
        Ok(Self {
            requests: Mutex::new(receiver),
            turned_away: Mutex::new(turned_away),
            accepting: tokio::spawn(accept(listener, sender, turned)).abort_handle(),
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

    /// The next one who was turned away. Where they come faster than they are asked for, some are only logged.
    pub async fn turned_away(&self) -> Option<TurnedAway> {
        self.turned_away.lock().await.recv().await
    }
}

impl Drop for RunListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: UnixListener,
    requests: mpsc::Sender<RunRequest>,
    turned_away: mpsc::Sender<TurnedAway>,
) {
    let room = Arc::new(Semaphore::new(CLIENTS_AT_ONCE));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (requests, turned_away) = (requests.clone(), turned_away.clone());
                tokio::spawn(async move {
                    read(stream, &requests, &turned_away).await;
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

async fn read(
    stream: UnixStream,
    requests: &mpsc::Sender<RunRequest>,
    turned_away: &mpsc::Sender<TurnedAway>,
) {
    let peer = stream.peer_cred().ok();
    let uid = peer.map(|peer| peer.uid());
    let pid = peer.and_then(|peer| u32::try_from(peer.pid()?).ok());
    match RunRequest::read(stream).await {
        Ok(request) => {
            // Without a receiver the daemon is about to end, and the client sees its socket close.
            let _ = requests.send(request).await;
        }
        Err(error) => {
            let reason = format!("{error:#}");
            tracing::warn!(uid, reason, "refused a request to run");
            // Full: the log has it.
            let _ = turned_away.try_send(TurnedAway { uid, pid, reason });
        }
    }
}
