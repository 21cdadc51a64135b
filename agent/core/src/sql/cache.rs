//! Parsed texts, kept because clients send the same ones over and over.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Parsed, parse};

/// A text longer than this is not kept, in bytes: it hardly comes twice.
const MAX_KEPT: usize = 16 * 1024;
/// How much larger than its text a parsed one is taken to be.
const GROWTH: usize = 16;

/// Parsed texts by their exact bytes, bounded by number and size; the oldest go first.
#[derive(Debug)]
pub struct Cache {
    by_text: HashMap<Arc<str>, Arc<Parsed>>,
    in_order: VecDeque<Arc<str>>,
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
}

impl Cache {
    /// One that holds at most `max_entries` texts of about `max_bytes` together with what they were parsed into.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            by_text: HashMap::new(),
            in_order: VecDeque::new(),
            bytes: 0,
            max_entries,
            max_bytes,
        }
    }

    /// As [`parse`], of a text that others may ask for too: the cache is not locked while it is read, which takes up to a second
    /// for a long one.
    pub fn parse(cache: &Mutex<Self>, text: &str) -> Arc<Parsed> {
        let lock = || cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(parsed) = lock().by_text.get(text) {
            return Arc::clone(parsed);
        }
        let parsed = parse(text);
        if text.len() <= MAX_KEPT {
            lock().keep(text.into(), &parsed);
        }
        parsed
    }

    fn keep(&mut self, text: Arc<str>, parsed: &Arc<Parsed>) {
        if self.by_text.contains_key(&text) {
            return;
        }
        self.bytes += size(&text);
        self.by_text.insert(Arc::clone(&text), Arc::clone(parsed));
        self.in_order.push_back(text);
        while self.in_order.len() > self.max_entries || self.bytes > self.max_bytes {
            let Some(oldest) = self.in_order.pop_front() else {
                break;
            };
            self.bytes -= size(&oldest);
            self.by_text.remove(&oldest);
        }
    }
}

/// 4096 texts, 32 MiB.
impl Default for Cache {
    fn default() -> Self {
        Self::new(4096, 32 * 1024 * 1024)
    }
}

fn size(text: &str) -> usize {
    256 + text.len() * GROWTH
}
