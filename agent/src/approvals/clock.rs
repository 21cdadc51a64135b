//! The wall clock as it was once, driven on by the monotonic one: setting the host's clock neither prolongs what ends at
//! a time nor ends it.

use jiff::Timestamp;
use tokio::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    at: Timestamp,
    since: Instant,
}

impl Clock {
    /// Starts now, and not before `earliest`: what is already on record has happened.
    pub(super) fn not_before(earliest: Timestamp) -> Self {
        Self {
            at: Timestamp::now().max(earliest),
            since: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        let now = self.at.checked_add(self.since.elapsed());
        now.unwrap_or(Timestamp::MAX)
    }

    /// When it will be that late.
    pub(super) fn instant(&self, at: Timestamp) -> Instant {
        let ahead = at.duration_since(self.at);
        match ahead.is_negative() {
            true => self.since,
            false => self.since + ahead.unsigned_abs(),
        }
    }
}
