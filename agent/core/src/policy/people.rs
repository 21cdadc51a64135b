//! Principals as Cedar sees them: the same few ask again and again.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::entities::{Person, Represented};
use crate::identity::Principal;

/// How many are kept.
const MOST: usize = 1024;

/// Those that have asked.
#[derive(Default)]
pub(super) struct People(RwLock<HashMap<Principal, Arc<Person>>>);

impl People {
    /// # Errors
    /// When Cedar cannot represent it.
    pub(super) fn find(&self, principal: &Principal) -> Represented<Arc<Person>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(person) = known.get(principal) {
            return Ok(Arc::clone(person));
        }
        drop(known);
        let person = Arc::new(Person::new(principal, None)?);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(principal.clone(), Arc::clone(&person));
        Ok(person)
    }
}
