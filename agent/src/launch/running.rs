//! A session from the daemon's side: made, prepared, running.

use std::{
    fmt, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::{
    net::{TcpListener, UdpSocket, UnixStream},
    time::timeout,
};

use super::{
    Site,
    message::{self, Demand, Errand, Octets, Prepare, Reply, Service, Start},
    network::{Network, Place},
    program::{Named, Program},
    request,
    sandbox::Rules,
    spawn,
    wire::{MESSAGE_LIMIT, START_LIMIT, nonblocking},
};
use crate::session::SessionId;

/// How long the shim may take for each of its steps. It does nothing that waits for anybody.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to end a session; the processes in it have 10 s.
const ENDED_WITHIN: Duration = Duration::from_secs(15);
const NO_SHIM: &str = "the session's shim failed";

/// The sockets of a session's [`Place`].
#[derive(Debug, Default)]
pub struct Listeners {
    /// For redirected connections.
    pub proxy: Vec<TcpListener>,
    /// For name lookups over TCP.
    pub dns_tcp: Vec<TcpListener>,
    /// For name lookups over UDP.
    pub dns_udp: Vec<UdpSocket>,
}

/// A shim with its cgroup and its namespaces. Dropped, nothing of it remains: the shim sees to that.
#[derive(Debug)]
pub(super) struct Made {
    shim: Shim,
    cgroup_id: u64,
    place: Place,
    programs: Vec<Program>,
    listeners: Listeners,
}

/// The connection to a session's shim.
#[derive(Debug)]
pub(super) struct Shim {
    pub(super) socket: UnixStream,
    pub(super) cgroup: PathBuf,
    pub(super) launcher: PathBuf,
}

/// A session in which nothing runs yet. Dropped, nothing of it remains and the client is left without an answer.
pub struct Prepared {
    /// The id of the session's cgroup: what the BPF programs know it by.
    pub cgroup_id: u64,
    /// Where its sockets are.
    pub place: Place,
    /// The files that are about to be executed, where they are known.
    pub programs: Vec<Program>,
    /// Its sockets. To be taken out and served before the command starts.
    pub listeners: Listeners,
    made: Made,
    client: UnixStream,
    start: Start,
    standard: [OwnedFd; 3],
    terminal: Option<OwnedFd>,
}

/// A session with processes in it. Dropped, it goes on, without a network: a daemon that is started anew may adopt it.
#[derive(Debug)]
pub struct Running(pub(super) Shim);

impl Made {
    pub(super) async fn make(
        id: &SessionId,
        site: &Site,
        (sandbox, named): (Rules, Option<Named>),
        network: Network,
    ) -> anyhow::Result<Self> {
        let shim = Shim {
            socket: spawn::shim(&site.launcher).await?,
            cgroup: site.agents_cgroup.join(id.as_str()),
            launcher: site.launcher.clone(),
        };
        let order = Errand::Prepare(Box::new(Prepare {
            version: message::LAUNCHER_VERSION,
            session: id.to_string(),
            agents_cgroup: Octets::from(site.agents_cgroup.as_path()),
            ca_bundle: Octets::from(site.ca_bundle.as_path()),
            runtime_dir: Octets::from(site.runtime_dir.as_path()),
            sandbox,
            network,
            named,
        }));
        nonblocking::send(&shim.socket, &order, MESSAGE_LIMIT, &[], PATIENCE)
            .await
            .context(NO_SHIM)?;
        let (reply, fds) = shim.reply(MESSAGE_LIMIT).await?;
        let Reply::Ready {
            cgroup_id,
            listeners,
            place,
            programs,
        } = reply
        else {
            anyhow::bail!("the session's shim is ahead of its orders");
        };
        anyhow::ensure!(
            place.network == network,
            "the launcher is of an older version, which knows no sessions in the host's network: restart it (systemctl restart holdpoint-launcher)"
        );
        let listeners = Listeners::adopt(listeners, fds)?;
        Ok(Self {
            shim,
            cgroup_id,
            place,
            programs,
            listeners,
        })
    }

    pub(super) fn into_prepared(
        mut self,
        client: UnixStream,
        (start, standard, terminal): (Start, [OwnedFd; 3], Option<OwnedFd>),
    ) -> Prepared {
        Prepared {
            cgroup_id: self.cgroup_id,
            place: self.place,
            programs: std::mem::take(&mut self.programs),
            listeners: std::mem::take(&mut self.listeners),
            made: self,
            client,
            start,
            standard,
            terminal,
        }
    }
}

impl Shim {
    /// What it says next. That it could not do what it was told is an error.
    pub(super) async fn reply(&self, limit: usize) -> anyhow::Result<(Reply, Vec<OwnedFd>)> {
        match nonblocking::receive::<Reply>(&self.socket, limit, PATIENCE).await {
            Ok((Reply::Failed { message }, _)) => Err(anyhow::anyhow!(message)),
            other => other.context(NO_SHIM),
        }
    }

    pub(super) async fn demand(&self, demand: &Demand) -> anyhow::Result<()> {
        nonblocking::send(&self.socket, demand, MESSAGE_LIMIT, &[], PATIENCE)
            .await
            .context(NO_SHIM)
    }

    /// Returns when it has ended. What it says before is of no interest any more. Cancel-safe.
    async fn gone(&self) {
        let mut said = [0; 1024];
        while self.socket.readable().await.is_ok() {
            match self.socket.try_read(&mut said) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// A shim that has ended in good order has left nothing; one that was killed, perhaps its cgroup.
    async fn clear(&self) {
        if self.cgroup.exists()
            && let Err(error) = spawn::clear(&self.launcher, &self.cgroup).await
        {
            tracing::error!(error = format!("{error:#}"), "cannot end a session");
        }
    }
}

impl Listeners {
    pub(super) fn adopt(services: Vec<Service>, sockets: Vec<OwnedFd>) -> anyhow::Result<Self> {
        anyhow::ensure!(
            services.len() == sockets.len(),
            "the session's shim has lost listeners"
        );
        let mut listeners = Self::default();
        for (service, socket) in services.into_iter().zip(sockets) {
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

    /// All of them.
    pub fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let tcp = self.proxy.iter().chain(&self.dns_tcp).map(|it| it.as_fd());
        tcp.chain(self.dns_udp.iter().map(|it| it.as_fd()))
    }
}

fn tcp(socket: OwnedFd) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(socket);
    socket.set_nonblocking(true)?;
    // Which the accepted sockets inherit: Nagle's algorithm and delayed acknowledgements together cost 40 ms a request.
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    TcpListener::from_std(socket)
}

/// Without the environment, where people keep secrets.
impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("cgroup", &self.made.shim.cgroup)
            .finish_non_exhaustive()
    }
}

impl Prepared {
    /// Sends the client away after all: it prints `holdpoint: MESSAGE` and exits with 125.
    pub async fn refuse(self, message: &str) {
        request::refuse(&self.client, message).await;
    }

    /// Starts the command. From here on shim and client are on their own. `state` is what a daemon that is started anew will be given
    /// when it finds the session.
    ///
    /// # Errors
    /// When the shim fails; the client has been told then, and nothing runs.
    pub async fn start(mut self, state: String) -> anyhow::Result<Running> {
        self.start.state = state;
        match self.launch().await {
            Ok(()) => Ok(Running(self.made.shim)),
            Err(error) => {
                self.refuse(&format!("{error:#}")).await;
                Err(error)
            }
        }
    }

    async fn launch(&self) -> anyhow::Result<()> {
        let mut fds = vec![self.client.as_fd()];
        fds.extend(
            self.standard
                .iter()
                .chain(&self.terminal)
                .map(OwnedFd::as_fd),
        );
        let shim = &self.made.shim;
        nonblocking::send(&shim.socket, &self.start, START_LIMIT, &fds, PATIENCE).await?;
        match shim.reply(MESSAGE_LIMIT).await?.0 {
            Reply::Launched => Ok(()),
            _ => anyhow::bail!("the session's shim answered out of turn"),
        }
    }
}

impl Running {
    /// Returns when the last process of the session is gone, and its cgroup. Cancel-safe.
    pub async fn ended(&mut self) {
        // The shim ends with the init, and with the init went all that is in its PID namespace.
        self.0.gone().await;
        self.0.clear().await;
    }

    /// Kills all processes of the session, waits until they are gone (some 10 s at most) and has its cgroup removed.
    pub async fn kill(&self) {
        let ended = async {
            // One that is not to be reached has ended.
            if self.0.demand(&Demand::End).await.is_ok() {
                self.0.gone().await;
            }
        };
        if timeout(ENDED_WITHIN, ended).await.is_err() {
            tracing::warn!(cgroup = %self.0.cgroup.display(), "a session's shim does not end");
        }
        self.0.clear().await;
    }
}
