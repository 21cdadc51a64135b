//! Where a session's connectors were told that instances are.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;

use crate::postgres::Entry;

/// Hosts that are remembered in a session. An instance has a few.
const MOST: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// The instances that one session has read the settings of, by address and name. Only instances with a `[[connection]]` get in here, and what is dialled is that
/// connection's, never an address.
pub struct Instances(Mutex<LruCache<String, Learnt>>);

struct Learnt {
    entry: Arc<Entry>,
    dns_names: Vec<String>,
}

impl Default for Instances {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MOST)))
    }
}

impl Instances {
    /// The settings of this instance name these addresses and names, and these names are to be in its certificate.
    pub fn learn(&self, entry: &Arc<Entry>, hosts: Vec<String>, dns_names: &[String]) {
        let mut known = self.known();
        for host in hosts {
            let learnt = Learnt {
                entry: entry.clone(),
                dns_names: dns_names.to_vec(),
            };
            known.put(host, learnt);
        }
    }

    /// The one at this address, or of this name.
    #[must_use]
    pub fn at(&self, host: &str) -> Option<Arc<Entry>> {
        let known = self.known();
        known.peek(host).map(|learnt| learnt.entry.clone())
    }

    /// The DNS names of the one with this `[[connection]]`.
    #[must_use]
    pub fn dns_names(&self, entry: &str) -> Vec<String> {
        let known = self.known();
        let mut all = known.iter().map(|(_, learnt)| learnt);
        let found = all.find(|learnt| *learnt.entry.name == *entry);
        found
            .map(|learnt| learnt.dns_names.clone())
            .unwrap_or_default()
    }

    fn known(&self) -> MutexGuard<'_, LruCache<String, Learnt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
