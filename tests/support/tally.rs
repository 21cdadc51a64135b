//! How attempts of a program in a session went: what `restless` writes down and tests add up.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// The file, in the program's directory, that says which session it is in.
pub const SESSION: &str = "session";
/// The file that tallies are written to, a line each.
pub const FILE: &str = "tally";

/// The file that makes the program begin.
#[must_use]
pub fn go(session: &str) -> String {
    format!("go-{session}")
}

/// Counts of attempts.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// By what was tried, and how it went.
    pub counts: BTreeMap<String, BTreeMap<String, u64>>,
    /// How long the longest refusal took, in microseconds.
    pub slowest_refusal_us: u64,
    /// What should have been refused, and was not.
    pub leaks: Vec<String>,
}

impl Tally {
    /// Counts one attempt.
    pub fn count(&mut self, what: &str, how: &str) {
        let counts = self.counts.entry(what.to_owned()).or_default();
        *counts.entry(how.to_owned()).or_default() += 1;
    }

    /// An attempt was refused after this time.
    pub fn refused_after(&mut self, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.slowest_refusal_us = self.slowest_refusal_us.max(time);
    }

    /// How often `what` went like `how`.
    #[must_use]
    pub fn how_often(&self, what: &str, how: &str) -> u64 {
        let counts = self.counts.get(what);
        counts
            .and_then(|counts| counts.get(how))
            .copied()
            .unwrap_or_default()
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        for (what, counts) in &other.counts {
            for (how, count) in counts {
                let own = self.counts.entry(what.clone()).or_default();
                *own.entry(how.clone()).or_default() += count;
            }
        }
        self.slowest_refusal_us = self.slowest_refusal_us.max(other.slowest_refusal_us);
        self.leaks.extend_from_slice(&other.leaks);
    }
}

/// Adds up what a program writes down, while it does.
#[derive(Debug)]
pub struct Follower {
    file: PathBuf,
    read: u64,
    sum: Tally,
}

impl Follower {
    /// Of the program whose directory this is, from its beginning.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        Self {
            file: dir.join(FILE),
            read: 0,
            sum: Tally::default(),
        }
    }

    /// All so far. A line that is not complete yet counts the next time.
    pub fn sum(&mut self) -> &Tally {
        let _nothing_yet = self.read_on();
        &self.sum
    }

    fn read_on(&mut self) -> io::Result<()> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut fresh = Vec::new();
        file.read_to_end(&mut fresh)?;
        for line in fresh.split_inclusive(|byte| *byte == b'\n') {
            if line.ends_with(b"\n") {
                self.read += line.len() as u64;
                // Of a program that was killed while it wrote, and then one that went on in the same line.
                if let Ok(tally) = serde_json::from_slice(line) {
                    self.sum.add(&tally);
                }
            }
        }
        Ok(())
    }
}
