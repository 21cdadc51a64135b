//! What is asked, on disk: one file for each held operation, so that people can still be asked after a restart.
//!
//! The record says which of these files count, and by its SHA-256 what is in each; a file that is missing or says
//! something else voids the question. They are not synced: losing one to a power failure voids it, too.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use anyhow::{Context as _, ensure};
use holdpoint_core::{digest::Digest, policy::HoldRule};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io::Write as _;

use super::{ApprovalId, RequestView};
use crate::session::Session;

/// Everything about a held operation but what people said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    /// Random: the digest is on record for longer than this file, and nothing short shall be guessed from it.
    #[serde(default)]
    pub(super) salt: String,
    pub(super) session: Session,
    pub(super) digest: Digest,
    pub(super) project: Option<String>,
    pub(super) rules: Vec<HoldRule>,
    pub(super) opened_at: Timestamp,
    /// What the reviewer sees.
    pub(super) request: RequestView,
}

/// 128 random bits.
///
/// # Panics
/// When the kernel gives no random bytes.
pub(super) fn salt() -> String {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).expect("the kernel gives random bytes");
    hex::encode(salt)
}

/// The directory of the files, root's alone.
#[derive(Clone, Debug)]
pub(super) struct Kept(PathBuf);

impl Kept {
    pub(super) fn open(dir: PathBuf) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Self(dir))
    }

    /// Returns the digest to be recorded, and what it is the digest of.
    pub(super) fn put(
        &self,
        id: &ApprovalId,
        question: &Question,
    ) -> io::Result<(Digest, Vec<u8>)> {
        let bytes = serde_json::to_vec(question)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.file(id))?;
        match file.write_all(&bytes) {
            Ok(()) => Ok((Digest::of(&[&bytes]), bytes)),
            Err(error) => {
                self.remove(id);
                Err(error)
            }
        }
    }

    pub(super) fn read(&self, id: &ApprovalId, digest: Digest) -> anyhow::Result<Question> {
        let bytes = fs::read(self.file(id)).context("what was asked is no longer on disk")?;
        ensure!(
            Digest::of(&[&bytes]) == digest,
            "what was asked was altered on disk"
        );
        serde_json::from_slice(&bytes).context("what was asked is not understood by this version")
    }

    pub(super) fn remove(&self, id: &ApprovalId) {
        if let Err(error) = fs::remove_file(self.file(id))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(approval = %id, %error, "what was asked stays on disk");
        }
    }

    /// Removes what belongs to none of these.
    pub(super) fn sweep(&self, keep: impl Fn(&str) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(&keep) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Ids are made here or come from the record; what a caller names is looked up first.
    fn file(&self, id: &ApprovalId) -> PathBuf {
        self.0.join(id.as_str())
    }
}
