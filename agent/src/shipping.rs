//! The record, shipped off this host as it grows: an ephemeral runner leaves its evidence behind.
//!
//! One task, on nobody's way: it reads what is synced, as whoever exports the record does, and puts it elsewhere as objects that are never
//! written over ([`name`]). First the bodies of a row of events, then the events, and a checkpoint when all events are there that it is
//! signed for: so what is there verifies at any time.

mod name;
mod pack;
mod place;
mod progress;
pub mod shipped;
#[cfg(test)]
mod tests;

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    audit::keeper::Checkpoints,
    config::record::Ship,
    credential::Credentials,
    metrics::metrics,
    notifications::backoff::{dice, pause},
    record::{BodyId, Record},
    upstream::Upstream,
};
use name::{KEY, Kind, Name};
use pack::BodyPack;
use place::Place;
use progress::{Kept, Progress};

/// Bytes of events in one object, and a little more.
const EVENTS: usize = 4 << 20;
/// Bytes of bodies in one object, and one body more; before they are compressed.
const BODIES: usize = 8 << 20;
/// Between two attempts while the daemon waits for the end.
const LAST_ATTEMPTS: Duration = Duration::from_secs(1);

/// How it goes, as `holdpoint status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where to, as it is configured.
    pub to: String,
    /// Whether stored bodies are shipped, too.
    pub bodies: bool,
    /// The number of the last event that is there.
    pub events: u64,
    /// How many events are not there yet.
    pub behind: u64,
    /// The size of the last checkpoint that is there.
    pub checkpoint: u64,
    /// When everything there was to ship had been shipped.
    pub up_to_date: Option<Timestamp>,
    /// Why it does not go on, if it does not.
    pub trouble: Option<String>,
}

/// What is not there when the daemon ends.
#[derive(Debug, thiserror::Error)]
#[error(
    "{events} events of the record were not shipped to {to} in time ({why}): they are on this host, in its state directory, and the next \
     daemon ships them"
)]
pub struct Left {
    events: u64,
    to: String,
    why: String,
}

type Reply = oneshot::Sender<Result<(), String>>;

/// The task that ships. It ends with the last of these.
#[derive(Clone)]
pub struct Shipping {
    asks: mpsc::Sender<Reply>,
    record: Record,
    status: Arc<Mutex<Status>>,
}

impl Shipping {
    /// Starts it.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start(
        record: &Record,
        checkpoints: &Checkpoints,
        state_dir: &Path,
        settings: Ship,
        (upstream, credentials): (Upstream, Arc<Credentials>),
    ) -> Self {
        let (to, log) = (settings.to.name(), name::log(checkpoints.key()));
        let kept = Kept::in_dir(state_dir);
        let progress = kept.read(&to, &log);
        let status = Status {
            to,
            bodies: settings.bodies,
            events: progress.events,
            checkpoint: progress.checkpoint,
            ..Status::default()
        };
        let status = Arc::new(Mutex::new(status));
        let (asks, asked) = mpsc::channel(16);
        let shipper = Shipper {
            record: record.clone(),
            key: checkpoints.key().to_string(),
            newest: checkpoints.newest(),
            settings,
            upstream,
            credentials,
            place: None,
            kept,
            progress,
            status: status.clone(),
        };
        tokio::spawn(shipper.run(asked));
        let record = record.clone();
        Self {
            asks,
            record,
            status,
        }
    }

    /// How it goes.
    ///
    /// # Panics
    /// When the task panicked.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = self.status.lock().expect("no panic while locked").clone();
        status.behind = self.record.news().borrow().saturating_sub(status.events);
        status
    }

    /// Ships what there is, and returns when it is there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn now(&self) -> anyhow::Result<()> {
        self.record.settled().await;
        let gone = "the task that ships the record has ended";
        let (reply, answer) = oneshot::channel();
        self.asks.send(reply).await.ok().context(gone)?;
        let shipped = answer.await.ok().context(gone)?;
        shipped.map_err(anyhow::Error::msg)
    }

    /// Ships the rest, which nobody adds to any more.
    ///
    /// # Errors
    /// When it is not there within this time.
    pub async fn finish(&self, within: Duration) -> Result<(), Left> {
        let until = Instant::now() + within;
        let mut why = format!("it takes longer than {} s", within.as_secs());
        let attempts = async {
            while let Err(error) = self.now().await {
                why = format!("{error:#}");
                sleep(LAST_ATTEMPTS).await;
            }
        };
        let finished = timeout_at(until, attempts).await;
        finished.map_err(|_| {
            let Status { behind, to, .. } = self.status();
            Left {
                events: behind,
                to,
                why,
            }
        })
    }
}

struct Shipper {
    record: Record,
    key: String,
    newest: tokio::sync::watch::Receiver<Option<(u64, String)>>,
    settings: Ship,
    upstream: Upstream,
    credentials: Arc<Credentials>,
    place: Option<Place>,
    kept: Kept,
    progress: Progress,
    status: Arc<Mutex<Status>>,
}

impl Shipper {
    async fn run(mut self, mut asked: mpsc::Receiver<Reply>) {
        let mut failures = 0;
        let mut next = Instant::now();
        loop {
            let reply = tokio::select! {
                reply = asked.recv() => match reply {
                    Some(reply) => Some(reply),
                    None => return,
                },
                () = tokio::time::sleep_until(next) => None,
            };
            let shipped = self.round().await;
            let wait = match &shipped {
                Ok(()) => {
                    failures = 0;
                    self.settings.every
                }
                Err(error) => {
                    if failures == 0 {
                        tracing::error!(
                            to = self.progress.to,
                            "the record is not shipped: {error:#}"
                        );
                    }
                    failures += 1;
                    pause(failures, dice())
                }
            };
            self.tell(shipped.as_ref().err());
            next = Instant::now() + wait;
            if let Some(reply) = reply {
                let _ = reply.send(shipped.map_err(|error| format!("{error:#}")));
            }
        }
    }

    fn tell(&self, trouble: Option<&anyhow::Error>) {
        let mut status = self.status.lock().expect("no panic while locked");
        status.events = self.progress.events;
        status.checkpoint = self.progress.checkpoint;
        status.trouble = trouble.map(|error| format!("{error:#}"));
        let behind = self.record.news().borrow().saturating_sub(status.events);
        match trouble {
            None => {
                status.up_to_date = Some(Timestamp::now());
                metrics().shipped_all(behind);
            }
            Some(_) => metrics().ship_failed(behind),
        }
    }

    /// Everything there is.
    async fn round(&mut self) -> anyhow::Result<()> {
        if self.place.is_none() {
            let Progress { log, .. } = &self.progress;
            let place = Place::open(&self.settings.to, log, &self.upstream, &self.credentials)?;
            self.place = Some(place);
        }
        if !self.progress.key {
            let key = Bytes::from(format!("{}\n", self.key));
            self.place()?.put_at(KEY, key).await?;
            self.progress.key = true;
            self.save().await?;
        }
        let newest = self.newest.borrow_and_update().clone();
        while self.ship_events().await? {}
        let Some((size, note)) = newest.filter(|(size, _)| *size > self.progress.checkpoint) else {
            return Ok(());
        };
        let note = Bytes::from(note);
        let name = Name::of(Kind::Checkpoint, 1, size, &note);
        self.place()?.put(&name, note).await?;
        self.progress.checkpoint = size;
        self.save().await
    }

    fn place(&self) -> anyhow::Result<&Place> {
        self.place.as_ref().context("there is no place")
    }

    /// One object of events, with the bodies they tell of. Whether there were any.
    async fn ship_events(&mut self) -> anyhow::Result<bool> {
        let (record, after, sending) = (
            self.record.clone(),
            self.progress.events,
            self.progress.sending,
        );
        let packed = tokio::task::spawn_blocking(move || {
            let mut lines = record.lines(after, EVENTS)?;
            // The same as before, as far as it is there: the same bytes have the same name.
            if let Some(count) = sending.and_then(|last| usize::try_from(last - after).ok()) {
                lines.truncate(count);
            }
            if lines.is_empty() {
                return Ok(None);
            }
            let bodies: Vec<_> = (after + 1..)
                .zip(&lines)
                .filter_map(|(seq, line)| Some((seq, pack::told_of(line)?)))
                .collect();
            pack::events(after + 1, &lines).map(|(name, bytes)| Some((name, bytes, bodies)))
        });
        let packed = packed.await.context("the reader panicked")??;
        let Some((name, bytes, bodies)) = packed else {
            return Ok(false);
        };
        self.progress.sending = Some(name.last);
        self.save().await?;
        self.put(&name, bytes, bodies).await?;
        metrics().shipped(name.last - self.progress.events);
        self.progress.events = name.last;
        self.progress.sending = None;
        self.save().await?;
        self.status.lock().expect("no panic while locked").events = name.last;
        Ok(true)
    }

    async fn put(
        &self,
        name: &Name,
        events: Bytes,
        told: Vec<(u64, BodyId)>,
    ) -> anyhow::Result<()> {
        if self.settings.bodies {
            self.put_bodies_of(told).await?;
        }
        self.place()?.put(name, events).await
    }

    async fn put_bodies_of(&self, told: Vec<(u64, BodyId)>) -> anyhow::Result<()> {
        let mut pack = BodyPack::default();
        for (seq, id) in told {
            // Retention may have been there first.
            if let Some(kept) = self.record.kept_body(&id).await? {
                pack.add(seq, &kept)?;
            }
            if pack.size() >= BODIES {
                pack = self.put_bodies(pack).await?;
            }
        }
        self.put_bodies(pack).await.map(drop)
    }

    /// Another one, to begin with.
    async fn put_bodies(&self, mut pack: BodyPack) -> anyhow::Result<BodyPack> {
        let packed = tokio::task::spawn_blocking(move || pack.take());
        if let Some((name, bytes)) = packed.await.context("the packer panicked")?? {
            self.place()?.put(&name, bytes).await?;
        }
        Ok(BodyPack::default())
    }

    async fn save(&self) -> anyhow::Result<()> {
        let (kept, progress) = (self.kept.clone(), self.progress.clone());
        let written = tokio::task::spawn_blocking(move || kept.write(&progress)).await;
        written
            .context("the writer panicked")?
            .context("cannot write down what was shipped")
    }
}
