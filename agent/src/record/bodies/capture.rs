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

use super::{BodyId, BodyRecord, Chunk, Salt, Way, keep::Job};
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
    /// None: there was no room for it.
    beginning: Option<Body>,
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
            beginning: Some(Body::new(record.bodies.memory().clone())),
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
        self.keep(masked);
    }

    /// Whether nothing more of it would be stored: it is cut here, or there was no room for it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let limit = self.record.bodies.limits().body_bytes;
        let beginning = self.beginning.as_ref();
        beginning.is_none_or(|it| it.bytes().len() >= limit && self.bytes > limit as u64)
    }

    fn keep(&mut self, piece: &[u8]) {
        let limit = self.record.bodies.limits().body_bytes;
        let Some(beginning) = &mut self.beginning else {
            return;
        };
        let room = limit.saturating_sub(beginning.bytes().len());
        if !beginning.extend(&piece[..piece.len().min(room)]) {
            self.beginning = None;
        }
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
        let stored = self
            .beginning
            .take()
            .filter(|body| !body.bytes().is_empty());
        let kept = stored.as_ref().map_or(0, |body| body.bytes().len());
        let body = BodyRecord {
            way: self.way,
            content_type: self.content_type.take(),
            bytes: self.bytes,
            sha256: Digest::from_bytes(self.hash.clone().finalize().into()),
            kept: None,
            cut: (kept as u64) < self.bytes,
            complete: self.complete,
            chunks: std::mem::take(&mut self.chunks),
        };
        let told = Told {
            record: self.record.clone(),
            session: self.session.clone(),
            operation: self.operation.clone(),
            body,
        };
        match stored {
            Some(body) => self.record.bodies.store(Job {
                told,
                salt: self.salt,
                body,
            }),
            None => told.tell(None),
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

/// The beginning of a body in memory, and its share of what bodies may take up.
pub(super) struct Body {
    bytes: Vec<u8>,
    memory: Arc<Memory>,
}

impl Body {
    fn new(memory: Arc<Memory>) -> Self {
        let bytes = Vec::new();
        Self { bytes, memory }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there was room.
    fn extend(&mut self, more: &[u8]) -> bool {
        let has_room = self.memory.take(more.len());
        if has_room {
            self.bytes.extend_from_slice(more);
        }
        has_room
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes.len());
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
