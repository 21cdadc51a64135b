//! One connection of a sandboxed process: origin, session, detection, TLS, relay.

mod http;
mod opening;
mod passing;
mod recorded;

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use holdpoint_core::{catalog::Catalog, operation::Action, refusal::Refusal};
use tokio::{net::TcpStream, time::timeout};

use self::opening::{Opening, UNRECOGNIZED_NAME, read_opening, tell_tls};
use crate::{
    binding::{self, Room, Sandbox},
    containers,
    daemon::House,
    kernel::Flow,
    metadata,
    metrics::{Lasting, Served},
    postgres::{self, Arrival, Entry, greeting::Begins},
    replay::Replay,
    sqladmin,
};

/// A client that says nothing for this long after connecting is not waited for.
const FIRST_BYTES: Duration = Duration::from_secs(15);
const HTTPS: u16 = 443;
const STOPPED: &str = "the daemon stopped";

/// Serves one accepted connection until it ends; `flow` is its [`origin`].
pub async fn serve(
    house: Arc<House>,
    sandbox: Arc<Sandbox>,
    stream: TcpStream,
    flow: Option<Flow>,
) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let room = sandbox.room();
    let mut lasting = Lasting::new();
    let Some(flow) = flow else {
        let caller = Caller {
            house,
            room,
            id,
            flow: None,
            name: None,
            outlasts: AtomicBool::new(false),
            refusal: Arc::default(),
        };
        lasting.served(Served::Refused);
        caller
            .refuse("nothing says where it was going: it was made to Holdpoint itself")
            .await;
        return;
    };
    let name = room.book.name_of(flow.destination.ip());
    let caller = Caller {
        house,
        room,
        id,
        flow: Some(flow),
        name,
        outlasts: AtomicBool::new(false),
        refusal: Arc::default(),
    };
    let served = tokio::select! {
        biased;
        served = caller.serve(&sandbox, stream, flow) => served,
        // Its session is over, though the sandbox is not: what it asks for next would be another's to ask.
        served = caller.is_over() => match caller.refusal.get() {
            Some(reason) => Err(Refused(reason.clone())),
            None => Ok(served),
        },
    };
    match served {
        Ok(served) => lasting.served(served),
        Err(refusal) => {
            lasting.served(Served::Refused);
            caller.refuse(&refusal.0).await;
        }
    }
}

/// Where `client`, whose connection was accepted at `listener`, wanted to go. The kernel forgets it, so this is asked once, whatever
/// becomes of the connection. (The socket itself cannot tell the client's address any more when that has reset the connection.)
pub fn origin(
    house: &House,
    room: &Room,
    listener: SocketAddr,
    client: SocketAddr,
) -> Option<Flow> {
    house.kernel.flow(room.session.cgroup_id, client, listener)
}

/// The end of a connection that came to nothing, for the record.
struct Refused(String);

impl From<postgres::Refused> for Refused {
    fn from(refused: postgres::Refused) -> Self {
        Self(refused.0)
    }
}

impl From<&str> for Refused {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

/// One connection, and who made it.
struct Caller {
    house: Arc<House>,
    room: Arc<Room>,
    id: u64,
    flow: Option<Flow>,
    /// The name its address was given out for.
    name: Option<String>,
    /// Whether it goes on when its session is over and the sandbox is not.
    outlasts: AtomicBool,
    /// Why it is refused, while the client is still being told: its session may end with that.
    refusal: Arc<OnceLock<String>>,
}

impl Caller {
    /// Returns when it has to end with its session.
    async fn is_over(&self) -> Served {
        self.room.closed().await;
        if self.outlasts.load(Ordering::Relaxed) {
            std::future::pending().await
        }
        Served::Google
    }

    async fn serve(
        &self,
        sandbox: &Arc<Sandbox>,
        mut stream: TcpStream,
        flow: Flow,
    ) -> Result<Served, Refused> {
        let to = flow.destination;
        if metadata::is_metadata_address(to.ip()) {
            self.record_connection(Some("metadata.google.internal"))
                .await?;
            Box::pin(self.serve_metadata(stream, to.port())).await?;
            return Ok(Served::Metadata);
        }
        if binding::is_address(to.ip()) && to.port() == containers::PORT {
            self.record_connection(Some(binding::NAME)).await?;
            Box::pin(self.serve_containers(stream)).await?;
            return Ok(Served::Sandbox);
        }
        if binding::is_address(to.ip()) {
            self.record_connection(Some(binding::NAME)).await?;
            Box::pin(self.serve_binding(sandbox, stream, flow)).await?;
            return Ok(Served::Sandbox);
        }
        if to.port() == sqladmin::PORT {
            return Box::pin(self.serve_connector(stream, to)).await;
        }
        if let Some(entry) = self.house.databases.at(self.name.as_deref(), to) {
            return Box::pin(self.serve_database(stream, entry, to)).await;
        }
        if to.port() == postgres::PORT {
            self.record_connection(self.name.as_deref()).await?;
            let refused = Box::pin(postgres::refuse_unread(&self.arrival(to), stream)).await;
            return Err(refused.into());
        }
        if to.port() != HTTPS && self.name.as_deref().is_some_and(|name| !is_google(name)) {
            let name = self.name.clone().unwrap_or_default();
            self.record_connection(Some(&name)).await?;
            let passed = self.pass_through(stream, Bytes::new(), &name, to.port(), false);
            return Box::pin(passed).await;
        }
        let opening = tokio::select! {
            opening = timeout(FIRST_BYTES, read_opening(&mut stream)) => opening,
            () = self.house.stopped() => return Err(STOPPED.into()),
        };
        let (opening, read) = opening
            .map_err(|_| Refused::from("it sent nothing"))?
            .map_err(|error| Refused(format!("it broke off: {error}")))?;
        match opening {
            // Boxed: most of what a connection needs room for, and many never come this far.
            Opening::Tls(Some(sni)) => Box::pin(self.serve_tls(stream, read, sni, to.port())).await,
            Opening::Tls(None) => {
                tell_tls(&mut stream, UNRECOGNIZED_NAME).await;
                Err("its ClientHello names no server (SNI), so the host cannot be known".into())
            }
            Opening::PlainHttp => {
                let refusal = Refusal::malformed(
                    "it is plain HTTP; Holdpoint passes on HTTPS only, so use an https:// address",
                );
                let _ = self.refusal.set("plain HTTP".to_owned());
                Box::pin(self.answer_all(Replay::new(read, stream), &refusal, false)).await;
                Err("plain HTTP".into())
            }
            Opening::Postgres => {
                let (stream, arrival) = (Replay::new(read, stream), self.arrival(to));
                let refused = postgres::refuse_unknown(&arrival, stream, Begins::Plain);
                Err(Box::pin(refused).await.into())
            }
            Opening::Other(alert) => {
                tell_tls(&mut stream, &alert).await;
                Err("what it sent is neither TLS nor a protocol that is known here".into())
            }
        }
    }

    /// The catalog says how a database is reached, and whose it is: nothing has been read yet.
    async fn serve_database(
        &self,
        stream: TcpStream,
        entry: &Arc<Entry>,
        to: SocketAddr,
    ) -> Result<Served, Refused> {
        self.record_connection(Some(&entry.name)).await?;
        let arrival = self.arrival(to);
        self.check_reach(&arrival, entry)?;
        postgres::serve(&arrival, entry, stream).await?;
        Ok(Served::Database)
    }

    /// Which instance is meant, only the address tells: a Cloud SQL connector was told it in this session, or the catalog has it.
    async fn serve_connector(&self, stream: TcpStream, to: SocketAddr) -> Result<Served, Refused> {
        let arrival = self.arrival(to);
        let learnt = self.room.instances.at(&arrival.host);
        let entry = learnt.or_else(|| {
            let entry = self.house.databases.at(self.name.as_deref(), to)?;
            entry.instance.is_some().then(|| entry.clone())
        });
        self.record_connection(entry.as_ref().map(|entry| &*entry.name))
            .await?;
        let Some(entry) = entry else {
            return Err(Refused(format!(
                "Holdpoint knows no instance of Cloud SQL at {}: no connectSettings that this session has read names it for an instance with a [[connection]] in \
                 /etc/holdpoint/holdpoint.toml. The operator of this runner has to add one with instance = \"PROJECT:REGION:INSTANCE\"",
                arrival.host
            )));
        };
        self.check_reach(&arrival, &entry)?;
        sqladmin::serve(&arrival, &entry, stream).await?;
        Ok(Served::Database)
    }

    /// Whether a database is within what this session may reach at all.
    fn check_reach(&self, arrival: &Arrival, entry: &Entry) -> Result<(), Refused> {
        let standing = &self.room.session.standing;
        let operation = standing.on_host(Action::NET_CONNECT, &arrival.host, Some(arrival.port));
        match standing.objection(&operation) {
            Some(objection) => Err(Refused(format!("{} {objection}", entry.name))),
            None => Ok(()),
        }
    }

    fn arrival(&self, to: SocketAddr) -> Arrival {
        Arrival {
            house: self.house.clone(),
            room: self.room.clone(),
            connection: self.id,
            host: postgres::host_asked_for(&self.room.book, to.ip()),
            port: to.port(),
            refusal: self.refusal.clone(),
        }
    }
}

fn is_google(host: &str) -> bool {
    Catalog::built_in().is_google_host(host)
}
