//! What Holdpoint put into a request must not come back out of the answer, whatever policy says.

use std::sync::{Arc, Mutex, PoisonError};

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use memchr::{memchr_iter, memmem};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use zeroize::Zeroizing;

/// Credentials that are remembered: the one in use, and those before it that may still be valid.
const REMEMBERED: usize = 4;
/// All but what RFC 3986, section 2.3, leaves as it is.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// What is shorter is no credential, and would be found everywhere.
const SHORTEST: usize = 8;

/// The credentials that Holdpoint has put into requests.
#[derive(Default)]
pub struct Credentials(Mutex<Vec<(HeaderValue, Arc<Injected>)>>);

impl Credentials {
    /// Those that answers to a request with this `authorization` must not show.
    pub fn with(&self, authorization: &HeaderValue) -> Arc<Injected> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, injected)) = known.last()
            && last == authorization
        {
            return injected.clone();
        }
        known.retain(|(value, _)| value != authorization);
        if known.len() == REMEMBERED {
            known.remove(0);
        }
        let values = known.iter().map(|(value, _)| value);
        let all = Injected::new(values.chain([authorization]));
        known.push((authorization.clone(), Arc::new(all)));
        known[known.len() - 1].1.clone()
    }
}

/// Bytes to be found: a credential, plain and in the dresses that a reply may echo it in.
pub struct Injected(Vec<Needle>);

struct Needle {
    /// Has a copy of the bytes; the connections that send them have others.
    finder: memmem::Finder<'static>,
    /// What stands in its place, byte by byte: lengths that were announced stay right.
    instead: u8,
}

impl Injected {
    fn new<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Self {
        let mut needles: Vec<Needle> = Vec::new();
        let mut add = |bytes: Vec<u8>, instead| {
            let bytes = Zeroizing::new(bytes);
            let is_new = needles.iter().all(|known| known.finder.needle() != *bytes);
            if bytes.len() >= SHORTEST && is_new {
                let finder = memmem::Finder::new(&*bytes).into_owned();
                needles.push(Needle { finder, instead });
            }
        };
        for value in values {
            let value = value.as_bytes();
            let secret = value.splitn(2, |byte| *byte == b' ').last();
            let secret = secret.unwrap_or(value);
            add(secret.to_vec(), b'*');
            add(
                percent_encode(secret, RESERVED).to_string().into_bytes(),
                b'*',
            );
            let escaped = secret.split(|byte| *byte == b'/').collect::<Vec<_>>();
            add(escaped.join(&b"\\/"[..]), b'*');
            for before in 0..3 {
                add(inside_base64(secret, before, &BASE64_STANDARD), b'A');
                add(inside_base64(secret, before, &BASE64_URL_SAFE), b'A');
            }
        }
        Self(needles)
    }

    /// Whether one of them is in it.
    #[must_use]
    pub fn is_in(&self, text: &[u8]) -> bool {
        self.0
            .iter()
            .any(|needle| needle.finder.find(text).is_some())
    }

    /// Overwrites each of them; how many there were.
    pub fn blot_out(&self, text: &mut [u8]) -> usize {
        let mut count = 0;
        for needle in &self.0 {
            let mut from = 0;
            while let Some(at) = needle.finder.find(&text[from..]) {
                let end = from + at + needle.finder.needle().len();
                text[from + at..end].fill(needle.instead);
                from = end;
                count += 1;
            }
        }
        count
    }

    /// How many bytes at the end of `text` may be the beginning of one of them.
    fn open_end(&self, text: &[u8]) -> usize {
        let open = self.0.iter().filter_map(|needle| {
            let longest = (needle.finder.needle().len() - 1).min(text.len());
            let end = &text[text.len() - longest..];
            let first = *needle.finder.needle().first()?;
            memchr_iter(first, end)
                .find(|at| needle.finder.needle().starts_with(&end[*at..]))
                .map(|at| end.len() - at)
        });
        open.max().unwrap_or(0)
    }
}

/// The characters of base64 text that depend on nothing but `secret`, when `before` bytes (modulo 3) stand before it.
fn inside_base64(secret: &[u8], before: usize, alphabet: &impl base64::Engine) -> Vec<u8> {
    let padded = Zeroizing::new([&[0, 0][..before], secret].concat());
    let text = alphabet.encode(&*padded).into_bytes();
    let from = (before * 8).div_ceil(6);
    let to = padded.len() * 8 / 6;
    text.get(from..to).unwrap_or_default().to_vec()
}

/// Keeps what was injected out of a stream, in as few copies as can be: none, where there is nothing to keep out.
pub struct Guard {
    injected: Arc<Injected>,
    held: Bytes,
    /// How many were found.
    pub found: usize,
}

impl Guard {
    /// One that lets pass all but these.
    #[must_use]
    pub fn new(injected: Arc<Injected>) -> Self {
        Self {
            injected,
            held: Bytes::new(),
            found: 0,
        }
    }

    /// As much of the stream as can be told to be harmless, or has been made so.
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        let mut text = self.with_held(piece);
        if self.injected.is_in(&text) {
            let mut copy = BytesMut::from(&text[..]);
            self.found += self.injected.blot_out(&mut copy);
            text = copy.freeze();
        }
        let open = self.injected.open_end(&text);
        self.held = text.split_off(text.len() - open);
        text
    }

    /// What was held back.
    pub fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }

    /// Bytes that are held back.
    #[must_use]
    pub fn held_len(&self) -> u64 {
        self.held.len() as u64
    }

    fn with_held(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() {
            return piece;
        }
        let held = std::mem::take(&mut self.held);
        [held, piece].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use base64::Engine as _;

    use super::*;

    const TOKEN: &str = "ya29.c.Kq-0_fakeTOKENforTESTSonly/x";

    fn injected() -> Arc<Injected> {
        let value = format!("Bearer {TOKEN}").parse().expect("a header value");
        Credentials::default().with(&value)
    }

    fn through(text: &[u8], piece: usize) -> Vec<u8> {
        let mut guard = Guard::new(injected());
        let mut out = Vec::new();
        for piece in text.chunks(piece) {
            out.extend_from_slice(&guard.push(Bytes::copy_from_slice(piece)));
        }
        out.extend_from_slice(&guard.finish());
        out
    }

    #[test]
    fn what_has_nothing_in_it_is_not_copied() {
        let text = Bytes::from_static(b"{\"items\":[{\"name\":\"vm1\"}]}");
        let mut guard = Guard::new(injected());
        assert_eq!(guard.push(text.clone()).as_ptr(), text.as_ptr());
    }

    #[test]
    fn credentials_that_were_replaced_are_still_kept_out() {
        let known = Credentials::default();
        let value = |token: &str| format!("Bearer {token}").parse().expect("a header value");
        let _ = known.with(&value("the-first-token"));
        let both = known.with(&value("the-second-token"));
        assert!(both.is_in(b"x the-first-token x") && both.is_in(b"the-second-token"));
        assert!(!both.is_in(b"Bearer"));
    }

    proptest! {
        #[test]
        fn no_dress_gets_it_through(
            before in proptest::collection::vec(any::<u8>(), 0..40),
            after in proptest::collection::vec(any::<u8>(), 0..40),
            dress in 0..5,
            piece in 1..60_usize,
        ) {
            let plain = [&before[..], TOKEN.as_bytes(), &after[..]].concat();
            let text = match dress {
                0 => plain,
                1 => BASE64_STANDARD.encode(plain).into_bytes(),
                2 => BASE64_URL_SAFE.encode(plain).into_bytes(),
                3 => percent_encode(&plain, RESERVED).to_string().into_bytes(),
                _ => [&before[..], TOKEN.replace('/', "\\/").as_bytes(), &after[..]].concat(),
            };
            let out = through(&text, piece);
            prop_assert_eq!(out.len(), text.len());
            prop_assert!(!injected().is_in(&out));
            let decoded = match dress {
                1 => BASE64_STANDARD.decode(&out).unwrap_or_default(),
                2 => BASE64_URL_SAFE.decode(&out).unwrap_or_default(),
                3 => percent_encoding::percent_decode(&out).collect(),
                _ => out,
            };
            prop_assert!(memmem::find(&decoded, &TOKEN.as_bytes()[1..TOKEN.len() - 1]).is_none());
        }

        #[test]
        fn all_else_comes_out_as_it_went_in(text in "[ya29.\\-_/*A]{0,200}", piece in 1..60_usize) {
            let out = through(text.as_bytes(), piece);
            prop_assert_eq!(out, text.into_bytes());
        }
    }
}
