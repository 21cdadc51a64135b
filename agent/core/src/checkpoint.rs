//! Checkpoints: what the record's Merkle tree was at some time, signed. <https://c2sp.org/tlog-checkpoint>
//!
//! A checkpoint is a [signed note](note) whose text is the log's name, the number of leaves, the root hash in base64, and what else the
//! log cares to say, each on a line.

pub mod note;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use crate::merkle::{Node, Tree};
use note::{KeyName, NoteError, Signer, Verifier};

/// Bytes of a checkpoint at most. Ours take some 250.
pub const LONGEST: usize = 16 * 1024;

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name. Holdpoint's logs are called like the keys that sign for them.
    pub origin: String,
    /// How many leaves it has.
    pub size: u64,
    /// The hash of its tree.
    pub root: Node,
}

/// Why something is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// It is no note of this key.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The note says something else.
    #[error("the note is signed, but not a checkpoint: {0}")]
    Text(&'static str),
    /// It is about another log.
    #[error("the checkpoint is of the log \"{0}\", not of the one that the key is for")]
    Origin(String),
}

impl Checkpoint {
    /// Of this tree.
    #[must_use]
    pub fn of(tree: &Tree, log: &KeyName) -> Self {
        Self {
            origin: log.to_string(),
            size: tree.size(),
            root: tree.root(),
        }
    }

    /// The note that says so.
    #[must_use]
    pub fn signed(&self, signer: &Signer) -> String {
        signer.sign(&self.text())
    }

    fn text(&self) -> String {
        let root = BASE64_STANDARD.encode(self.root.as_bytes());
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    /// What a note says that is signed with this key, about the log that is called like it.
    ///
    /// # Errors
    /// When it is no such note. One signature of the key has to be there and right; others, of witnesses, do not matter.
    pub fn open(note: &str, key: &Verifier) -> Result<Self, CheckpointError> {
        let checkpoint = Self::parse(note::open(note, key)?)?;
        if checkpoint.origin != key.name().as_str() {
            return Err(CheckpointError::Origin(checkpoint.origin));
        }
        Ok(checkpoint)
    }

    /// Extension lines may follow the first three; the format asks for them to be passed over.
    fn parse(text: &str) -> Result<Self, CheckpointError> {
        let wrong = CheckpointError::Text;
        let mut lines = text.split_terminator('\n');
        let mut line = |problem| {
            lines
                .next()
                .filter(|it| !it.is_empty())
                .ok_or(wrong(problem))
        };
        let origin = line("it names no log")?.to_owned();
        let size = decimal(line("it has no size")?).ok_or(wrong("its size is no number"))?;
        let root = BASE64_STANDARD
            .decode(line("it has no root hash")?)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or(wrong("its root hash is no SHA-256 in base64"))?;
        if lines.any(str::is_empty) {
            return Err(wrong("one of its lines is empty"));
        }
        let root = root.into();
        Ok(Self { origin, size, root })
    }
}

/// ASCII decimal without leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|it| it.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    (plain && canonical).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
