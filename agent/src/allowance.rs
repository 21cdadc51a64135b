//! How much of the daemon one session may take up: requests under way, memory for what was read of their bodies, and memory for
//! connections to databases.
//!
//! Full means no. To wait for room instead could wait for ever: requests that have read a part of their body would wait for
//! each other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use holdpoint_core::refusal::{Kind, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests of one session under way at once, from their head to the end of their response; those that wait for people count.
const REQUESTS: usize = 512;
/// Memory for bodies of one session's requests and for its connections to databases, in KiB.
const OF_A_SESSION: usize = 128 << 10;
/// The same of all sessions, in KiB.
const OF_THE_DAEMON: usize = 1 << 20;

/// The memory that all sessions share.
pub struct Memory(Arc<Semaphore>);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(OF_THE_DAEMON)))
    }
}

impl Memory {
    /// The allowance of a new session.
    #[must_use]
    pub fn session(&self) -> Allowance {
        Allowance {
            requests: Arc::new(Semaphore::new(REQUESTS)),
            own: Arc::new(Semaphore::new(OF_A_SESSION)),
            shared: self.0.clone(),
            connections: Arc::default(),
        }
    }
}

/// What one session may take up.
pub struct Allowance {
    requests: Arc<Semaphore>,
    own: Arc<Semaphore>,
    shared: Arc<Semaphore>,
    /// Connections to databases, by their entries' names.
    connections: Arc<Mutex<HashMap<Arc<str>, usize>>>,
}

/// One connection to a database. Dropped, there is room for another.
pub struct Connected {
    entry: Arc<str>,
    all: Arc<Mutex<HashMap<Arc<str>, usize>>>,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&self.entry) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(all.remove(&self.entry)),
        }
    }
}

/// One request under way.
pub struct Place(#[expect(dead_code, reason = "it is held")] OwnedSemaphorePermit);

impl Allowance {
    /// A place for one more request.
    ///
    /// # Errors
    /// When there is none.
    pub fn request(&self) -> Result<Place, Refusal> {
        let place = self.requests.clone().try_acquire_owned();
        place.map(Place).map_err(|_| {
            full(&format!(
                "{REQUESTS} requests of this session are under way already"
            ))
        })
    }

    /// A place for one more connection to the databases of this entry, where it has `most`; nothing when there is none.
    #[must_use]
    pub fn connection(&self, entry: &Arc<str>, most: usize) -> Option<Connected> {
        let mut all = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(entry.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Connected {
            entry: entry.clone(),
            all: self.connections.clone(),
        })
    }

    /// An account of the memory one request takes up, empty at first.
    ///
    /// # Panics
    /// Never: nothing closes the semaphores.
    #[must_use]
    pub fn charge(&self) -> Charge {
        let none = |of: &Arc<Semaphore>| {
            let permit = of.clone().try_acquire_many_owned(0);
            permit.expect("no permits are always there")
        };
        Charge {
            own: none(&self.own),
            shared: none(&self.shared),
        }
    }
}

/// The memory that one request takes up. Dropped, it is free again.
pub struct Charge {
    own: OwnedSemaphorePermit,
    shared: OwnedSemaphorePermit,
}

impl Charge {
    /// Sees to it that this many bytes are accounted for.
    ///
    /// # Errors
    /// When there is no room.
    pub fn cover(&mut self, bytes: usize) -> Result<(), Refusal> {
        let missing = bytes.div_ceil(1024).saturating_sub(self.own.num_permits());
        let no_room = || full("too much of other requests is waiting to be judged or sent");
        let missing = u32::try_from(missing).map_err(|_| no_room())?;
        let more = |held: &OwnedSemaphorePermit| {
            let semaphore = held.semaphore().clone();
            semaphore
                .try_acquire_many_owned(missing)
                .map_err(|_| no_room())
        };
        let (own, shared) = (more(&self.own)?, more(&self.shared)?);
        self.own.merge(own);
        self.shared.merge(shared);
        Ok(())
    }

    /// Sees to it that this many bytes are accounted for, and no more.
    ///
    /// # Errors
    /// When there is no room.
    pub fn keep(&mut self, bytes: usize) -> Result<(), Refusal> {
        let surplus = (self.own.num_permits()).saturating_sub(bytes.div_ceil(1024));
        if surplus > 0 {
            drop((self.own.split(surplus), self.shared.split(surplus)));
        }
        self.cover(bytes)
    }

    /// Moves what is accounted for so far to an account of its own.
    ///
    /// # Panics
    /// Never: one can be split off at its size.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let all = |held: &mut OwnedSemaphorePermit| {
            let count = held.num_permits();
            held.split(count).expect("as many as there are")
        };
        Self {
            own: all(&mut self.own),
            shared: all(&mut self.shared),
        }
    }
}

fn full(why: &str) -> Refusal {
    Refusal::new(
        Kind::NotReady,
        format!("Holdpoint did not send this request, because {why}; run fewer at once."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_takes_no_more_than_its_share_and_gives_it_back() {
        let memory = Memory::default();
        let (one, other) = (memory.session(), memory.session());
        let mut charge = one.charge();
        charge.cover(OF_A_SESSION << 10).expect("all of its own");
        charge.cover(1).expect("covered already");
        charge.keep((OF_A_SESSION << 10) - 2048).expect("less");
        one.charge().cover(2048).expect("what was given back");
        charge.keep(OF_A_SESSION << 10).expect("more again");
        assert!(one.charge().cover(1).is_err());
        assert!(charge.cover((OF_A_SESSION << 10) + 1).is_err());
        other.charge().cover(1).expect("another session's share");
        drop(charge);
        one.charge().cover(OF_A_SESSION << 10).expect("given back");
    }

    #[test]
    fn all_sessions_take_no_more_than_the_daemon_has() {
        let memory = Memory::default();
        let mut charges = Vec::new();
        for _ in 0..OF_THE_DAEMON / OF_A_SESSION {
            let mut charge = memory.session().charge();
            charge.cover(OF_A_SESSION << 10).expect("there is room");
            charges.push(charge);
        }
        let late = memory.session();
        assert!(late.charge().cover(1).is_err());
        drop(charges.pop());
        late.charge().cover(1).expect("room again");
    }

    #[test]
    fn connections_are_counted_for_each_database() {
        let allowance = Memory::default().session();
        let (one, other) = (Arc::from("one"), Arc::from("other"));
        let open: Vec<_> = (0..3)
            .filter_map(|_| allowance.connection(&one, 2))
            .collect();
        assert_eq!(open.len(), 2);
        assert!(allowance.connection(&other, 1).is_some());
        drop(open);
        assert!(allowance.connection(&one, 1).is_some());
        assert!(allowance.connection(&one, 0).is_none());
    }

    #[test]
    fn requests_are_counted() {
        let allowance = Memory::default().session();
        let places: Vec<_> = (0..REQUESTS).map(|_| allowance.request()).collect();
        assert!(places.iter().all(Result::is_ok));
        assert!(allowance.request().is_err());
        drop(places);
        assert!(allowance.request().is_ok());
    }
}
