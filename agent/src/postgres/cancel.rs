//! Requests to cancel come on connections of their own, with a key that says which other connection they are about
//! ("Canceling Requests in Progress" in PostgreSQL's manual). Agents get keys of our making; the server's stay here.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use zeroize::Zeroizing;

use super::catalog::Entry;
use crate::session::SessionId;

/// A secret key of protocol 3.0 has 4 bytes, and of 3.2 at most 256.
pub const SECRETS: std::ops::RangeInclusive<usize> = 4..=256;
/// What agents get by protocol 3.2.
const LONG: usize = 32;
/// How long a request to cancel waits until something was done about it: clients wait for its connection to be closed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that are not answered yet. One is as good as many.
const AT_ONCE: usize = 2;

/// What names a connection in a request to cancel it: BackendKeyData.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey {
    /// The process id of the backend, or what stands for it.
    pub process: i32,
    /// 4 to 256 bytes.
    pub secret: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey({})", self.process)
    }
}

/// The connections of all sessions that can be asked to cancel something.
#[derive(Clone, Default)]
pub struct Cancels(Arc<Mutex<HashMap<i32, Waiting>>>);

struct Waiting {
    session: SessionId,
    entry: Arc<str>,
    secret: Zeroizing<Vec<u8>>,
    asks: mpsc::Sender<Asked>,
}

impl Cancels {
    /// A key for a connection of this session to this database, good until what comes with it is dropped.
    ///
    /// # Errors
    /// When the kernel has no random bytes.
    pub fn register(
        &self,
        session: &SessionId,
        entry: &Entry,
        is_long: bool,
    ) -> Result<(CancelKey, Cancelled), getrandom::Error> {
        let mut secret = Zeroizing::new(vec![0; if is_long { LONG } else { *SECRETS.start() }]);
        getrandom::fill(&mut secret)?;
        let (asks, asked) = mpsc::channel(AT_ONCE);
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let process = loop {
            let process = i32::from_ne_bytes(random()?) & i32::MAX;
            if process != 0 && !waiting.contains_key(&process) {
                break process;
            }
        };
        waiting.insert(
            process,
            Waiting {
                session: session.clone(),
                entry: entry.name.clone(),
                secret: secret.clone(),
                asks,
            },
        );
        let cancelled = Cancelled {
            process,
            asked,
            cancels: self.clone(),
        };
        Ok((CancelKey { process, secret }, cancelled))
    }

    /// Has the connection with this key, of the same session and to the same database, cancel what it is about, and waits until it has seen to it.
    /// Returns whether there is one.
    pub async fn ask(&self, session: &SessionId, entry: &Entry, key: &CancelKey) -> bool {
        let Some(asks) = self.find(session, entry, key) else {
            return false;
        };
        let (seen_to, wait) = oneshot::channel();
        if asks.try_send(Asked { _seen_to: seen_to }).is_ok() {
            // The sender is dropped, never used.
            let _ = timeout(PATIENCE, wait).await;
        }
        true
    }

    fn find(
        &self,
        session: &SessionId,
        entry: &Entry,
        key: &CancelKey,
    ) -> Option<mpsc::Sender<Asked>> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.get(&key.process)?;
        let is_meant = found.session == *session
            && found.entry == entry.name
            && verify_slices_are_equal(&found.secret, &key.secret).is_ok();
        is_meant.then(|| found.asks.clone())
    }
}

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map(|()| bytes)
}

/// A connection's ear for requests to cancel. Its key is good for nothing once this is dropped.
pub struct Cancelled {
    process: i32,
    asked: mpsc::Receiver<Asked>,
    cancels: Cancels,
}

impl Cancelled {
    /// Waits for a request. Safe to be dropped while it waits.
    pub async fn next(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            // The other end is in `cancels` for as long as `self` lives.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        let waiting = self.cancels.0.lock();
        waiting
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.process);
    }
}

/// The client asked to cancel, and waits until this is dropped: after the server was told, so that it does not hit the next statement.
pub struct Asked {
    _seen_to: oneshot::Sender<()>,
}

#[cfg(test)]
mod tests;
