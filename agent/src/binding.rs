//! Binds each job of a service to a session of its own (`holdpoint session bind`).
//!
//! A runner lives for months in one sandbox and runs one job after the other in it. The job's hook shows the job's ID token, and
//! from then on all that happens in the sandbox is the job's: another session with another principal, until it is unbound
//! or the next job is bound. In between only the service's own hosts are open.

mod server;

use std::sync::Arc;

use arc_swap::ArcSwap;
use holdpoint_core::identity::Principal;
use jiff::Timestamp;
use tokio::sync::{Mutex, watch};
use zeroize::Zeroizing;

pub use server::{ADDRESS, NAME, SessionView, is_address, serve};

use crate::{
    allowance::Allowance,
    daemon::House,
    dns::AddressBook,
    kernel::knows_all_processes,
    launch,
    metadata::{self, MetadataView},
    metrics::metrics,
    pace::Pace,
    record::{BinaryRecord, Event, PrincipalRecord},
    service::{Service, Standing},
    session::{Session, SessionId},
    sqladmin::Instances,
    uploads::Uploads,
};

/// What belongs to one session besides its identity.
pub struct Room {
    /// The session.
    pub session: Arc<Session>,
    /// The names its clients asked for and the addresses they were given.
    pub book: Arc<AddressBook>,
    /// What its metadata server says.
    pub metadata: MetadataView,
    /// How much of the daemon it may take up.
    pub allowance: Allowance,
    /// The resumable uploads it has begun.
    pub uploads: Uploads,
    /// Where its connectors were told that instances are.
    pub instances: Instances,
    /// How its refused connections are recorded.
    pub pace: Pace,
    closed: watch::Sender<bool>,
}

impl Room {
    /// An empty one.
    #[must_use]
    pub fn new(
        house: &House,
        session: Arc<Session>,
        book: Arc<AddressBook>,
        metadata: MetadataView,
    ) -> Self {
        Self {
            session,
            book,
            metadata,
            allowance: house.memory.session(),
            uploads: Uploads::default(),
            instances: Instances::default(),
            pace: Pace::default(),
            closed: watch::Sender::new(false),
        }
    }

    /// Returns once the sandbox acts for somebody else: what was begun for this session ends then.
    pub async fn closed(&self) {
        // The sender lives as long as `self`.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Whether [`Self::closed`] has returned.
    pub fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// A room for another session in the same sandbox.
    fn next(&self, house: &House, session: Arc<Session>) -> Self {
        let metadata = MetadataView {
            placeholder: metadata::placeholder(&session.id),
            ..self.metadata.clone()
        };
        Self::new(house, session, self.book.clone(), metadata)
    }
}

/// Why a job was not bound, or not unbound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// What happens here happens for one session only.
    #[error(
        "this is no sandbox of a service with jobs (a [[service]] with job_issuer): its session stays the one it is"
    )]
    NoJobs,
    /// The token does not count.
    #[error("{0}")]
    Token(String),
    /// There is no place for one more session.
    #[error("{0} sessions are open, and no more are allowed at once (session.max_sessions)")]
    Full(usize),
    /// What the job before left running could not be ended.
    #[error("what the job before left running could not be ended: {0}")]
    Leftovers(String),
    /// It could not be recorded.
    #[error("it could not be recorded: {0}")]
    Record(String),
    /// The sandbox is about to end.
    #[error("the session of the service has ended")]
    Ended,
}

/// One sandbox, and for whom it acts at the moment.
pub struct Sandbox {
    /// The session it was made for.
    own: Arc<Session>,
    room: ArcSwap<Room>,
    changes: Mutex<Changes>,
}

#[derive(Default)]
struct Changes {
    /// The names that were in the address book when the last job was bound, and outlive it.
    names: usize,
    ended: bool,
}

impl Sandbox {
    /// Acting for the session it was made for.
    #[must_use]
    pub fn new(room: Room) -> Self {
        Self {
            own: room.session.clone(),
            room: ArcSwap::from_pointee(room),
            changes: Mutex::default(),
        }
    }

    /// The session it was made for.
    #[must_use]
    pub fn own(&self) -> &Arc<Session> {
        &self.own
    }

    /// The room of the session it acts for now.
    #[must_use]
    pub fn room(&self) -> Arc<Room> {
        self.room.load_full()
    }

    /// The service, and the issuer of its jobs' tokens.
    fn service(&self) -> Option<(&Arc<Service>, &str)> {
        match &self.own.standing {
            Standing::Service(service) => Some((service, service.job_issuer.as_deref()?)),
            Standing::Token | Standing::Job { .. } => None,
        }
    }

    /// Binds the job that shows this token; `caller` is the process that asks, on the host. Whatever was bound before is unbound
    /// first, so that a job whose token does not count has no rights rather than another's.
    ///
    /// # Errors
    /// [`BindError`]. No job is bound then.
    pub async fn bind(
        self: &Arc<Self>,
        house: &Arc<House>,
        token: &Zeroizing<String>,
        caller: u32,
    ) -> Result<Arc<Session>, BindError> {
        let (service, issuer) = self.service().ok_or(BindError::NoJobs)?;
        let mut changes = self.changes.lock().await;
        if changes.ended {
            return Err(BindError::Ended);
        }
        self.release(house, &changes, "another job was bound").await;
        let principal = job(house, issuer, token).await?;
        if house.is_full() {
            return Err(BindError::Full(house.limits.max_sessions));
        }
        self.end_strays(house, caller, true).await?;
        let session = Arc::new(Session {
            id: SessionId::random(),
            principal,
            user: self.own.user.clone(),
            command: self.own.command.clone(),
            opened_at: Timestamp::now(),
            cgroup_id: self.own.cgroup_id,
            standing: Standing::Job {
                service: service.clone(),
                within: self.own.id.clone(),
            },
        });
        announce(house, &session, Vec::new())
            .await
            .map_err(|error| BindError::Record(format!("{error:#}")))?;
        changes.names = self.room().book.mark();
        let room = Arc::new(self.room().next(house, session.clone()));
        self.enter(room.clone());
        tokio::spawn(limit(house.clone(), self.clone(), room));
        Ok(session)
    }

    /// Unbinds the job that is bound, if any, and ends what it left running. `caller` is as in [`Self::bind`].
    ///
    /// # Errors
    /// When some of that goes on running. It has the rights of no job any more, all the same.
    pub async fn unbind(&self, house: &House, caller: u32) -> Result<(), BindError> {
        self.service().ok_or(BindError::NoJobs)?;
        let changes = self.changes.lock().await;
        self.release(house, &changes, "its job was unbound").await;
        self.end_strays(house, caller, false).await
    }

    /// Its processes have ended: so has the job that was bound.
    pub async fn end(&self, house: &House, reason: &str) {
        let mut changes = self.changes.lock().await;
        changes.ended = true;
        self.release(house, &changes, reason).await;
    }

    async fn end_strays(&self, house: &House, caller: u32, settle: bool) -> Result<(), BindError> {
        if !knows_all_processes() {
            let why = "the daemon is in a container with a PID namespace of its own and cannot tell which process asks; run it on the host";
            return Err(BindError::Leftovers(why.to_owned()));
        }
        let ended = launch::end_strays(&house.site, &self.own.id, caller, settle).await;
        ended.map_err(|error| BindError::Leftovers(format!("{error:#}")))
    }

    /// From here on the sandbox acts for the service itself.
    async fn release(&self, house: &House, changes: &Changes, reason: &str) {
        let room = self.room();
        if room.session.id == self.own.id {
            return;
        }
        self.enter(Arc::new(room.next(house, self.own.clone())));
        room.book.forget_after(changes.names);
        close(house, &room.session, reason).await;
    }

    fn enter(&self, room: Arc<Room>) {
        let left = self.room.swap(room);
        left.closed.send_replace(true);
    }
}

/// Who the job is.
async fn job(house: &House, issuer: &str, token: &str) -> Result<Principal, BindError> {
    let verified = house.verifier.verify_once(token).await;
    let principal = verified.map_err(|error| BindError::Token(error.to_string()))?;
    if principal.issuer != issuer {
        return Err(BindError::Token(format!(
            "jobs here are bound by tokens of {issuer}, and this one is by {}",
            principal.issuer
        )));
    }
    Ok(principal)
}

/// A job may not last longer than any other session.
async fn limit(house: Arc<House>, sandbox: Arc<Sandbox>, room: Arc<Room>) {
    tokio::select! {
        () = room.closed() => return,
        () = tokio::time::sleep(house.limits.duration()) => {}
    }
    let changes = sandbox.changes.lock().await;
    if sandbox.room().session.id == room.session.id {
        sandbox
            .release(&house, &changes, "its time was up (session.max_seconds)")
            .await;
    }
}

/// Makes a session known, and which files it begins with: to the record, to the people.
///
/// # Errors
/// When it cannot be recorded.
pub async fn announce(
    house: &House,
    session: &Arc<Session>,
    binaries: Vec<BinaryRecord>,
) -> anyhow::Result<()> {
    let opened = Event::SessionOpened {
        session: session.id.clone(),
        principal: PrincipalRecord::from(&session.principal),
        user: session.user.clone(),
        command: session.command.iter().collect(),
        cgroup_id: session.cgroup_id,
        service: session.standing.service().map(|it| (&it.name).into()),
        within: session.standing.within().cloned(),
        binaries,
    };
    house.record.append(opened).await?;
    house.sessions.insert(session.clone());
    metrics().session_opened();
    tracing::info!(session = %session.id, principal = session.principal.name(), user = session.user.name, "session opened");
    Ok(())
}

/// Makes its end known.
pub async fn close(house: &House, session: &Session, reason: &str) {
    house.sessions.remove(&session.id);
    tracing::info!(session = %session.id, reason, "session closed");
    let closed = Event::SessionClosed {
        session: session.id.clone(),
        reason: reason.into(),
    };
    if let Err(error) = house.record.append(closed).await {
        tracing::error!(%error, "the end of a session is missing in the record");
    }
    if let Some(containers) = house.containers.clone() {
        let id = session.id.clone();
        tokio::spawn(async move { containers.remove_all_of(&id).await });
    }
}
