//! The hash chain: every event carries the hash of the one before.

use std::fmt;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::store::StoredEvent;

/// The leaf hash (RFC 6962, section 2.1) of an event: SHA-256 of a zero byte and its bytes; zeros where there is no event.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Link([u8; 32]);

impl Link {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let leaf = Sha256::new_with_prefix([0]).chain_update(bytes);
        Self(leaf.finalize().into())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// One that was computed before.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({self})")
    }
}

impl Serialize for Link {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// The last event of a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Its number; 0 for an empty chain.
    pub(super) seq: u64,
    /// Of its bytes.
    pub(super) link: Link,
}

impl Head {
    /// Goes on to the event of this number with these bytes.
    ///
    /// # Errors
    /// When it is not the next one, is unreadable, or does not follow from the last one.
    pub(super) fn follow(&mut self, found: u64, bytes: &[u8]) -> anyhow::Result<StoredEvent> {
        let seq = self.seq + 1;
        ensure!(found == seq, "event {seq} is missing");
        let event: StoredEvent =
            serde_json::from_slice(bytes).with_context(|| format!("event {seq} is unreadable"))?;
        ensure!(
            event.seq == seq,
            "event {seq} stands where event {} should be",
            event.seq
        );
        ensure!(
            event.prev == self.link,
            "event {seq} does not follow from the one before: one of the two was altered"
        );
        *self = Self {
            seq,
            link: Link::of(bytes),
        };
        Ok(event)
    }
}
