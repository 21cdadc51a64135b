//! Tokens that may be shown once. No IO, no clock.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use super::{claims::LEEWAY, error::TokenError};

/// Tokens that are remembered, until they expire: some days of a busy runner. Full means no.
const MOST: usize = 16 * 1024;

/// What tells one token from all others.
#[derive(Debug)]
pub(super) struct Use {
    /// SHA-256 of what its issuer signed. With a `jti` or without one, no other token has this content.
    pub content: [u8; 32],
    pub issued: Option<Timestamp>,
    pub expires: Timestamp,
}

/// The tokens that were used, for as long as they are valid.
#[derive(Debug)]
pub struct UsedTokens {
    /// What was issued before may have been used before.
    since: Timestamp,
    used: Mutex<HashMap<[u8; 32], Timestamp>>,
}

impl UsedTokens {
    /// None yet, from this second on: issuers give times in whole seconds.
    pub(super) fn since(since: Timestamp) -> Self {
        Self {
            since: Timestamp::from_second(since.as_second()).unwrap_or(since),
            used: Mutex::default(),
        }
    }

    /// Uses a token up.
    pub(super) fn spend(&self, token: Use, now: Timestamp) -> Result<(), TokenError> {
        let refused = |why| Err(TokenError::Used(why));
        match token.issued {
            None => return refused("it does not say when it was issued (iat)"),
            Some(issued) if issued < self.since => {
                return refused(
                    "it was issued before the daemon was started, which cannot tell whether it was used already",
                );
            }
            Some(_) => {}
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.contains_key(&token.content) {
            return refused("it was used already");
        }
        if used.len() >= MOST {
            used.retain(|_, expires| now.duration_since(*expires) < LEEWAY);
        }
        if used.len() >= MOST {
            return refused("too many were used that have not expired yet");
        }
        used.insert(token.content, token.expires);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn token(content: u16, issued: Option<i64>) -> Use {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&content.to_be_bytes());
        Use {
            content: bytes,
            issued: issued.map(at),
            expires: at(1000),
        }
    }

    #[test]
    fn a_token_counts_once() {
        let used = UsedTokens::since(at(100));
        assert!(used.spend(token(1, Some(100)), at(200)).is_ok());
        assert!(used.spend(token(1, Some(100)), at(200)).is_err());
        assert!(used.spend(token(2, Some(100)), at(200)).is_ok());
    }

    #[test]
    fn a_token_of_the_daemon_before_does_not_count() {
        let used = UsedTokens::since(at(100));
        assert!(used.spend(token(1, Some(99)), at(200)).is_err());
        assert!(used.spend(token(1, None), at(200)).is_err());
    }

    #[test]
    fn full_means_no_until_some_have_expired() {
        let used = UsedTokens::since(at(100));
        for content in 0..u16::try_from(MOST).expect("small") {
            assert!(used.spend(token(content, Some(100)), at(200)).is_ok());
        }
        assert!(used.spend(token(u16::MAX, Some(100)), at(200)).is_err());
        assert!(used.spend(token(0, Some(100)), at(200)).is_err());
        assert!(used.spend(token(u16::MAX, Some(100)), at(1030)).is_ok());
    }
}
