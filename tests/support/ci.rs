//! A CI system, as a runner and its jobs see one: a host to poll, and ID tokens for jobs that ask for them. And a metadata
//! server that says who the runner's instance is.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
};

use http::StatusCode;
use serde_json::json;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_rustls::TlsAcceptor;

use crate::stand_in::{Answer, Arrival, Authority, Call, Journal, Service, serve_plain, serve_tls};

/// Its host.
pub const HOST: &str = "ci.example";
/// What jobs show when they ask for ID tokens.
pub const REQUEST_TOKEN: &str = "the-jobs-request-token";

/// A running CI system; it ends when dropped.
#[derive(Debug)]
pub struct Ci {
    /// Where [`HOST`] is, over TLS.
    pub address: SocketAddr,
    /// Where the instance's metadata server is, over plain HTTP.
    pub metadata: SocketAddr,
    /// The certificate of [`HOST`]'s authority.
    pub pem: String,
    token: Arc<Mutex<String>>,
    journal: Journal,
    _runtime: Runtime,
}

impl Ci {
    /// Starts one on ports of the kernel's choice. `dir` gets a journal.
    ///
    /// # Errors
    /// When a port cannot be had, or the file not be written.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("ci")
            .enable_all()
            .build()?;
        let any = (Ipv4Addr::LOCALHOST, 0);
        let tls = runtime.block_on(TcpListener::bind(any))?;
        let plain = runtime.block_on(TcpListener::bind(any))?;
        let (address, metadata) = (tls.local_addr()?, plain.local_addr()?);
        let authority = Arc::new(Authority::new("CI")?);
        let pem = authority.pem().to_owned();
        let acceptor = TlsAcceptor::from(Arc::new(authority.server_config()?));
        let journal = Journal::create(&dir.join("ci.jsonl"))?;
        let token = Arc::new(Mutex::new(String::new()));
        let ci = Arc::new(Host(token.clone()));
        runtime.spawn(serve_tls(tls, acceptor, journal.clone(), ci));
        runtime.spawn(serve_plain(plain, Arc::new(Instance(token.clone()))));
        Ok(Self {
            address,
            metadata,
            pem,
            token,
            journal,
            _runtime: runtime,
        })
    }

    /// The token that is given out from now on: to jobs, and to the instance.
    ///
    /// # Panics
    /// When a server panicked.
    pub fn hand_out(&self, token: &str) {
        *self.token.lock().expect("no panic while locked") = token.to_owned();
    }

    /// What was asked for: paths and queries.
    ///
    /// # Panics
    /// When the journal cannot be read.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        let arrivals = self.journal.arrivals().expect("ci.jsonl can be read");
        let target = |it: Arrival| format!("{}?{}", it.path, it.query);
        arrivals.into_iter().map(target).collect()
    }
}

struct Host(Arc<Mutex<String>>);

impl Service for Host {
    fn answer(&self, call: &Call) -> Answer {
        match call.segments[0].as_str() {
            "poll" => Answer::json(&json!({"jobs": []})),
            "token" if call.parameter("audience").is_none() => {
                Answer::nothing().with_status(StatusCode::BAD_REQUEST)
            }
            "token" if call.header("authorization") == Some(&format!("Bearer {REQUEST_TOKEN}")) => {
                let token = self.0.lock().expect("no panic while locked");
                Answer::json(&json!({"count": token.len(), "value": *token}))
            }
            _ => Answer::nothing().with_status(StatusCode::FORBIDDEN),
        }
    }
}

/// `instance/service-accounts/default/identity`
/// (<https://cloud.google.com/compute/docs/instances/verifying-instance-identity>).
struct Instance(Arc<Mutex<String>>);

impl Service for Instance {
    fn answer(&self, call: &Call) -> Answer {
        let is_identity = call.segments.last().is_some_and(|last| last == "identity");
        let full = call.parameter("format") == Some("full");
        let asked = is_identity && full && call.parameter("audience").is_some();
        let answer = match asked && call.header("metadata-flavor") == Some("Google") {
            true => {
                let token = self.0.lock().expect("no panic while locked");
                Answer::of("text/html", token.clone().into())
            }
            false => Answer::nothing().with_status(StatusCode::NOT_FOUND),
        };
        answer.with_header("metadata-flavor", "Google")
    }
}
