//! A record as lines: each the stored bytes of an event, or what is left of one. An export is a file of them.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read as _},
    path::Path,
};

use anyhow::{Context as _, ensure};
use holdpoint_core::merkle::Node;
use serde_json::json;

/// Bytes of a line at most. An event has 128 KiB at most.
const LONGEST: u64 = 1024 * 1024;

/// The lines of a record, first to last, without their newlines.
pub type Lines = Box<dyn Iterator<Item = anyhow::Result<Vec<u8>>>>;

/// The lines of an export; of standard input for `-`.
///
/// # Errors
/// When it cannot be opened.
pub fn of_export(file: &Path) -> anyhow::Result<Lines> {
    if file == Path::new("-") {
        return Ok(Box::new(of(BufReader::new(io::stdin()))));
    }
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    Ok(Box::new(of(BufReader::with_capacity(256 * 1024, opened))))
}

/// What stands in place of an event of which retention has left the link.
#[must_use]
pub fn purged(seq: u64, link: Node) -> Vec<u8> {
    json!({"seq": seq, "purged": link}).to_string().into_bytes()
}

fn of(mut reader: impl BufRead) -> impl Iterator<Item = anyhow::Result<Vec<u8>>> {
    std::iter::from_fn(move || next(&mut reader).transpose())
}

fn next(reader: &mut impl BufRead) -> anyhow::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader
        .take(LONGEST)
        .read_until(b'\n', &mut line)
        .context("cannot read on")?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(last) => {
            line.push(last);
            ensure!(
                (line.len() as u64) < LONGEST,
                "a line is longer than {LONGEST} bytes: this is no export of a record"
            );
            Ok(Some(line))
        }
    }
}
