//! When an access token is fetched, and for how long it is used. No IO, no clock.

use std::time::{Duration, Instant};

use http::HeaderValue;

/// A token that expires sooner than this is fetched anew: there is time for a few attempts.
const FETCH_BEFORE_EXPIRY: Duration = Duration::from_secs(5 * 60);
/// A token that expires sooner than this is not used: it might expire on its way.
const UNUSABLE_BEFORE_EXPIRY: Duration = Duration::from_secs(10);
/// A metadata server may hand out its old token until shortly before the end. It is asked again after this.
const PAUSE_AFTER_SHORT_TOKEN: Duration = Duration::from_secs(30);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// An access token as a source gives it.
pub(super) struct Token {
    pub authorization: HeaderValue,
    pub lifetime: Duration,
}

/// What to do for a caller who needs a token now.
pub(super) enum Plan {
    Use(HeaderValue),
    /// Fetch one. `old` is still valid.
    Fetch {
        old: Option<HeaderValue>,
    },
    Fail(String),
}

#[derive(Default)]
pub(super) struct Cache {
    token: Option<(HeaderValue, Instant)>,
    fetch_not_before: Option<Instant>,
    failures: u32,
    failure: String,
}

impl Cache {
    pub(super) fn plan(&self, now: Instant) -> Plan {
        let paused = self.fetch_not_before.is_some_and(|instant| now < instant);
        match (self.valid_for(FETCH_BEFORE_EXPIRY, now), self.valid(now)) {
            (Some(token), _) => Plan::Use(token),
            (None, Some(token)) if paused => Plan::Use(token),
            (None, None) if paused => Plan::Fail(self.failure.clone()),
            (None, old) => Plan::Fetch { old },
        }
    }

    /// Takes what came of a fetch that began at `asked_at`, and says which token is to be used.
    pub(super) fn settle(
        &mut self,
        outcome: Result<Token, String>,
        asked_at: Instant,
        now: Instant,
    ) -> Result<HeaderValue, String> {
        match outcome {
            Ok(token) => {
                self.token = Some((token.authorization, asked_at + token.lifetime));
                self.failures = 0;
                self.failure = "the token it gave has expired already".to_owned();
                self.fetch_not_before = Some(now + PAUSE_AFTER_SHORT_TOKEN);
            }
            Err(cause) => {
                let backoff = Duration::from_secs(1) * 2_u32.pow(self.failures.min(6));
                self.failures = self.failures.saturating_add(1);
                self.failure = cause;
                self.fetch_not_before = Some(now + backoff.min(LONGEST_BACKOFF));
            }
        }
        self.valid(now).ok_or_else(|| self.failure.clone())
    }

    /// Ends the pause.
    #[cfg(test)]
    pub(super) fn allow_fetch(&mut self) {
        self.fetch_not_before = None;
    }

    fn valid(&self, now: Instant) -> Option<HeaderValue> {
        self.valid_for(UNUSABLE_BEFORE_EXPIRY, now)
    }

    fn valid_for(&self, time: Duration, now: Instant) -> Option<HeaderValue> {
        let (token, expires_at) = self.token.as_ref()?;
        (now + time < *expires_at).then(|| token.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(name: &'static str, seconds: u64) -> Result<Token, String> {
        Ok(Token {
            authorization: HeaderValue::from_static(name),
            lifetime: Duration::from_secs(seconds),
        })
    }

    fn failure() -> Result<Token, String> {
        Err("unreachable".to_owned())
    }

    /// What the plan at `now` is, in short.
    fn plan(cache: &Cache, now: Instant) -> String {
        let text = |token: &HeaderValue| token.to_str().expect("text").to_owned();
        match cache.plan(now) {
            Plan::Use(token) => text(&token),
            Plan::Fetch { old: Some(old) } => format!("fetch, have {}", text(&old)),
            Plan::Fetch { old: None } => "fetch".to_owned(),
            Plan::Fail(cause) => format!("fail: {cause}"),
        }
    }

    #[test]
    fn a_token_is_renewed_5_minutes_before_it_expires() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::default();
        assert_eq!(plan(&cache, at(0)), "fetch");
        cache.settle(token("a", 3600), at(0), at(1)).expect("valid");
        assert_eq!(plan(&cache, at(3299)), "a");
        assert_eq!(plan(&cache, at(3300)), "fetch, have a");
        cache
            .settle(token("b", 3600), at(3300), at(3301))
            .expect("valid");
        assert_eq!(plan(&cache, at(3302)), "b");
    }

    #[test]
    fn the_old_token_serves_while_it_is_valid_and_fetching_fails() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::default();
        cache.settle(token("a", 3600), at(0), at(0)).expect("valid");
        assert_eq!(
            cache.settle(failure(), at(3300), at(3300)).expect("old"),
            "a"
        );
        assert_eq!(plan(&cache, at(3300)), "a");
        assert_eq!(plan(&cache, at(3301)), "fetch, have a");
        cache.settle(failure(), at(3301), at(3301)).expect("old");
        assert_eq!(plan(&cache, at(3302)), "a", "the pause doubles");
        assert_eq!(plan(&cache, at(3303)), "fetch, have a");
        let outcome = cache.settle(failure(), at(3590), at(3590));
        assert_eq!(outcome.expect_err("expires in 10 s"), "unreachable");
        assert_eq!(plan(&cache, at(3590)), "fail: unreachable");
        assert_eq!(plan(&cache, at(3600)), "fetch");
    }

    #[test]
    fn backoff_is_bounded() {
        let start = Instant::now();
        let mut cache = Cache::default();
        for _ in 0..1000 {
            cache
                .settle(failure(), start, start)
                .expect_err("nothing to use");
        }
        assert_eq!(
            plan(&cache, start + Duration::from_secs(59)),
            "fail: unreachable"
        );
        assert_eq!(plan(&cache, start + Duration::from_secs(60)), "fetch");
    }

    #[test]
    fn short_tokens_are_used_and_not_asked_for_all_the_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut cache = Cache::default();
        cache.settle(token("a", 250), at(0), at(0)).expect("valid");
        assert_eq!(plan(&cache, at(29)), "a");
        assert_eq!(plan(&cache, at(30)), "fetch, have a");
        cache
            .settle(token("b", 5), at(30), at(30))
            .expect_err("of no use");
        assert_eq!(
            plan(&cache, at(31)),
            "fail: the token it gave has expired already"
        );
    }
}
