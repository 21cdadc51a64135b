//! The configuration file, `/etc/holdpoint/holdpoint.toml`: raw TOML becomes this once, and only here.

pub mod connection;
pub mod record;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use holdpoint_core::{identity::Principal, mask::SetSource};
use serde::{Deserialize, Serialize};

use crate::launch::Network;

mod notification;

pub(crate) use notification::check_url;
pub use notification::{Answers, Destination, Notification, Place};

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

/// Where metrics are to be had, besides the control socket.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Whoever reaches this address may read them at `/metrics`. Nowhere when absent.
    pub listen: Option<SocketAddr>,
}

/// One OIDC issuer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The `iss` of its tokens, to the letter; its discovery document is under `/.well-known/openid-configuration`.
    pub url: String,
    /// The `aud` its tokens must carry.
    pub audience: String,
    /// Signature algorithms accepted (RFC 7518 names). Asymmetric ones only.
    #[serde(default = "default_algorithms")]
    pub algorithms: Vec<String>,
    /// The claim that lists groups (an array of strings, or one string).
    pub groups_claim: Option<String>,
    /// PEM file of CA certificates to trust for this issuer instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Only of a reviewer's issuer: this client of it lets reviewers sign in with a browser ([`Answers`]).
    pub client_id: Option<String>,
    /// The file with that client's secret, if it has one. `${CREDENTIALS_DIRECTORY}` at its start stands for systemd's.
    pub client_secret_file: Option<PathBuf>,
}

/// Who may answer for one reviewer group.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reviewers {
    /// Unix groups whose members may.
    #[serde(default)]
    pub unix_groups: Vec<String>,
    /// Unix users who may.
    #[serde(default)]
    pub users: Vec<String>,
    /// People who may, as an OIDC issuer knows them, once they have shown a token of theirs (`holdpoint login`).
    #[serde(default)]
    pub oidc: Vec<People>,
}

/// Some of the people an OIDC issuer knows: those of whom one of these is true.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct People {
    /// The issuer, one of the [[reviewer_issuer]]s.
    pub issuer: String,
    /// They are in one of these groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Their `sub` is one of these.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// They have all of these claims.
    #[serde(default)]
    pub claims: BTreeMap<String, String>,
}

impl People {
    /// Whether this is one of them.
    #[must_use]
    pub fn include(&self, person: &Principal) -> bool {
        let has = |(name, value)| person.claims.get(name) == Some(value);
        self.issuer == person.issuer
            && (self.groups.iter().any(|it| person.groups.contains(it))
                || self.subjects.contains(&person.subject)
                || (!self.claims.is_empty() && self.claims.iter().all(has)))
    }
}

/// What people may do with what is held.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApprovalSettings {
    /// The reviewer group whose members may approve anything alone, with a reason.
    pub break_glass: Option<String>,
    /// Claims of a session's token, and of a reviewer's, that name a person: nobody answers for themselves by another user.
    pub owner_claims: Vec<String>,
    /// How long a grant may last, in seconds.
    pub max_grant_seconds: u64,
}

impl Default for ApprovalSettings {
    fn default() -> Self {
        let claims = [
            "email",
            "user_email",
            "preferred_username",
            "upn",
            "actor",
            "user_login",
        ];
        Self {
            break_glass: None,
            owner_claims: claims.map(str::to_owned).to_vec(),
            max_grant_seconds: 4 * 3600,
        }
    }
}

/// Google, as the sandboxes see it and as Holdpoint reaches it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Google {
    /// The project id the metadata server names. Asked of the host's metadata server when absent.
    pub project: Option<String>,
    /// The service account's e-mail the metadata server names. From the credential when absent.
    pub account: Option<String>,
    /// The zone the metadata server names.
    pub zone: Option<String>,
    /// The universe domain (`googleapis.com` outside of sovereign clouds).
    #[serde(default = "default_universe")]
    pub universe_domain: String,
    /// OAuth scopes of the credential.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// Where the real credential comes from.
    pub credential: CredentialSource,
}

/// Where the credential used towards Google comes from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "from")]
pub enum CredentialSource {
    /// The host's own metadata server.
    Metadata {
        /// Its address, `169.254.169.254:80` unless told otherwise.
        #[serde(default = "default_metadata_address")]
        address: SocketAddr,
    },
    /// A service-account key file (JSON), readable by root only.
    ServiceAccountKey {
        /// The file. `${CREDENTIALS_DIRECTORY}` at its start stands for systemd's.
        file: PathBuf,
    },
}

/// How the real hosts are reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// PEM file of CA certificates to trust besides the system's (private endpoints, tests).
    pub ca_file: Option<PathBuf>,
    /// Addresses to dial instead of what DNS says, by host name; `*.example.com` covers all names below, `*` all.
    #[serde(default)]
    pub addresses: BTreeMap<String, SocketAddr>,
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

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// When it cannot be read, is not TOML of this shape, or says what cannot be.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let mut config: Self = toml::from_str(&text)
            .with_context(|| format!("the configuration {} is not valid", path.display()))?;
        anyhow::ensure!(
            !config.issuers.is_empty(),
            "{}: no [[issuer]]: no session could be opened",
            path.display()
        );
        config
            .check_reviewers()
            .with_context(|| format!("the configuration {} is not valid", path.display()))?;
        config
            .check_notifications()
            .with_context(|| format!("the configuration {} is not valid", path.display()))?;
        config
            .check_connections()
            .with_context(|| format!("the configuration {} is not valid", path.display()))?;
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

fn default_engine() -> PathBuf {
    "/run/docker.sock".into()
}

fn default_runtime() -> String {
    "holdpoint".into()
}

fn default_oci_runtime() -> PathBuf {
    "runc".into()
}

fn default_policies() -> PathBuf {
    "/etc/holdpoint/policies".into()
}

fn default_algorithms() -> Vec<String> {
    vec!["RS256".into(), "ES256".into()]
}

fn default_universe() -> String {
    "googleapis.com".into()
}

fn default_scopes() -> Vec<String> {
    vec!["https://www.googleapis.com/auth/cloud-platform".into()]
}

/// <https://cloud.google.com/compute/docs/instances/verifying-instance-identity>
fn default_instance_issuer() -> String {
    "https://accounts.google.com".into()
}

fn default_metadata_address() -> SocketAddr {
    ([169, 254, 169, 254], 80).into()
}
