//! Waiting for what comes by itself.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// As long as it may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until it is so.
///
/// # Panics
/// When it is not within a minute; `what` says what was waited for.
pub fn wait_until(what: &str, is_so: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, is_so);
}

/// Waits until it is so.
///
/// # Panics
/// When it is not within `limit`; `what` says what was waited for.
pub fn wait_within(limit: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(50));
    }
}
