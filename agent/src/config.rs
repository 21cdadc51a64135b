//! The configuration file, `/etc/holdpoint/holdpoint.toml`: raw TOML becomes this once, and only here.

pub mod connection;
mod google;
mod notification;
mod people;
pub mod record;
mod session;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use holdpoint_core::mask::SetSource;
use serde::{Deserialize, Serialize};

pub(crate) use self::notification::check_url;
pub use self::{
    google::{CredentialSource, Google, Upstream},
    notification::{Answers, Destination, Notification, Place},
    people::{ApprovalSettings, Issuer, People, Reviewers},
    session::{Containers, Dns, HoldSettings, Identity, Service, SessionLimits, UnknownNames},
};

/// Where the configuration is looked for when no `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/holdpoint/holdpoint.toml";

/// Everything an operator can set. `systemd/holdpoint.toml` documents every key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the record, the CA key and other state live. Mode 0700.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Sockets and files that sandboxes may read.
    #[serde(default = "default_runtime_dir")]
    pub runtime_dir: PathBuf,
    /// Where in bpffs maps and links are pinned.
    #[serde(default = "default_bpf_dir")]
    pub bpf_dir: PathBuf,
    /// The cgroup, directly below the cgroup2 root, under which sessions get theirs.
    #[serde(default = "default_agents_cgroup")]
    pub agents_cgroup: String,
    /// The cgroup below the cgroup2 root in which units run that open sessions. Whatever else is in it has no network.
    #[serde(default = "default_agents_slice")]
    pub agents_slice: PathBuf,
    /// The directory of Cedar policies.
    #[serde(default = "default_policies")]
    pub policies: PathBuf,
    /// What becomes of what policy says.
    #[serde(default)]
    pub policy: Policy,
    /// The file it was read from.
    #[serde(skip)]
    pub file: PathBuf,
    /// The OIDC issuers whose tokens open sessions. At least one.
    #[serde(rename = "issuer")]
    pub issuers: Vec<Issuer>,
    /// Who may answer what `@hold("GROUP")` holds, by group.
    #[serde(default)]
    pub reviewers: BTreeMap<String, Reviewers>,
    /// The OIDC issuers whose tokens say who a reviewer is.
    #[serde(default, rename = "reviewer_issuer")]
    pub reviewer_issuers: Vec<Issuer>,
    /// What people may do with what is held.
    #[serde(default)]
    pub approvals: ApprovalSettings,
    /// Who is told of what is held.
    #[serde(default, rename = "notification")]
    pub notifications: Vec<Notification>,
    /// Where reviewers may answer without being on this host. None: nowhere.
    pub answers: Option<Answers>,
    /// What stands behind the sandboxes' metadata server, and the credential used towards Google.
    pub google: Google,
    /// Upstream TLS and address overrides.
    #[serde(default)]
    pub upstream: Upstream,
    /// Programs that may have a session without a token: CI runners.
    #[serde(default, rename = "service")]
    pub services: Vec<Service>,
    /// Limits of a session.
    #[serde(default)]
    pub session: SessionLimits,
    /// How holds behave.
    #[serde(default)]
    pub hold: HoldSettings,
    /// How sessions resolve names.
    #[serde(default)]
    pub dns: Dns,
    /// Where metrics are to be had.
    #[serde(default)]
    pub metrics: Metrics,
    /// Sets of what is masked, besides the built-in ones.
    #[serde(default, rename = "mask")]
    pub masks: Vec<SetSource>,
    /// What is masked whatever policy says.
    #[serde(default)]
    pub masking: MaskingSettings,
    /// How the record is kept, and what of bodies.
    #[serde(default)]
    pub record: record::Record,
    /// The databases that sessions reach.
    #[serde(default, rename = "connection")]
    pub connections: Vec<connection::Connection>,
    /// The container engine that works for sessions. None: containers are out of their reach.
    pub containers: Option<Containers>,
}

/// What is masked whatever policy says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaskingSettings {
    /// Sets that are masked in whatever is stored, shown to people or sent to them, besides `secrets` and `minted`.
    pub also: Vec<String>,
}

/// What becomes of what policy says.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Whether it counts.
    #[serde(default)]
    pub mode: Mode,
}

/// Whether what policy says counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What it denies does not happen, and what it holds waits for people.
    #[default]
    Enforce,
    /// It is recorded, and everything passes that could be read as an operation.
    Observe,
}

impl Mode {
    /// The name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// Where metrics are to be had, besides the control socket.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Whoever reaches this address may read them at `/metrics`. Nowhere when absent.
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// When it cannot be read, is not TOML of this shape, or says what cannot be.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let invalid = || format!("the configuration {} is not valid", path.display());
        let mut config: Self = toml::from_str(&text).with_context(invalid)?;
        anyhow::ensure!(
            !config.issuers.is_empty(),
            "{}: no [[issuer]]: no session could be opened",
            path.display()
        );
        config.check_reviewers().with_context(invalid)?;
        config.check_notifications().with_context(invalid)?;
        config.check_connections().with_context(invalid)?;
        path.clone_into(&mut config.file);
        Ok(config)
    }

    fn check_reviewers(&self) -> anyhow::Result<()> {
        for issuer in &self.reviewer_issuers {
            let same =
                |other: &&Issuer| other.url == issuer.url && other.audience == issuer.audience;
            anyhow::ensure!(
                !self.issuers.iter().any(|other| same(&other)),
                "[[reviewer_issuer]] {} has the audience that opens sessions: an agent's token would make it a reviewer",
                issuer.url
            );
        }
        for (group, people) in self
            .reviewers
            .iter()
            .flat_map(|(group, reviewers)| reviewers.oidc.iter().map(move |it| (group, it)))
        {
            anyhow::ensure!(
                self.reviewer_issuers
                    .iter()
                    .any(|it| it.url == people.issuer),
                "[reviewers.{group}] names the issuer {}, and there is no such [[reviewer_issuer]]",
                people.issuer
            );
            anyhow::ensure!(
                !(people.groups.is_empty()
                    && people.subjects.is_empty()
                    && people.claims.is_empty()),
                "[reviewers.{group}] says of {} neither groups nor subjects nor claims, so that it names nobody",
                people.issuer
            );
        }
        if let Some(group) = &self.approvals.break_glass {
            anyhow::ensure!(
                self.reviewers.contains_key(group),
                "approvals.break_glass names \"{group}\", and there is no [reviewers.{group}]"
            );
        }
        Ok(())
    }

    /// How people are asked.
    #[must_use]
    pub fn approval_settings(&self) -> crate::approvals::Settings {
        let settings = self.approvals.clone();
        crate::approvals::Settings {
            dir: self.state_dir.join("held"),
            break_glass: settings.break_glass,
            owner_claims: settings.owner_claims,
            longest_grant: Duration::from_secs(settings.max_grant_seconds),
            keeps_questions: self.record.bodies != record::RecordedBodies::None,
            notifier: crate::notifications::Notifier::default(),
        }
    }

    /// The control API's socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.runtime_dir.join("control.sock")
    }

    /// The socket `holdpoint run` talks to.
    #[must_use]
    pub fn run_socket(&self) -> PathBuf {
        self.runtime_dir.join("run.sock")
    }

    /// The launcher's socket.
    #[must_use]
    pub fn launcher_socket(&self) -> PathBuf {
        self.runtime_dir.join(crate::launch::LAUNCHER_SOCKET)
    }

    /// The CA certificate and the system's roots in one PEM file: what sandboxes trust.
    #[must_use]
    pub fn ca_bundle(&self) -> PathBuf {
        self.runtime_dir.join("ca-bundle.pem")
    }

    /// The same certificates for Java.
    #[must_use]
    pub fn truststore(&self) -> PathBuf {
        self.runtime_dir.join("truststore.jks")
    }

    /// Where Holdpoint's OCI runtime asks whose a container is.
    #[must_use]
    pub fn containers_socket(&self) -> PathBuf {
        self.runtime_dir.join("containers.sock")
    }

    /// The public key that checkpoints of the record are signed with, for everybody.
    #[must_use]
    pub fn record_key(&self) -> PathBuf {
        self.runtime_dir.join("record.vkey")
    }

    /// The directory of the sled database.
    #[must_use]
    pub fn record_dir(&self) -> PathBuf {
        self.state_dir.join("record")
    }
}

/// Where systemd keeps the credentials of the unit that runs, for root alone.
const CREDENTIALS_OF_THE_UNIT: &str = "/run/credentials/holdpoint.service";

/// `${CREDENTIALS_DIRECTORY}` at the start of a path stands for the directory systemd names (systemd.exec(5), "Credentials"). Only the
/// daemon is told of it; the doctor looks where it is.
///
/// # Errors
/// When systemd has named none, and the unit has none.
pub(crate) fn in_credentials_directory(file: &Path) -> anyhow::Result<PathBuf> {
    let Ok(rest) = file.strip_prefix("${CREDENTIALS_DIRECTORY}") else {
        return Ok(file.to_owned());
    };
    let named = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let of_the_unit = || Some(PathBuf::from(CREDENTIALS_OF_THE_UNIT)).filter(|it| it.is_dir());
    let directory = named.or_else(of_the_unit).with_context(|| {
        format!(
            "{} is to be read from systemd's credentials, and CREDENTIALS_DIRECTORY is not set: add LoadCredential= to the unit",
            file.display()
        )
    })?;
    Ok(directory.join(rest))
}

fn default_state_dir() -> PathBuf {
    "/var/lib/holdpoint".into()
}

fn default_runtime_dir() -> PathBuf {
    "/run/holdpoint".into()
}

fn default_bpf_dir() -> PathBuf {
    "/sys/fs/bpf/holdpoint".into()
}

fn default_agents_cgroup() -> String {
    "holdpoint".into()
}

/// Where systemd has `holdpoint-agents.slice` (systemd.slice(5)).
fn default_agents_slice() -> PathBuf {
    "holdpoint.slice/holdpoint-agents.slice".into()
}

fn default_policies() -> PathBuf {
    "/etc/holdpoint/policies".into()
}
