//! Things that only whoever has their name can get, for a while. No IO, no clock.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

/// By the SHA-256 of names nobody can guess, so that looking one up tells nothing about the others. Full means no.
pub(super) struct Table<T> {
    most: usize,
    lasting: Duration,
    entries: Mutex<HashMap<[u8; 32], (T, Instant)>>,
}

impl<T> Table<T> {
    pub(super) fn new(most: usize, lasting: Duration) -> Self {
        Self {
            most,
            lasting,
            entries: Mutex::default(),
        }
    }

    /// `false` when there is no room.
    pub(super) fn put(&self, name: &str, entry: T, now: Instant) -> bool {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, (_, until)| now < *until);
        let has_room = entries.len() < self.most;
        if has_room {
            entries.insert(key(name), (entry, now + self.lasting));
        }
        has_room
    }

    /// It is there no longer.
    pub(super) fn take(&self, name: &str, now: Instant) -> Option<T> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (entry, until) = entries.remove(&key(name))?;
        (now < until).then_some(entry)
    }
}

impl<T: Clone> Table<T> {
    pub(super) fn look(&self, name: &str, now: Instant) -> Option<T> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (entry, until) = entries.get(&key(name))?;
        (now < *until).then(|| entry.clone())
    }
}

fn key(name: &str) -> [u8; 32] {
    Sha256::digest(name).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_in_time_and_takes_no_more_than_it_has_room_for() {
        let (table, now) = (Table::new(2, Duration::from_secs(10)), Instant::now());
        assert!(table.put("a", 1, now) && table.put("b", 2, now));
        assert!(!table.put("c", 3, now));
        assert_eq!(table.look("a", now), Some(1));
        assert_eq!(table.take("a", now), Some(1));
        assert_eq!(table.take("a", now), None, "once");
        let later = now + Duration::from_secs(10);
        assert_eq!(table.look("b", later), None);
        assert!(table.put("c", 3, later) && table.put("d", 4, later));
    }
}
