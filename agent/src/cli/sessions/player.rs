//! The clock of a replay: how long to wait for the next moment, and what keys change about that.

use std::time::Duration;

use jiff::Timestamp;

/// What a person wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To stop or to go on.
    Pause,
    /// The next moment now.
    Next,
    Faster,
    Slower,
    Quit,
}

/// How often as fast as it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Speed(f64);

impl Speed {
    const SLOWEST: f64 = 0.01;
    const FASTEST: f64 = 100_000.0;

    /// # Errors
    /// When it is no such number.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let number = text.trim_end_matches('x').parse::<f64>();
        match number {
            Ok(speed) if (Self::SLOWEST..=Self::FASTEST).contains(&speed) => Ok(Self(speed)),
            _ => Err("a number from 0.01 to 100000, such as 10 for ten times as fast".into()),
        }
    }

    fn times(self, factor: f64) -> Self {
        Self((self.0 * factor).clamp(Self::SLOWEST, Self::FASTEST))
    }
}

/// The clock. It stands at a time of the recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Player {
    speed: Speed,
    paused: bool,
    at: Option<Timestamp>,
}

impl Player {
    pub(super) fn new(speed: Speed, paused: bool) -> Self {
        Self {
            speed,
            paused,
            at: None,
        }
    }

    /// How long until this moment; for ever while it is paused.
    pub(super) fn until(&self, moment: Timestamp) -> Option<Duration> {
        if self.paused {
            return None;
        }
        let at = self.at.unwrap_or(moment);
        let micros = moment.as_microsecond() - at.as_microsecond();
        let micros = u64::try_from(micros).unwrap_or_default();
        Some(Duration::from_micros(micros).div_f64(self.speed.0))
    }

    /// The moment has come.
    pub(super) fn reach(&mut self, moment: Timestamp) {
        self.at = Some(self.at.map_or(moment, |at| at.max(moment)));
    }

    /// So much time has gone by while it waited.
    pub(super) fn pass(&mut self, waited: Duration) {
        if let (false, Some(at)) = (self.paused, self.at) {
            self.at = at
                .checked_add(waited.mul_f64(self.speed.0))
                .ok()
                .or(self.at);
        }
    }

    pub(super) fn pause(&mut self) {
        self.paused = !self.paused;
    }

    pub(super) fn faster(&mut self) {
        self.speed = self.speed.times(2.0);
    }

    pub(super) fn slower(&mut self) {
        self.speed = self.speed.times(0.5);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).expect("a time")
    }

    #[test]
    fn time_goes_as_fast_as_one_wants() {
        let mut player = Player::new(Speed::parse("10").expect("a speed"), false);
        assert_eq!(player.until(at(5000)), Some(Duration::ZERO));
        player.reach(at(5000));
        assert_eq!(player.until(at(6000)), Some(Duration::from_millis(100)));
        player.pass(Duration::from_millis(40));
        assert_eq!(player.until(at(6000)), Some(Duration::from_millis(60)));
        player.slower();
        assert_eq!(player.until(at(6000)), Some(Duration::from_millis(120)));
        player.pause();
        player.pass(Duration::from_secs(9));
        assert_eq!(player.until(at(6000)), None);
        player.pause();
        assert_eq!(player.until(at(6000)), Some(Duration::from_millis(120)));
        player.reach(at(4000));
        assert_eq!(player.until(at(5000)), Some(Duration::ZERO));
    }

    #[test]
    fn there_is_no_speed_that_never_ends() {
        for text in ["0", "-1", "NaN", "inf", "x", "1e9"] {
            assert!(Speed::parse(text).is_err(), "{text}");
        }
    }
}
