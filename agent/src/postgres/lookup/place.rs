//! One database: what is known of it, and the one connection it is asked over.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use anyhow::bail;
use holdpoint_core::sql::{
    Name, Names, Resolved, Statement,
    facts::{self, Facts, observed::Answers},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use super::client::{Client, Origin};

/// How long a look-up may take, waiting for others' included. Later means no.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// How long an answer counts: somebody else may change the database.
const FRESH: Duration = Duration::from_secs(5);
/// How long a connection is kept that nobody needs.
const IDLE: Duration = Duration::from_secs(30);
/// How many names are kept.
const MOST_KEPT: usize = 8192;
/// How many names one question may have.
const MOST_ASKED: usize = 2000;
/// How often one statement may lead from one view to the next, or find that all has changed.
const MOST_ROUNDS: usize = 64;

/// How to get a connection to a database, logged in and ready.
pub trait Dial: Sync {
    /// What comes of it.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Connects.
    fn dial(&self) -> impl Future<Output = anyhow::Result<Self::Stream>> + Send;
}

/// One database of one entry.
pub struct Place<S> {
    known: RwLock<Known>,
    /// Whoever asks holds it: those who want the same find it known when their turn comes.
    lane: Mutex<Option<Kept<S>>>,
}

/// A connection that waits for the next question.
struct Kept<S> {
    client: Client<S>,
    used: Instant,
}

impl<S> Kept<S> {
    fn now(client: Client<S>) -> Option<Self> {
        Some(Self {
            client,
            used: Instant::now(),
        })
    }
}

/// What a database can be asked, over whichever connection there is. (An async closure's future could not be said to be `Send`.)
trait Question<S>: Sync {
    type Answer: Send;

    fn put_to(
        &self,
        client: &mut Client<S>,
    ) -> impl Future<Output = anyhow::Result<Self::Answer>> + Send;
}

/// What do these names mean?
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Question<S> for Names {
    type Answer = Answers;

    async fn put_to(&self, client: &mut Client<S>) -> anyhow::Result<Answers> {
        client.look(self).await
    }
}

/// What are these columns called?
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Question<S> for [(u32, i16)] {
    type Answer = Vec<Origin>;

    async fn put_to(&self, client: &mut Client<S>) -> anyhow::Result<Vec<Origin>> {
        client.columns(self).await
    }
}

/// Which columns has this relation?
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Question<S> for Name {
    type Answer = Option<Vec<(String, Origin)>>;

    async fn put_to(
        &self,
        client: &mut Client<S>,
    ) -> anyhow::Result<Option<Vec<(String, Origin)>>> {
        client.table(self).await
    }
}

/// What is known, and since when.
struct Known {
    facts: Facts,
    columns: HashMap<(u32, i16), Origin>,
    since: Instant,
    /// Counts what has been forgotten: an answer to an older question is not kept.
    epoch: u64,
}

impl Known {
    fn forget(&mut self) {
        self.facts = Facts::default();
        self.columns.clear();
        self.since = Instant::now();
        self.epoch += 1;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Place<S> {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let known = Known {
            facts: Facts::default(),
            columns: HashMap::new(),
            since: Instant::now(),
            epoch: 0,
        };
        Arc::new(Self {
            known: RwLock::new(known),
            lane: Mutex::new(None),
        })
    }

    /// Forgets everything, also what is being asked for.
    pub fn changed(&self) {
        self.write(Known::forget);
    }

    /// What a statement does. What cannot be looked up is opaque.
    pub async fn resolve(
        self: &Arc<Self>,
        dial: &impl Dial<Stream = S>,
        statement: &Statement,
    ) -> Resolved {
        let at_once = self.at_once(statement);
        if at_once.needs.is_empty() {
            return at_once;
        }
        let asking = Box::pin(self.asking(dial, statement));
        let unknown = match timeout(DEADLINE, asking).await {
            Ok(Ok(resolved)) => return resolved,
            Ok(Err(error)) => format!("what its names mean cannot be looked up: {error:#}"),
            Err(_) => format!(
                "what its names mean could not be looked up within {} s",
                DEADLINE.as_secs()
            ),
        };
        tracing::warn!("{unknown}");
        opaque(at_once, &unknown)
    }

    /// What columns are called; nothing where they cannot be looked up.
    pub async fn columns(
        self: &Arc<Self>,
        dial: &impl Dial<Stream = S>,
        origins: &[(u32, i16)],
    ) -> Option<Vec<Origin>> {
        match timeout(DEADLINE, self.asking_columns(dial, origins)).await {
            Ok(Ok(columns)) => Some(columns),
            Ok(Err(error)) => {
                tracing::warn!("what columns a result has cannot be looked up: {error:#}");
                None
            }
            Err(_) => None,
        }
    }

    /// The columns that a COPY of this relation moves when it names none. They are asked for each time: data is masked by their order.
    pub async fn table(
        self: &Arc<Self>,
        dial: &impl Dial<Stream = S>,
        relation: &Name,
    ) -> Option<Vec<(String, Origin)>> {
        match timeout(DEADLINE, self.asking_table(dial, relation)).await {
            Ok(Ok(columns)) => columns,
            Ok(Err(error)) => {
                tracing::warn!("what columns a table has cannot be looked up: {error:#}");
                None
            }
            Err(_) => None,
        }
    }

    async fn asking_table(
        self: &Arc<Self>,
        dial: &impl Dial<Stream = S>,
        relation: &Name,
    ) -> anyhow::Result<Option<Vec<(String, Origin)>>> {
        let mut lane = self.lane.lock().await;
        self.ask(&mut lane, dial, relation).await
    }

    fn at_once(&self, statement: &Statement) -> Resolved {
        self.read(|known| facts::resolve(statement, &known.facts))
    }

    async fn asking(
        self: &Arc<Self>,
        dial: &impl Dial<Stream = S>,
        statement: &Statement,
    ) -> anyhow::Result<Resolved> {
        for _ in 0..MOST_ROUNDS {
            let resolved = self.at_once(statement);
            if resolved.needs.is_empty() {
                return Ok(resolved);
            }
            self.learn(dial, &resolved.needs).await?;
        }
        bail!("they lead to ever more names");
    }

    async fn learn(
        self: &Arc<Self>,
        dial: &impl Dial<Stream = S>,
        needs: &Names,
    ) -> anyhow::Result<()> {
        let mut lane = self.lane.lock().await;
        let (missing, epoch) = self.read(|known| (known.facts.missing(needs), known.epoch));
        if missing.is_empty() {
            return Ok(());
        }
        let asked = missing.relations.len()
            + missing.functions.len()
            + missing.operators.len()
            + missing.types.len()
            + missing.attributes.len()
            + missing.methods.len();
        if asked > MOST_ASKED {
            bail!("they are {asked}, where {MOST_ASKED} are the most that are looked up");
        }
        let answers = self.ask(&mut lane, dial, &missing).await?;
        self.write(|known| {
            if known.epoch == epoch {
                known.facts.add(answers);
            }
        });
        Ok(())
    }

    async fn asking_columns(
        self: &Arc<Self>,
        dial: &impl Dial<Stream = S>,
        origins: &[(u32, i16)],
    ) -> anyhow::Result<Vec<Origin>> {
        if let Some(columns) = self.known_columns(origins) {
            return Ok(columns);
        }
        let mut lane = self.lane.lock().await;
        if let Some(columns) = self.known_columns(origins) {
            return Ok(columns);
        }
        let epoch = self.read(|known| known.epoch);
        let columns = self.ask(&mut lane, dial, origins).await?;
        self.write(|known| {
            if known.epoch == epoch {
                known
                    .columns
                    .extend(origins.iter().copied().zip(columns.iter().cloned()));
            }
        });
        Ok(columns)
    }

    fn known_columns(&self, origins: &[(u32, i16)]) -> Option<Vec<Origin>> {
        self.read(|known| {
            origins
                .iter()
                .map(|origin| known.columns.get(origin).cloned())
                .collect()
        })
    }

    /// Asks over the connection that is kept, and over a new one where that fails: the server may have been restarted since it was last
    /// asked.
    async fn ask<Q: Question<S> + ?Sized>(
        self: &Arc<Self>,
        lane: &mut Option<Kept<S>>,
        dial: &impl Dial<Stream = S>,
        question: &Q,
    ) -> anyhow::Result<Q::Answer> {
        if let Some(Kept { mut client, .. }) = lane.take()
            && let Ok(answer) = question.put_to(&mut client).await
        {
            *lane = Kept::now(client);
            return Ok(answer);
        }
        let mut client = self.open(dial).await?;
        let answer = question.put_to(&mut client).await?;
        *lane = Kept::now(client);
        Ok(answer)
    }

    async fn open(self: &Arc<Self>, dial: &impl Dial<Stream = S>) -> anyhow::Result<Client<S>> {
        let client = Client::new(dial.dial().await?).await?;
        let place = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(IDLE).await;
                let Some(place) = place.upgrade() else { return };
                let mut lane = place.lane.lock().await;
                match &*lane {
                    Some(kept) if kept.used.elapsed() < IDLE => {}
                    _ => return *lane = None,
                }
            }
        });
        Ok(client)
    }

    fn read<T>(&self, of: impl FnOnce(&Known) -> T) -> T {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if known.since.elapsed() < FRESH && known.facts.len() + known.columns.len() <= MOST_KEPT {
            return of(&known);
        }
        drop(known);
        self.write(|known| {
            known.forget();
            of(known)
        })
    }

    fn write<T>(&self, of: impl FnOnce(&mut Known) -> T) -> T {
        of(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Nothing of it is taken for a read.
fn opaque(mut resolved: Resolved, why: &str) -> Resolved {
    for effect in &mut resolved.effects {
        effect.opaque = Some(why.to_owned());
    }
    resolved.defines = true;
    resolved.runs_when_read = true;
    resolved
}
