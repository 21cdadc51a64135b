//! The Engine API inside of a session.

mod reply;

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, HOST, ORIGIN, UPGRADE},
    request::Parts,
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::service_fn,
    upgrade::{OnUpgrade, on},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::{io::copy_bidirectional, net::TcpStream, time::timeout};

use reply::{Body, ask_upgrade, empty, json, told};

use super::{
    Containers,
    ask::{Act, Ask, ExecAct, Name, Parameters},
    bind::Bind,
    birth::{Expecting, Kind},
    engine::{EngineError, request},
    order::{self, BINDS_LABEL, Order, SESSION_LABEL},
};
use crate::{
    binding::{self, Room},
    daemon::House,
    record::{Event, Text},
    refusals::{Refused, RefusedBy},
};

/// Bytes of an order. Clients send some 2 KB, and what they put into the environment.
const MOST_ORDER: usize = 1 << 20;
/// Bytes that are read of what is refused, and for how long.
const MOST_DRAINED: usize = 64 << 20;
/// The same.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How many containers one session may have, running or not.
const MOST_CONTAINERS: usize = 64;

/// What the engine says of the host that clients need.
const INFO: [&str; 10] = [
    "Architecture",
    "CgroupVersion",
    "Driver",
    "ID",
    "MemTotal",
    "NCPU",
    "OSType",
    "OperatingSystem",
    "ServerVersion",
    "Containers",
];

/// Why a request is not answered as asked.
enum Refusal {
    /// It must not be: recorded.
    Refused(StatusCode, String),
    /// What it is about is not there, or not the session's, which is the same.
    Missing(String),
    /// The engine fails.
    Engine(EngineError),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Refused(StatusCode::FORBIDDEN, why)
    }
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

/// One connection of a session's.
struct Client {
    containers: Containers,
    house: Arc<House>,
    room: Arc<Room>,
    connection: u64,
}

/// A container of the session, by the engine's id.
struct Own {
    id: String,
    binds: Vec<Bind>,
}

impl Containers {
    /// Serves one connection to its end.
    ///
    /// # Errors
    /// What was wrong with the HTTP.
    pub async fn serve(
        self,
        house: Arc<House>,
        room: Arc<Room>,
        connection: u64,
        stream: TcpStream,
    ) -> hyper::Result<()> {
        let client = Arc::new(Client {
            containers: self,
            house,
            room,
            connection,
        });
        let service = service_fn(move |request| {
            let client = client.clone();
            async move { Ok::<_, Infallible>(client.answer(request).await) }
        });
        http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await
    }
}

impl Client {
    async fn answer(&self, mut request: Request<Incoming>) -> Response<Body> {
        let asked = format!("docker: {} {}", request.method(), request.uri().path());
        let upgrade = request
            .headers()
            .contains_key(UPGRADE)
            .then(|| on(&mut request));
        let (head, body) = request.into_parts();
        match self.done(&head, body, upgrade).await {
            Ok(response) => response,
            Err(Refusal::Missing(what)) => told(StatusCode::NOT_FOUND, &what),
            Err(Refusal::Engine(error)) => {
                tracing::warn!(session = %self.room.session.id, %error, "containers");
                told(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    &format!("Holdpoint: {error}"),
                )
            }
            Err(Refusal::Refused(status, why)) => {
                self.record_refusal(&asked, &why).await;
                told(
                    status,
                    &format!("Holdpoint: {why} (session {})", self.room.session.id),
                )
            }
        }
    }

    async fn done(
        &self,
        head: &Parts,
        body: Incoming,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Refusal> {
        is_meant(&head.headers)?;
        let ask = match Ask::parse(&head.method, head.uri.path(), head.uri.query()) {
            Ok(ask) => ask,
            Err(why) => {
                // Clients that are still sending would not read the answer.
                let _ = timeout(LAST_WORDS, drain(body)).await;
                return Err(why.into());
            }
        };
        match ask {
            Ask::Ping => self.passed(head.method.clone(), "/_ping").await,
            Ask::Version => self.passed(Method::GET, "/version").await,
            Ask::Info => self.info().await,
            Ask::Images => self.passed(Method::GET, "/images/json").await,
            Ask::Image(name) => {
                self.passed(Method::GET, &format!("/images/{name}/json"))
                    .await
            }
            Ask::List { all } => Ok(json(StatusCode::OK, &self.own_list(all).await?.into())),
            Ask::Create { name } => self.create(name.as_ref(), &read(body).await?).await,
            Ask::Container(Act::Exec, name, _) => self.new_exec(&name, &read(body).await?).await,
            Ask::Container(act, name, parameters) => {
                self.act(act, &name, &parameters, upgrade).await
            }
            Ask::Exec(act, name, parameters) => {
                let body = read(body).await?;
                self.exec(act, &name, &parameters, &body, upgrade).await
            }
        }
    }

    async fn info(&self) -> Result<Response<Body>, Refusal> {
        let (status, mut all) = self
            .containers
            .engine()
            .ask(Method::GET, "/info", None)
            .await?;
        if let Some(all) = all.as_object_mut() {
            // How the engine reaches the world, and what else runs on the host, is not the session's to know.
            all.retain(|field, _| INFO.contains(&field.as_str()));
        }
        Ok(json(status, &all))
    }

    async fn own_list(&self, all: bool) -> Result<Vec<Value>, Refusal> {
        Ok(self
            .containers
            .list(Some(&self.room.session.id), all)
            .await?)
    }

    async fn create(&self, name: Option<&Name>, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let session = &self.room.session;
        let order = order::container(body, &session.id, &session.user, &self.containers.0.runtime)?;
        if self.own_list(true).await?.len() >= MOST_CONTAINERS {
            return Err(
                format!("the session has {MOST_CONTAINERS} containers: remove some first").into(),
            );
        }
        let query = name.map_or_else(String::new, |name| format!("?name={name}"));
        let path = format!("/containers/create{query}");
        let (status, answer) = self
            .containers
            .engine()
            .ask(Method::POST, &path, Some(&order.body))
            .await?;
        if let (StatusCode::CREATED, Some(id)) = (status, answer["Id"].as_str())
            && let Err(error) = self.record_creation(id, &order).await
        {
            let path = format!("/containers/{id}?force=1&v=1");
            self.containers
                .engine()
                .ask(Method::DELETE, &path, None)
                .await?;
            let why = format!("the container could not be recorded: {error:#}");
            return Err(Refusal::Refused(StatusCode::INTERNAL_SERVER_ERROR, why));
        }
        Ok(json(status, &answer))
    }

    async fn record_creation(&self, id: &str, order: &Order) -> anyhow::Result<()> {
        let label = &order.body["Labels"][BINDS_LABEL];
        let created = Event::ContainerCreated {
            session: self.room.session.id.clone(),
            connection: self.connection,
            container: id.into(),
            image: (&order.image).into(),
            command: order.command.iter().collect(),
            mounts: order::read_binds(label.as_str().unwrap_or_default())
                .map_err(anyhow::Error::msg)?
                .iter()
                .map(|bind| format!("{}:{}", bind.source, bind.destination))
                .collect(),
        };
        self.house.record.append(created).await?;
        Ok(())
    }

    async fn act(
        &self,
        act: Act,
        name: &Name,
        parameters: &Parameters,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Refusal> {
        let own = self.own(name).await?;
        // Podman makes a container ready to start when somebody attaches to it.
        let starts = matches!(act, Act::Start | Act::Restart | Act::Attach);
        let expecting = starts.then(|| self.expect(&own.id, Kind::Container, own.binds));
        let path = act.path(&own.id) + &parameters.query();
        let mut request = request(act.method(), &path, None);
        if act == Act::Attach && upgrade.is_some() {
            ask_upgrade(request.headers_mut());
        }
        self.exchange(request, upgrade, expecting).await
    }

    async fn new_exec(&self, name: &Name, body: &[u8]) -> Result<Response<Body>, Refusal> {
        let own = self.own(name).await?;
        let order = order::exec(body, &self.room.session.user)?;
        let path = Act::Exec.path(&own.id);
        let (status, answer) = self
            .containers
            .engine()
            .ask(Method::POST, &path, Some(&order))
            .await?;
        Ok(json(status, &answer))
    }

    async fn exec(
        &self,
        act: ExecAct,
        name: &Name,
        parameters: &Parameters,
        body: &[u8],
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Refusal> {
        let missing = || Refusal::Missing(format!("No such exec instance: {name}"));
        let path = ExecAct::Inspect.path(name.as_str());
        let (status, exec) = self
            .containers
            .engine()
            .ask(Method::GET, &path, None)
            .await?;
        let (Some(id), Some(container)) = (
            exec["ID"].as_str(),
            exec["ContainerID"].as_str().and_then(Name::parse),
        ) else {
            return Err(missing());
        };
        let own = self.own(&container).await.map_err(|_| missing())?;
        let path = act.path(id) + &parameters.query();
        match act {
            ExecAct::Inspect => Ok(json(status, &exec)),
            ExecAct::Resize => {
                self.exchange(request(act.method(), &path, None), None, None)
                    .await
            }
            ExecAct::Start => {
                let order = order::exec_start(body)?;
                let expecting = self.expect(&own.id, Kind::Command, Vec::new());
                let mut request = request(act.method(), &path, Some(&order));
                if upgrade.is_some() {
                    ask_upgrade(request.headers_mut());
                }
                self.exchange(request, upgrade, Some(expecting)).await
            }
        }
    }

    fn expect(&self, container: &str, kind: Kind, binds: Vec<Bind>) -> Expecting {
        Expecting::new(&self.containers, container, kind, self.room.clone(), binds)
    }

    /// The container, if it is this session's. Of others nobody learns whether they exist.
    async fn own(&self, name: &Name) -> Result<Own, Refusal> {
        let missing = || Refusal::Missing(format!("No such container: {name}"));
        let path = Act::Inspect.path(name.as_str());
        let (status, found) = self
            .containers
            .engine()
            .ask(Method::GET, &path, None)
            .await?;
        let labels = &found["Config"]["Labels"];
        let is_own =
            status == StatusCode::OK && labels[SESSION_LABEL] == self.room.session.id.as_str();
        let (true, Some(id)) = (is_own, found["Id"].as_str()) else {
            return Err(missing());
        };
        let binds = order::read_binds(labels[BINDS_LABEL].as_str().unwrap_or_default())?;
        Ok(Own {
            id: id.to_owned(),
            binds,
        })
    }

    async fn passed(&self, method: Method, path: &str) -> Result<Response<Body>, Refusal> {
        self.exchange(request(method, path, None), None, None).await
    }

    /// Sends it on, and the answer back; where both sides agree to it, the connection is theirs from then on.
    async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        upgrade: Option<OnUpgrade>,
        expecting: Option<Expecting>,
    ) -> Result<Response<Body>, Refusal> {
        let mut answer = self.containers.engine().send(request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            // The engine has begun what was to begin, or will not.
            drop(expecting);
            return Ok(answer.map(BodyExt::boxed_unsync));
        }
        let Some(client) = upgrade else {
            return Err(EngineError::Strange.into());
        };
        let engine = on(&mut answer);
        let room = self.room.clone();
        let house = self.house.clone();
        tokio::spawn(async move {
            let _expecting = expecting;
            let joined = async {
                let (client, engine) = tokio::try_join!(client, engine)?;
                let (mut client, mut engine) = (TokioIo::new(client), TokioIo::new(engine));
                // Whoever breaks off, it is over.
                let _ = copy_bidirectional(&mut client, &mut engine).await;
                Ok::<_, hyper::Error>(())
            };
            tokio::select! {
                _ = joined => {}
                () = room.closed() => {}
                () = house.stopped() => {}
            }
        });
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        ask_upgrade(response.headers_mut());
        if let Some(kind) = answer.headers().get(CONTENT_TYPE) {
            response.headers_mut().insert(CONTENT_TYPE, kind.clone());
        }
        Ok(response)
    }

    async fn record_refusal(&self, request: &str, reason: &str) {
        let session = &self.room.session.id;
        tracing::info!(%session, request, reason, "refused");
        let refused = Refused {
            session: Some(session.clone()),
            by: RefusedBy::Proxy,
            process: None,
            destination: Some(Text::short(request)),
            reason: Text::short(reason),
        };
        if !self.room.pace.allows(Instant::now()) {
            return self.house.refusals.note(refused, None);
        }
        self.house.refusals.note_recorded(refused, None);
        let event = Event::RequestRefused {
            session: session.clone(),
            connection: self.connection,
            request: Text::short(request),
            reason: reason.into(),
        };
        if let Err(error) = self.house.record.append_unsynced(event).await {
            tracing::error!(%error, "a refused request is missing in the record");
        }
    }
}

/// A page in a browser inside must not be able to ask: neither from another origin, nor by a name that it made lead here.
fn is_meant(headers: &HeaderMap) -> Result<(), Refusal> {
    let host = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let host = host.strip_suffix(":2375").unwrap_or(host);
    if host != binding::NAME && host.parse() != Ok(binding::ADDRESS) {
        return Err(format!(
            "the Host is {host:?}: the engine of a session is at {}",
            super::ADDRESS
        )
        .into());
    }
    match headers.contains_key(ORIGIN) {
        true => Err("web pages may not ask for containers".to_owned().into()),
        false => Ok(()),
    }
}

async fn drain(mut body: Incoming) {
    let mut left = MOST_DRAINED;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(size) {
            Some(less) => left = less,
            None => return,
        }
    }
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let read = Limited::new(body, MOST_ORDER).collect().await;
    let read =
        read.map_err(|_| "the request did not arrive, or is longer than 1 MiB".to_owned())?;
    Ok(read.to_bytes())
}
