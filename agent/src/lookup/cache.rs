//! What was read in the last seconds.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use holdpoint_core::{fields::Json, recognise::Reading};
use lru::LruCache;
use tokio::time::Instant;

/// How long something that was read counts.
const LASTS: Duration = Duration::from_secs(10);
/// How many are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");

/// What was read, while nothing changed anything.
pub(super) struct Cache {
    entries: LruCache<Reading, Entry>,
    /// Changes that are under way.
    under_way: usize,
    /// Changes that have begun or ended.
    steps: u64,
}

struct Entry {
    found: Option<Arc<Json>>,
    read_at: Instant,
}

/// When something began to be read, by the clock and by what was changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    pub(super) at: Instant,
    steps: u64,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            entries: LruCache::new(KEPT),
            under_way: 0,
            steps: 0,
        }
    }
}

/// What was found, and when it was read.
type Known = (Option<Arc<Json>>, Instant);

impl Cache {
    /// What is known and since when, and what [`Self::keep`] wants to have back if that is nothing.
    pub(super) fn find(&mut self, reading: &Reading, now: Instant) -> (Option<Known>, Age) {
        let age = Age {
            at: now,
            steps: self.steps,
        };
        let entry = self.entries.get(reading);
        let fresh = entry.filter(|entry| now.duration_since(entry.read_at) < LASTS);
        (fresh.map(|entry| (entry.found.clone(), entry.read_at)), age)
    }

    /// Keeps what was read, unless something has been changed since it began to be.
    pub(super) fn keep(&mut self, reading: &Reading, found: Option<Arc<Json>>, age: Age) {
        if self.under_way == 0 && self.steps == age.steps {
            let read_at = age.at;
            self.entries.put(reading.clone(), Entry { found, read_at });
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        self.entries.clear();
    }
}

/// Something is being changed, until this is dropped. Whoever does it: one agent may have two sessions, and what one thing is
/// called in two requests is not for a cache to know.
pub struct Changing(Arc<Mutex<Cache>>);

impl Changing {
    pub(super) fn begin(cache: &Arc<Mutex<Cache>>) -> Self {
        let mut known = cache.lock().unwrap_or_else(PoisonError::into_inner);
        known.under_way += 1;
        known.step();
        drop(known);
        Self(Arc::clone(cache))
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.under_way = known.under_way.saturating_sub(1);
        known.step();
    }
}
