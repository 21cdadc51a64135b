//! A Merkle tree over a list that only grows: hashes and proofs of RFC 6962, section 2.1 (the same in RFC 9162).
//!
//! Nothing here holds the leaves. A [`Tree`] is as many hashes as its size has bits; a proof is collected while the leaves pass by.

mod proof;

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use proof::{Collector, NoProof, Proof, verify_consistency, verify_inclusion};

/// A SHA-256 of the tree: of a leaf, of two nodes, or of nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node([u8; 32]);

impl Node {
    /// The hash of a leaf with this content: SHA-256(0x00 || content).
    #[must_use]
    pub fn leaf(content: &[u8]) -> Self {
        let hash = Sha256::new().chain_update([0]).chain_update(content);
        Self(hash.finalize().into())
    }

    /// The hash of a node with these children: SHA-256(0x01 || left || right).
    #[must_use]
    pub fn parent(left: Self, right: Self) -> Self {
        let hash = Sha256::new()
            .chain_update([1])
            .chain_update(left.0)
            .chain_update(right.0);
        Self(hash.finalize().into())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Node {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({self})")
    }
}

impl Serialize for Node {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(&text, &mut bytes).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

/// What has to be kept of a tree to let it grow (a "compact range" from its first leaf on).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Tree {
    size: u64,
    /// Of the full subtrees that the leaves make, the largest first: one for each bit that is set in `size`.
    peaks: Vec<Node>,
}

#[derive(Serialize, Deserialize)]
struct Parts {
    size: u64,
    peaks: Vec<Node>,
}

impl From<Tree> for Parts {
    fn from(Tree { size, peaks }: Tree) -> Self {
        Self { size, peaks }
    }
}

impl TryFrom<Parts> for Tree {
    type Error = WrongPeaks;

    fn try_from(Parts { size, peaks }: Parts) -> Result<Self, WrongPeaks> {
        if peaks.len() != size.count_ones() as usize {
            return Err(WrongPeaks { size });
        }
        Ok(Self { size, peaks })
    }
}

/// What was to be a [`Tree`] is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tree of {size} leaves has {} peaks", size.count_ones())]
pub struct WrongPeaks {
    size: u64,
}

impl Tree {
    /// How many leaves it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: Node) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("one for each bit that is set");
            node = Node::parent(left, node);
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The hash of all of it (Merkle Tree Hash); of no leaves, SHA-256 of nothing.
    #[must_use]
    pub fn root(&self) -> Node {
        let smallest_first = self.peaks.iter().rev().copied();
        smallest_first
            .reduce(|right, left| Node::parent(left, right))
            .unwrap_or_else(|| Node(Sha256::digest([]).into()))
    }
}

#[cfg(test)]
mod tests;
