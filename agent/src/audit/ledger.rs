//! What the daemon signed, on disk, apart from the record: the checkpoints one after the other, the links they vouch for, and the tree
//! as it was at the last one, so that nothing has to be hashed again at the daemon's start.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use holdpoint_core::{
    checkpoint::{
        Checkpoint,
        note::{Notes, Verifier},
    },
    merkle::{Node, Tree},
};

/// The directory, in the state directory.
pub const DIRECTORY: &str = "checkpoints";
/// All checkpoints, one note after the other.
pub const CHECKPOINTS: &str = "notes";
/// 32 bytes for each event.
pub const LINKS: &str = "links";
/// The tree, in JSON.
const TREE: &str = "tree.json";

/// Bytes of the end of the notes in which the last one is.
const TAIL: u64 = 64 * 1024;

/// The daemon's own account of what it signed.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    notes: File,
    links: File,
    newest: Option<(Checkpoint, String)>,
}

impl Ledger {
    /// Opens it in the state directory; made, empty, where there is none.
    ///
    /// # Errors
    /// When it cannot be read, or was signed with another key.
    pub fn open(state_dir: &Path, key: &Verifier) -> anyhow::Result<Self> {
        let dir = state_dir.join(DIRECTORY);
        let context = || format!("cannot open the checkpoints in {}", dir.display());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .with_context(context)?;
        let mut notes = open_file(&dir.join(CHECKPOINTS)).with_context(context)?;
        let links = open_file(&dir.join(LINKS)).with_context(context)?;
        let newest = last_note(&mut notes, key).with_context(context)?;
        Ok(Self {
            dir,
            notes,
            links,
            newest,
        })
    }

    /// The last checkpoint.
    #[must_use]
    pub fn newest(&self) -> Option<&(Checkpoint, String)> {
        self.newest.as_ref()
    }

    /// The tree at the last checkpoint, if it was kept.
    #[must_use]
    pub fn tree(&self) -> Option<Tree> {
        let text = fs::read(self.dir.join(TREE)).ok()?;
        let tree: Tree = serde_json::from_slice(&text).ok()?;
        let (newest, _) = self.newest.as_ref()?;
        (tree.size() == newest.size && tree.root() == newest.root).then_some(tree)
    }

    /// The link of one event, from 1.
    #[must_use]
    pub fn link(&self, seq: u64) -> Option<Node> {
        let mut link = [0; 32];
        let place = seq.checked_sub(1)?.checked_mul(32)?;
        self.links.read_exact_at(&mut link, place).ok()?;
        Some(Node::from(link))
    }

    /// Writes the links of the events from number `first` on.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_links(&self, first: u64, links: &[Node]) -> io::Result<()> {
        let bytes: Vec<u8> = links.iter().flat_map(Node::as_bytes).copied().collect();
        self.links.write_all_at(&bytes, (first - 1) * 32)
    }

    /// Adds a checkpoint of this tree, whose links were written before. It is on disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, checkpoint: Checkpoint, note: &str, tree: &Tree) -> anyhow::Result<()> {
        let context = || format!("cannot write to {}", self.dir.display());
        self.links.sync_data().with_context(context)?;
        self.append(note)
            .with_context(|| format!("cannot write to {}", self.dir.display()))?;
        let context = || format!("cannot write to {}", self.dir.display());
        let unfinished = self.dir.join("tree.new");
        fs::write(&unfinished, serde_json::to_vec(tree)?).with_context(context)?;
        fs::rename(&unfinished, self.dir.join(TREE)).with_context(context)?;
        self.newest = Some((checkpoint, note.to_owned()));
        Ok(())
    }

    /// All of it or nothing: the next one has to begin on a line of its own.
    fn append(&mut self, note: &str) -> io::Result<()> {
        let end = self.notes.stream_position()?;
        let written = self.notes.write_all(note.as_bytes());
        if let Err(error) = written.and_then(|()| self.notes.sync_data()) {
            self.notes.set_len(end)?;
            self.notes.seek(SeekFrom::Start(end))?;
            return Err(error);
        }
        Ok(())
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// The last note of a file, which is then ready for another: what a daemon that was killed left unfinished behind it is taken away.
fn last_note(file: &mut File, key: &Verifier) -> anyhow::Result<Option<(Checkpoint, String)>> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let mut notes = Notes::default();
    let text = String::from_utf8_lossy(&tail);
    let mut found: Vec<_> = text.lines().filter_map(|line| notes.push(line)).collect();
    found.extend(notes.finish());
    let opened = |note: String| {
        let checkpoint = Checkpoint::open(&note, key).ok()?;
        // Not found if its last newline is missing.
        let place = tail
            .windows(note.len())
            .rposition(|it| it == note.as_bytes())?;
        Some((checkpoint, note, place))
    };
    let Some((checkpoint, note, place)) = found.into_iter().rev().find_map(opened) else {
        if length > 0 {
            bail!(
                "no checkpoint there is signed with the key {key}: was the key changed? To begin anew, move that directory away and \
                 keep the old public key along with it"
            );
        }
        return Ok(None);
    };
    let end = start + (place + note.len()) as u64;
    if end < length {
        tracing::warn!("an unfinished checkpoint was cut off");
        file.set_len(end)?;
    }
    file.seek(SeekFrom::Start(end))?;
    Ok(Some((checkpoint, note)))
}
