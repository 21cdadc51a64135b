//! One connection of a sandboxed process: origin, session, detection, TLS, relay.

use std::{
    convert::Infallible,
    io::{self, Read as _},
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use holdpoint_core::{
    catalog::Catalog,
    operation::{Action, Trait},
    refusal::{Dress, Refusal},
};
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};

use crate::{
    binding::{self, Room, Sandbox},
    containers,
    cut::{self, Counted},
    daemon::House,
    gate::{Asker, Patience},
    interim::InterimIo,
    kernel::{Flow, knows_all_processes},
    masking::Shown,
    metadata,
    metrics::{Lasting, Served},
    postgres::{self, Arrival, Entry, greeting::Begins, is_postgres},
    record::{Event, Process, Text},
    refusals::{self, RefusedBy},
    relay::{self, Visit},
    replay::Replay,
    reply, sqladmin,
    tls::{self, Hello, HelloReader},
};

/// A client that says nothing for this long after connecting is not waited for.
const FIRST_BYTES: Duration = Duration::from_secs(15);
const HANDSHAKE: Duration = Duration::from_secs(15);
/// A ClientHello may be larger than one record (RFC 8446, section 4), but not without end.
const HELLO_LIMIT: usize = 64 << 10;
/// Bytes of request headers, all together.
const HEADER_LIMIT: usize = 64 << 10;
/// How long a passed-through connection waits for an approval.
const HELD_CONNECTION: Duration = Duration::from_secs(50);
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

/// What a connection begins with.
enum Opening {
    /// A ClientHello, with its server name.
    Tls(Option<String>),
    /// An HTTP request in the clear.
    PlainHttp,
    /// A message to a PostgreSQL server.
    Postgres,
    /// None of these; a TLS alert to answer with, where there is one.
    Other(Vec<u8>),
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
        let standing = &self.room.session.standing;
        let operation = standing.on_host(Action::NET_CONNECT, &arrival.host, Some(to.port()));
        if let Some(objection) = standing.objection(&operation) {
            return Err(Refused(format!("{} {objection}", entry.name)));
        }
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
        let standing = &self.room.session.standing;
        let operation = standing.on_host(Action::NET_CONNECT, &arrival.host, Some(to.port()));
        if let Some(objection) = standing.objection(&operation) {
            return Err(Refused(format!("{} {objection}", entry.name)));
        }
        sqladmin::serve(&arrival, &entry, stream).await?;
        Ok(Served::Database)
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

    async fn serve_tls(
        &self,
        stream: TcpStream,
        hello: Bytes,
        sni: String,
        port: u16,
    ) -> Result<Served, Refused> {
        let sni = sni.strip_suffix('.').unwrap_or(&sni).to_owned();
        self.record_connection(Some(&sni)).await?;
        if let Some(name) = self.name.as_deref().filter(|name| *name != sni) {
            let problem = format!(
                "the TLS handshake names {sni}, and the address it went to was given out for {name}"
            );
            return self
                .refuse_tls(stream, hello, &Refusal::malformed(&problem))
                .await;
        }
        if !is_google(&sni) {
            return self.pass_through(stream, hello, &sni, port, true).await;
        }
        if port != HTTPS {
            let problem = format!("Google's APIs are reached on port {HTTPS} only, not on {port}");
            return self
                .refuse_tls(stream, hello, &Refusal::malformed(&problem))
                .await;
        }
        let accept = self.house.acceptor.accept(Replay::new(hello, stream));
        let tls = timeout(HANDSHAKE, accept)
            .await
            .map_err(|_| Refused::from("the TLS handshake took too long"))?
            .map_err(|error| Refused(tls::handshake_problem(&error)))?;
        if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.serve_http2(tls, sni).await?;
        } else {
            self.serve_http1(tls, sni).await?;
        }
        Ok(Served::Google)
    }

    async fn serve_http1(
        &self,
        tls: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: String,
    ) -> Result<(), Refused> {
        let (io, interims) = InterimIo::new(tls);
        let visit = self.visit(host, Some(interims));
        let service = service_fn(move |request| relay::answer(visit.clone(), request));
        let connection = http1_builder().serve_connection(TokioIo::new(io), service);
        let served = self.until_stopped(connection).await;
        served.or_else(refused_by_hyper)
    }

    async fn serve_http2(
        &self,
        tls: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: String,
    ) -> Result<(), Refused> {
        let visit = self.visit(host, None);
        let service = service_fn(move |request| relay::answer(visit.clone(), request));
        let connection = http2_builder().serve_connection(TokioIo::new(tls), service);
        let served = self.until_stopped(connection).await;
        served.or_else(refused_by_hyper)
    }

    /// Serves a connection to its end. When the daemon stops before, what is under way is answered, and nothing more.
    async fn until_stopped<C: GracefulConnection>(&self, connection: C) -> Result<(), C::Error> {
        let mut connection = pin!(connection);
        tokio::select! {
            served = connection.as_mut() => return served,
            () = self.house.stopped() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    }

    fn visit(&self, host: String, interims: Option<crate::interim::Interims>) -> Arc<Visit> {
        Arc::new(Visit {
            house: self.house.clone(),
            room: self.room.clone(),
            host,
            connection: self.id,
            interims,
        })
    }

    async fn serve_metadata(&self, stream: TcpStream, port: u16) -> Result<(), Refused> {
        if port != 80 {
            return Err(Refused(format!("the metadata server has no port {port}")));
        }
        let room = self.room.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let (head, _) = request.into_parts();
            let response = metadata::answer(
                &room.metadata,
                &head.method,
                head.uri.path(),
                head.uri.query(),
                &head.headers,
            );
            async move { Ok::<_, Infallible>(response.map(Full::new)) }
        });
        let connection = http1_builder().serve_connection(TokioIo::new(stream), service);
        let served = self.until_stopped(connection).await;
        served.or_else(refused_by_hyper)
    }

    /// What is asked here may end the session that asks.
    async fn serve_binding(
        &self,
        sandbox: &Arc<Sandbox>,
        stream: TcpStream,
        flow: Flow,
    ) -> Result<(), Refused> {
        let port = flow.destination.port();
        if port != 80 {
            return Err(Refused(format!("{} has no port {port}", binding::NAME)));
        }
        self.outlasts.store(true, Ordering::Relaxed);
        let (house, sandbox) = (self.house.clone(), sandbox.clone());
        let served = binding::serve(house, sandbox, stream, flow.pid).await;
        served.or_else(refused_by_hyper)
    }

    async fn serve_containers(&self, stream: TcpStream) -> Result<(), Refused> {
        let Some(containers) = self.house.containers.clone() else {
            return Err(
                "sessions here have no containers: the configuration has no [containers]".into(),
            );
        };
        let served = containers.serve(self.house.clone(), self.room.clone(), self.id, stream);
        tokio::select! {
            served = served => served.or_else(refused_by_hyper),
            () = self.house.stopped() => Err(STOPPED.into()),
        }
    }

    /// Joins the client to a host that policy allows, without looking inside.
    async fn pass_through(
        &self,
        mut stream: TcpStream,
        first: Bytes,
        name: &str,
        port: u16,
        is_tls: bool,
    ) -> Result<Served, Refused> {
        let standing = &self.room.session.standing;
        let operation = standing.on_host(Action::NET_CONNECT, name, Some(port));
        let mut asker = Asker {
            session: self.room.session.clone(),
            connection: self.id,
            patience: Patience::AtMost(HELD_CONNECTION),
            headers: &HeaderMap::new(),
            body: &[],
            rows: &[],
        };
        let admitted = self
            .house
            .gate
            .admit(&mut asker, std::slice::from_ref(&operation))
            .await;
        let permits = match admitted {
            Ok(permits) => permits,
            Err(refusal) if is_tls => return self.refuse_tls(stream, first, &refusal).await,
            // Whoever asks for a database at another port is told so in its words.
            Err(_) if first.is_empty() && self.house.databases.know(name) => {
                let to = self.flow.map(|flow| flow.destination);
                let to = to.ok_or("nothing says where it was going")?;
                let refused = Box::pin(postgres::refuse_unread(&self.arrival(to), stream)).await;
                return Err(refused.into());
            }
            Err(refusal) => return Err(Refused(refusal.message)),
        };
        let (mut outcome, lease) = permits.spend_lasting();
        let dialled = self.house.upstream.dial(&mut outcome, name, port).await;
        let mut upstream = dialled
            .map_err(|error| Refused(format!("{name}:{port} could not be reached: {error}")))?;
        if let Err(error) = upstream.write_all(&first).await {
            return Err(Refused(format!("{name}:{port} broke off: {error}")));
        }
        // A runner that waits for its next job, or reports on this one, is not to be cut off by its hook.
        let own = operation.traits.contains(&Trait::OwnHost);
        self.outlasts.store(own, Ordering::Relaxed);
        let mut upstream = Counted::new(upstream);
        let grants_over = outcome.grants_over();
        let asking = asker.asking();
        let end = tokio::select! {
            joined = tokio::io::copy_bidirectional(&mut stream, &mut upstream) => match joined {
                Ok(_) => PassedOn::ToItsEnd,
                Err(_) => PassedOn::Broken,
            },
            () = self.house.stopped() => PassedOn::Stopped,
            () = grants_over => PassedOn::Cut("the grant it was open by is over".to_owned()),
            reason = self.house.gate.no_longer_allows(&self.room.session, &asking, &operation, lease) => {
                PassedOn::Cut(reason)
            }
        };
        outcome.request_bytes = upstream.written + first.len() as u64;
        outcome.response_bytes = upstream.read;
        match end {
            PassedOn::ToItsEnd => outcome.closed(),
            PassedOn::Broken => {}
            PassedOn::Stopped => return Err(STOPPED.into()),
            PassedOn::Cut(reason) => {
                outcome.cut();
                cut::record(
                    &self.house,
                    &self.room,
                    (self.id, name, port),
                    &outcome,
                    &reason,
                )
                .await;
            }
        }
        Ok(Served::PassedThrough)
    }

    /// Completes the handshake only to say no in words.
    async fn refuse_tls(
        &self,
        stream: TcpStream,
        hello: Bytes,
        refusal: &Refusal,
    ) -> Result<Served, Refused> {
        let _ = self.refusal.set(refusal.message.clone());
        let accept = self.house.acceptor.accept(Replay::new(hello, stream));
        if let Ok(Ok(tls)) = timeout(HANDSHAKE, accept).await {
            let http2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
            self.answer_all(tls, refusal, http2).await;
        }
        Err(Refused(refusal.message.clone()))
    }

    /// Gives every request of a connection the same refusal.
    async fn answer_all(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        refusal: &Refusal,
        http2: bool,
    ) {
        let refusal = refusal.clone().in_session(self.room.session.id.as_str());
        let service = service_fn(move |_: Request<Incoming>| {
            let response: Response<_> = reply::render(&refusal, Dress::Json);
            async move { Ok::<_, Infallible>(response) }
        });
        let io = TokioIo::new(io);
        // The client's own errors on a refused connection interest nobody.
        if http2 {
            let _ = timeout(HANDSHAKE, http2_builder().serve_connection(io, service)).await;
        } else {
            let http1 = http1_builder()
                .keep_alive(false)
                .serve_connection(io, service);
            let _ = timeout(HANDSHAKE, http1).await;
        }
    }

    async fn record_connection(&self, name: Option<&str>) -> Result<(), Refused> {
        let Some(flow) = self.flow else { return Ok(()) };
        let event = Event::Connection {
            session: self.room.session.id.clone(),
            connection: self.id,
            destination: flow.destination,
            name: name.map(Into::into),
            process: Some(process(flow, self.house.masking.shown()).await),
        };
        let recorded = self.house.record.append_unsynced(event).await;
        recorded
            .map(drop)
            .map_err(|error| Refused(format!("it could not be recorded: {error}")))
    }

    async fn refuse(&self, reason: &str) {
        // It may quote what the client said.
        let shown = self.house.masking.shown();
        let reason = &*shown.value("", reason);
        if !self.room.pace.allows(Instant::now()) {
            let refused = self.refused(reason, None);
            return self.house.refusals.note(refused, self.pid());
        }
        tracing::info!(session = %self.room.session.id, connection = self.id, reason, "connection refused");
        let process = match self.flow {
            Some(flow) => Some(process(flow, self.house.masking.shown()).await),
            None => None,
        };
        let refused = self.refused(reason, process.as_ref());
        self.house.refusals.note_recorded(refused, self.pid());
        let event = Event::ConnectionRefused {
            session: self.room.session.id.clone(),
            connection: self.id,
            destination: self.flow.map(|flow| flow.destination),
            reason: reason.into(),
            process,
        };
        if let Err(error) = self.house.record.append_unsynced(event).await {
            tracing::error!(%error, "a refused connection is missing in the record");
        }
    }

    /// For `holdpoint status`.
    fn refused(&self, reason: &str, process: Option<&Process>) -> refusals::Refused {
        let destination = match (&self.name, self.flow) {
            (Some(name), Some(flow)) => Some(format!("{name}:{}", flow.destination.port())),
            (None, Some(flow)) => Some(flow.destination.to_string()),
            (_, None) => None,
        };
        let executable = process.and_then(|it| it.executable.as_ref());
        let program = match executable {
            Some(path) => path.as_str().rsplit('/').next().map(Text::short),
            None => self.flow.map(|flow| Text::short(&flow.command())),
        };
        refusals::Refused {
            session: Some(self.room.session.id.clone()),
            by: RefusedBy::Proxy,
            process: program,
            destination: destination.map(|it| Text::short(&it)),
            reason: Text::short(reason),
        }
    }

    fn pid(&self) -> Option<u32> {
        self.flow.map(|flow| flow.pid)
    }
}

fn is_google(host: &str) -> bool {
    Catalog::built_in().is_google_host(host)
}

/// TLS alert `unrecognized_name` (RFC 6066, section 3), fatal.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

async fn tell_tls(stream: &mut TcpStream, alert: &[u8]) {
    // The connection is closed next; whether the client hears why is up to it.
    let _ = stream.write_all(alert).await;
    let _ = stream.shutdown().await;
}

/// Reads as much as tells what a connection is.
async fn read_opening(stream: &mut TcpStream) -> io::Result<(Opening, Bytes)> {
    let mut read = BytesMut::with_capacity(4096);
    let mut hello = HelloReader::default();
    while read.len() < HELLO_LIMIT {
        let before = read.len();
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if before == 0 && is_http(&read) {
            return Ok((Opening::PlainHttp, read.freeze()));
        }
        if read[0] == 0 {
            match read.first_chunk() {
                None => continue,
                Some(first) if is_postgres(*first) => {
                    return Ok((Opening::Postgres, read.freeze()));
                }
                Some(_) => {}
            }
        }
        match hello.feed(&read[before..]) {
            Hello::Incomplete => {}
            Hello::Complete(name) => return Ok((Opening::Tls(name), read.freeze())),
            Hello::NotTls(alert) => return Ok((Opening::Other(alert), read.freeze())),
        }
    }
    Ok((Opening::Other(Vec::new()), read.freeze()))
}

/// Whether this begins like an HTTP/1 request or the HTTP/2 preface. No TLS record does: its first byte is below 32.
fn is_http(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 10] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"PATCH ",
        b"OPTIONS ",
        b"CONNECT ",
        b"TRACE ",
        b"PRI * HTTP/2.0",
    ];
    METHODS.iter().any(|method| bytes.starts_with(method))
}

fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .max_buf_size(HEADER_LIMIT);
    builder
}

fn http2_builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        // What a connection may send ahead of being read. Loopback needs no more.
        .initial_stream_window_size(128 << 10)
        .initial_connection_window_size(256 << 10)
        .max_header_list_size(u32::try_from(HEADER_LIMIT).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(60));
    builder
}

/// Clients come and go; only what they sent wrong is worth the record.
fn refused_by_hyper(error: hyper::Error) -> Result<(), Refused> {
    if error.is_parse() || error.is_parse_too_large() {
        return Err(Refused(format!(
            "what it sent is not HTTP that can be judged: {error}"
        )));
    }
    tracing::debug!(%error, "connection ended");
    Ok(())
}

/// What the process says about itself that made a connection; of one that is gone already, what the kernel knew. To read it takes locks of that process's memory, which it can
/// keep for long: not on a thread that serves others, and not without end.
async fn process(flow: Flow, shown: Shown) -> Process {
    const PATIENCE: Duration = Duration::from_secs(1);
    static READERS: Semaphore = Semaphore::const_new(8);
    let reading = async {
        let turn = READERS.acquire().await.ok()?;
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read_process(flow.pid, &shown)
        });
        read.await.ok()?
    };
    let read = timeout(PATIENCE, reading).await.ok().flatten();
    read.unwrap_or_else(|| Process {
        pid: flow.pid,
        executable: None,
        arguments: [flow.command()].iter().collect(),
    })
}

fn read_process(pid: u32, shown: &Shown) -> Option<Process> {
    const ARGUMENTS: usize = 64;
    // A process can say that its arguments are all of its memory (PR_SET_MM_MAP in prctl(2)).
    const BYTES: u64 = 64 << 10;
    if !knows_all_processes() {
        return None;
    }
    let mut arguments = Vec::new();
    let cmdline = std::fs::File::open(format!("/proc/{pid}/cmdline")).ok()?;
    cmdline.take(BYTES).read_to_end(&mut arguments).ok()?;
    let arguments = arguments.strip_suffix(&[0]).unwrap_or(&arguments);
    let arguments: Vec<_> = arguments
        .split(|byte| *byte == 0)
        .take(ARGUMENTS)
        .map(String::from_utf8_lossy)
        .collect();
    let executable = std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    Some(Process {
        pid,
        executable: executable.map(|path| path.display().to_string().into()),
        arguments: shown
            .arguments(arguments.iter().map(AsRef::as_ref))
            .iter()
            .collect(),
    })
}

/// How passing on ended.
enum PassedOn {
    ToItsEnd,
    Broken,
    Stopped,
    Cut(String),
}
