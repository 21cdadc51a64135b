//! The control API: HTTP and JSON over a Unix socket. Everybody may connect; what they may do follows from who the
//! kernel says they are, and a process of a session may do nothing.

mod answers;
mod api;
mod audit;
mod caller;
pub mod client;
mod error;
mod logins;
mod membership;
mod reading;
mod retention;

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{UnixListener, UnixStream};

pub use answers::{GrantList, LoggedIn, LoggedOut, SetAnswer, SetAnswers};
pub use api::{ApprovalList, SessionDetail, SessionView};
pub(crate) use caller::groups_of;
pub(crate) use error::ApiError;
pub use error::ErrorText;
pub use logins::Logins;
pub use reading::{LastEvent, SessionList};

use crate::{
    approvals::Approvals, audit::keeper::Checkpoints, config::Reviewers, metrics::Scrape,
    record::Record, refusals::Refusals, retention::Retention, session::Sessions,
    shipping::Shipping,
};
use membership::AgentsCgroup;

/// Within this time a request has to be read and answered.
const WITHIN: Duration = Duration::from_secs(30);
/// Within this time its head has to be read.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// Connections one user may have open.
const CONNECTIONS_OF_A_USER: usize = 16;

/// Tells from a value's SHA-256 how its mask tokens end.
pub type TokenEnd = Arc<dyn Fn(&[u8; 32]) -> String + Send + Sync>;

/// What the control API works on.
#[derive(Clone)]
pub struct ControlState {
    /// The record.
    pub record: Record,
    /// What signs the record.
    pub checkpoints: Checkpoints,
    /// What takes the old out of it.
    pub retention: Arc<Retention>,
    /// What takes it off this host, where that is configured.
    pub shipping: Option<Shipping>,
    /// The held operations.
    pub approvals: Approvals,
    /// The live sessions.
    pub sessions: Arc<Sessions>,
    /// What was refused.
    pub refusals: Arc<Refusals>,
    /// Who may answer, by reviewer group.
    pub reviewers: BTreeMap<String, Reviewers>,
    /// Who has shown who they are.
    pub logins: Arc<Logins>,
    /// How tokens end of masked values (`mode = "hash"`) with this SHA-256.
    pub token_end: TokenEnd,
    /// The cgroup whose children are the sessions, as a path in the cgroup2 file system.
    pub agents_cgroup: PathBuf,
    /// What `GET /v1/status` answers, an object, besides the refusals that the caller may see.
    pub status: Arc<dyn Fn() -> serde_json::Value + Send + Sync>,
    /// What `GET /v1/metrics` answers.
    pub metrics: Scrape,
}

/// Listens on a Unix socket that everybody may connect to (mode 0666). What is returned answers there, until it is dropped. Needs a
/// tokio runtime.
///
/// # Errors
/// When the socket cannot be made, or when it cannot be told which processes are in sessions.
pub fn open(
    socket_path: &Path,
    state: ControlState,
) -> anyhow::Result<impl Future<Output = Infallible> + use<>> {
    let agents = AgentsCgroup::find(&state.agents_cgroup)?;
    listen(socket_path, state, agents)
}

fn listen(
    socket_path: &Path,
    state: ControlState,
    agents: AgentsCgroup,
) -> anyhow::Result<impl Future<Output = Infallible> + use<>> {
    let listener =
        bind(socket_path).with_context(|| format!("cannot listen on {}", socket_path.display()))?;
    let server = Arc::new(Server {
        state,
        agents,
        open: Mutex::default(),
    });
    Ok(serve(listener, server))
}

async fn serve(listener: UnixListener, server: Arc<Server>) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = Arc::clone(&server);
                tokio::spawn(server.connection(stream));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a control connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o666))?;
    Ok(listener)
}

struct Server {
    state: ControlState,
    agents: AgentsCgroup,
    /// Open connections by uid, so that one user cannot keep the others out.
    open: Mutex<HashMap<u32, usize>>,
}

impl Server {
    /// One request, one answer.
    async fn connection(self: Arc<Self>, stream: UnixStream) {
        let Ok(peer) = stream.peer_cred() else {
            return;
        };
        let Some(_slot) = Slot::take(&self, peer.uid()) else {
            return;
        };
        let caller = caller::identify(&stream, &peer, &self.agents, &self.state).await;
        let router = match caller {
            Ok(caller) => api::router(self.state.clone(), caller),
            Err(stranger) => api::refusing_router(self.state.record.clone(), stranger),
        };
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .keep_alive(false)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
        if let Ok(Err(error)) = tokio::time::timeout(WITHIN, served).await {
            tracing::debug!(%error, "a control connection broke off");
        }
    }
}

/// One open connection of a user.
struct Slot<'a> {
    server: &'a Server,
    uid: u32,
}

impl<'a> Slot<'a> {
    fn take(server: &'a Server, uid: u32) -> Option<Self> {
        let mut open = server.open.lock().expect("no panic while locked");
        let count = open.entry(uid).or_default();
        if *count >= CONNECTIONS_OF_A_USER {
            return None;
        }
        *count += 1;
        Some(Self { server, uid })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut open = self.server.open.lock().expect("no panic while locked");
        if let Some(count) = open.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests;
