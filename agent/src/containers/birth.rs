//! What runs in a container begins with the engine, outside of all sessions. Before it does, Holdpoint's OCI runtime asks here whose it is.
//!
//! The answer is there only while the session waits for its start: what nobody in a session has asked for does not start.

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::{Containers, bind::Bind};
use crate::{binding::Room, daemon::House, launch};

/// Bytes of a message.
pub const MOST_MESSAGE: u64 = 1 << 20;
/// How long a runtime may take for each of its steps: reading files and mounting a few.
const PATIENCE: Duration = Duration::from_secs(30);

/// What begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A container.
    Container,
    /// A command in one that runs.
    Command,
}

/// Runtime to daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case", deny_unknown_fields)]
pub enum Said {
    /// First: whose is it?
    About {
        /// The engine's id of the container.
        container: String,
        /// What begins in it.
        kind: Kind,
    },
    /// Second: from here on it ends with what is in the session.
    Inside,
}

/// Daemon to runtime.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub enum Answer {
    /// A session's.
    Of(Box<Birth>),
    /// It may begin.
    Begin,
    /// It may not.
    No {
        /// Why.
        reason: String,
    },
}

/// Where and as whom something begins.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Birth {
    /// The session's id, for the environment.
    pub session: String,
    /// The session's cgroup.
    pub cgroup: PathBuf,
    /// The session's init: its namespaces are the session's.
    pub init: u32,
    /// Who runs it.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// What of the session it shows.
    pub binds: Vec<Bind>,
    /// What it trusts.
    pub ca_bundle: PathBuf,
    /// The same for Java.
    pub truststore: Option<PathBuf>,
    /// The Google project, for the environment.
    pub project: Option<String>,
}

/// What is about to begin.
#[derive(Debug, Default)]
pub struct Births(Mutex<Vec<Arc<Expected>>>);

struct Expected {
    container: String,
    kind: Kind,
    room: Arc<Room>,
    binds: Vec<Bind>,
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tuple = f.debug_tuple("Expected");
        tuple.field(&self.container).field(&self.kind).finish()
    }
}

/// Held while a session waits for something to begin.
#[must_use]
pub struct Expecting {
    containers: Containers,
    expected: Arc<Expected>,
}

impl Expecting {
    /// From now on it may begin, once.
    pub fn new(
        containers: &Containers,
        container: &str,
        kind: Kind,
        room: Arc<Room>,
        binds: Vec<Bind>,
    ) -> Self {
        let expected = Arc::new(Expected {
            container: container.to_owned(),
            kind,
            room,
            binds,
        });
        containers.births().lock().push(expected.clone());
        Self {
            containers: containers.clone(),
            expected,
        }
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        let mut births = self.containers.births().lock();
        births.retain(|it| !Arc::ptr_eq(it, &self.expected));
    }
}

impl Births {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Expected>>> {
        self.0.lock().expect("no panic while locked")
    }

    fn take(&self, container: &str, kind: Kind) -> Option<Arc<Expected>> {
        let mut births = self.lock();
        let found = births
            .iter()
            .position(|it| it.container == container && it.kind == kind)?;
        Some(births.remove(found))
    }
}

/// Listens for runtimes, which are root's.
///
/// # Errors
/// When the socket cannot be made.
pub fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let made = || -> io::Result<UnixListener> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    made().with_context(|| format!("cannot listen on {}", path.display()))
}

/// Answers runtimes for as long as the daemon runs.
pub async fn answer_runtimes(house: Arc<House>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let house = house.clone();
                tokio::spawn(async move {
                    if let Err(error) = answer(&house, stream).await {
                        tracing::warn!("a container did not begin: {error:#}");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "an OCI runtime could not be heard");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn answer(house: &House, stream: UnixStream) -> anyhow::Result<()> {
    anyhow::ensure!(
        stream.peer_cred()?.uid() == 0,
        "it was asked for by somebody else than root"
    );
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(MOST_MESSAGE));
    let Said::About { container, kind } = hear(&mut reader).await? else {
        anyhow::bail!("its runtime speaks out of turn");
    };
    let expected = house
        .containers
        .as_ref()
        .and_then(|it| it.births().take(&container, kind));
    let Some(expected) = expected else {
        let reason = format!(
            "no session has asked for the start of {container}: it is started through its session's engine only"
        );
        return tell(&mut writer, &Answer::No { reason }).await;
    };
    let birth = birth(house, &expected).await?;
    tell(&mut writer, &Answer::Of(Box::new(birth))).await?;
    let Said::Inside = hear(&mut reader).await? else {
        anyhow::bail!("its runtime speaks out of turn");
    };
    // Whoever is bound after this ends it with all else that was there before.
    let room = &expected.room;
    let over = room.is_closed()
        || !house
            .sessions
            .list()
            .iter()
            .any(|it| it.id == room.session.id);
    let answer = match over {
        true => Answer::No {
            reason: "its session is over".into(),
        },
        false => Answer::Begin,
    };
    tell(&mut writer, &answer).await
}

async fn birth(house: &House, expected: &Expected) -> anyhow::Result<Birth> {
    let session = &expected.room.session;
    // A job runs in the sandbox of the service that runs it.
    let sandbox = session.standing.within().unwrap_or(&session.id);
    Ok(Birth {
        session: session.id.to_string(),
        cgroup: house.site.agents_cgroup.join(sandbox.as_str()),
        init: launch::init_of(&house.site, sandbox).await?,
        uid: session.user.uid,
        gid: session.user.gid,
        binds: expected.binds.clone(),
        ca_bundle: house.site.ca_bundle.clone(),
        truststore: house.site.sandbox.truststore.clone(),
        project: house.site.project.clone(),
    })
}

async fn hear(reader: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> anyhow::Result<Said> {
    let mut line = String::new();
    timeout(PATIENCE, reader.read_line(&mut line))
        .await
        .context("its runtime says nothing")??;
    anyhow::ensure!(
        !line.is_empty(),
        "its runtime broke off (the engine has been told why)"
    );
    serde_json::from_str(&line).context("its runtime is not understood")
}

async fn tell(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    answer: &Answer,
) -> anyhow::Result<()> {
    let line = serde_json::to_string(answer)? + "\n";
    timeout(PATIENCE, writer.write_all(line.as_bytes()))
        .await
        .context("its runtime does not listen")??;
    Ok(())
}
