//! The index of a complete segment: a file that tells its sessions and their events, so that neither has to be kept in memory or
//! found anew at each start.
//!
//! SHA-256 of what follows up to the entries; the length of the header (32 bits, little endian); the header as JSON; a row for
//! each session; the entries as JSON. It is made from the events, and made anew when it is missing or damaged.

use std::{
    collections::BTreeMap,
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{chain::Link, event::OperationId, index::SessionSummary, layout, parts::OutcomeResult};
use crate::session::SessionId;

/// What was open when a segment ended: where the next one goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct OpenEnds {
    /// Sessions.
    pub(super) sessions: Vec<SessionId>,
    /// Holds and grants, and the events that say what they are.
    pub(super) standing: BTreeMap<String, Vec<u64>>,
    /// The events that say what was purged, and the first and last event of that.
    #[serde(default)]
    pub(super) purges: BTreeMap<u64, (u64, u64)>,
    /// Operations without an outcome.
    pub(super) unfinished: Vec<(OperationId, SessionId, OutcomeResult)>,
}

/// Of which events a segment is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Extent {
    /// The number of the first.
    pub(super) first: u64,
    /// When it was recorded.
    pub(super) from: Timestamp,
    /// What it follows from.
    pub(super) prev: Link,
    /// The number of the last.
    pub(super) last: u64,
    /// When it was recorded.
    pub(super) to: Timestamp,
    /// Of the last.
    pub(super) link: Link,
}

/// A session in a segment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// As of the segment's end.
    pub(super) summary: SessionSummary,
    /// Whether it was opened in this segment.
    pub(super) opened_here: bool,
    /// Its events in this segment: the number of the first, then the distances.
    #[serde(with = "distances")]
    pub(super) events: Vec<u64>,
}

/// All that is known of a segment's sessions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Contents {
    pub(super) extent: Extent,
    pub(super) open_ends: OpenEnds,
    /// Whether an operation was denied in it.
    pub(super) has_denials: bool,
    /// Those that were opened in it come in the order they were.
    pub(super) entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    v: u8,
    extent: Extent,
    open_ends: OpenEnds,
    /// Of a segment of before this was noted, it may be.
    #[serde(default = "yes")]
    has_denials: bool,
}

fn yes() -> bool {
    true
}

/// Where an entry is.
#[derive(Clone, Copy)]
struct Row {
    hash: u64,
    offset: u64,
    length: u32,
    check: u32,
}

const ROW: usize = 24;

/// An index. Its file is opened for every look: a record has as many as it has segments.
pub(super) struct Table {
    /// Whether an operation was denied in the segment.
    pub(super) has_denials: bool,
    path: PathBuf,
    rows: Vec<Row>,
    /// Places in `rows`, by hash.
    by_hash: Vec<u32>,
}

/// Writes the index of a segment.
///
/// # Errors
/// When the disk does not take it.
pub(super) fn write(dir: &Path, contents: &Contents) -> anyhow::Result<()> {
    let header = serde_json::to_vec(&Header {
        v: 1,
        extent: contents.extent.clone(),
        open_ends: contents.open_ends.clone(),
        has_denials: contents.has_denials,
    })?;
    let mut entries = Vec::new();
    let mut rows = Vec::with_capacity(contents.entries.len() * ROW);
    let start = 32 + 4 + header.len() + 4 + contents.entries.len() * ROW;
    for entry in &contents.entries {
        let at = entries.len();
        serde_json::to_writer(&mut entries, entry)?;
        let row = Row {
            hash: hash(&entry.summary.id),
            offset: (start + at) as u64,
            length: u32::try_from(entries.len() - at)?,
            check: check(&entries[at..]),
        };
        rows.extend_from_slice(&row.to_bytes());
    }
    let mut head = Vec::with_capacity(start);
    head.extend_from_slice(&u32::try_from(header.len())?.to_le_bytes());
    head.extend_from_slice(&header);
    head.extend_from_slice(&u32::try_from(contents.entries.len())?.to_le_bytes());
    head.extend_from_slice(&rows);
    let digest = Sha256::digest(&head);
    let all = [&digest[..], &head, &entries].concat();
    layout::put(&layout::index(dir, contents.extent.first), &all)?;
    Ok(())
}

/// Opens the index of a segment.
///
/// # Errors
/// When there is none that is whole.
pub(super) fn open(dir: &Path, first: u64) -> anyhow::Result<(Extent, OpenEnds, Table)> {
    let path = layout::index(dir, first);
    read(&path, first).with_context(|| format!("the index {} is unreadable", path.display()))
}

fn read(path: &Path, first: u64) -> anyhow::Result<(Extent, OpenEnds, Table)> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut hash = Sha256::new();
    let mut at = 32;
    let mut next = |length: usize| {
        ensure!(at + length as u64 <= size, "it is cut");
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at)?;
        at += length as u64;
        hash.update(&bytes);
        Ok(bytes)
    };
    let length = u32::from_le_bytes(next(4)?.try_into().expect("four bytes"));
    let header: Header = serde_json::from_slice(&next(usize::try_from(length)?)?)?;
    let count = u32::from_le_bytes(next(4)?.try_into().expect("four bytes"));
    let rows = next(usize::try_from(count)?.saturating_mul(ROW))?;
    let mut digest = [0; 32];
    file.read_exact_at(&mut digest, 0)?;
    ensure!(hash.finalize()[..] == digest, "it was altered");
    ensure!(header.extent.first == first, "it is of another segment");
    let rows: Vec<_> = rows
        .as_chunks::<ROW>()
        .0
        .iter()
        .map(Row::from_bytes)
        .collect();
    let mut by_hash: Vec<_> = (0..count).collect();
    by_hash.sort_by_key(|place| rows[*place as usize].hash);
    let table = Table {
        has_denials: header.has_denials,
        path: path.to_owned(),
        rows,
        by_hash,
    };
    Ok((header.extent, header.open_ends, table))
}

impl Table {
    /// What is known of a session.
    pub(super) fn find(&self, id: &SessionId) -> anyhow::Result<Option<Entry>> {
        let hash = hash(id);
        let start = self
            .by_hash
            .partition_point(|place| self.rows[*place as usize].hash < hash);
        let rows = self.by_hash[start..]
            .iter()
            .map(|place| self.rows[*place as usize]);
        for row in rows.take_while(|row| row.hash == hash) {
            let entry = entry(&File::open(&self.path)?, row)?;
            if entry.summary.id == *id {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// All sessions, those that were opened last first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = anyhow::Result<Entry>> {
        let (file, unreadable) = match File::open(&self.path) {
            Ok(file) => (Some(file), None),
            Err(error) => (None, Some(Err(error.into()))),
        };
        let rows = self.rows.iter().rev();
        let entries = file.map(|file| rows.map(move |row| entry(&file, *row)));
        unreadable.into_iter().chain(entries.into_iter().flatten())
    }
}

fn entry(file: &File, row: Row) -> anyhow::Result<Entry> {
    let mut bytes = vec![0; usize::try_from(row.length)?];
    file.read_exact_at(&mut bytes, row.offset)?;
    ensure!(check(&bytes) == row.check, "a session's entry was altered");
    Ok(serde_json::from_slice(&bytes)?)
}

impl Row {
    fn to_bytes(self) -> [u8; ROW] {
        let mut bytes = [0; ROW];
        bytes[..8].copy_from_slice(&self.hash.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.length.to_le_bytes());
        bytes[20..].copy_from_slice(&self.check.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; ROW]) -> Self {
        let word =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let half =
            |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        Self {
            hash: word(0),
            offset: word(8),
            length: half(16),
            check: half(20),
        }
    }
}

fn hash(id: &SessionId) -> u64 {
    let digest = Sha256::digest(id.as_str());
    u64::from_le_bytes(digest[..8].try_into().expect("eight bytes"))
}

fn check(bytes: &[u8]) -> u32 {
    let digest = Sha256::digest(bytes);
    u32::from_le_bytes(digest[..4].try_into().expect("four bytes"))
}

/// Numbers that grow, as the first one and the distances.
mod distances {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(numbers: &[u64], to: S) -> Result<S::Ok, S::Error> {
        let mut last = 0;
        to.collect_seq(numbers.iter().map(|number| {
            let distance = number - last;
            last = *number;
            distance
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
        let mut numbers = Vec::<u64>::deserialize(from)?;
        let mut last = 0_u64;
        for number in &mut numbers {
            last = last
                .checked_add(*number)
                .ok_or_else(|| D::Error::custom("numbers that are too large"))?;
            *number = last;
        }
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests;
