//! How fast the refused connections of a session are recorded one by one: as fast as anybody can read them. The others are counted
//! ([`crate::refusals`]).
//!
//! An agent that connects ten thousand times a second would fill the disk otherwise, and keep the next daemon from starting for as long as it
//! takes to verify what that wrote.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

/// Recorded one by one in each window.
const ONE_BY_ONE: u32 = 50;
/// How long a window lasts.
const WINDOW: Duration = Duration::from_secs(1);

/// Of one session.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Option<Window>>);

#[derive(Debug)]
struct Window {
    began: Instant,
    recorded: u32,
}

impl Pace {
    /// Whether one more may be recorded by itself.
    ///
    /// # Panics
    /// When another thread panicked here.
    pub fn allows(&self, now: Instant) -> bool {
        let mut window = self.0.lock().expect("no panic while locked");
        match &mut *window {
            Some(window) if now.saturating_duration_since(window.began) < WINDOW => {
                window.recorded += 1;
                window.recorded <= ONE_BY_ONE
            }
            _ => {
                *window = Some(Window {
                    began: now,
                    recorded: 1,
                });
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_is_recorded_and_of_a_flood_the_beginning() {
        let (pace, begin) = (Pace::default(), Instant::now());
        let flood = (0..1000).filter(|_| pace.allows(begin)).count();
        assert_eq!(flood, ONE_BY_ONE as usize);
        assert!(pace.allows(begin + WINDOW));
    }
}
