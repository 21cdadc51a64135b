//! What is in shipped objects: lines, compressed.

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::name::{Kind, Name};
use crate::record::{BodyId, BodyRecord, KeptBody, Salt};

/// zstd's usual level.
const LEVEL: i32 = 3;

/// Consecutive events, the first of which has the number `first`, as an object.
pub(super) fn events(first: u64, lines: &[Vec<u8>]) -> anyhow::Result<(Name, Bytes)> {
    let size = lines.iter().map(|line| line.len() + 1).sum();
    let mut text = Vec::with_capacity(size);
    for line in lines {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    object(Kind::Events, first, first + lines.len() as u64 - 1, &text)
}

fn object(kind: Kind, first: u64, last: u64, text: &[u8]) -> anyhow::Result<(Name, Bytes)> {
    let bytes = zstd::bulk::compress(text, LEVEL).context("cannot compress")?;
    Ok((Name::of(kind, first, last, &bytes), bytes.into()))
}

/// A stored body, on a line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BodyLine {
    /// The number of the event that tells of it.
    seq: u64,
    /// In hexadecimal.
    salt: String,
    /// In base64.
    body: String,
}

/// Bodies that are to be an object.
#[derive(Default)]
pub(super) struct BodyPack {
    text: Vec<u8>,
    span: Option<(u64, u64)>,
}

impl BodyPack {
    pub(super) fn add(&mut self, seq: u64, body: &KeptBody) -> anyhow::Result<()> {
        let line = BodyLine {
            seq,
            salt: hex::encode(body.salt.0),
            body: BASE64_STANDARD.encode(&body.bytes),
        };
        serde_json::to_writer(&mut self.text, &line)?;
        self.text.push(b'\n');
        let (first, _) = self.span.unwrap_or((seq, seq));
        self.span = Some((first, seq));
        Ok(())
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> usize {
        self.text.len()
    }

    /// The object, unless there is nothing in it; the next one begins.
    pub(super) fn take(&mut self) -> anyhow::Result<Option<(Name, Bytes)>> {
        let Self { text, span } = std::mem::take(self);
        let packed = span.map(|(first, last)| object(Kind::Bodies, first, last, &text));
        packed.transpose()
    }
}

/// The body on such a line, and the number of the event that tells of it.
pub(super) fn body(line: &[u8]) -> anyhow::Result<(u64, KeptBody)> {
    let BodyLine { seq, salt, body } = serde_json::from_slice(line)?;
    let mut bytes = [0; 16];
    hex::decode_to_slice(salt, &mut bytes)?;
    let salt = Salt(bytes);
    let bytes = BASE64_STANDARD.decode(body)?;
    Ok((seq, KeptBody { salt, bytes }))
}

/// Where the body is stored that this event tells of, if it does.
pub(super) fn told_of(event: &[u8]) -> Option<BodyId> {
    #[derive(Deserialize)]
    struct Told {
        body: BodyRecord,
    }
    const KIND: &[u8] = br#""event":"body""#;
    // Most events are something else: their bytes are not read a second time.
    if !event.windows(KIND.len()).any(|it| it == KIND) {
        return None;
    }
    let told: Told = serde_json::from_slice(event).ok()?;
    told.body.kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bodies_are_read_as_they_were_packed(seq: u64, salt: [u8; 16], bytes: Vec<u8>) {
            let kept = KeptBody { salt: Salt(salt), bytes };
            let mut pack = BodyPack::default();
            prop_assert!(pack.take().expect("packs").is_none());
            pack.add(seq, &kept).expect("packs");
            let line = pack.text.strip_suffix(b"\n").expect("a line").to_vec();
            prop_assert_eq!(body(&line).expect("reads"), (seq, kept));
            let (name, _) = pack.take().expect("packs").expect("some");
            prop_assert_eq!((name.first, name.last), (seq, seq));
        }

        #[test]
        fn any_bytes_are_a_body_or_not(line: Vec<u8>) {
            let _ = body(&line);
            let _ = told_of(&line);
        }
    }
}
