//! What an auditor is given: a record, checkpoints that the daemon left beside it, and such as were kept elsewhere.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use holdpoint_core::{
    checkpoint::{
        Checkpoint, CheckpointError,
        note::{NoteError, Notes, Verifier},
    },
    merkle::{Node, Tree},
};

use super::{
    check::{Links, Promise},
    ledger,
    lines::{self, Lines},
};
use crate::record::offline;

/// Bytes of a line of a file of checkpoints at most.
const LONGEST_LINE: u64 = 64 * 1024;

/// Where the record is.
#[derive(Clone, Debug)]
pub enum Source {
    /// An export: lines, and beside them `FILE.checkpoints` and `FILE.links`.
    Export(PathBuf),
    /// A copy of the state directory, or of the record in it.
    Store(PathBuf),
}

impl Source {
    /// Its lines.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn lines(&self) -> anyhow::Result<Lines> {
        match self {
            Self::Export(file) => lines::of_export(file),
            Self::Store(dir) => offline::lines(&record_in(dir)),
        }
    }

    /// Checkpoints beside it.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        match self {
            Self::Export(file) => beside(file, ".checkpoints"),
            Self::Store(dir) => ledger_in(dir).join(ledger::CHECKPOINTS),
        }
    }

    /// The hashes of its events beside it.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        match self {
            Self::Export(file) => beside(file, ".links"),
            Self::Store(dir) => ledger_in(dir).join(ledger::LINKS),
        }
    }

    /// The directory of the record in it, if it is a store.
    #[must_use]
    pub fn store(&self) -> Option<PathBuf> {
        match self {
            Self::Export(_) => None,
            Self::Store(dir) => Some(record_in(dir)),
        }
    }
}

/// `FILE.checkpoints`, `FILE.links`.
#[must_use]
pub fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn record_in(dir: &Path) -> PathBuf {
    let inner = dir.join("record");
    if inner.is_dir() {
        inner
    } else {
        dir.to_owned()
    }
}

fn ledger_in(dir: &Path) -> PathBuf {
    let inner = dir.join(ledger::DIRECTORY);
    match inner.is_dir() {
        true => inner,
        false => dir.parent().unwrap_or(dir).join(ledger::DIRECTORY),
    }
}

/// The checkpoints in a file, and how much else is in it.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of the file, with their notes.
    pub checkpoints: Vec<(Checkpoint, String)>,
    /// How many notes, or what looks like them, are not of this key.
    pub others: usize,
}

/// The checkpoints of this key in a file of notes, or of the journal's lines.
///
/// # Errors
/// When the file cannot be read, or one says that it is of this key, and its signature is wrong.
pub fn checkpoints(file: &Path, key: &Verifier) -> anyhow::Result<Found> {
    let context = || format!("cannot read the checkpoints in {}", file.display());
    let mut reader = BufReader::new(File::open(file).with_context(context)?);
    let (mut notes, mut found) = (Notes::default(), Found::default());
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LONGEST_LINE);
        if limited.read_until(b'\n', &mut line).with_context(context)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(note) = notes.push(text.trim_end_matches('\n')) {
            found.add(note, key).with_context(context)?;
        }
    }
    if let Some(note) = notes.finish() {
        found.add(note, key).with_context(context)?;
    }
    Ok(found)
}

/// A checkpoint says that it is signed with a key, and is not, or says what the key's log does not.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {number} there is forged: {error}")]
pub struct Forged {
    /// Which one in its file, from 1.
    pub number: usize,
    /// What is wrong with it.
    pub error: CheckpointError,
}

impl Found {
    fn add(&mut self, note: String, key: &Verifier) -> anyhow::Result<()> {
        match Checkpoint::open(&note, key) {
            Ok(checkpoint) => self.checkpoints.push((checkpoint, note)),
            // Torn when the daemon was killed, or the journal's other lines.
            Err(CheckpointError::Note(NoteError::Malformed(_) | NoteError::NotSigned(_))) => {
                self.others += 1;
            }
            Err(error) => {
                let number = self.checkpoints.len() + self.others + 1;
                return Err(Forged { number, error }.into());
            }
        }
        Ok(())
    }

    /// As what the record has to agree with.
    pub fn promises(&self, elsewhere: bool) -> impl Iterator<Item = Promise> {
        self.checkpoints.iter().map(move |(checkpoint, _)| Promise {
            checkpoint: checkpoint.clone(),
            elsewhere,
        })
    }
}

/// The hashes in this file as far as these checkpoints vouch for them; `None` where they vouch for none.
///
/// # Errors
/// When the file cannot be read.
pub fn vouched_links(file: &Path, promises: &[Promise]) -> anyhow::Result<Option<Links>> {
    if !file.exists() {
        return Ok(None);
    }
    let mut sizes: Vec<_> = promises.iter().map(|it| &it.checkpoint).collect();
    sizes.sort_by_key(|it| it.size);
    let mut tree = Tree::default();
    let (mut vouched, mut links) = (0, links(file)?);
    for checkpoint in sizes {
        while tree.size() < checkpoint.size {
            match links.next() {
                Some(link) => tree.push(link),
                None => break,
            }
        }
        if tree.size() != checkpoint.size || tree.root() != checkpoint.root {
            break;
        }
        vouched = checkpoint.size;
    }
    if vouched == 0 {
        return Ok(None);
    }
    let count = usize::try_from(vouched).context("too many events for this machine")?;
    Ok(Some(Box::new(self::links(file)?.take(count))))
}

/// The hashes in this file, to its end or as far as it can be read.
fn links(file: &Path) -> anyhow::Result<impl Iterator<Item = Node> + use<>> {
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut reader = BufReader::with_capacity(256 * 1024, opened);
    Ok(std::iter::from_fn(move || {
        let mut link = [0; 32];
        reader.read_exact(&mut link).ok()?;
        Some(Node::from(link))
    }))
}

/// A public key: its text, or the file that it is in.
///
/// # Errors
/// When it is neither.
pub fn key(text: &str) -> anyhow::Result<Verifier> {
    if let Ok(key) = text.parse() {
        return Ok(key);
    }
    let looks_like_text = text.matches('+').count() >= 2;
    let path = Path::new(text);
    ensure!(
        !looks_like_text || path.exists(),
        "\"{text}\" is no public key of the form NAME+HASH+KEY, and no file: `holdpoint audit key` prints it"
    );
    let file = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the public key {text}"))?;
    file.trim()
        .parse()
        .with_context(|| format!("{text} has no public key in it"))
}
