//! The launcher from the daemon's side: found, or started when there is none.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::UnixStream,
    process::{Child, ChildStdout},
    time::timeout,
};

use super::{
    message::{Errand, Octets, Reply},
    wire::{MESSAGE_LIMIT, nonblocking},
};

/// The name of a launcher's socket in the runtime directory.
pub const LAUNCHER_SOCKET: &str = "launcher.sock";
/// The name of the socket of one that a daemon has started. Another one, because what listens there may be on its way out.
pub const TEMPORARY_SOCKET: &str = "launcher-temporary.sock";

/// Before another launcher is started in the place of one that has ended.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a temporary launcher with nothing left to do may take to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the shim may take to clear a cgroup: the processes in it have 10 s.
const CLEARED_WITHIN: Duration = Duration::from_secs(15);

/// Who starts shims for this daemon.
#[derive(Debug)]
pub struct Launcher {
    socket: PathBuf,
    agents_cgroup: PathBuf,
    temporary: Option<Temporary>,
}

/// A launcher of the daemon's own, which ends with it and with its last session.
#[derive(Debug)]
struct Temporary {
    process: Child,
    /// Held, and never read.
    alive: Option<ChildStdout>,
}

impl Launcher {
    /// The one that listens in the runtime directory; where there is none, and `required` is not set, a temporary one. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// When there is none, and none can be started.
    pub async fn find_or_start(
        runtime_dir: &Path,
        agents_cgroup: &Path,
        required: bool,
    ) -> anyhow::Result<Self> {
        let socket = runtime_dir.join(LAUNCHER_SOCKET);
        // The shim that this starts finds the connection closed, and ends.
        let temporary = match UnixStream::connect(&socket).await {
            Ok(_) => {
                return Ok(Self {
                    socket,
                    agents_cgroup: agents_cgroup.to_owned(),
                    temporary: None,
                });
            }
            Err(error) if required => {
                return Err(error).with_context(|| {
                    format!(
                        "no launcher listens on {}, and sessions are its to start: start it first (systemctl start holdpoint-launcher.socket)",
                        socket.display()
                    )
                });
            }
            Err(_) => runtime_dir.join(TEMPORARY_SOCKET),
        };
        Self::start(temporary, agents_cgroup).context("cannot start a launcher for the sessions")
    }

    fn start(socket: PathBuf, agents_cgroup: &Path) -> anyhow::Result<Self> {
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let listener = super::launcher::bind(&socket)?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("holdpoint")
            .arg("launcher")
            .arg("--temporary")
            .arg(agents_cgroup)
            .env_clear()
            .current_dir("/")
            // A key pressed in the daemon's terminal is for the daemon.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::piped());
        let mut process = tokio::process::Command::from(command).spawn()?;
        let alive = process.stdout.take();
        Ok(Self {
            socket,
            agents_cgroup: agents_cgroup.to_owned(),
            temporary: Some(Temporary { process, alive }),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether it is this daemon's own: then sessions end when this daemon is told to end.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    /// Returns when one of the daemon's own has ended before its time. Cancel-safe.
    pub async fn ended(&mut self) {
        let Some(temporary) = &mut self.temporary else {
            return std::future::pending().await;
        };
        let ended = temporary.process.wait().await;
        tracing::warn!(?ended, "the launcher was ended by somebody else");
        // Whoever kills each is not helped by haste.
        tokio::time::sleep(PAUSE).await;
    }

    /// Starts another one in the place of one that has ended. Sessions go on meanwhile.
    pub fn revive(&mut self) {
        match Self::start(self.socket.clone(), &self.agents_cgroup) {
            Ok(started) => *self = started,
            // `ended` returns at once, for the next try.
            Err(error) => tracing::error!("no session can be started: {error:#}"),
        }
    }

    /// Ends it if it is this daemon's own and no session is left.
    pub async fn stop(&mut self) {
        let Some(mut temporary) = self.temporary.take() else {
            return;
        };
        drop(temporary.alive.take());
        if timeout(PATIENCE, temporary.process.wait()).await.is_err() {
            tracing::warn!("the launcher stays: a session's shim does not end");
        }
        if let Err(error) = fs::remove_file(&self.socket) {
            tracing::warn!(%error, "the launcher's socket is left over");
        }
    }
}

/// A new shim, waiting for its errand.
pub(super) async fn shim(launcher: &Path) -> anyhow::Result<UnixStream> {
    UnixStream::connect(launcher).await.with_context(|| {
        format!(
            "cannot reach the launcher at {}; is it running? (systemctl status holdpoint-launcher.socket)",
            launcher.display()
        )
    })
}

/// Ends what lives in a cgroup that no shim takes care of (any more), and removes it.
///
/// # Errors
/// When it is not gone after that.
pub async fn clear(launcher: &Path, cgroup: &Path) -> anyhow::Result<()> {
    let errand = Errand::Clear {
        cgroup: Octets::from(cgroup),
    };
    run(launcher, &errand)
        .await
        .with_context(|| format!("cannot end what is in {}", cgroup.display()))
}

/// Removes the files of sessions that are no more.
///
/// # Errors
/// When the launcher does not do it.
pub async fn sweep(launcher: &Path, agents_cgroup: &Path) -> anyhow::Result<()> {
    let errand = Errand::Sweep {
        agents_cgroup: Octets::from(agents_cgroup),
    };
    run(launcher, &errand)
        .await
        .context("cannot remove the files of ended sessions")
}

async fn run(launcher: &Path, errand: &Errand) -> anyhow::Result<()> {
    let shim = shim(launcher).await?;
    nonblocking::send(&shim, errand, MESSAGE_LIMIT, &[], PATIENCE).await?;
    match nonblocking::receive::<Reply>(&shim, MESSAGE_LIMIT, CLEARED_WITHIN)
        .await?
        .0
    {
        Reply::Cleared => Ok(()),
        Reply::Failed { message } => anyhow::bail!(message),
        _ => anyhow::bail!("a shim does not do what it was told"),
    }
}
