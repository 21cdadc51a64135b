//! Stored bodies against the digests that the record has of them.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::evidence::{self, Source};
use crate::record::{BodyRecord, KeptBody};

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
    store: Option<evidence::Bodies>,
    checked: Checked,
}

impl Bodies {
    /// Of this record.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn of(source: &Source) -> anyhow::Result<Self> {
        Ok(Self {
            store: source.bodies()?,
            checked: Checked::default(),
        })
    }

    /// The body that this event tells of, if it does.
    ///
    /// # Errors
    /// When it is another one, or cannot be read.
    pub fn check(&mut self, event: &[u8]) -> anyhow::Result<()> {
        #[derive(Deserialize)]
        struct Told {
            seq: u64,
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
        let Ok(Told { seq, body }) = serde_json::from_slice(event) else {
            return Ok(());
        };
        match body.kept.as_ref().filter(|_| !body.cut) {
            None => self.checked.cut += 1,
            Some(id) => {
                let read = store.read(seq, id);
                match read.with_context(|| format!("the stored body {id} cannot be read"))? {
                    None => self.checked.gone += 1,
                    Some(kept) => {
                        ensure!(
                            is_same(&kept, &body),
                            "the stored body {id} is not the one that was recorded"
                        );
                        self.checked.checked += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// How many.
    #[must_use]
    pub fn checked(&self) -> Checked {
        self.checked
    }
}

fn is_same(kept: &KeptBody, told: &BodyRecord) -> bool {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(kept.salt.0)
        .chain_update(&kept.bytes)
        .finalize()
        .into();
    digest == *told.sha256.as_bytes()
}
