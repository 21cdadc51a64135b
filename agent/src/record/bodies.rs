//! The bodies of requests and responses: stored apart from the events, which carry their digests, so that they can be taken
//! away without a gap in the chain.

mod capture;
mod keep;
mod key;

use std::fmt;

use holdpoint_core::digest::Digest;
use serde::{Deserialize, Serialize};

use super::text::Text;

pub use capture::Capture;
pub(super) use capture::Limits;
pub(super) use keep::{Bodies, Offline};

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From the agent to the upstream.
    Request,
    /// From the upstream to the agent.
    Response,
    /// Nowhere: all that people were asked about a held operation, masked. The `hold` event has its digest.
    Asked,
}

/// A piece of a body as it came, in JSON `[after_ms,bytes]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32)", into = "(u32, u32)")]
pub struct Chunk {
    /// Milliseconds since the capture began.
    pub after_ms: u32,
    /// Its length.
    pub bytes: u32,
}

impl From<(u32, u32)> for Chunk {
    fn from((after_ms, bytes): (u32, u32)) -> Self {
        Self { after_ms, bytes }
    }
}

impl From<Chunk> for (u32, u32) {
    fn from(chunk: Chunk) -> Self {
        (chunk.after_ms, chunk.bytes)
    }
}

/// Where a stored body is to be found: the segment of the record it was stored along with, and a random name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BodyId {
    /// The number of the segment's first event.
    pub(super) segment: u64,
    pub(super) name: [u8; 12],
}

impl fmt::Display for BodyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.segment, hex::encode(self.name))
    }
}

impl From<BodyId> for String {
    fn from(id: BodyId) -> Self {
        id.to_string()
    }
}

/// This is not the name of a body.
#[derive(Debug, thiserror::Error)]
#[error("a body is named by a number, a hyphen and 24 hexadecimal digits")]
pub struct NotABodyId;

impl TryFrom<String> for BodyId {
    type Error = NotABodyId;

    fn try_from(text: String) -> Result<Self, NotABodyId> {
        text.parse()
    }
}

impl std::str::FromStr for BodyId {
    type Err = NotABodyId;

    fn from_str(text: &str) -> Result<Self, NotABodyId> {
        let (segment, hex) = text.split_once('-').ok_or(NotABodyId)?;
        let mut name = [0; 12];
        hex::decode_to_slice(hex, &mut name).map_err(|_| NotABodyId)?;
        let segment = segment.parse().map_err(|_| NotABodyId)?;
        let id = Self { segment, name };
        // One spelling only.
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(NotABodyId)
        }
    }
}

/// What the record's chain says of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRecord {
    /// Which way it went.
    pub way: Way,
    /// Its media type, as its sender put it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<Text>,
    /// Its length.
    pub bytes: u64,
    /// The SHA-256 of the salt and all of it, masked. The salt is stored with the body and purged with it.
    pub sha256: Digest,
    /// Where it is stored; nowhere if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<BodyId>,
    /// Whether only its beginning is stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Whether its sender came to its end.
    pub complete: bool,
    /// The pieces it came in; the last one stands for all that came after the 256th.
    pub chunks: Vec<Chunk>,
}

/// What stands before a body where its digest is computed, so that what was purged cannot be guessed from the digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

/// A stored body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptBody {
    /// The salt of its digest.
    pub salt: Salt,
    /// The body, or its beginning.
    pub bytes: Vec<u8>,
}

#[cfg(test)]
mod tests;
