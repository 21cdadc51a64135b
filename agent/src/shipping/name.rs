//! What shipped objects are called. Names tell what is in them, so that a listing tells what is there, and two objects of one name are the
//! same: nothing ever has to be written over.

use std::fmt;

use holdpoint_core::checkpoint::note::Verifier;
use sha2::{Digest as _, Sha256};

/// The public key.
pub(super) const KEY: &str = "record.vkey";

/// What an object has in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Events: lines of an export.
    Events,
    /// Bodies: JSON lines.
    Bodies,
    /// One signed checkpoint.
    Checkpoint,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Events, Self::Bodies, Self::Checkpoint];

    /// The directory they are in.
    pub(super) fn directory(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Bodies => "bodies",
            Self::Checkpoint => "checkpoints",
        }
    }

    fn ending(self) -> &'static str {
        match self {
            Self::Events | Self::Bodies => "ndjson.zst",
            Self::Checkpoint => "note",
        }
    }
}

/// An object: `DIRECTORY/FIRST-LAST-SHA256.ENDING`. The numbers have 20 digits, so that names are in the order of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) kind: Kind,
    /// The number of the first event in it, or that has a body in it; of a checkpoint, 1.
    pub(super) first: u64,
    /// The number of the last event; of a checkpoint, how many it is signed for.
    pub(super) last: u64,
    /// The SHA-256 of the object's bytes.
    pub(super) digest: [u8; 32],
}

impl Name {
    pub(super) fn of(kind: Kind, first: u64, last: u64, bytes: &[u8]) -> Self {
        let digest = Sha256::digest(bytes).into();
        Self {
            kind,
            first,
            last,
            digest,
        }
    }

    /// What its file in the directory is called; none if it is not one of ours.
    pub(super) fn parse(kind: Kind, file: &str) -> Option<Self> {
        let rest = file.strip_suffix(kind.ending())?.strip_suffix('.')?;
        let mut parts = rest.splitn(3, '-');
        let mut number = || {
            let text = parts.next()?;
            let is_number = text.len() == 20 && text.bytes().all(|it| it.is_ascii_digit());
            is_number.then(|| text.parse().ok())?
        };
        let (first, last) = (number()?, number()?);
        let mut digest = [0; 32];
        hex::decode_to_slice(parts.next()?, &mut digest).ok()?;
        let name = Self {
            kind,
            first,
            last,
            digest,
        };
        // One spelling only.
        (first >= 1 && first <= last && name.file() == file).then_some(name)
    }

    /// What its file in the directory of its kind is called.
    pub(super) fn file(&self) -> String {
        let Self { first, last, .. } = self;
        let digest = hex::encode(self.digest);
        format!("{first:020}-{last:020}-{digest}.{}", self.kind.ending())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.directory(), self.file())
    }
}

/// The directory of a log, which is called like its key: many hosts may ship to one place.
pub(super) fn log(key: &Verifier) -> String {
    let text = key.to_string();
    let digest = hex::encode(&Sha256::digest(&text)[..8]);
    let name = key.name().to_string();
    let plain: String = name
        .chars()
        .map(|it| match it.is_ascii_alphanumeric() || it == '-' {
            true => it,
            false => '_',
        })
        .collect();
    format!("{plain}-{digest}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_name_is_read_as_it_was_written(first in 1_u64.., more: u32, bytes: Vec<u8>, kind in 0..3_usize) {
            let name = Name::of(Kind::ALL[kind], first, first.saturating_add(more.into()), &bytes);
            prop_assert_eq!(Name::parse(name.kind, &name.file()), Some(name));
        }

        #[test]
        fn any_text_is_a_name_or_not(text in "[-0-9a-f.]{0,40}(ndjson.zst|note)?") {
            for kind in Kind::ALL {
                let _ = Name::parse(kind, &text);
            }
        }
    }

    #[test]
    fn names_are_in_the_order_of_the_events() {
        let name = |first| Name::of(Kind::Events, first, first + 8, b"x").to_string();
        assert!(name(9) < name(10) && name(999) < name(10_000));
        assert!(name(9).starts_with("events/00000000000000000009-00000000000000000017-"));
        let backwards = name(9).replace("000009-", "000019-");
        assert_eq!(Name::parse(Kind::Events, &backwards), None);
    }
}
