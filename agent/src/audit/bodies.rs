//! Stored bodies against the digests that the record has of them.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::evidence::Source;
use crate::record::{BodyId, BodyRecord, offline};

/// How many bodies are what they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// Those that are.
    pub checked: u64,
    /// Those that are no longer there, nor is their salt.
    pub gone: u64,
    /// Those of which only the beginning was ever stored, or nothing.
    pub cut: u64,
}

/// Checks the bodies that events tell of.
pub struct Bodies {
    /// An export has none.
    store: Option<offline::Bodies>,
    checked: Checked,
}

impl Bodies {
    /// Of this record.
    #[must_use]
    pub fn of(source: &Source) -> Self {
        let dir: Option<PathBuf> = source.store();
        Self {
            store: dir.map(offline::Bodies::of),
            checked: Checked::default(),
        }
    }

    /// The body that this event tells of, if it does.
    ///
    /// # Errors
    /// When it is another one, or cannot be read.
    pub fn check(&mut self, event: &[u8]) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Told {
            body: BodyRecord,
        }
        const KIND: &[u8] = br#""event":"body""#;
        let Some(store) = &mut self.store else {
            return Ok(());
        };
        // Most events are something else: their bytes are not read a second time.
        if !event.windows(KIND.len()).any(|it| it == KIND) {
            return Ok(());
        }
        let Ok(Told { body }) = serde_json::from_slice(event) else {
            return Ok(());
        };
        match body.kept.as_ref().filter(|_| !body.cut) {
            None => self.checked.cut += 1,
            Some(id) => match is_same(store, id, &body)? {
                true => self.checked.checked += 1,
                false => self.checked.gone += 1,
            },
        }
        Ok(())
    }

    /// How many.
    #[must_use]
    pub fn checked(&self) -> Checked {
        self.checked
    }
}

/// Whether it is there.
fn is_same(store: &mut offline::Bodies, id: &BodyId, told: &BodyRecord) -> anyhow::Result<bool> {
    let read = store.read(id);
    let Some(kept) = read.with_context(|| format!("the stored body {id} cannot be read"))? else {
        return Ok(false);
    };
    let digest: [u8; 32] = Sha256::new()
        .chain_update(kept.salt.0)
        .chain_update(&kept.bytes)
        .finalize()
        .into();
    ensure!(
        digest == *told.sha256.as_bytes(),
        "the stored body {id} is not the one that was recorded"
    );
    Ok(true)
}
