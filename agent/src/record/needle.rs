//! What is looked for in bodies: a text, or a secret of which only sums are known.

use std::{fmt, str::FromStr};

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Bytes of a secret at least: what is shorter is everywhere, and could be guessed from its sums.
pub const SHORTEST_SECRET: usize = 8;
/// Bytes of a secret at most.
pub const LONGEST_SECRET: usize = 64 * 1024;

/// What is looked for.
#[derive(Clone, Debug)]
pub enum Needle {
    /// This text.
    Text(Box<Finder<'static>>, Box<Finder<'static>>),
    /// A text with these sums, or a mask token of it.
    Secret(SecretSums, Box<Finder<'static>>),
}

impl Needle {
    /// A text, as it is and as JSON spells it.
    #[must_use]
    pub fn text(text: &str) -> Self {
        let json = serde_json::to_string(text).unwrap_or_default();
        let escaped = json.trim_matches('"').to_owned();
        let finder = |text: &str| Box::new(Finder::new(text).into_owned());
        Self::Text(finder(text), finder(&escaped))
    }

    /// A secret: itself, or what stands for it where it was masked with `mode = "hash"`. `token_end` tells from its SHA-256 how that ends.
    #[must_use]
    pub fn secret(sums: SecretSums, token_end: impl Fn(&[u8; 32]) -> String) -> Self {
        let end = token_end(&sums.sha256);
        Self::Secret(sums, Box::new(Finder::new(&end).into_owned()))
    }

    /// Whether it is in these bytes.
    #[must_use]
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Text(plain, _) => plain.find(bytes).is_some(),
            Self::Secret(sums, token) => sums.are_in(bytes) || token.find(bytes).is_some(),
        }
    }

    /// Whether it is in an event's JSON.
    #[must_use]
    pub fn is_in_event(&self, json: &[u8]) -> bool {
        match self {
            Self::Text(_, escaped) => escaped.find(json).is_some(),
            Self::Secret(sums, token) => sums.are_in(json) || token.find(json).is_some(),
        }
    }
}

/// Sums of a secret: enough to find it in a text, too little to know it. The polynomial one (Rabin and Karp's, modulo 2^61 - 1, at a
/// random place) finds where it might be in one pass; SHA-256 says whether it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretSums {
    length: usize,
    base: u64,
    rolling: u64,
    sha256: [u8; 32],
}

/// Why there are no sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSums {
    /// Its length.
    #[error(
        "a secret to look for has {SHORTEST_SECRET} to {LONGEST_SECRET} bytes: what is shorter is everywhere, and could be guessed"
    )]
    Length,
    /// The text.
    #[error("these are no sums of a secret: LENGTH.BASE.SUM.SHA256")]
    Text,
}

const MODULUS: u64 = (1 << 61) - 1;

/// Modulo a Mersenne prime, what is above its bits counts again from below.
fn times(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let low = u64::try_from(product & u128::from(MODULUS)).expect("61 bits");
    let high = u64::try_from(product >> 61).expect("the factors have 61 bits");
    (low + high) % MODULUS
}

impl SecretSums {
    /// Of this secret, at a random place.
    ///
    /// # Errors
    /// When it is too short or too long.
    ///
    /// # Panics
    /// When the kernel gives no random bytes.
    pub fn of(secret: &[u8]) -> Result<Self, NoSums> {
        if !(SHORTEST_SECRET..=LONGEST_SECRET).contains(&secret.len()) {
            return Err(NoSums::Length);
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the kernel gives random bytes");
        let base = u64::from_le_bytes(random) % (MODULUS - 256) + 256;
        Ok(Self {
            length: secret.len(),
            base,
            rolling: secret.iter().fold(0, |sum, byte| next(sum, base, *byte)),
            sha256: Sha256::digest(secret).into(),
        })
    }

    fn are_in(&self, bytes: &[u8]) -> bool {
        if bytes.len() < self.length {
            return false;
        }
        // What the byte that leaves the window has grown to.
        let top = (0..self.length).fold(1, |power, _| times(power, self.base));
        let mut sum = 0;
        for (at, byte) in bytes.iter().enumerate() {
            sum = next(sum, self.base, *byte);
            if let Some(left) = at.checked_sub(self.length) {
                let gone = times(top, u64::from(bytes[left]) + 1);
                sum = (sum + MODULUS - gone) % MODULUS;
            }
            let Some(start) = (at + 1).checked_sub(self.length) else {
                continue;
            };
            if sum == self.rolling && Sha256::digest(&bytes[start..=at])[..] == self.sha256 {
                return true;
            }
        }
        false
    }
}

fn next(sum: u64, base: u64, byte: u8) -> u64 {
    (times(sum, base) + u64::from(byte) + 1) % MODULUS
}

impl fmt::Debug for SecretSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretSums(of {} bytes)", self.length)
    }
}

impl fmt::Display for SecretSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sha256 = hex::encode(self.sha256);
        write!(f, "{}.{}.{}.{sha256}", self.length, self.base, self.rolling)
    }
}

impl FromStr for SecretSums {
    type Err = NoSums;

    fn from_str(text: &str) -> Result<Self, NoSums> {
        let parts: Vec<_> = text.split('.').collect();
        let [length, base, rolling, sha256] = parts[..] else {
            return Err(NoSums::Text);
        };
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoSums::Text);
        let length = length.parse().map_err(|_| NoSums::Text)?;
        if !(SHORTEST_SECRET..=LONGEST_SECRET).contains(&length) {
            return Err(NoSums::Length);
        }
        let mut digest = [0; 32];
        hex::decode_to_slice(sha256, &mut digest).map_err(|_| NoSums::Text)?;
        let (base, rolling) = (number(base)?, number(rolling)?);
        if base >= MODULUS || rolling >= MODULUS {
            return Err(NoSums::Text);
        }
        Ok(Self {
            length,
            base,
            rolling,
            sha256: digest,
        })
    }
}

impl Serialize for SecretSums {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretSums {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_secret_is_found_wherever_it_is_and_nothing_else(
            secret in prop::collection::vec(any::<u8>(), 8..40),
            before in prop::collection::vec(any::<u8>(), 0..60),
            after in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let sums = SecretSums::of(&secret).expect("long enough");
            let sums: SecretSums = sums.to_string().parse().expect("sums");
            let text = [&before[..], &secret, &after].concat();
            prop_assert!(sums.are_in(&text));
            let rest = [&before[..], &secret[1..], &after].concat();
            let is_there = rest.windows(secret.len()).any(|it| it == secret);
            prop_assert_eq!(sums.are_in(&rest), is_there);
        }

        #[test]
        fn products_are_right(a in 0..MODULUS, b in 0..MODULUS) {
            let product = u128::from(a) * u128::from(b) % u128::from(MODULUS);
            prop_assert_eq!(u128::from(times(a, b)), product);
        }

        #[test]
        fn sums_are_read_or_refused(text in "[0-9.]{0,30}[0-9a-f]{0,70}") {
            if let Ok(sums) = text.parse::<SecretSums>() {
                let _ = sums.are_in(b"some bytes of no matter");
            }
        }
    }

    #[test]
    fn sums_do_not_show_the_secret_and_short_ones_have_none() {
        let secret = b"hunter2hunter2";
        let sums = SecretSums::of(secret).expect("long enough");
        assert!(!format!("{sums} {sums:?}").contains("hunter2"));
        assert_eq!(SecretSums::of(b"short"), Err(NoSums::Length));
    }

    #[test]
    fn text_is_found_in_bodies_and_in_json() {
        let needle = Needle::text("say \"hi\"");
        assert!(needle.is_in(b"they say \"hi\""));
        assert!(needle.is_in_event(br#"{"x":"they say \"hi\""}"#));
        assert!(!needle.is_in(b"they say hi"));
    }
}
