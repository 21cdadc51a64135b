//! What an auditor is given: a record, checkpoints that the daemon left beside it, and such as were kept elsewhere.

use std::{
    fs::{self, File},
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
use crate::{
    record::{BodyId, KeptBody, offline},
    shipping::shipped::{self, Shipped},
};

/// Bytes of a line of a file of checkpoints at most.
const LONGEST_LINE: u64 = 64 * 1024;

/// Where the record is.
#[derive(Clone, Debug)]
pub enum Source {
    /// An export: lines, and beside them `FILE.checkpoints` and `FILE.links`.
    Export(PathBuf),
    /// A copy of the state directory, or of the record in it.
    Store(PathBuf),
    /// A copy of what was shipped ([`crate::shipping`]).
    Shipped(Shipped),
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
            Self::Shipped(shipped) => shipped.lines(),
        }
    }

    /// Checkpoints beside it.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        match self {
            Self::Export(file) => beside(file, ".checkpoints"),
            Self::Store(dir) => ledger_in(dir).join(ledger::CHECKPOINTS),
            Self::Shipped(shipped) => shipped.checkpoints(),
        }
    }

    /// The hashes of its events beside it; none are shipped.
    #[must_use]
    pub fn links(&self) -> Option<PathBuf> {
        match self {
            Self::Export(file) => Some(beside(file, ".links")),
            Self::Store(dir) => Some(ledger_in(dir).join(ledger::LINKS)),
            Self::Shipped(_) => None,
        }
    }

    /// The bodies beside it; an export has none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn bodies(&self) -> anyhow::Result<Option<Bodies>> {
        Ok(match self {
            Self::Export(_) => None,
            Self::Store(dir) => Some(Bodies::Stored(offline::Bodies::of(record_in(dir)))),
            Self::Shipped(shipped) => Some(Bodies::Shipped(Box::new(shipped.bodies()?))),
        })
    }
}

/// Where bodies are.
pub enum Bodies {
    /// In a store.
    Stored(offline::Bodies),
    /// In what was shipped.
    Shipped(Box<shipped::Bodies>),
}

impl Bodies {
    /// The body that event `seq` tells of, unless it is no longer there, or never was. To be asked in the order of the events.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&mut self, seq: u64, id: &BodyId) -> anyhow::Result<Option<KeptBody>> {
        match self {
            Self::Stored(bodies) => bodies.read(id),
            Self::Shipped(bodies) => bodies.of_event(seq),
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

/// The checkpoints of this key in a file of notes, or of the journal's lines; or in all files of a directory.
///
/// # Errors
/// When it cannot be read, or one says that it is of this key, and its signature is wrong.
pub fn checkpoints(place: &Path, key: &Verifier) -> anyhow::Result<Found> {
    let context = || format!("cannot read the checkpoints in {}", place.display());
    let mut found = Found::default();
    if !place.is_dir() {
        add_file(place, key, &mut found).with_context(context)?;
        return Ok(found);
    }
    let entries = fs::read_dir(place).with_context(context)?;
    let files: Result<Vec<_>, _> = entries.map(|it| it.map(|it| it.path())).collect();
    let mut files = files.with_context(context)?;
    files.sort();
    for file in files {
        add_file(&file, key, &mut found)
            .with_context(|| format!("cannot read the checkpoint {}", file.display()))?;
    }
    Ok(found)
}

fn add_file(file: &Path, key: &Verifier, found: &mut Found) -> anyhow::Result<()> {
    let mut reader = BufReader::new(File::open(file)?);
    let (mut notes, mut line) = (Notes::default(), Vec::new());
    loop {
        line.clear();
        let mut limited = (&mut reader).take(LONGEST_LINE);
        if limited.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(note) = notes.push(text.trim_end_matches('\n')) {
            found.add(note, key)?;
        }
    }
    match notes.finish() {
        Some(note) => found.add(note, key),
        None => Ok(()),
    }
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
    let file =
        fs::read_to_string(path).with_context(|| format!("cannot read the public key {text}"))?;
    file.trim()
        .parse()
        .with_context(|| format!("{text} has no public key in it"))
}
