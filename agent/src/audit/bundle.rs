//! A proof in a file of its own: that one event is in the record, or that one checkpoint goes on from another. Whoever checks it needs the
//! public key and nothing else.

use anyhow::{Context as _, ensure};
use holdpoint_core::{
    checkpoint::{Checkpoint, note::Verifier},
    digest::Digest,
    merkle::{Collector, Node, Proof, verify_consistency, verify_inclusion},
};
use serde::{Deserialize, Serialize};

use super::{
    check::{self, Checker},
    lines::Lines,
};

/// Bytes of a proof at most.
pub const LONGEST: u64 = 4 * 1024 * 1024;

/// A proof, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "proof", rename_all = "snake_case", deny_unknown_fields)]
pub enum Bundle {
    /// That an event is in the record.
    Inclusion {
        /// Its number.
        seq: u64,
        /// The bytes that were stored; where retention has removed them, what is left.
        event: String,
        /// RFC 6962, 2.1.1.
        hashes: Proof,
        /// The note.
        checkpoint: String,
        /// For a `hold`: the file with all that was asked, whose digest it has.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        request: Option<String>,
    },
    /// That the record only grew between two checkpoints.
    Consistency {
        /// The older note.
        old: String,
        /// The newer note.
        new: String,
        /// RFC 6962, 2.1.2.
        hashes: Proof,
    },
}

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "proved", rename_all = "snake_case")]
pub enum Proved {
    /// That an event is in the record.
    Inclusion {
        /// Its number.
        seq: u64,
        /// Its bytes.
        event: String,
        /// How many events there were when it was signed.
        of: u64,
        /// What was asked, to the letter.
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<String>,
    },
    /// That the record only grew.
    Consistency {
        /// From this many events.
        old: u64,
        /// To this many.
        new: u64,
    },
}

impl Bundle {
    /// Proves that event `seq` is in this record, by this checkpoint of it.
    ///
    /// # Errors
    /// When it is not, the record is not what the checkpoint says, or cannot be read.
    pub fn of_event(
        seq: u64,
        request: Option<String>,
        (checkpoint, note): (Checkpoint, String),
        lines: Lines,
    ) -> anyhow::Result<Self> {
        let index = seq.checked_sub(1).context("events are numbered from 1")?;
        let collector = Collector::inclusion(index, checkpoint.size).with_context(|| {
            format!("event {seq} is younger than the newest checkpoint; `holdpoint audit checkpoint` makes another")
        })?;
        let mut event = None;
        let keep = |place, line: &[u8]| {
            if place == seq {
                event = Some(String::from_utf8_lossy(line).into_owned());
            }
        };
        let hashes = collect(collector, &checkpoint, lines, keep)?;
        Ok(Self::Inclusion {
            seq,
            event: event.context("the event is not there")?,
            hashes,
            checkpoint: note,
            request,
        })
    }

    /// Proves by this record that it only grew from one checkpoint to the other.
    ///
    /// # Errors
    /// When it did not, is not what they say, or cannot be read.
    pub fn of_growth(
        (old, old_note): (Checkpoint, String),
        (new, new_note): (Checkpoint, String),
        lines: Lines,
    ) -> anyhow::Result<Self> {
        let collector = Collector::consistency(old.size, new.size)?;
        let hashes = collect(collector, &new, lines, |_, _| {})?;
        let proved = verify_consistency((old.size, old.root), (new.size, new.root), &hashes);
        ensure!(
            proved,
            "the record did not grow from the older checkpoint to the newer: events up to {} were changed in between",
            old.size
        );
        Ok(Self::Consistency {
            old: old_note,
            new: new_note,
            hashes,
        })
    }

    /// Checks it.
    ///
    /// # Errors
    /// When it proves nothing.
    pub fn verify(&self, key: &Verifier) -> anyhow::Result<Proved> {
        let open = |note| Checkpoint::open(note, key).context("its checkpoint does not count");
        match self {
            Self::Inclusion {
                seq,
                event,
                hashes,
                checkpoint,
                request,
            } => {
                let at = open(checkpoint)?;
                let leaf = check::link_of(event.as_bytes()).context("there is no event in it")?;
                let index = seq.checked_sub(1).context("events are numbered from 1")?;
                ensure!(
                    verify_inclusion(index, at.size, leaf, hashes, at.root),
                    "event {seq} is not in the record that the checkpoint was signed for, or was altered"
                );
                let asked = request.as_ref();
                ensure!(
                    asked.is_none_or(|it| asks_for(event).is_some_and(|asks| asks == of_request(it))),
                    "the request is not the one that event {seq} asked people about, or was altered"
                );
                Ok(Proved::Inclusion {
                    seq: *seq,
                    event: event.clone(),
                    of: at.size,
                    request: request.clone(),
                })
            }
            Self::Consistency { old, new, hashes } => {
                let (old, new) = (open(old)?, open(new)?);
                ensure!(
                    verify_consistency((old.size, old.root), (new.size, new.root), hashes),
                    "the newer checkpoint is not of a record that goes on from the older one"
                );
                Ok(Proved::Consistency {
                    old: old.size,
                    new: new.size,
                })
            }
        }
    }
}

/// The digest that a `hold` event has of all that is asked.
fn asks_for(event: &str) -> Option<Digest> {
    #[derive(Deserialize)]
    struct Hold {
        event: String,
        kept: Option<Digest>,
    }
    let hold: Hold = serde_json::from_str(event).ok()?;
    hold.kept.filter(|_| hold.event == "hold")
}

/// As [`crate::approvals`] makes it of its file.
fn of_request(file: &str) -> Digest {
    Digest::of(&[file.as_bytes()])
}

/// The proof from all events up to a checkpoint, which they have to agree with; `keep` sees each.
fn collect(
    mut collector: Collector,
    checkpoint: &Checkpoint,
    lines: Lines,
    mut keep: impl FnMut(u64, &[u8]),
) -> anyhow::Result<Vec<Node>> {
    let promise = check::Promise {
        checkpoint: checkpoint.clone(),
        elsewhere: false,
    };
    let mut checker = Checker::new(vec![promise], None);
    for line in lines.take(usize::try_from(checkpoint.size)?) {
        let line = line?;
        collector.push(checker.push(&line)?);
        keep(checker.size(), &line);
    }
    Ok(collector.finish()?)
}
