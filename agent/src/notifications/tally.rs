//! What each destination was told.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

use crate::metrics::metrics;

/// Dropped news are logged once in so many.
const LOG_EVERY: u64 = 100;

/// What became of one piece of news for one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was passed on.
    Sent,
    /// It could not be, and its time is over.
    Failed,
    /// There was no room for it.
    Dropped,
    /// It was no longer new before it could be passed on.
    Superseded,
}

impl Outcome {
    /// The name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
            Self::Superseded => "superseded",
        }
    }
}

/// Counts for one destination.
#[derive(Debug)]
pub(super) struct Tally {
    kind: &'static str,
    to: Option<String>,
    counts: [AtomicU64; 4],
}

/// A destination and its counts, as `holdpoint status` shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its kind, as in the configuration.
    pub kind: String,
    /// The host or the program.
    pub to: Option<String>,
    /// Passed on.
    pub sent: u64,
    /// Given up.
    pub failed: u64,
    /// Without room.
    pub dropped: u64,
    /// No longer new.
    pub superseded: u64,
}

impl Tally {
    pub(super) fn new(kind: &'static str, to: Option<&str>) -> Arc<Self> {
        Arc::new(Self {
            kind,
            to: to.map(str::to_owned),
            counts: Default::default(),
        })
    }

    /// For logs.
    pub(super) fn name(&self) -> String {
        let to = self.to.as_deref().unwrap_or_default();
        format!("{} {to}", self.kind).trim_end().to_owned()
    }

    pub(super) fn count(&self, outcome: Outcome) {
        let before = self.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
        metrics().notified(self.kind, outcome.name());
        if outcome == Outcome::Dropped && before.is_multiple_of(LOG_EVERY) {
            tracing::warn!(
                to = self.name(),
                dropped = before + 1,
                "a notification is dropped: too many wait for this destination"
            );
        }
    }

    pub(super) fn told(&self) -> Told {
        let count = |outcome: Outcome| self.counts[outcome as usize].load(Ordering::Relaxed);
        Told {
            kind: self.kind.to_owned(),
            to: self.to.clone(),
            sent: count(Outcome::Sent),
            failed: count(Outcome::Failed),
            dropped: count(Outcome::Dropped),
            superseded: count(Outcome::Superseded),
        }
    }
}
