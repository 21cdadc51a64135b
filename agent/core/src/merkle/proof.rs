//! Proofs: that a leaf is in a tree, and that a tree is the beginning of another.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{Node, Tree};

/// Hashes that lead to a root, in the order of RFC 6962.
pub type Proof = Vec<Node>;

/// Makes a proof while all leaves of a tree pass by, in a few kilobytes of memory.
#[derive(Clone, Debug)]
pub struct Collector {
    /// The subtrees whose hashes make up the proof, in its order.
    subtrees: Vec<(Range<u64>, Tree)>,
    next: u64,
    size: u64,
}

/// There is no such proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum NoProof {
    /// There is no such leaf or beginning.
    #[error("a tree of {size} leaves has nothing to prove of {wanted}")]
    Outside {
        /// Leaves of the tree.
        size: u64,
        /// The leaf's index, or the size of the beginning.
        wanted: u64,
    },
    /// Not all leaves have passed.
    #[error("{passed} of {size} leaves are there")]
    Incomplete {
        /// Leaves of the tree.
        size: u64,
        /// Those that passed.
        passed: u64,
    },
}

impl Collector {
    /// For the proof that leaf `index` (from 0) is in the tree of the first `size` leaves.
    ///
    /// # Errors
    /// When there is no such leaf.
    pub fn inclusion(index: u64, size: u64) -> Result<Self, NoProof> {
        if index >= size {
            return Err(NoProof::Outside {
                size,
                wanted: index,
            });
        }
        let mut ranges = Vec::new();
        path(index, 0..size, &mut ranges);
        Ok(Self::new(ranges, size))
    }

    /// For the proof that the tree of the first `old` leaves is the beginning of that of the first `new`.
    ///
    /// # Errors
    /// When `old` is none or more than `new`.
    pub fn consistency(old: u64, new: u64) -> Result<Self, NoProof> {
        if old == 0 || old > new {
            return Err(NoProof::Outside {
                size: new,
                wanted: old,
            });
        }
        let mut ranges = Vec::new();
        subproof(old, 0..new, true, &mut ranges);
        Ok(Self::new(ranges, new))
    }

    fn new(ranges: Vec<Range<u64>>, size: u64) -> Self {
        let empty = |range| (range, Tree::default());
        Self {
            subtrees: ranges.into_iter().map(empty).collect(),
            next: 0,
            size,
        }
    }

    /// The next leaf. Those after the tree's last are ignored.
    pub fn push(&mut self, leaf: Node) {
        let index = self.next;
        self.next += 1;
        let its = self
            .subtrees
            .iter_mut()
            .find(|(range, _)| range.contains(&index));
        if let Some((_, subtree)) = its {
            subtree.push(leaf);
        }
    }

    /// The proof.
    ///
    /// # Errors
    /// When not all leaves of the tree have passed.
    pub fn finish(self) -> Result<Proof, NoProof> {
        if self.next < self.size {
            return Err(NoProof::Incomplete {
                size: self.size,
                passed: self.next,
            });
        }
        let roots = self.subtrees.iter().map(|(_, subtree)| subtree.root());
        Ok(roots.collect())
    }
}

/// The largest power of two below `n`, which is 2 at least.
fn split(n: u64) -> u64 {
    1 << (n - 1).ilog2()
}

/// PATH(m, D[n]) of RFC 6962, 2.1.1, with `m` and D counted from the beginning of all leaves.
fn path(m: u64, of: Range<u64>, out: &mut Vec<Range<u64>>) {
    let n = of.end - of.start;
    if n <= 1 {
        return;
    }
    let middle = of.start + split(n);
    if m < middle {
        path(m, of.start..middle, out);
        out.push(middle..of.end);
    } else {
        path(m, middle..of.end, out);
        out.push(of.start..middle);
    }
}

/// SUBPROOF(m, D[n], b) of RFC 6962, 2.1.2, with `m` and D counted from the beginning of all leaves.
fn subproof(m: u64, of: Range<u64>, known: bool, out: &mut Vec<Range<u64>>) {
    if m == of.end {
        if !known {
            out.push(of);
        }
        return;
    }
    let middle = of.start + split(of.end - of.start);
    if m <= middle {
        subproof(m, of.start..middle, known, out);
        out.push(middle..of.end);
    } else {
        subproof(m, middle..of.end, false, out);
        out.push(of.start..middle);
    }
}

/// Whether `proof` shows that `leaf` stands at `index` (from 0) in the tree of `size` leaves with this root.
/// RFC 9162, 2.1.3.2.
#[must_use]
pub fn verify_inclusion(index: u64, size: u64, leaf: Node, proof: &[Node], root: Node) -> bool {
    if index >= size {
        return false;
    }
    let (mut index, mut last, mut hash) = (index, size - 1, leaf);
    for node in proof {
        if last == 0 {
            return false;
        }
        if index & 1 == 1 || index == last {
            hash = Node::parent(*node, hash);
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            hash = Node::parent(hash, *node);
        }
        index >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Whether `proof` shows that the tree of `old` leaves with `old_root` is the beginning of that of `new` leaves with `new_root`.
/// RFC 9162, 2.1.4.2. Nothing is the beginning of everything, without a proof.
#[must_use]
pub fn verify_consistency(
    (old, old_root): (u64, Node),
    (new, new_root): (u64, Node),
    proof: &[Node],
) -> bool {
    if old == 0 {
        return proof.is_empty() && old_root == Tree::default().root();
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old > new {
        return false;
    }
    // A full tree is a subtree of the new one, and known.
    let (first, rest) = match (old.is_power_of_two(), proof) {
        (true, rest) => (old_root, rest),
        (false, [first, rest @ ..]) => (*first, rest),
        (false, []) => return false,
    };
    let (mut index, mut last) = (old - 1, new - 1);
    let shift = index.trailing_ones();
    index >>= shift;
    last >>= shift;
    let (mut old_hash, mut new_hash) = (first, first);
    for node in rest {
        if last == 0 {
            return false;
        }
        if index & 1 == 1 || index == last {
            old_hash = Node::parent(*node, old_hash);
            new_hash = Node::parent(*node, new_hash);
            while index & 1 == 0 && index != 0 {
                index >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = Node::parent(new_hash, *node);
        }
        index >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == old_root && new_hash == new_root
}
