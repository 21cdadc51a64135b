//! What is made once and asked for again and again, within bounds.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
};

/// So many are kept; when there are more, all are made anew.
const MOST: usize = 4096;

/// Values by what they are made of.
pub(super) struct Kept<K, V>(RwLock<HashMap<K, Arc<V>>>);

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<K: Clone + Eq + Hash, V> Kept<K, V> {
    /// # Errors
    /// When `make` fails.
    pub(super) fn find<E>(
        &self,
        key: &K,
        make: impl FnOnce(&K) -> Result<V, E>,
    ) -> Result<Arc<V>, E> {
        if let Some(value) = self.look(key) {
            return Ok(value);
        }
        let value = Arc::new(make(key)?);
        self.keep(key.clone(), Arc::clone(&value));
        Ok(value)
    }

    /// What is kept.
    pub(super) fn look(&self, key: &K) -> Option<Arc<V>> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).cloned()
    }

    pub(super) fn keep(&self, key: K, value: Arc<V>) {
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST {
            kept.clear();
        }
        kept.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_kept_than_that_and_all_are_right() {
        let kept = Kept::default();
        for number in (0..MOST * 2 + 3).chain(0..10) {
            let twice = kept.find(&number, |it| Ok::<_, ()>(it * 2));
            assert_eq!(twice, Ok(Arc::new(number * 2)));
            assert!(kept.0.read().expect("no panic").len() <= MOST);
        }
        assert_eq!(kept.find(&1, |_| Err("made again")), Ok(Arc::new(2)));
        assert_eq!(kept.find(&usize::MAX, |_| Err("no")), Err("no"));
    }
}
