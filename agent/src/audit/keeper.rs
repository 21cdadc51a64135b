//! Signs the record every so often: one thread, beside the writer's.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use holdpoint_core::{
    checkpoint::{
        Checkpoint,
        note::{Signer, Verifier, on_one_line},
    },
    merkle::{Node, Tree},
};
use tokio::sync::{oneshot, watch};

use super::{evidence, ledger::Ledger};
use crate::{
    config::record::Checkpoints as Settings,
    record::{Leaves, Link, Record},
};

/// How often links are taken from the record's writer.
const TICK: Duration = Duration::from_millis(500);
/// Bytes of events read at once where links have to be made again.
const READ: usize = 4 * 1024 * 1024;

type Reply = oneshot::Sender<Result<String, String>>;

/// The thread that signs. It ends with the last of these.
#[derive(Clone)]
pub struct Checkpoints {
    asks: mpsc::Sender<Reply>,
    record: Record,
    key: Verifier,
    newest: watch::Receiver<Option<(u64, String)>>,
}

impl Checkpoints {
    /// Makes sure that the record goes on from what was signed last, and starts the thread.
    ///
    /// # Errors
    /// When the record is not the one that was signed: something is missing, or was altered.
    pub fn start(
        record: &Record,
        state_dir: &Path,
        signer: Signer,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let ledger = Ledger::open(state_dir, signer.verifier())?;
        let key = signer.verifier().clone();
        let newest = ledger.newest().map(|(it, note)| (it.size, note.clone()));
        let (published, newest) = watch::channel(newest);
        let mut keeper = Keeper {
            record: record.clone(),
            leaves: record.leaves(),
            tree: Tree::default(),
            ledger,
            signer,
            settings,
            signed_at: Instant::now(),
            failing: false,
            published,
        };
        keeper.restore()?;
        let (asks, asked) = mpsc::channel();
        thread::Builder::new()
            .name("checkpoints".into())
            .spawn(move || keeper.run(&asked))
            .context("cannot start the thread that signs the record")?;
        let record = record.clone();
        Ok(Self {
            asks,
            record,
            key,
            newest,
        })
    }

    /// The public key.
    #[must_use]
    pub fn key(&self) -> &Verifier {
        &self.key
    }

    /// The newest checkpoint and how many events it is signed for: whoever takes it elsewhere needs no older one.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<Option<(u64, String)>> {
        self.newest.clone()
    }

    /// A checkpoint of everything recorded so far: a new one, unless nothing is new.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn now(&self) -> anyhow::Result<String> {
        self.record.settled().await;
        let (reply, answer) = oneshot::channel();
        let gone = "the thread that signs the record has ended";
        self.asks.send(reply).ok().context(gone)?;
        let made = answer.await.ok().context(gone)?;
        made.map_err(anyhow::Error::msg)
    }
}

struct Keeper {
    record: Record,
    leaves: Arc<Leaves>,
    tree: Tree,
    ledger: Ledger,
    signer: Signer,
    settings: Settings,
    signed_at: Instant,
    /// Whether the last attempt failed, and was told of.
    failing: bool,
    /// For those who take it elsewhere.
    published: watch::Sender<Option<(u64, String)>>,
}

impl Keeper {
    /// The tree of what was signed last, and of what was recorded since.
    fn restore(&mut self) -> anyhow::Result<()> {
        if let Some((newest, _)) = self.ledger.newest().cloned() {
            match self.ledger.tree() {
                Some(tree) => self.tree = tree,
                None => self.catch_up(newest.size + 1)?,
            }
            let same = self.tree.root() == newest.root && self.goes_on(newest.size)?;
            ensure!(same, self.not_the_one(newest.size, self.ledger.dir()));
        }
        let (first, links) = self.leaves.take();
        self.catch_up(first)?;
        self.add(&links)?;
        self.compare_elsewhere()
    }

    /// Whether the record has the last event that was signed, as it was.
    fn goes_on(&self, size: u64) -> anyhow::Result<bool> {
        let Some(before) = size.checked_sub(1) else {
            return Ok(true);
        };
        let stored = self.record.lines(before, 1)?;
        let stored = stored.first().map(|line| link_of(line)).transpose()?;
        Ok(stored.is_some() && self.ledger.link(size).is_none_or(|it| Some(it) == stored))
    }

    /// Nobody but whoever took events away makes a record that is shorter than what the other mount says.
    fn compare_elsewhere(&self) -> anyhow::Result<()> {
        let Some(file) = self.settings.copy_to.as_deref().filter(|it| it.exists()) else {
            return Ok(());
        };
        let found = match evidence::checkpoints(file, self.signer.verifier()) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(
                    "the record is not compared with the checkpoints elsewhere: {error:#}"
                );
                return Ok(());
            }
        };
        let promised = found.checkpoints.iter().map(|(it, _)| it.size).max();
        let promised = promised.unwrap_or_default();
        ensure!(
            promised <= self.tree.size(),
            self.not_the_one(promised, file)
        );
        Ok(())
    }

    fn not_the_one(&self, size: u64, place: &Path) -> String {
        format!(
            "the record is not the one that was signed: {} has a checkpoint of {size} events, and they are not there, or not as they were. \
             Keep both for an investigation (`holdpoint audit verify` names the first event that is wrong). To begin a new record, move the \
             record, the checkpoints and the key away together",
            place.display()
        )
    }

    fn run(mut self, asked: &mpsc::Receiver<Reply>) {
        use mpsc::RecvTimeoutError::{Disconnected, Timeout};
        loop {
            match asked.recv_timeout(TICK) {
                Ok(reply) => {
                    let made = self.make();
                    let _ = reply.send(made.map_err(|error| format!("{error:#}")));
                }
                Err(Timeout) => self.tick(),
                Err(Disconnected) => return,
            }
        }
    }

    fn tick(&mut self) {
        let made = match self.follow() {
            Ok(()) if self.is_due() => self.make().map(drop),
            other => other,
        };
        match made {
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::error!("the record is not signed: {error:#}");
            }
            Err(_) => {}
            Ok(()) => self.failing = false,
        }
    }

    fn signed(&self) -> u64 {
        self.ledger.newest().map_or(0, |(it, _)| it.size)
    }

    fn is_due(&self) -> bool {
        let new = self.tree.size() - self.signed();
        let waited = self.signed_at.elapsed() >= Duration::from_secs(self.settings.every_seconds);
        new >= self.settings.every_events.max(1) || (new > 0 && waited)
    }

    /// Takes what was synced since.
    fn follow(&mut self) -> anyhow::Result<()> {
        let (first, links) = self.leaves.take();
        self.catch_up(first)?;
        self.add(&links)
    }

    /// Up to the event before `first`, from the store.
    fn catch_up(&mut self, first: u64) -> anyhow::Result<()> {
        while self.tree.size() + 1 < first {
            let missing = usize::try_from(first - self.tree.size() - 1).unwrap_or(usize::MAX);
            let lines = self.record.lines(self.tree.size(), READ)?;
            if lines.is_empty() {
                bail!(self.not_the_one(first - 1, self.ledger.dir()));
            }
            let links: Result<Vec<_>, _> =
                lines.iter().take(missing).map(|it| link_of(it)).collect();
            self.add_nodes(&links?)?;
        }
        Ok(())
    }

    fn add(&mut self, links: &[Link]) -> anyhow::Result<()> {
        let nodes: Vec<_> = links.iter().map(|it| Node::from(*it.as_bytes())).collect();
        self.add_nodes(&nodes)
    }

    fn add_nodes(&mut self, nodes: &[Node]) -> anyhow::Result<()> {
        // The file first: what did not get there is read from the store again.
        let first = self.tree.size() + 1;
        let written = self.ledger.write_links(first, nodes);
        written.with_context(|| format!("cannot write to {}", self.ledger.dir().display()))?;
        nodes.iter().for_each(|node| self.tree.push(*node));
        Ok(())
    }

    /// A checkpoint of what is synced.
    fn make(&mut self) -> anyhow::Result<String> {
        self.follow()?;
        if let Some((newest, note)) = self.ledger.newest()
            && newest.size == self.tree.size()
        {
            return Ok(note.clone());
        }
        let checkpoint = Checkpoint::of(&self.tree, self.signer.verifier().name());
        let note = checkpoint.signed(&self.signer);
        self.ledger.add(checkpoint.clone(), &note, &self.tree)?;
        self.signed_at = Instant::now();
        // One line, so that the journal is a place to find it again: `holdpoint audit verify --checkpoint` reads such lines.
        // All of it is in the message: fields are coloured, and the codes for that would stand between `note=` and the note.
        let Checkpoint { size, root, .. } = checkpoint;
        let note_on_one_line = on_one_line(&note);
        tracing::info!("checkpoint of the record: size={size} root={root} note={note_on_one_line}");
        if let Some(file) = &self.settings.copy_to
            && let Err(error) = append(file, &note)
        {
            tracing::error!(file = %file.display(), %error, "a checkpoint could not be copied");
        }
        self.published.send_replace(Some((size, note.clone())));
        Ok(note)
    }
}

fn append(file: &PathBuf, note: &str) -> std::io::Result<()> {
    let mut file: File = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .open(file)?;
    file.write_all(note.as_bytes())?;
    file.sync_data()
}

/// Of an event, or of what is left of one.
fn link_of(line: &[u8]) -> anyhow::Result<Node> {
    super::check::link_of(line).context("an event in the store is unreadable")
}
