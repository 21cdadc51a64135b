//! What a session sees of the host and may take of it: the operator's choice, and what comes of it for one session.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{
    environment, host_sockets,
    message::{Directory, Octets},
    private,
};

/// Where services of the host have their sockets; a session sees an empty one.
pub const RUN: &str = "/run";

/// The most sockets of the host that are covered one by one. Their paths, 108 bytes at most each, have to fit into a message.
const MOST_SOCKETS: usize = 256;

/// Variables that name a directory of the caller's which the command cannot do without.
const OWN_DIRECTORIES: [&str; 2] = ["HOME", "TMPDIR"];

/// What the operator has chosen for all sessions.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Whether each session has a `/tmp`, `/var/tmp` and `/dev/shm` of its own.
    pub private_tmp: bool,
    /// Files and directories below those or `/run` that sessions see all the same.
    pub shared: Vec<PathBuf>,
    /// Sockets of the host, or directories of them, that sessions may connect to.
    pub sockets: Vec<PathBuf>,
    /// What one session may take up.
    pub limits: Limits,
    /// The truststore for Java. Copied when a session is made.
    pub truststore: Option<PathBuf>,
    /// Files with CA certificates over which the session's lie; `~/` at the start stands for the caller's HOME.
    pub root_files: Vec<PathBuf>,
}

/// What one session may take up of the host, where its kernel's controllers are on cgroup2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Processes and threads.
    pub processes: u64,
    /// Memory in bytes, the files in its tmpfs included.
    pub memory: Option<u64>,
}

/// As the shipped configuration has it.
impl Default for Sandbox {
    fn default() -> Self {
        Self {
            private_tmp: true,
            shared: Vec::new(),
            sockets: Vec::new(),
            limits: Limits {
                processes: 4096,
                memory: None,
            },
            truststore: None,
            root_files: Vec::new(),
        }
    }
}

/// What the shim is told of it for one session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The name of the session's directories below `/tmp` and `/var/tmp`; None leaves it the host's.
    pub private: Option<String>,
    /// Who the caller is, for what it names.
    pub caller: Identity,
    /// Where the command starts, and what else of the caller's it needs; by absolute path.
    pub own: Vec<Octets>,
    /// Where the caller's Java is.
    pub java_home: Option<Octets>,
    /// See [`Sandbox::shared`].
    pub shared: Vec<Octets>,
    /// See [`Sandbox::sockets`].
    pub sockets: Vec<Octets>,
    /// Sockets of the host to cover.
    pub hidden: Vec<Octets>,
    /// See [`Sandbox::truststore`].
    pub truststore: Option<Octets>,
    /// See [`Sandbox::root_files`]; absolute.
    #[serde(default)]
    pub root_files: Vec<Octets>,
    /// See [`Sandbox::limits`].
    pub limits: Limits,
}

/// A user, as file permissions know one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
}

/// What a caller wants to run, as far as it says what it has to see.
pub struct Job<'a> {
    /// Who asks.
    pub caller: Identity,
    /// Where.
    pub directory: &'a Directory,
    /// What.
    pub command: &'a [Octets],
    /// With which environment.
    pub environment: &'a [Octets],
}

impl Sandbox {
    /// The rules for the session whose cgroup is, or will be, `cgroup`.
    ///
    /// # Errors
    /// When the host's sockets cannot be listed, or are too many to be kept out of reach.
    pub fn rules(&self, cgroup: &Path, job: Job<'_>) -> anyhow::Result<Rules> {
        let variable = |name| environment::value(job.environment, name);
        let command = job.command.first().map(|command| command.0.as_slice());
        let own: Vec<_> = OWN_DIRECTORIES
            .iter()
            .filter_map(|name| variable(name))
            .chain(command)
            .filter(|path| path.starts_with(b"/"))
            .map(|path| Octets(path.to_vec()))
            .chain([job.directory.path.clone()])
            .collect();
        let hidden = self.hidden(&own)?;
        Ok(Rules {
            private: self.private_tmp.then(|| private::name(cgroup)).flatten(),
            caller: job.caller,
            own,
            java_home: variable("JAVA_HOME").map(|path| Octets(path.to_vec())),
            shared: octets(&self.shared),
            sockets: octets(&self.sockets),
            hidden,
            truststore: self.truststore.as_deref().map(Octets::from),
            root_files: self.root_files(variable("HOME")),
            limits: self.limits,
        })
    }

    fn root_files(&self, home: Option<&[u8]>) -> Vec<Octets> {
        let home = home.map(|home| Octets(home.to_vec()).to_path());
        let place = |file: &PathBuf| match file.strip_prefix("~") {
            Ok(rest) => Some(home.as_ref()?.join(rest)),
            Err(_) => Some(file.clone()),
        };
        let absolute = self.root_files.iter().filter_map(place);
        let absolute = absolute.filter(|file| file.is_absolute());
        absolute.map(|file| Octets::from(file.as_path())).collect()
    }

    /// The host's sockets that a session would see.
    fn hidden(&self, own: &[Octets]) -> anyhow::Result<Vec<Octets>> {
        let shown: Vec<_> = own.iter().map(Octets::to_path).collect();
        let shown = |socket: &Path| {
            let mut shown = shown.iter().chain(&self.shared);
            shown.any(|path| socket.starts_with(path))
        };
        let hidden: Vec<_> = host_sockets::all()
            .context("cannot list the host's sockets")?
            .into_iter()
            .filter(|socket| !self.is_covered(socket) || shown(socket))
            .filter(|socket| !self.allows(socket))
            .map(|socket| Octets::from(socket.as_path()))
            .collect();
        anyhow::ensure!(
            hidden.len() <= MOST_SOCKETS,
            "the host has {} sockets outside of /run and /tmp, and no more than {MOST_SOCKETS} can be kept out of a session's reach",
            hidden.len()
        );
        Ok(hidden)
    }

    /// Whether it lies where a session sees a directory of its own.
    fn is_covered(&self, path: &Path) -> bool {
        path.starts_with(RUN)
            || self.private_tmp && private::ROOTS.iter().any(|root| path.starts_with(root))
    }

    fn allows(&self, socket: &Path) -> bool {
        self.sockets
            .iter()
            .any(|allowed| socket.starts_with(allowed))
    }
}

fn octets(paths: &[PathBuf]) -> Vec<Octets> {
    paths.iter().map(|path| path.as_path().into()).collect()
}
