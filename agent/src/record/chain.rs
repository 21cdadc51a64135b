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

/// Follows a chain. `events` are keys and values from the event `start` on, which itself is checked too; `found` is
/// told about every event after it, with its own head.
///
/// # Errors
/// When an event is missing, out of order, unreadable or altered, or cannot be fetched.
pub(super) fn verify<E: std::error::Error + Send + Sync + 'static>(
    start: Head,
    events: impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), E>>,
    mut found: impl FnMut(&StoredEvent, Head),
) -> anyhow::Result<Head> {
    let mut events = events;
    if start.seq > 0 {
        let (key, bytes) = events
            .next()
            .with_context(|| format!("event {} and all after it are missing", start.seq))??;
        ensure!(
            key == start.seq.to_be_bytes() && Link::of(&bytes) == start.link,
            "event {} is missing or altered",
            start.seq
        );
    }
    let mut head = start;
    for item in events {
        let (key, bytes) =
            item.with_context(|| format!("cannot read on after event {}", head.seq))?;
        let seq = head.seq + 1;
        ensure!(key == seq.to_be_bytes(), "event {seq} is missing");
        let event: StoredEvent =
            serde_json::from_slice(&bytes).with_context(|| format!("event {seq} is unreadable"))?;
        ensure!(
            event.seq == seq,
            "event {seq} stands where event {} should be",
            event.seq
        );
        ensure!(
            event.prev == head.link,
            "event {seq} does not follow from the one before: one of the two was altered"
        );
        head = Head {
            seq,
            link: Link::of(&bytes),
        };
        found(&event, head);
    }
    Ok(head)
}
