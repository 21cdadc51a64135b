//! Sessions: what they may take up and see, what their names and containers are, and which programs have one without a token.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::google::default_metadata_address;
use crate::launch::Network;

/// Limits of a session, and what it sees of the host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionLimits {
    /// How long a session may last, in seconds.
    pub max_seconds: u64,
    /// How many sessions may be open at once.
    pub max_sessions: usize,
    /// How many processes and threads a session may have at once.
    pub max_processes: u64,
    /// How many bytes of memory a session may take up. No limit of its own when absent.
    pub max_memory: Option<u64>,
    /// Whether a session has a `/tmp`, `/var/tmp` and `/dev/shm` of its own.
    pub private_tmp: bool,
    /// Files and directories below those, or below `/run`, that sessions see all the same.
    pub shared: Vec<PathBuf>,
    /// UNIX sockets of the host, or directories of them, that sessions may connect to.
    pub sockets: Vec<PathBuf>,
}

impl SessionLimits {
    /// [`Self::max_seconds`] as a duration.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_secs(self.max_seconds)
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            max_seconds: 8 * 3600,
            max_sessions: 256,
            max_processes: 4096,
            max_memory: None,
            private_tmp: true,
            shared: Vec::new(),
            sockets: Vec::new(),
        }
    }
}

/// How holds behave.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HoldSettings {
    /// After how many seconds an HTTP/2 request that still waits is answered "pending".
    pub http2_answer_seconds: u64,
    /// Seconds between interim responses on HTTP/1.1. Go's client gives up after the fifth, so four are sent at most.
    pub interim_seconds: u64,
}

impl Default for HoldSettings {
    fn default() -> Self {
        Self {
            http2_answer_seconds: 50,
            interim_seconds: 45,
        }
    }
}

impl HoldSettings {
    /// [`Self::http2_answer_seconds`] as a duration.
    #[must_use]
    pub fn http2_answer(&self) -> Duration {
        Duration::from_secs(self.http2_answer_seconds)
    }

    /// [`Self::interim_seconds`] as a duration.
    #[must_use]
    pub fn interim(&self) -> Duration {
        Duration::from_secs(self.interim_seconds)
    }
}

/// How sessions resolve names.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// How a question for a name that no policy knows is answered.
    #[serde(default)]
    pub unknown_names: UnknownNames,
}

/// How a question for a name that no policy knows is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownNames {
    /// There is no such name: clients give up at once.
    #[default]
    Nxdomain,
    /// It is refused. Honest, but clients take it for a failure of the resolver, which they ask again.
    Refused,
}

/// A container engine of the host that speaks Docker's Engine API.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Containers {
    /// The engine's socket.
    #[serde(default = "default_engine")]
    pub engine: PathBuf,
    /// What the engine calls Holdpoint's runtime.
    #[serde(default = "default_runtime")]
    pub runtime: String,
    /// The OCI runtime that Holdpoint's hands containers on to.
    #[serde(default = "default_oci_runtime")]
    pub oci_runtime: PathBuf,
}

/// A program that needs the network before any job does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// What `holdpoint run --service` calls it.
    pub name: String,
    /// The Unix user that may open it.
    pub user: String,
    /// The systemd unit it has to be opened in; one `*` stands for anything.
    pub unit: Option<String>,
    /// The hosts that are open to it; `*.example.com` covers all names below.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The issuer whose tokens bind jobs in its sandbox, one of the [[issuer]]s. None: it has no jobs.
    pub job_issuer: Option<String>,
    /// The network its processes are in.
    #[serde(default)]
    pub network: Network,
    /// Who it is.
    #[serde(default)]
    pub identity: Identity,
}

/// Who a service is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "from")]
pub enum Identity {
    /// What the configuration calls it: `holdpoint:service#NAME`.
    #[default]
    Configured,
    /// The Compute Engine instance, by the identity token that its metadata server signs.
    Gce {
        /// The `iss` of such tokens, one of the [[issuer]]s.
        #[serde(default = "default_instance_issuer")]
        issuer: String,
        /// The metadata server, `169.254.169.254:80` unless told otherwise.
        #[serde(default = "default_metadata_address")]
        address: SocketAddr,
    },
}

fn default_engine() -> PathBuf {
    "/run/docker.sock".into()
}

fn default_runtime() -> String {
    "holdpoint".into()
}

fn default_oci_runtime() -> PathBuf {
    "runc".into()
}

/// <https://cloud.google.com/compute/docs/instances/verifying-instance-identity>
fn default_instance_issuer() -> String {
    "https://accounts.google.com".into()
}
