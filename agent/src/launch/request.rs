//! What a client asks for, from arrival to the point where all is ready for the command.

use std::{
    fmt,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use nix::unistd::Uid;
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::{
    Prepared, Site, environment, limits,
    message::{self, Event, Octets, Request, Start, TerminalUse},
    network::Network,
    program::Named,
    running,
    sandbox::{Identity, Job},
    stdio::Stdio,
    sys::{self, Limit},
    wire::{MESSAGE_LIMIT, REQUEST_LIMIT, nonblocking},
};
use crate::{
    containers, mountinfo,
    session::{SessionId, User},
};

/// How long a client may take to say what it wants, and to take an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a command's name and of PATH, in a message that says more.
const LONGEST_NAME: usize = 8 << 10;

/// The kernel's own number for users that it has none for (`overflowuid` in proc(5)), and of nobody on Linux.
const NOBODY: u32 = 65534;

/// What root is told.
const ROOT_REFUSED: &str = "root is not taken into a session, because root can leave every sandbox: \
    run this as an ordinary user (for example: runuser -u USER -- holdpoint run ...)";

/// A request to run a command in a session: complete and checked, nothing granted.
pub struct RunRequest {
    /// The caller, as the kernel knows it.
    pub user: User,
    /// The client's process id.
    pub pid: u32,
    /// The command and its arguments, for people to read.
    pub command: Vec<String>,
    /// The OIDC token, if one was sent. Take it out.
    pub token: Option<Zeroizing<String>>,
    /// The service whose session it shall be, instead of a token.
    pub service: Option<String>,
    wish: Wish,
    pub(super) stream: UnixStream,
}

/// The parts that only matter once the command starts.
pub(super) struct Wish {
    groups: Vec<u32>,
    limits: Vec<Limit>,
    command: Vec<Octets>,
    environment: Vec<Octets>,
    umask: u32,
    ignored: Vec<i32>,
    terminal: Option<TerminalUse>,
    stdio: Stdio,
}

impl RunRequest {
    /// Reads one from a client that has just connected. What is wrong with it the client is told, too.
    pub(super) async fn read(stream: UnixStream) -> anyhow::Result<Self> {
        match Self::parse(&stream).await {
            Ok((user, pid, token, service, wish)) => Ok(Self {
                user,
                pid,
                command: wish
                    .command
                    .iter()
                    .map(|part| String::from_utf8_lossy(&part.0).into_owned())
                    .collect(),
                token,
                service,
                wish,
                stream,
            }),
            Err(error) => {
                refuse(&stream, &format!("{error:#}")).await;
                Err(error)
            }
        }
    }

    async fn parse(
        stream: &UnixStream,
    ) -> anyhow::Result<(User, u32, Option<Zeroizing<String>>, Option<String>, Wish)> {
        let peer = stream.peer_cred().context("cannot tell who asks")?;
        anyhow::ensure!(peer.uid() != 0, ROOT_REFUSED);
        let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
        let pid = pid.context("cannot tell which process asks")?;
        let (request, fds) =
            nonblocking::receive::<Request>(stream, REQUEST_LIMIT, PATIENCE).await?;
        anyhow::ensure!(
            request.version == message::VERSION,
            "the client speaks version {} and the daemon {}: install the same version of both",
            request.version,
            message::VERSION
        );
        anyhow::ensure!(!request.command.is_empty(), "no command to run");
        let strings = request.command.iter().chain(&request.environment);
        anyhow::ensure!(
            strings.into_iter().all(|string| !string.0.contains(&0)),
            "an argument or variable holds a NUL byte"
        );
        let wish = Wish {
            groups: sys::peer_groups(stream.as_fd()).context("cannot tell the caller's groups")?,
            limits: limits::of(pid).context("cannot tell the caller's resource limits")?,
            command: request.command,
            environment: request.environment,
            umask: request.umask,
            ignored: request.ignored,
            terminal: request.terminal,
            stdio: Stdio::check(fds, request.terminal.is_some())?,
        };
        let (uid, gid) = (peer.uid(), peer.gid());
        // The user database may be a directory service far away.
        let name = tokio::task::spawn_blocking(move || name_of(uid)).await?;
        let token = request.token.map(message::Token::reveal);
        Ok((User { uid, gid, name }, pid, token, request.service, wish))
    }

    /// One of the daemon's own, as a user without rights. What the command prints goes to `output`; it ends with what is returned
    /// beside it, the client's end of the connection.
    ///
    /// # Errors
    /// When descriptors cannot be made, or the daemon's own limits not be read.
    pub fn of_the_daemon(command: &[&str], output: OwnedFd) -> anyhow::Result<(Self, UnixStream)> {
        let null = || {
            std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
        };
        let root = std::fs::File::open("/")?;
        let fds = vec![null()?.into(), output, null()?.into(), root.into()];
        let (client, stream) = UnixStream::pair()?;
        let pid = std::process::id();
        let wish = Wish {
            groups: Vec::new(),
            limits: limits::of(pid)?,
            command: command
                .iter()
                .map(|part| Octets(part.as_bytes().to_vec()))
                .collect(),
            environment: Vec::new(),
            umask: 0o022,
            ignored: Vec::new(),
            terminal: None,
            stdio: Stdio::check(fds, false)?,
        };
        let request = Self {
            user: User {
                uid: NOBODY,
                gid: NOBODY,
                name: "nobody".into(),
            },
            pid,
            command: command.iter().map(|part| (*part).to_owned()).collect(),
            token: None,
            service: None,
            wish,
            stream,
        };
        Ok((request, client))
    }

    /// Sends the client away: it prints `holdpoint: MESSAGE` and exits with 125. Nothing was started.
    pub async fn refuse(self, message: &str) {
        refuse(&self.stream, message).await;
    }

    /// Makes the session's cgroup, its namespaces and the listeners in them. Nothing of the command runs yet.
    ///
    /// # Errors
    /// When the caller is in a session itself, or any of it cannot be made. The request comes back, to be refused.
    pub async fn prepare(
        self,
        id: &SessionId,
        site: &Site,
        network: Network,
    ) -> Result<Prepared, (Box<Self>, anyhow::Error)> {
        match self.try_prepare(id, site, network).await {
            Ok(made) => {
                let mut start = self.wish.start(id, &self.user, site);
                start.0.ends_with_command = self.service.is_some();
                Ok(made.into_prepared(self.stream, start))
            }
            Err(error) => Err((Box::new(self), error)),
        }
    }

    async fn try_prepare(
        &self,
        id: &SessionId,
        site: &Site,
        network: Network,
    ) -> anyhow::Result<running::Made> {
        anyhow::ensure!(
            !in_a_session(self.pid, &site.agents_cgroup)?,
            "this is already a session, and sessions do not nest: run the command directly"
        );
        let cgroup = site.agents_cgroup.join(id.as_str());
        let rules = site.sandbox.rules(&cgroup, self.wish.job(&self.user))?;
        running::Made::make(id, site, (rules, self.wish.named()), network).await
    }
}

/// Without the token and the environment, where people keep secrets.
impl fmt::Debug for RunRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunRequest")
            .field("user", &self.user)
            .field("pid", &self.pid)
            .field("command", &self.command)
            .finish_non_exhaustive()
    }
}

impl Wish {
    fn job(&self, user: &User) -> Job<'_> {
        Job {
            caller: Identity {
                uid: user.uid,
                gid: user.gid,
                groups: self.groups.clone(),
            },
            directory: &self.stdio.directory,
            command: &self.command,
            environment: &self.environment,
        }
    }

    /// Nothing where that is too long for a message.
    fn named(&self) -> Option<Named> {
        let path = environment::value(&self.environment, "PATH");
        let name = &self.command[0];
        let length = name.0.len() + path.map_or(0, <[u8]>::len);
        (length <= LONGEST_NAME).then(|| Named {
            name: name.clone(),
            path: path.map(|path| Octets(path.to_vec())),
            directory: self.stdio.directory.path.clone(),
        })
    }

    /// What the shim is told and given.
    fn start(
        self,
        id: &SessionId,
        user: &User,
        site: &Site,
    ) -> (Start, [OwnedFd; 3], Option<OwnedFd>) {
        let bundle = site.runtime_dir.join(super::trust::BUNDLE_NAME);
        let mut environment = environment::for_session(
            self.environment,
            user.uid,
            id.as_str(),
            &bundle,
            site.project.as_deref(),
        );
        if site.containers {
            environment.push(environment::entry(
                "DOCKER_HOST",
                containers::ADDRESS.as_bytes(),
            ));
        }
        let start = Start {
            session: id.to_string(),
            uid: user.uid,
            gid: user.gid,
            groups: self.groups,
            command: self.command,
            environment,
            directory: self.stdio.directory,
            umask: self.umask,
            limits: self.limits,
            ignored: self.ignored,
            terminal: self.terminal,
            ends_with_command: false,
            state: String::new(),
        };
        (start, self.stdio.standard, self.stdio.terminal)
    }
}

/// Tells the client why not. It may be gone or slow: no matter.
pub(super) async fn refuse(stream: &UnixStream, message: &str) {
    let event = Event::Refused {
        message: message.to_owned(),
    };
    let _ = nonblocking::send(stream, &event, MESSAGE_LIMIT, &[], PATIENCE).await;
}

fn name_of(uid: u32) -> String {
    nix::unistd::User::from_uid(Uid::from_raw(uid))
        .ok()
        .flatten()
        .map_or_else(|| uid.to_string(), |user| user.name)
}

/// Whether a process lives below the agents' cgroup. (From inside a session the daemon's sockets cannot be reached in the
/// first place; this is for a process that was moved there from outside.)
pub(super) fn in_a_session(pid: u32, agents_cgroup: &Path) -> anyhow::Result<bool> {
    let mounts = mountinfo::mounts().context("cannot read the mounts")?;
    let agents = mountinfo::below_cgroup2(&mounts, agents_cgroup)
        .with_context(|| format!("{} is in no cgroup2 file system", agents_cgroup.display()))?;
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
        .context("cannot tell which cgroup the client is in")?;
    // The line of cgroup2 (cgroups(7)).
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.context("the client is in no cgroup of version 2")?;
    Ok(Path::new(own).starts_with(agents))
}
