//! A session as a row of moments: what is to be seen, and when it was. Bodies are recorded when they are over; here they come as they
//! came, piece by piece.

use std::{cmp::Reverse, collections::BinaryHeap};

use jiff::{SignedDuration, Timestamp};

use super::events;
use crate::{
    cli::approvals::screen::{quoted, safe},
    export::source::{Kept, Source},
    export::story::BodyStory,
    record::{BodyRecord, Event, StoredEvent, Way},
};

/// Events that are read before the first of them is shown: as far as something that is recorded late can move forward.
const AHEAD: usize = 256;
/// Bytes of bodies that wait to be shown at most.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Something to be seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) at: Timestamp,
    /// Which of those of one time comes first.
    order: u64,
    /// Whole lines, safe to print.
    pub(super) text: String,
}

/// The moments of a source, in order.
pub(super) struct Moments<S> {
    source: S,
    waiting: BinaryHeap<Reverse<Moment>>,
    bytes: usize,
    count: u64,
    ended: bool,
}

impl<S: Source> Moments<S> {
    pub(super) fn of(source: S) -> Self {
        Self {
            source,
            waiting: BinaryHeap::new(),
            bytes: 0,
            count: 0,
            ended: false,
        }
    }

    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Moment>> {
        while !self.ended && self.waiting.len() < AHEAD && self.bytes < MOST_BYTES {
            self.read_one().await?;
        }
        let next = self.waiting.pop().map(|Reverse(moment)| moment);
        if let Some(moment) = &next {
            self.bytes -= moment.text.len();
        }
        Ok(next)
    }

    async fn read_one(&mut self) -> anyhow::Result<()> {
        let Some(told) = self.source.next().await? else {
            self.ended = true;
            return Ok(());
        };
        let stored = &told.event;
        self.add(stored.time, described(stored));
        if let Event::Body { session, body, .. } = &stored.event
            && body.way != Way::Asked
        {
            let story = BodyStory {
                seq: stored.seq,
                at: stored.time,
                record: body.clone(),
            };
            match self.source.kept(session.as_str(), Some(&story)).await? {
                Kept::Bytes(bytes) => {
                    for (at, text) in pieces(stored.time, body, &bytes) {
                        self.add(at, quoted(&events::readable(body, &text)));
                    }
                }
                Kept::Gone(why) => self.add(stored.time, format!("  ({})\n", safe(&why))),
                Kept::None => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, at: Timestamp, text: String) {
        self.count += 1;
        self.bytes += text.len();
        self.waiting.push(Reverse(Moment {
            at,
            order: self.count,
            text,
        }));
    }
}

fn described(stored: &StoredEvent) -> String {
    let mut text = format!("{}\n", safe(&events::described(&stored.event)));
    for line in events::asked(&stored.event)
        .iter()
        .flat_map(|it| it.lines())
    {
        text.push_str(&format!("  > {}\n", safe(line)));
    }
    if let Event::Answered { headers, .. } = &stored.event {
        for (name, value) in headers.as_slice() {
            text.push_str(&format!("  < {}\n", safe(&format!("{name}: {value}"))));
        }
    }
    text
}

/// A body in the pieces in which it came, with the times at which they did. `over` is when the last one had come.
fn pieces(over: Timestamp, body: &BodyRecord, bytes: &[u8]) -> Vec<(Timestamp, String)> {
    let last = body.chunks.last().map_or(0, |it| it.after_ms);
    let mut rest = bytes;
    let mut carried = Vec::new();
    let mut pieces = Vec::new();
    for (index, chunk) in body.chunks.iter().enumerate() {
        let is_last = index + 1 == body.chunks.len();
        // The last one stands for all that came after it, too.
        let length = if is_last {
            rest.len()
        } else {
            rest.len().min(chunk.bytes as usize)
        };
        let (piece, after) = rest.split_at(length);
        rest = after;
        carried.extend_from_slice(piece);
        let whole = if is_last || rest.is_empty() {
            carried.len()
        } else {
            whole_characters(&carried)
        };
        let text: Vec<u8> = carried.drain(..whole).collect();
        if text.is_empty() {
            continue;
        }
        let before = SignedDuration::from_millis(i64::from(last.saturating_sub(chunk.after_ms)));
        let at = over.checked_sub(before).unwrap_or(over);
        pieces.push((at, String::from_utf8_lossy(&text).into_owned()));
    }
    if body.cut {
        let way = match body.way {
            Way::Request => "request",
            Way::Response => "response",
            Way::Asked => "question",
        };
        pieces.push((
            over,
            format!("… the {way} goes on; only its beginning was kept"),
        ));
    }
    pieces
}

/// How many bytes there are before a character that goes on in the next piece.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use holdpoint_core::digest::Digest;
    use proptest::prelude::*;

    use super::*;
    use crate::record::Chunk;

    fn body(chunks: &[(u32, u32)]) -> BodyRecord {
        BodyRecord {
            way: Way::Response,
            content_type: None,
            bytes: 0,
            sha256: Digest::of(&[]),
            kept: None,
            cut: false,
            complete: true,
            chunks: chunks.iter().map(|it| Chunk::from(*it)).collect(),
        }
    }

    #[test]
    fn pieces_come_when_they_came() {
        let over = Timestamp::from_millisecond(10_000).expect("a time");
        let told = pieces(
            over,
            &body(&[(0, 2), (500, 1), (900, 2)]),
            "aöbc".as_bytes(),
        );
        let told: Vec<_> = told
            .iter()
            .map(|(at, text)| (at.as_millisecond(), text.as_str()))
            .collect();
        assert_eq!(told, [(9100, "a"), (9600, "ö"), (10_000, "bc")]);
    }

    proptest! {
        #[test]
        fn pieces_make_the_whole(text in ".{0,60}", chunks in prop::collection::vec((0..1000_u32, 0..20_u32), 1..8)) {
            let told = pieces(Timestamp::UNIX_EPOCH, &body(&chunks), text.as_bytes());
            let whole: String = told.into_iter().map(|(_, text)| text).collect();
            prop_assert_eq!(whole, text);
        }
    }
}
