//! A stand-in for Google: as much of its APIs as the main job and its clients ask for, over real TLS,
//! guarded by a token that only Holdpoint is given.

mod authority;
mod batch;
mod call;
mod compute;
mod journal;
mod metadata;
mod oauth;
mod objects;
mod script;
mod server;
mod small;
mod sqladmin;
mod storage;
mod upload;

use std::{
    fs::Permissions,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use http::StatusCode;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_rustls::TlsAcceptor;

pub use authority::Authority;
pub use call::{Answer, Call, form};
pub use journal::{Arrival, Journal, now};
pub use script::Script;
pub use server::{Service, serve_plain, serve_tls};

/// The project that everything lies in.
pub const PROJECT: &str = "lab-project";
/// Its number.
pub const PROJECT_NUMBER: u64 = 123_456_789_012;
/// The service account behind the real credential.
pub const ACCOUNT: &str = "agent@lab-project.iam.gserviceaccount.com";
/// The zone the metadata server names.
pub const ZONE: &str = "us-central1-a";
/// What the secret `s1` holds.
pub const SECRET: &str = "the-secret-s1";

/// A running stand-in; it ends when dropped.
#[derive(Debug)]
pub struct StandIn {
    /// Where Google's hosts are served, over TLS.
    pub address: SocketAddr,
    /// Where the host's metadata server is, over plain HTTP.
    pub metadata: SocketAddr,
    /// The certificate to trust.
    pub ca_file: PathBuf,
    /// A service-account key file that the token endpoint accepts.
    pub key_file: PathBuf,
    token: String,
    authority: Arc<Authority>,
    journal: Journal,
    script: Script,
    _runtime: Runtime,
}

impl StandIn {
    /// Starts one on ports of the kernel's choice. `dir` gets `ca.pem`, `key.json`, `upstream.jsonl`,
    /// `address` and `metadata-address`.
    ///
    /// # Errors
    /// When a file cannot be written or a port not be had.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Self::with(dir, Journal::create(&dir.join("upstream.jsonl"))?)
    }

    /// As [`Self::start`], but requests are not written down.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_silent(dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Self::with(dir, Journal::create(&dir.join("upstream.jsonl"))?.silent())
    }

    fn with(dir: &Path, journal: Journal) -> anyhow::Result<Self> {
        let authority = Arc::new(Authority::new("Stand-in Google CA")?);
        let ca_file = dir.join("ca.pem");
        std::fs::write(&ca_file, authority.pem())?;
        let (oauth, key) = oauth::TokenEndpoint::new()?;
        let token = oauth.token().to_owned();
        let key_file = dir.join("key.json");
        std::fs::write(&key_file, key.to_string())?;
        std::fs::set_permissions(&key_file, Permissions::from_mode(0o400))?;

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("stand-in")
            .enable_all()
            .build()?;
        let tls = TlsAcceptor::from(Arc::new(authority.clone().server_config()?));
        let google = runtime.block_on(bind())?;
        let plain = runtime.block_on(bind())?;
        let (address, metadata) = (google.local_addr()?, plain.local_addr()?);
        std::fs::write(dir.join("address"), address.to_string())?;
        std::fs::write(dir.join("metadata-address"), metadata.to_string())?;

        let script = Script::default();
        let service = Arc::new(Google::new(oauth, script.clone()));
        runtime.spawn(serve_tls(google, tls, journal.clone(), service));
        let service = Arc::new(metadata::MetadataServer::new(&token));
        runtime.spawn(serve_plain(plain, service));
        Ok(Self {
            address,
            metadata,
            ca_file,
            key_file,
            token,
            authority,
            journal,
            script,
            _runtime: runtime,
        })
    }

    /// The real access token: random, and good for nothing but this stand-in.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What has arrived.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What it is told to answer instead of what it would.
    #[must_use]
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// The authority behind [`Self::ca_file`].
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

async fn bind() -> anyhow::Result<TcpListener> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    TcpListener::bind(any).await.context("no port on loopback")
}

/// All of Google behind one listener.
struct Google {
    script: Script,
    oauth: oauth::TokenEndpoint,
    bearer: String,
    sql: sqladmin::SqlAdmin,
    compute: compute::Compute,
    storage: storage::Storage,
}

impl Google {
    fn new(oauth: oauth::TokenEndpoint, script: Script) -> Self {
        Self {
            script,
            bearer: format!("Bearer {}", oauth.token()),
            oauth,
            sql: sqladmin::SqlAdmin::default(),
            compute: compute::Compute::default(),
            storage: storage::Storage::default(),
        }
    }

    fn service(&self, call: &Call) -> Answer {
        let first = call.segments[0].as_str();
        match (first, call.host.as_str()) {
            ("batch", _) => batch::answer(batch::parts(call), |part| self.service(part)),
            ("compute", _) => self.compute.answer(call),
            ("storage" | "upload" | "resumable" | "download", _) => self.storage.answer(call),
            (_, "storage.googleapis.com") => self.storage.answer(call),
            ("sql", _) | (_, "sqladmin.googleapis.com") => self.sql.answer(call),
            _ => small::answer(call),
        }
    }
}

impl Service for Google {
    fn answer(&self, call: &Call) -> Answer {
        if call.host == "oauth2.googleapis.com" && call.segments == ["token"] {
            return self.oauth.answer(call);
        }
        if call.header("authorization") != Some(&self.bearer) {
            return Answer::error(
                StatusCode::UNAUTHORIZED,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials (stand-in Google).",
            );
        }
        self.script
            .answer(call)
            .unwrap_or_else(|| self.service(call))
    }
}
