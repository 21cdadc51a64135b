//! PostgreSQL: what agents say to databases, statement by statement.
//!
//! A connection to an address of the catalog is terminated here: TLS with a leaf of our CA towards the agent, which nobody asks for a password, and a
//! connection of Holdpoint's own to the server, with a credential that no agent has. Between the two, [`session::run`] passes on what policy allows.

pub mod answer;
pub mod cancel;
pub mod catalog;
pub mod client_messages;
pub mod frame;
pub mod greeting;
pub mod lookup;
pub mod masking;
pub mod server;
pub mod server_messages;
pub mod session;
pub mod startup;
pub mod statements;
pub mod stream;
#[cfg(test)]
mod testing;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use holdpoint_core::sql::Database;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use self::{
    answer::Complaint,
    cancel::Cancelled,
    greeting::{Begins, Greeting, Guest},
    server::{ServerCancel, ServerLink},
    startup::Startup,
    stream::Stream,
};
pub use self::{
    catalog::{Databases, Entry, PORT, host_asked_for},
    startup::is_postgres,
};
use crate::{binding::Room, cut::Counted, daemon::House};

/// How long a client may take to read why it is refused.
const FAREWELL: Duration = Duration::from_secs(5);
/// What one connection takes up of its session's allowance, in bytes: what is read at once from either side, TLS, and the statements
/// under way. What is larger is accounted for when it comes.
const CONNECTION: usize = 256 << 10;

/// Why nothing came, or comes, of a connection, for the record.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Who made a connection, and where to.
#[derive(Clone)]
pub struct Arrival {
    /// The daemon's parts.
    pub house: Arc<House>,
    /// Whom its sandbox acted for when it was made.
    pub room: Arc<Room>,
    /// Its number.
    pub connection: u64,
    /// What the client calls the host: a name, or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Why it is refused, once that is known: the client may be gone, and its session with it, before it was told.
    pub refusal: Arc<OnceLock<String>>,
}

/// Both sides are through their handshakes, and ReadyForQuery was passed on. Nothing was read ahead from either.
pub struct Conversation<C, S> {
    /// The daemon's parts.
    pub house: Arc<House>,
    /// Who asks.
    pub room: Arc<Room>,
    /// The number of the connection.
    pub connection: u64,
    /// The database server.
    pub entry: Arc<Entry>,
    /// Where statements run.
    pub at: Database,
    /// The agent's side.
    pub client: C,
    /// The server's.
    pub server: S,
    /// What the server said of itself and of the connection's settings.
    pub parameters: BTreeMap<String, String>,
    /// Tells when the client asks to cancel what is under way.
    pub cancelled: Cancelled,
    /// Asks the server to.
    pub server_cancel: ServerCancel,
}

/// Serves a connection to a database until it ends.
///
/// # Errors
/// When nothing comes of it.
pub async fn serve(
    arrival: &Arrival,
    entry: &Arc<Entry>,
    stream: TcpStream,
) -> Result<(), Refused> {
    let greeting = tokio::select! {
        greeting = greet(arrival, stream) => greeting?,
        () = arrival.house.stopped() => return Err(Refused("the daemon stopped".to_owned())),
    };
    receive(arrival, entry, greeting).await
}

/// Refuses a connection in PostgreSQL's words: there is no such database here.
pub async fn refuse_unknown(
    arrival: &Arrival,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    begins: Begins,
) -> Refused {
    let complaint = unknown(&arrival.host, arrival.port);
    let _ = arrival.refusal.set(complaint.message.clone());
    let acceptor = &arrival.house.database_acceptor;
    let greeting = greeting::greet(stream, begins, acceptor, &arrival.host).await;
    match greeting {
        Ok(greeting) => refuse(arrival, greeting.stream, complaint).await,
        Err(problem) => Refused(format!("{} ({problem})", complaint.message)),
    }
}

/// The same, for a connection of which nothing was read.
pub async fn refuse_unread(arrival: &Arrival, stream: TcpStream) -> Refused {
    match begins(&stream).await {
        Ok(begins) => refuse_unknown(arrival, stream, begins).await,
        Err(refused) => refused,
    }
}

fn unknown(host: &str, port: u16) -> Complaint {
    let place = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    Complaint::new(
        "28000",
        format!("Holdpoint does not know the database at {place}: it is in no [[connection]] of its configuration"),
    )
    .hint(format!(
        "The operator of this runner has to add it to /etc/holdpoint/holdpoint.toml: a [[connection]] with addresses = [\"{place}\"], and with what Holdpoint logs in there; then restart the daemon."
    ))
}

async fn begins(stream: &TcpStream) -> Result<Begins, Refused> {
    const PATIENCE: Duration = Duration::from_secs(15);
    let mut first = [0];
    match timeout(PATIENCE, stream.peek(&mut first)).await {
        Ok(Ok(1)) => Ok(Begins::by(first[0])),
        Ok(Ok(_)) => Err(Refused("it was closed before it said anything".to_owned())),
        Ok(Err(error)) => Err(Refused(format!("it broke off: {error}"))),
        Err(_) => Err(Refused("it sent nothing".to_owned())),
    }
}

async fn greet(arrival: &Arrival, stream: TcpStream) -> Result<Greeting<TcpStream>, Refused> {
    let begins = begins(&stream).await?;
    let acceptor = &arrival.house.database_acceptor;
    let greeting = greeting::greet(stream, begins, acceptor, &arrival.host).await;
    greeting.map_err(Refused)
}

/// Gives a client what it wants, where it may have it, until the connection ends.
///
/// # Errors
/// When nothing comes of it.
pub async fn receive<C: AsyncRead + AsyncWrite + Unpin + Send>(
    arrival: &Arrival,
    entry: &Arc<Entry>,
    greeting: Greeting<C>,
) -> Result<(), Refused> {
    let Greeting { stream, guest } = greeting;
    match guest {
        Ok(Guest::Canceller(key)) => {
            let session = &arrival.room.session.id;
            // Nothing is ever answered to that, so that nobody can try keys.
            arrival
                .house
                .databases
                .cancels
                .ask(session, entry, &key)
                .await;
            Ok(())
        }
        Ok(Guest::User(startup)) => converse(arrival, entry, stream, &startup).await,
        Err(complaint) => Err(refuse(arrival, stream, complaint).await),
    }
}

async fn converse<C: AsyncRead + AsyncWrite + Unpin + Send>(
    arrival: &Arrival,
    entry: &Arc<Entry>,
    mut client: Stream<C>,
    startup: &Startup,
) -> Result<(), Refused> {
    if let Err(complaint) = may_enter(entry, startup) {
        return Err(refuse(arrival, client, complaint).await);
    }
    let most = entry.session_connections;
    let allowance = &arrival.room.allowance;
    let Some(_connected) = allowance.connection(&entry.name, most) else {
        return Err(refuse(arrival, client, as_many_as(most, &entry.name)).await);
    };
    let mut taken_up = allowance.charge();
    if taken_up.cover(CONNECTION).is_err() {
        return Err(refuse(arrival, client, too_many()).await);
    }
    let ServerLink {
        stream: server,
        parameters,
        key,
        user,
    } = match server::connect(entry, &startup.database, &startup.settings).await {
        Ok(link) => link,
        Err(error) => {
            let shown = arrival.house.masking.shown();
            tracing::warn!(
                session = %arrival.room.session.id,
                connection = &*entry.name,
                database = &*shown.value("", &startup.database),
                "no connection to the database at {}: {}",
                entry.place,
                shown.value("", &error.to_string())
            );
            return Err(refuse(arrival, client, error.complaint(&entry.name)).await);
        }
    };
    if let Err(complaint) = reads_alike(&parameters) {
        return Err(refuse(arrival, client, complaint).await);
    }
    let session = &arrival.room.session.id;
    let is_long = startup.protocol.minor > 0;
    let (own_key, cancelled) = (arrival.house.databases.cancels)
        .register(session, entry, is_long)
        .map_err(|error| Refused(format!("the kernel has no random bytes: {error}")))?;
    let welcome = answer::welcome(startup, &parameters, &own_key);
    let welcomed = async {
        client.write_all(&welcome).await?;
        client.flush().await
    };
    welcomed.await.map_err(|error| gone(&error.to_string()))?;
    let mut client = Counted::new(client);
    let ran = session::run(Conversation {
        house: arrival.house.clone(),
        room: arrival.room.clone(),
        connection: arrival.connection,
        entry: entry.clone(),
        at: Database {
            entry: entry.name.clone(),
            instance: entry.instance.as_deref().map(str::to_owned),
            host: arrival.host.clone(),
            port: arrival.port,
            database: startup.database.clone(),
            user: user.to_string(),
        },
        client: &mut client,
        server,
        parameters,
        cancelled,
        server_cancel: ServerCancel::new(entry.clone(), key),
    })
    .await;
    match client.read {
        0 => Err(gone("it asked for nothing")),
        _ => ran,
    }
}

fn as_many_as(most: usize, entry: &str) -> Complaint {
    Complaint::new(
        "53300",
        format!("Holdpoint opens no further connection to \"{entry}\" for this session: it has {most}"),
    )
    .hint("Close connections, or keep fewer in the pool. The operator of this runner can raise session_connections of that [[connection]].")
}

fn too_many() -> Complaint {
    Complaint::new(
        "53300",
        "Holdpoint opens no further database connection for this session: what it has open, and what waits to be judged, is as much as it may take up",
    )
    .hint("Close connections, or keep fewer in the pool.")
}

/// Clients check what they were asked for only when they are in: they leave without a word.
fn gone(how: &str) -> Refused {
    Refused(format!(
        "the client left as soon as it was let in ({how}). If it says that channel binding or an authentication method is required: nobody is asked for a password here, \
         so take channel_binding=require and require_auth out of its connection string or environment (PGCHANNELBINDING, PGREQUIREAUTH)"
    ))
}

/// Whether the server reads names and texts as Holdpoint does: in an encoding of single bytes it folds and cuts names otherwise.
fn reads_alike(parameters: &BTreeMap<String, String>) -> Result<(), Complaint> {
    for (name, wanted) in [
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
    ] {
        // Poolers do not tell all of them.
        if let Some(value) = parameters.get(name).filter(|value| *value != wanted) {
            return Err(Complaint::new(
                "0A000",
                format!("Holdpoint reads SQL with {name} = {wanted}, and the server has {value}"),
            )
            .hint("Names and texts could mean something else to the server than to Holdpoint. Use a database in UTF8 with standard_conforming_strings on."));
        }
    }
    Ok(())
}

fn may_enter(entry: &Entry, startup: &Startup) -> Result<(), Complaint> {
    if !entry.has_database(&startup.database) {
        return Err(Complaint::new(
            "28000",
            format!(
                "Holdpoint does not open the database \"{}\" of \"{}\" to sessions",
                startup.database, entry.name
            ),
        )
        .hint(format!(
            "Its [[connection]] names these: {}. The operator of this runner can add one to `databases`.",
            quoted(&entry.databases)
        )));
    }
    if !entry.takes_agent_user(&startup.user) {
        return Err(Complaint::new(
            "28000",
            format!(
                "Holdpoint does not let anybody into \"{}\" who says that it is \"{}\"",
                entry.name, startup.user
            ),
        )
        .hint(format!(
            "Its [[connection]] names these as agent_users: {}. Connect as one of them; no password is needed.",
            quoted(&entry.agent_users)
        )));
    }
    Ok(())
}

fn quoted(names: &std::collections::BTreeSet<String>) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    quoted.join(", ")
}

/// Says why, and closes.
async fn refuse<C: AsyncRead + AsyncWrite + Unpin>(
    arrival: &Arrival,
    mut client: Stream<C>,
    mut complaint: Complaint,
) -> Refused {
    let _ = arrival.refusal.set(complaint.message.clone());
    let session = format!("Holdpoint session {}.", arrival.room.session.id);
    let detail = complaint.detail.take();
    complaint.detail = Some(match detail {
        Some(detail) => format!("{detail} {session}"),
        None => session,
    });
    let farewell = async {
        client.write_all(&complaint.fatal()).await?;
        client.flush().await?;
        client.shutdown().await
    };
    // Whether it listens is up to it.
    let _ = timeout(FAREWELL, farewell).await;
    Refused(complaint.message)
}
