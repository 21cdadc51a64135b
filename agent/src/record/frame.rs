//! Frames: some tens of events, compressed together; the values of a segment.
//!
//! A byte for the format, 1; then, as zstd, each event preceded by its length (32 bits, little endian). Equal words in
//! neighbouring events make up most of them.

use anyhow::{Context as _, bail};

use super::page::{LONGEST_EVENT, Page};

const FORMAT: u8 = 1;
/// Bytes of events in a frame, before they are compressed, that are enough.
const ENOUGH: usize = 48 * 1024;
/// The fastest level of zstd.
const LEVEL: i32 = 1;

/// The frames of a page: the number of each one's first event, and the value.
pub(super) fn pack(page: &Page) -> anyhow::Result<Vec<(u64, Vec<u8>)>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    let mut frames = Vec::new();
    let (mut first, mut raw) = (page.first(), Vec::with_capacity(2 * ENOUGH));
    for (seq, event) in page.events() {
        raw.extend_from_slice(&u32::try_from(event.len())?.to_le_bytes());
        raw.extend_from_slice(event);
        if raw.len() >= ENOUGH || seq + 1 == page.next() {
            let mut value = vec![FORMAT];
            value.extend(compressor.compress(&raw)?);
            frames.push((first, value));
            raw.clear();
            first = seq + 1;
        }
    }
    Ok(frames)
}

/// The events of a frame.
///
/// # Errors
/// When it is damaged.
pub(super) fn unpack(value: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    let Some((&FORMAT, compressed)) = value.split_first() else {
        bail!("it is not a frame of events");
    };
    let raw = zstd::bulk::decompress(compressed, ENOUGH + 4 + LONGEST_EVENT)
        .context("it cannot be decompressed")?;
    let mut events = Vec::new();
    let mut rest = raw.as_slice();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length))?;
        let (event, after) = after.split_at_checked(length).context("it is cut")?;
        events.push(event.to_vec());
        rest = after;
    }
    anyhow::ensure!(rest.is_empty(), "it is cut");
    Ok(events)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::{Event, StoredEvent, VERSION, chain::Link};

    fn page(lengths: &[usize]) -> Page {
        let mut page = Page::new(7);
        for (seq, length) in (7..).zip(lengths) {
            let event = StoredEvent {
                v: VERSION,
                seq,
                time: jiff::Timestamp::UNIX_EPOCH,
                prev: Link::default(),
                event: Event::DaemonStopped {
                    reason: "r".repeat(*length).into(),
                },
            };
            page.push(&event).expect("encodes");
        }
        page
    }

    proptest! {
        #[test]
        fn packed_is_unpacked(lengths in prop::collection::vec(0_usize..2000, 1..200)) {
            let page = page(&lengths);
            let mut found = Vec::new();
            for (first, value) in pack(&page).expect("packs") {
                let events = unpack(&value).expect("unpacks");
                found.extend((first..).zip(events));
            }
            let expected: Vec<_> = page.events().map(|(seq, event)| (seq, event.to_vec())).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn a_damaged_frame_is_no_panic(at: usize, to: u8, length: usize) {
            let (_, mut value) = pack(&page(&[30, 40])).expect("packs").remove(0);
            let at = at % value.len();
            value[at] = to;
            let _ = unpack(&value);
            let _ = unpack(&value[..length % value.len()]);
        }
    }
}
