//! How fast the refused connections of a session are recorded: one by one as long as somebody can read them, then by number.
//!
//! An agent that connects ten thousand times a second would fill the disk otherwise, and keep the next daemon from starting for as long as it
//! takes to verify what it wrote.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// Recorded one by one in each window.
const ONE_BY_ONE: u32 = 50;
/// How long a window lasts.
pub const WINDOW: Duration = Duration::from_secs(1);

/// The refused connections of one session.
#[derive(Debug, Default)]
pub struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the window began, and what was recorded one by one in it.
    window: Option<(Instant, u32)>,
    uncounted: u64,
}

/// What to do about one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Record it.
    Recorded,
    /// The first of those that are not: after [`WINDOW`], record [`Pace::take`].
    FirstCounted,
    /// It is counted.
    Counted,
}

impl Pace {
    /// One more was refused.
    ///
    /// # Panics
    /// When another thread panicked here.
    pub fn refused(&self, now: Instant) -> Turn {
        let mut state = self.0.lock().expect("no panic while locked");
        let recorded = match state.window {
            Some((began, recorded)) if now.saturating_duration_since(began) < WINDOW => recorded,
            _ => {
                state.window = Some((now, 0));
                0
            }
        };
        if recorded < ONE_BY_ONE {
            state.window = state.window.map(|(began, recorded)| (began, recorded + 1));
            return Turn::Recorded;
        }
        state.uncounted += 1;
        match state.uncounted {
            1 => Turn::FirstCounted,
            _ => Turn::Counted,
        }
    }

    /// How many were counted since this was last asked.
    ///
    /// # Panics
    /// As above.
    pub fn take(&self) -> u64 {
        std::mem::take(&mut self.0.lock().expect("no panic while locked").uncounted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_a_trickle_is_not() {
        let pace = Pace::default();
        let begin = Instant::now();
        for _ in 0..ONE_BY_ONE {
            assert_eq!(pace.refused(begin), Turn::Recorded);
        }
        assert_eq!(pace.refused(begin), Turn::FirstCounted);
        assert_eq!(pace.refused(begin), Turn::Counted);
        assert_eq!(pace.refused(begin + WINDOW), Turn::Recorded);
        assert_eq!(pace.take(), 2);
        assert_eq!(pace.take(), 0);
    }
}
