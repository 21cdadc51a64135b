//! A session from the daemon's side: made, prepared, running.

use std::{
    fmt,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    net::{TcpListener, UdpSocket, UnixStream},
    process::{Child, Command},
};

use super::{
    Site,
    cgroup::SessionCgroup,
    controllers,
    message::{Octets, Prepare, Reply, Service, Start},
    request,
    sandbox::Rules,
    wire::{MESSAGE_LIMIT, START_LIMIT, nonblocking},
};
use crate::session::SessionId;

/// How long the shim may take for each of its steps. It does nothing that waits for anybody.
const PATIENCE: Duration = Duration::from_secs(10);

/// The sockets inside a session's network namespace.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For redirected connections: 127.0.0.1 and, where the kernel has IPv6, ::1, port [`super::PROXY_PORT`].
    pub proxy: Vec<TcpListener>,
    /// For name lookups over TCP, port [`super::DNS_PORT`].
    pub dns_tcp: Vec<TcpListener>,
    /// For name lookups over UDP, port [`super::DNS_PORT`].
    pub dns_udp: Vec<UdpSocket>,
}

/// A cgroup and a shim with its namespaces. Dropped, nothing of it remains.
#[derive(Debug)]
pub(super) struct Made {
    // The order of fields is the order they are dropped in: the shim dies before its cgroup is removed.
    shim: Child,
    socket: UnixStream,
    cgroup: SessionCgroup,
    listeners: Listeners,
}

/// A session in which nothing runs yet. Dropped, nothing of it remains and the client is left without an answer.
pub struct Prepared {
    /// The id of the session's cgroup: what the BPF programs know it by.
    pub cgroup_id: u64,
    /// The session's cgroup.
    pub cgroup: PathBuf,
    /// Its sockets. To be taken out and served before the command starts.
    pub listeners: Listeners,
    made: Made,
    client: UnixStream,
    start: Start,
    standard: [OwnedFd; 3],
    terminal: Option<OwnedFd>,
}

/// A session with processes in it. Dropped, they are killed (what is left of its cgroup goes with [`super::end_leftovers`]); that does
/// not happen when the daemon itself is killed.
#[derive(Debug)]
pub struct Running {
    shim: Child,
    cgroup: SessionCgroup,
}

impl Made {
    pub(super) async fn make(id: &SessionId, site: &Site, sandbox: Rules) -> anyhow::Result<Self> {
        let cgroup = SessionCgroup::create(&site.agents_cgroup, id.as_str())?;
        controllers::limit(cgroup.path(), site.sandbox.limits)?;
        let (socket, shim) = spawn_shim().context("cannot start the session's shim")?;
        let order = Prepare {
            ca_bundle: Octets::from(site.ca_bundle.as_path()),
            runtime_dir: Octets::from(site.runtime_dir.as_path()),
            sandbox,
        };
        nonblocking::send(&socket, &order, MESSAGE_LIMIT, &[], PATIENCE).await?;
        let (reply, fds) = nonblocking::receive::<Reply>(&socket, MESSAGE_LIMIT, PATIENCE)
            .await
            .context("the session's shim failed")?;
        let services = match reply {
            Reply::Ready { listeners } => listeners,
            Reply::Failed { message } => anyhow::bail!(message),
            Reply::Launched => anyhow::bail!("the session's shim is ahead of its orders"),
        };
        anyhow::ensure!(
            services.len() == fds.len(),
            "the session's shim has lost listeners"
        );
        let listeners = Listeners::adopt(services.into_iter().zip(fds))?;
        Ok(Self {
            shim,
            socket,
            cgroup,
            listeners,
        })
    }

    pub(super) fn into_prepared(
        mut self,
        client: UnixStream,
        (start, standard, terminal): (Start, [OwnedFd; 3], Option<OwnedFd>),
    ) -> Prepared {
        Prepared {
            cgroup_id: self.cgroup.id(),
            cgroup: self.cgroup.path().to_owned(),
            listeners: std::mem::take(&mut self.listeners),
            made: self,
            client,
            start,
            standard,
            terminal,
        }
    }
}

/// The running program once more, whatever has become of its file, with nothing inherited but one socket.
fn spawn_shim() -> anyhow::Result<(UnixStream, Child)> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    let shim = Command::new("/proc/self/exe")
        .arg("shim")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    Ok((UnixStream::from_std(near)?, shim))
}

impl Listeners {
    fn adopt(sockets: impl Iterator<Item = (Service, OwnedFd)>) -> anyhow::Result<Self> {
        let mut listeners = Self::default();
        for (service, socket) in sockets {
            match service {
                Service::Proxy => listeners.proxy.push(tcp(socket)?),
                Service::DnsTcp => listeners.dns_tcp.push(tcp(socket)?),
                Service::DnsUdp => {
                    let socket = std::net::UdpSocket::from(socket);
                    socket.set_nonblocking(true)?;
                    listeners.dns_udp.push(UdpSocket::from_std(socket)?);
                }
            }
        }
        Ok(listeners)
    }
}

fn tcp(socket: OwnedFd) -> std::io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(socket);
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

/// Without the environment, where people keep secrets.
impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("cgroup", &self.cgroup)
            .finish_non_exhaustive()
    }
}

impl Prepared {
    /// Sends the client away after all: it prints `holdpoint: MESSAGE` and exits with 125.
    pub async fn refuse(self, message: &str) {
        request::refuse(&self.client, message).await;
    }

    /// Starts the command. From here on shim and client are on their own.
    ///
    /// # Errors
    /// When the shim fails; the client has been told then, and nothing runs.
    pub async fn start(self) -> anyhow::Result<Running> {
        match self.launch().await {
            Ok(()) => {
                let Made { shim, cgroup, .. } = self.made;
                Ok(Running { shim, cgroup })
            }
            Err(error) => {
                self.refuse(&format!("{error:#}")).await;
                Err(error)
            }
        }
    }

    async fn launch(&self) -> anyhow::Result<()> {
        let cgroup = std::fs::File::open(&self.cgroup)
            .with_context(|| format!("cannot open {}", self.cgroup.display()))?;
        let mut fds = vec![self.client.as_fd(), cgroup.as_fd()];
        fds.extend(
            self.standard
                .iter()
                .chain(&self.terminal)
                .map(OwnedFd::as_fd),
        );
        let socket = &self.made.socket;
        nonblocking::send(socket, &self.start, START_LIMIT, &fds, PATIENCE).await?;
        let (reply, _) = nonblocking::receive::<Reply>(socket, MESSAGE_LIMIT, PATIENCE)
            .await
            .context("the session's shim failed")?;
        match reply {
            Reply::Launched => Ok(()),
            Reply::Failed { message } => anyhow::bail!(message),
            Reply::Ready { .. } => anyhow::bail!("the session's shim answered out of turn"),
        }
    }
}

impl Running {
    /// Returns when the last process of the session is gone, and has removed its cgroup by then. Cancel-safe.
    pub async fn ended(&mut self) {
        // The shim waits for the init, and with the init goes all that is in its PID namespace.
        if let Err(error) = self.shim.wait().await {
            tracing::error!(%error, "cannot wait for a session's shim");
        }
        self.kill().await;
    }

    /// Kills all processes of the session, waits until they are gone (at most 10 s) and removes its cgroup.
    pub async fn kill(&self) {
        if let Err(error) = self.cgroup.end().await {
            tracing::error!(error = format!("{error:#}"), "cannot end a session");
        }
    }
}
