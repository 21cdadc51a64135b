//! The life of one session: token, sandbox, record, command, end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use holdpoint_core::identity::Principal;
use jiff::Timestamp;
use tokio::task::JoinSet;

use crate::{
    adoption::Legacy,
    binding::{self, Room, Sandbox},
    daemon::{House, serve_listeners},
    launch::{Listeners, Network, Place, Program, RunRequest, Running},
    metadata::{self, MetadataView},
    metrics::metrics,
    record::{BinaryRecord, Event, Text},
    service::{self, Standing},
    session::{Session, SessionId},
};

/// How long requests that are under way may take to be answered when the daemon stops and sessions stay.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Serves one `holdpoint run`, from the request to the end of the session.
pub async fn serve(house: Arc<House>, mut request: RunRequest) {
    let user = request.user.clone();
    match unless_stopped(&house, identify(&house, &mut request)).await {
        Ok((principal, standing)) => open(house, request, principal, standing).await,
        Err(reason) => {
            metrics().session_refused();
            tracing::info!(user = user.name, reason, "session refused");
            let event = Event::SessionRefused {
                user,
                reason: (&reason).into(),
            };
            if let Err(error) = house.record.append(event).await {
                tracing::error!(%error, "a refused session is missing in the record");
            }
            request.refuse(&reason).await;
        }
    }
}

/// What others are asked may take long, and a daemon that is told to stop does not wait for it.
async fn unless_stopped<T>(
    house: &House,
    asked: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    tokio::select! {
        answer = asked => answer,
        () = house.stopped() => {
            Err("the daemon is stopping or being upgraded; run the command again in a moment".into())
        }
    }
}

async fn identify(
    house: &House,
    request: &mut RunRequest,
) -> Result<(Principal, Standing), String> {
    if house.is_full() {
        return Err(format!(
            "{} sessions are open, and no more are allowed at once; wait for one to end",
            house.limits.max_sessions
        ));
    }
    match (request.token.take(), request.service.clone()) {
        (None, Some(name)) => service::identify(house, request, &name).await,
        (Some(token), None) => {
            let principal = house.verifier.verify(&token).await;
            let principal = principal.map_err(|error| error.to_string())?;
            Ok((principal, Standing::Token))
        }
        (Some(_), Some(_)) => Err("a service has no token: give either of the two".to_owned()),
        (None, None) => Err(
            "no OIDC token was given, so no session can be opened; use --token-file FILE or HOLDPOINT_TOKEN"
                .to_owned(),
        ),
    }
}

async fn open(house: Arc<House>, request: RunRequest, principal: Principal, standing: Standing) {
    let id = SessionId::random();
    let user = request.user.clone();
    let shown = house.masking.shown();
    let command = shown.arguments(request.command.iter().map(String::as_str));
    let metadata = match unless_stopped(&house, metadata_view(&house, &id)).await {
        Ok(metadata) => metadata,
        Err(reason) => return request.refuse(&reason).await,
    };
    let network = standing.network();
    let mut prepared = match request.prepare(&id, &house.site, network).await {
        Ok(prepared) => prepared,
        Err((request, error)) => {
            tracing::error!("a session could not be prepared: {error:#}");
            return request.refuse(&format!("{error:#}")).await;
        }
    };
    let session = Arc::new(Session {
        id,
        principal,
        user,
        command,
        opened_at: Timestamp::now(),
        cgroup_id: prepared.cgroup_id,
        standing,
    });
    let room = Room::new(&house, session.clone(), Arc::default(), metadata);
    let sandbox = Arc::new(Sandbox::new(room));
    let (place, listeners) = (prepared.place, std::mem::take(&mut prepared.listeners));
    let programs = std::mem::take(&mut prepared.programs);
    if let Err(error) = announce(&house, &session, (place, &programs), &listeners).await {
        tracing::error!(session = %session.id, "the session was not opened: {error:#}");
        prepared
            .refuse(&format!("the session could not be opened: {error:#}"))
            .await;
        return end(&house, &session, "it could not be opened").await;
    }
    let lasting = lasting(&house, &session);
    let legacy = Legacy::new(&session, place, &sandbox.room().metadata, lasting);
    let started = match legacy.text() {
        Ok(state) => prepared.start(state).await,
        Err(error) => Err(error),
    };
    match started {
        Ok(running) => live(&house, sandbox, listeners, running, lasting).await,
        Err(error) => {
            tracing::error!(session = %session.id, "its command was not started: {error:#}");
            end(&house, &session, "its command could not be started").await;
        }
    }
}

/// Makes the session known: to the kernel, to the record, to the people.
async fn announce(
    house: &House,
    session: &Arc<Session>,
    (place, programs): (Place, &[Program]),
    listeners: &Listeners,
) -> anyhow::Result<()> {
    house
        .kernel
        .open_session(session.cgroup_id, place.rules())?;
    if place.network == Network::Host {
        own_listeners(house, session.cgroup_id, listeners)?;
    }
    let shown = house.masking.shown();
    let binaries = programs.iter().map(|program| {
        let path = program.path.to_path();
        BinaryRecord {
            path: Text::short(&shown.value("", &path.to_string_lossy())),
            sha256: program.sha256,
        }
    });
    binding::announce(house, session, binaries.collect()).await
}

/// On the host's loopback nobody else is to be taken for them.
pub(crate) fn own_listeners(
    house: &House,
    cgroup_id: u64,
    listeners: &Listeners,
) -> anyhow::Result<()> {
    let mut sockets = listeners.sockets();
    sockets.try_for_each(|socket| house.kernel.own_listener(cgroup_id, socket))
}

/// From the start of the command, or of this daemon, to the end of either.
pub(crate) async fn live(
    house: &Arc<House>,
    sandbox: Arc<Sandbox>,
    listeners: Listeners,
    mut running: Running,
    remaining: Duration,
) {
    let session = sandbox.own().clone();
    let mut serving = tokio::spawn(serve_listeners(house.clone(), sandbox.clone(), listeners));
    let reason = tokio::select! {
        () = running.ended() => "its processes ended",
        () = tokio::time::sleep(remaining) => "its time was up (session.max_seconds)",
        () = house.stopped() => {
            if house.sessions_stay.load(Ordering::Relaxed) {
                let _ = tokio::time::timeout(LAST_ANSWERS, &mut serving).await;
                serving.abort();
                sandbox.end(house, "the daemon stopped, and its job was unbound").await;
                return;
            }
            "the daemon stopped"
        }
    };
    running.kill().await;
    serving.abort();
    sandbox.end(house, reason).await;
    end(house, &session, reason).await;
}

/// A runner runs for months; its jobs have the same limit as everybody.
pub(crate) fn lasting(house: &House, session: &Session) -> Duration {
    match session.standing {
        Standing::Service(_) => Duration::MAX,
        Standing::Token | Standing::Job { .. } => house.limits.duration(),
    }
}

pub(crate) async fn end(house: &House, session: &Session, reason: &str) {
    house.record_refusals().await;
    if let Err(error) = house.kernel.close_session(session.cgroup_id) {
        tracing::warn!(session = %session.id, "the kernel still knows an ended session: {error:#}");
    }
    binding::close(house, session, reason).await;
}

async fn metadata_view(house: &House, id: &SessionId) -> Result<MetadataView, String> {
    let unknown = |what: &str, error: &dyn std::fmt::Display| {
        format!(
            "the Google {what} of this runner is not known, so no session can be opened: {error}"
        )
    };
    let project = house
        .credentials
        .project()
        .await
        .map_err(|error| unknown("project", &error))?;
    let account = house
        .credentials
        .account()
        .await
        .map_err(|error| unknown("account", &error))?;
    Ok(MetadataView {
        project,
        numeric_project: None,
        account,
        scopes: house.google.scopes.clone(),
        zone: house.google.zone.clone(),
        universe_domain: house.google.universe_domain.clone(),
        instance_name: nix::unistd::gethostname().map_or_else(
            |_| "localhost".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        ),
        instance_id: 0,
        placeholder: metadata::placeholder(id),
    })
}

/// Ends every open session, because the daemon stops; or, where they stay, what is under way in them.
pub async fn end_all(house: &House, sessions: &mut JoinSet<()>) {
    house.stop();
    while !sessions.is_empty() {
        // Again, because what was under way may have come to be held since.
        house.approvals.interrupt().await;
        let _ = tokio::time::timeout(Duration::from_millis(100), sessions.join_next()).await;
    }
}
