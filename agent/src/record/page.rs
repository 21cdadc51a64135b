//! Events in a row, as they lie in a journal and in memory until a segment has them.
//!
//! Each is preceded by its length (32 bits, little endian) and the first four bytes of its hash, by which a torn write is told
//! from a whole one.

use anyhow::ensure;

use super::{
    chain::{Head, Link},
    store::StoredEvent,
};

/// Bytes before each event.
const HEADER: usize = 8;
/// Bytes of one event at most. Everything in one is cut to a size, so this is never reached.
pub(super) const LONGEST_EVENT: usize = 512 * 1024;

/// Events with numbers in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Page {
    first: u64,
    bytes: Vec<u8>,
    /// Where each event ends.
    ends: Vec<usize>,
}

impl Page {
    pub(super) fn new(first: u64) -> Self {
        Self {
            first,
            ..Self::default()
        }
    }

    /// What a journal says, up to the first byte that is not of a whole event.
    pub(super) fn parse(first: u64, bytes: &[u8]) -> Self {
        let mut page = Self::new(first);
        let mut rest = bytes;
        while let Some((event, after)) = whole_event(rest) {
            let end = page.ends.last().copied().unwrap_or_default() + HEADER + event.len();
            page.ends.push(end);
            rest = after;
        }
        page.bytes = bytes[..bytes.len() - rest.len()].to_vec();
        page
    }

    /// Puts the next event at its end and returns the new head of the chain.
    ///
    /// # Errors
    /// When it cannot be encoded. It is not there then.
    pub(super) fn push(&mut self, event: &StoredEvent) -> anyhow::Result<Head> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER]);
        let encoded = serde_json::to_writer(&mut self.bytes, event);
        let length = self.bytes.len() - start - HEADER;
        if encoded.is_err() || length > LONGEST_EVENT {
            self.bytes.truncate(start);
        }
        encoded?;
        ensure!(length <= LONGEST_EVENT, "an event of {length} bytes");
        let (header, event_bytes) = self.bytes[start..].split_at_mut(HEADER);
        let link = Link::of(event_bytes);
        let length = u32::try_from(length).expect("it is smaller than LONGEST_EVENT");
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..].copy_from_slice(&link.as_bytes()[..4]);
        self.ends.push(self.bytes.len());
        Ok(Head {
            seq: event.seq,
            link,
        })
    }

    /// Puts what follows at its end.
    pub(super) fn extend(&mut self, next: &Self) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&next.bytes);
        self.ends.extend(next.ends.iter().map(|end| start + end));
    }

    /// The number of its first event, or of the one that will be.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The number of the event that follows it.
    pub(super) fn next(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// As it lies in a journal.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of one event.
    pub(super) fn event(&self, seq: u64) -> Option<&[u8]> {
        let place = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        let end = *self.ends.get(place)?;
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start + HEADER..end])
    }

    /// Numbers and bytes of all.
    pub(super) fn events(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first..self.next()).filter_map(|seq| Some((seq, self.event(seq)?)))
    }
}

fn whole_event(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (check, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length == 0 || length > LONGEST_EVENT {
        return None;
    }
    let (event, rest) = rest.split_at_checked(length)?;
    (Link::of(event).as_bytes()[..4] == check[..]).then_some((event, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Event, VERSION};

    fn page(first: u64, reasons: &[String]) -> (Page, Head) {
        let mut page = Page::new(first);
        let mut head = Head::default();
        for (seq, reason) in (first..).zip(reasons) {
            let event = StoredEvent {
                v: VERSION,
                seq,
                time: jiff::Timestamp::UNIX_EPOCH,
                prev: head.link,
                event: Event::DaemonStopped {
                    reason: reason.into(),
                },
            };
            head = page.push(&event).expect("encodes");
        }
        (page, head)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_a_torn_end_is_left_out(
            first in 1_u64..1000,
            reasons in prop::collection::vec(".{0,40}", 1..20),
            cut in 0.0..1.0_f64,
            noise in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let (page, _) = page(first, &reasons);
            prop_assert_eq!(&Page::parse(first, page.bytes()), &page);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let cut = (page.bytes().len() as f64 * cut) as usize;
            let torn = Page::parse(first, &page.bytes()[..cut]);
            prop_assert!(page.bytes().starts_with(torn.bytes()));
            prop_assert!(torn.next() < page.next());
            prop_assert!(torn.events().eq(page.events().take(usize::try_from(torn.next() - first).expect("few"))));
            let noisy = Page::parse(first, &[page.bytes(), &noise].concat());
            prop_assert_eq!(&noisy, &page);
        }

        #[test]
        fn pages_in_a_row_are_one(first in 1_u64..9, reasons in prop::collection::vec("[a-z]{0,9}", 2..20), at in 0_usize..20) {
            let (whole, _) = page(first, &reasons);
            let at = at % reasons.len();
            let start = whole.event(first + at as u64).map_or(0, |event| event.as_ptr() as usize - whole.bytes().as_ptr() as usize - HEADER);
            let mut joined = Page::parse(first, &whole.bytes()[..start]);
            joined.extend(&Page::parse(first + at as u64, &whole.bytes()[start..]));
            prop_assert_eq!(joined, whole);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(bytes.starts_with(Page::parse(1, &bytes).bytes()));
        }
    }
}
