//! The links of events that were synced, for whoever signs them: handed over in memory, because to read them all from the store again
//! would cost as much as to write them.

use std::sync::Mutex;

use super::Link;

/// Links kept at most (2 MiB). Whoever comes too late finds a gap, and reads the store.
const MOST: usize = 64 * 1024;

/// Links of synced events that nobody has taken yet.
#[derive(Debug)]
pub struct Leaves(Mutex<Row>);

#[derive(Debug)]
struct Row {
    /// The number of the first, or of the next to come.
    first: u64,
    links: Vec<Link>,
}

impl Leaves {
    /// None yet; the next event to come has the number after `seq`.
    #[must_use]
    pub fn after(seq: u64) -> Self {
        let (first, links) = (seq + 1, Vec::new());
        Self(Mutex::new(Row { first, links }))
    }

    pub(super) fn synced(&self, seq: u64, link: Link) {
        let mut row = self.0.lock().expect("no panic while locked");
        let next = row.first + row.links.len() as u64;
        if next != seq || row.links.len() == MOST {
            row.first = seq;
            row.links.clear();
        }
        row.links.push(link);
    }

    /// The number of the first of them, and all of them. Without any, the number that the next one to come will have, if none is lost.
    ///
    /// # Panics
    /// When the writer panicked.
    pub fn take(&self) -> (u64, Vec<Link>) {
        let mut row = self.0.lock().expect("no panic while locked");
        let (first, links) = (row.first, std::mem::take(&mut row.links));
        row.first += links.len() as u64;
        (first, links)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_too_late_finds_a_gap() {
        let leaves = Leaves::after(7);
        let link = |seq: u64| Link::of(&seq.to_be_bytes());
        leaves.synced(8, link(8));
        leaves.synced(9, link(9));
        assert_eq!(leaves.take(), (8, vec![link(8), link(9)]));
        assert_eq!(leaves.take(), (10, Vec::new()));
        // A store that was opened again held more than was known to be synced.
        leaves.synced(12, link(12));
        assert_eq!(leaves.take(), (12, vec![link(12)]));
        let many = MOST as u64 + 3;
        (13..13 + many).for_each(|seq| leaves.synced(seq, link(seq)));
        let (first, rest) = leaves.take();
        assert_eq!(first + rest.len() as u64, 13 + many);
        assert!(rest.len() < MOST);
    }
}
