//! How far the record was synced, in a file of its own. sled opens a damaged file without a word and with what it could make
//! of it, an empty store if need be, and a journal may be cut: this is how the loss is noticed.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::chain::{Head, Link};

/// One line of JSON of this length, padded with spaces: it lies in one sector and is replaced at once.
const LENGTH: usize = 128;

#[derive(Serialize, Deserialize)]
struct Mark {
    seq: u64,
    sha256: Link,
}

pub(super) struct Watermark(File);

impl Watermark {
    /// The file in this directory and what it says; made, saying nothing, with a new record. For as long as it is open, nobody else
    /// opens it.
    pub(super) fn open(dir: &Path, may_be_new: bool) -> anyhow::Result<(Self, Head)> {
        let path = dir.join("synced");
        let context = || {
            format!(
                "cannot tell from {} how far the record goes: it is missing or damaged",
                path.display()
            )
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(may_be_new)
            .truncate(false)
            .open(&path)
            .with_context(context)?;
        file.try_lock().with_context(|| {
            format!(
                "the record in {} is in use: is another daemon running?",
                dir.display()
            )
        })?;
        let mark = Self(file);
        if may_be_new && mark.0.metadata().with_context(context)?.len() == 0 {
            mark.set(Head::default()).with_context(context)?;
            mark.0.sync_all().with_context(context)?;
        }
        let head = mark.head().with_context(context)?;
        Ok((mark, head))
    }

    /// Everything up to `head` is on disk. Not synced itself: after a power loss an older mark is true as well.
    pub(super) fn set(&self, head: Head) -> io::Result<()> {
        let mark = Mark {
            seq: head.seq,
            sha256: head.link,
        };
        let mut line = serde_json::to_vec(&mark)?;
        line.resize(LENGTH - 1, b' ');
        line.push(b'\n');
        self.0.write_all_at(&line, 0)
    }

    fn head(&self) -> io::Result<Head> {
        let mut line = [0; LENGTH];
        self.0.read_exact_at(&mut line, 0)?;
        let Mark { seq, sha256 } = serde_json::from_slice(&line)?;
        Ok(Head { seq, link: sha256 })
    }
}
