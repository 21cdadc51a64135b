//! When an issuer's keys are fetched, and for how long they count. No IO, no clock.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use jsonwebtoken::Algorithm;

use super::keys::Keys;

/// After this long keys are fetched anew, so that a withdrawn key stops counting.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// For this long keys count when the issuer cannot be asked: long enough for a restart of it. An issuer that is away for
/// longer issues no tokens either, and a withdrawn key must not live on because somebody keeps us from asking.
const USABLE: Duration = Duration::from_secs(60 * 60);
/// Keys are fetched this often within [`WINDOW`] at most, however many tokens with unknown keys arrive. More than once, because
/// an issuer may rotate its keys right after they were fetched.
const MOST_FETCHES: usize = 4;
const WINDOW: Duration = Duration::from_secs(120);

/// What is known of an issuer's keys.
#[derive(Debug, Default)]
pub(super) struct Cache {
    keys: Option<(Keys, Instant)>,
    /// The oldest first.
    attempts: VecDeque<Instant>,
    failure: Option<String>,
}

impl Cache {
    /// Whether the keys should be fetched before `id` is looked up: it is unknown, or known for too long.
    pub(super) fn wants_fetch(&self, id: Option<&str>, algorithm: Algorithm, now: Instant) -> bool {
        let satisfied = self.keys.as_ref().is_some_and(|(keys, fetched_at)| {
            now.duration_since(*fetched_at) < FRESH && keys.find(id, algorithm).is_some()
        });
        !satisfied && self.pause(now).is_none()
    }

    /// How long no fetch is attempted.
    pub(super) fn pause(&self, now: Instant) -> Option<Duration> {
        let oldest = *self.attempts.iter().rev().nth(MOST_FETCHES - 1)?;
        WINDOW
            .checked_sub(now.duration_since(oldest))
            .filter(|rest| !rest.is_zero())
    }

    /// Notes that a fetch begins.
    pub(super) fn attempt(&mut self, now: Instant) {
        self.attempts.push_back(now);
        if self.attempts.len() > MOST_FETCHES {
            self.attempts.pop_front();
        }
    }

    /// Notes what came of it.
    pub(super) fn take(&mut self, outcome: Result<Keys, String>, now: Instant) {
        match outcome {
            Ok(keys) => {
                self.keys = Some((keys, now));
                self.failure = None;
            }
            Err(cause) => self.failure = Some(cause),
        }
    }

    /// The keys that count, or why there are none.
    pub(super) fn usable(&self, now: Instant) -> Result<&Keys, String> {
        match &self.keys {
            Some((keys, fetched_at)) if now.duration_since(*fetched_at) < USABLE => Ok(keys),
            _ => Err(self.failure.clone().unwrap_or_else(|| {
                "an attempt to fetch them was broken off, try again".to_owned()
            })),
        }
    }

    /// Lets time pass.
    #[cfg(test)]
    pub(super) fn elapse(&mut self, time: Duration) {
        let fetched_at = self.keys.as_mut().map(|(_, fetched_at)| fetched_at);
        for instant in fetched_at.into_iter().chain(&mut self.attempts) {
            *instant = instant.checked_sub(time).expect("an Instant that early");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some_keys() -> Keys {
        let json = br#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a"}]}"#;
        Keys::parse(json).expect("a JWK set")
    }

    #[test]
    fn keys_are_fetched_when_needed_and_not_more_often() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let wants = |cache: &Cache, id, now| cache.wants_fetch(Some(id), Algorithm::EdDSA, now);

        let mut cache = Cache::default();
        assert!(wants(&cache, "a", at(0)), "nothing is known");
        cache.attempt(at(0));
        cache.take(Ok(some_keys()), at(0));
        assert!(!wants(&cache, "a", at(1)), "known");
        assert!(
            wants(&cache, "b", at(1)),
            "unknown: the issuer may have rotated its keys"
        );
        for second in 1..4 {
            cache.attempt(at(second));
            cache.take(Ok(some_keys()), at(second));
        }
        assert!(!wants(&cache, "b", at(4)), "asked often enough");
        assert!(wants(&cache, "b", at(120)), "the first attempt is long ago");
        let (keys, _) = cache.keys.take().expect("taken above");
        cache.keys = Some((keys, at(0)));
        assert!(!wants(&cache, "a", at(899)));
        assert!(
            wants(&cache, "a", at(900)),
            "known for 15 minutes: it may be withdrawn"
        );
    }

    #[test]
    fn stale_keys_outlive_a_short_absence_of_the_issuer_only() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::default();
        cache.take(Ok(some_keys()), at(0));
        cache.take(Err("unreachable".to_owned()), at(3000));
        assert!(cache.usable(at(3599)).is_ok());
        assert_eq!(cache.usable(at(3600)).err().as_deref(), Some("unreachable"));
    }
}
