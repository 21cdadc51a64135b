//! What all sessions and connections of a daemon share.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::{
    allowance::Memory,
    approvals::Approvals,
    audit::keeper::Checkpoints,
    config::{self, SessionLimits},
    containers::Containers,
    credential::Credentials,
    gate::Gate,
    kernel::{self, Kernel},
    launch,
    masking::Masking,
    metrics,
    notifications::Notifier,
    oidc::Verifier,
    postgres::Databases,
    record::{Record, Text},
    refusals::{Refusals, Refused, RefusedBy},
    service::Services,
    session::Sessions,
    shipping::Shipping,
    tls::{Connector, DatabaseAcceptor},
    upstream::Upstream,
};

/// The parts of a running daemon that sessions and connections use.
pub struct House {
    /// The BPF programs.
    pub kernel: Kernel,
    /// The account of everything.
    pub record: Record,
    /// What signs it.
    pub checkpoints: Checkpoints,
    /// What takes it off this host, where that is configured.
    pub shipping: Option<Shipping>,
    /// The judge.
    pub gate: Gate,
    /// Held operations.
    pub approvals: Approvals,
    /// Who is told of them.
    pub notifier: Notifier,
    /// Live sessions.
    pub sessions: Arc<Sessions>,
    /// Who may open sessions without a token.
    pub services: Services,
    /// What was refused, for people to see.
    pub refusals: Arc<Refusals>,
    /// TLS towards the sandboxes.
    pub acceptor: TlsAcceptor,
    /// TLS towards the sandboxes, for databases.
    pub database_acceptor: DatabaseAcceptor,
    /// TLS towards Cloud SQL connectors in the sandboxes.
    pub connector: Connector,
    /// The databases that sessions reach.
    pub databases: Databases,
    /// The way to Google.
    pub upstream: Upstream,
    /// What is masked.
    pub masking: Arc<Masking>,
    /// What Google is shown.
    pub credentials: Arc<Credentials>,
    /// Who may open sessions.
    pub verifier: Verifier,
    /// After how long an HTTP/2 request that waits for people is answered "pending".
    pub http2_answer: Duration,
    /// The memory that requests of all sessions may take up.
    pub memory: Memory,
    /// Limits of a session.
    pub limits: SessionLimits,
    /// Where sessions are made.
    pub site: launch::Site,
    /// What the sandboxes' metadata server says of the host.
    pub google: config::Google,
    /// What resolvers say of names that policy does not know.
    pub unknown_names: config::UnknownNames,
    /// The way to the container engine, where sessions have one.
    pub containers: Option<Containers>,
    /// Whether sessions outlive this daemon when it is told to stop.
    pub sessions_stay: AtomicBool,
    pub(super) stopping: watch::Sender<bool>,
}

impl House {
    /// Ends what is done for all sessions, those that are being opened too.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Whether there is no place for one more session.
    pub fn is_full(&self) -> bool {
        self.sessions.count() >= self.limits.max_sessions
    }

    /// Tells the record what was refused so far and what it does not know of yet.
    pub async fn record_refusals(&self) {
        while let Some(refused) = self.kernel.refused_already() {
            self.note_kernel_refusal(&refused);
        }
        self.refusals.tell(&self.record).await;
    }

    /// A request for a session that nobody could be asked about.
    pub(super) fn note_turned_away(&self, who: &launch::TurnedAway) {
        metrics::metrics().session_refused();
        let refused = Refused {
            session: None,
            by: RefusedBy::Launcher,
            process: who.uid.map(|uid| Text::short(&format!("uid {uid}"))),
            destination: None,
            reason: Text::short(&who.reason),
        };
        self.refusals.note(refused, who.pid);
    }

    pub(super) fn note_kernel_refusal(&self, refused: &kernel::Refused) {
        let seen = Refused {
            session: self.sessions.of_cgroup(refused.session),
            by: RefusedBy::Kernel,
            process: (!refused.command.is_empty()).then(|| Text::short(&refused.command)),
            destination: refused
                .destination
                .map(|it| with_protocol(it, refused.protocol)),
            reason: refused.reason.name().into(),
        };
        self.refusals
            .note(seen, (refused.pid != 0).then_some(refused.pid));
    }

    /// Returns once the daemon stops.
    pub async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self
            .stopping
            .subscribe()
            .wait_for(|stopping| *stopping)
            .await;
    }
}

fn with_protocol(destination: SocketAddr, protocol: u8) -> Text {
    match i32::from(protocol) {
        libc::IPPROTO_IP => destination.to_string().into(),
        libc::IPPROTO_TCP => format!("{destination}/tcp").into(),
        libc::IPPROTO_UDP => format!("{destination}/udp").into(),
        other => format!("{destination}/{other}").into(),
    }
}
