//! Bodies on their way into the record.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use holdpoint_core::digest::Digest;
use sha2::{Digest as _, Sha256};

use super::{BodyId, BodyRecord, Chunk, Salt, Way, keep::Body};
use crate::{
    record::{
        Record,
        event::{Event, OperationId},
        text::Text,
    },
    session::SessionId,
};

/// Pieces told of one by one.
const MOST_CHUNKS: usize = 256;

/// How much is kept.
#[derive(Debug)]
pub(in crate::record) struct Limits {
    /// Of one body.
    pub(in crate::record) body_bytes: usize,
    /// Of all that are not on disk yet.
    pub(in crate::record) in_memory: usize,
}

/// One message's body on its way into the record, already masked. Whatever happens to it, an [`Event::Body`] tells of it.
pub struct Capture {
    record: Record,
    session: SessionId,
    operation: OperationId,
    way: Way,
    content_type: Option<Text>,
    started: Instant,
    salt: Salt,
    hash: Sha256,
    bytes: u64,
    chunks: Vec<Chunk>,
    beginning: Beginning,
    complete: bool,
}

impl Capture {
    pub(in crate::record) fn new(
        record: Record,
        session: SessionId,
        operation: OperationId,
        way: Way,
        content_type: Option<&str>,
    ) -> Self {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).expect("the kernel gives random bytes");
        Self {
            beginning: Beginning::new(record.bodies.memory()),
            record,
            session,
            operation,
            way,
            content_type: content_type.map(Text::short),
            started: Instant::now(),
            salt: Salt(salt),
            hash: Sha256::new_with_prefix(salt),
            bytes: 0,
            chunks: Vec::new(),
            complete: false,
        }
    }

    /// Takes in the next piece.
    pub fn push(&mut self, masked: &[u8]) {
        if masked.is_empty() {
            return;
        }
        self.hash.update(masked);
        self.bytes += masked.len() as u64;
        self.note_chunk(masked.len());
        self.beginning
            .push(masked, self.record.bodies.limits().body_bytes);
    }

    /// It has come to its end.
    pub fn finish(mut self) {
        self.complete = true;
    }

    fn note_chunk(&mut self, length: usize) {
        let bytes = u32::try_from(length).unwrap_or(u32::MAX);
        let is_full = self.chunks.len() == MOST_CHUNKS;
        match self.chunks.last_mut() {
            Some(last) if is_full => {
                last.bytes = last.bytes.saturating_add(bytes);
            }
            _ => {
                let after_ms = self.started.elapsed().as_millis();
                let after_ms = u32::try_from(after_ms).unwrap_or(u32::MAX);
                self.chunks.push(Chunk { after_ms, bytes });
            }
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        let beginning = std::mem::replace(&mut self.beginning, Beginning::none());
        let body = BodyRecord {
            way: self.way,
            content_type: self.content_type.take(),
            bytes: self.bytes,
            sha256: Digest::from_bytes(self.hash.clone().finalize().into()),
            kept: None,
            cut: (beginning.len() as u64) < self.bytes,
            complete: self.complete,
            chunks: std::mem::take(&mut self.chunks),
        };
        let event = Told {
            record: self.record.clone(),
            session: self.session.clone(),
            operation: self.operation.clone(),
            body,
        };
        match beginning.take() {
            Some(stored) if !stored.bytes().is_empty() => {
                self.record.bodies.store(event, self.salt, stored);
            }
            _ => event.tell(None),
        }
    }
}

/// What the record is told of a body once it is known whether it is stored.
pub(super) struct Told {
    record: Record,
    session: SessionId,
    operation: OperationId,
    body: BodyRecord,
}

impl Told {
    pub(super) fn tell(self, kept: Option<BodyId>) {
        self.record.note(Event::Body {
            session: self.session,
            operation: self.operation,
            body: BodyRecord {
                cut: self.body.cut && kept.is_some(),
                kept,
                ..self.body
            },
        });
    }
}

/// The beginning of a body, in memory, unless there was no room for it.
struct Beginning(Option<Body>);

impl Beginning {
    fn new(memory: &Arc<Memory>) -> Self {
        Self(Some(Body::new(memory.clone())))
    }

    fn none() -> Self {
        Self(None)
    }

    fn push(&mut self, piece: &[u8], limit: usize) {
        let Some(body) = &mut self.0 else { return };
        let room = limit.saturating_sub(body.bytes().len());
        if !body.extend(&piece[..piece.len().min(room)]) {
            self.0 = None;
        }
    }

    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |body| body.bytes().len())
    }

    fn take(self) -> Option<Body> {
        self.0
    }
}

/// What bodies take up until they are on disk.
#[derive(Debug)]
pub(super) struct Memory {
    used: AtomicUsize,
    limit: usize,
}

impl Memory {
    pub(super) fn new(limit: usize) -> Self {
        let used = AtomicUsize::new(0);
        Self { used, limit }
    }

    /// Whether there was room for so many more.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    pub(super) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}
