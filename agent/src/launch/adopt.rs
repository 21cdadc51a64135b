//! Sessions of the daemon before: found by the sockets of their shims.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{net::UnixStream, task::JoinSet, time::timeout};

use super::{
    Listeners, Running, Site, door,
    message::{Demand, Reply},
    running::Shim,
    wire::{MESSAGE_LIMIT, START_LIMIT},
};
use crate::session::SessionId;

/// How long a shim may take to answer. One that does not is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session that runs, and is this daemon's now. Its listeners are closed. Dropped, it goes on, without a network.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub id: SessionId,
    /// The id of its cgroup: what the BPF programs know it by.
    pub cgroup_id: u64,
    /// What the daemon that opened it has left for this one.
    pub state: String,
    /// How often it was adopted, this time included.
    pub times: u32,
    shim: Shim,
}

/// Asks every shim for its session. A socket that nobody answers on is removed.
///
/// # Errors
/// When the sockets cannot be listed.
pub async fn find(site: &Site) -> anyhow::Result<Vec<Found>> {
    let mut asked = JoinSet::new();
    for (session, path) in door::list(&site.runtime_dir)? {
        let site = site.clone();
        asked.spawn(async move {
            match timeout(PATIENCE, adopt(&site, &session, &path)).await {
                Ok(Ok(found)) => Some(found),
                Ok(Err(error)) => {
                    tracing::warn!(session, "not adopted: {error:#}");
                    forget(path);
                    None
                }
                Err(_) => {
                    tracing::warn!(session, "not adopted: its shim does not answer");
                    forget(path);
                    None
                }
            }
        });
    }
    let mut found: Vec<Found> = asked.join_all().await.into_iter().flatten().collect();
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

fn forget(path: PathBuf) {
    if let Err(error) = fs::remove_file(&path) {
        tracing::debug!(%error, "{} was gone", path.display());
    }
}

async fn adopt(site: &Site, session: &str, path: &Path) -> anyhow::Result<Found> {
    let cgroup = site.agents_cgroup.join(session);
    let cgroup_id = fs::metadata(&cgroup)
        .with_context(|| format!("it has no cgroup {}", cgroup.display()))?
        .ino();
    let shim = Shim {
        socket: UnixStream::connect(path).await?,
        cgroup,
        launcher: site.launcher.clone(),
    };
    shim.demand(&Demand::Adopt).await?;
    let (Reply::Adopted { state, times }, _) = shim.reply(START_LIMIT).await? else {
        anyhow::bail!("its shim answered out of turn");
    };
    Ok(Found {
        id: SessionId::from_cgroup(session),
        cgroup_id,
        state,
        times,
        shim,
    })
}

/// Has the shim of a session end what a job has left running in it, on behalf of the process `caller`, which asks from inside. When
/// another job begins (`settle`), what is left may stay for good.
///
/// # Errors
/// When some of it may go on running.
pub async fn end_strays(
    site: &Site,
    session: &SessionId,
    caller: u32,
    settle: bool,
) -> anyhow::Result<()> {
    match ask(site, session, &Demand::EndStrays { caller, settle }).await? {
        Reply::StraysEnded => Ok(()),
        _ => anyhow::bail!("its shim answered out of turn"),
    }
}

/// The process id of a session's init, on the host.
///
/// # Errors
/// When its shim is gone, or of a version that does not say.
pub async fn init_of(site: &Site, session: &SessionId) -> anyhow::Result<u32> {
    match ask(site, session, &Demand::NameInit).await? {
        Reply::Init { pid } => Ok(pid),
        _ => anyhow::bail!("its shim answered out of turn"),
    }
}

/// Asks a session's shim for one thing, on a connection of its own.
async fn ask(site: &Site, session: &SessionId, demand: &Demand) -> anyhow::Result<Reply> {
    let shim = Shim {
        socket: UnixStream::connect(door::path(&site.runtime_dir, session.as_str())).await?,
        cgroup: site.agents_cgroup.join(session.as_str()),
        launcher: site.launcher.clone(),
    };
    shim.demand(demand).await?;
    Ok(shim.reply(MESSAGE_LIMIT).await?.0)
}

impl Found {
    /// Has its listeners opened. They are to be served at once.
    ///
    /// # Errors
    /// When they cannot be; it is to be ended then.
    pub async fn listen(&self) -> anyhow::Result<Listeners> {
        self.shim.demand(&Demand::Listen).await?;
        let (reply, fds) = self.shim.reply(MESSAGE_LIMIT).await?;
        let Reply::Listening { listeners } = reply else {
            anyhow::bail!("its shim answered out of turn");
        };
        Listeners::adopt(listeners, fds)
    }

    /// As one that this daemon has started.
    #[must_use]
    pub fn into_running(self) -> Running {
        Running(self.shim)
    }
}
