//! `[record]`: how the record is kept.

use std::time::Duration;

use serde::Deserialize;

use crate::record::Settings;

/// How the record is kept.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Record {
    /// When an operation that only reads may go on.
    pub reads: Reads,
    /// What becomes of operations while bodies cannot be stored.
    pub bodies: Bodies,
    /// Bytes of a body that are stored at most.
    pub body_bytes: usize,
    /// Bytes of events, and of stored bodies, after which another segment begins.
    pub segment_bytes: u64,
    /// Hours after which another segment begins.
    pub segment_hours: u32,
}

/// When an operation that only reads may go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// When its intent is written, so that it survives the end of the daemon; it is synced within 50 ms, along with others.
    #[default]
    Batched,
    /// When its intent is synced to disk, as of those that may change something.
    Synced,
}

/// What becomes of operations while bodies cannot be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bodies {
    /// They go on, and the record says of their bodies that they are not stored.
    #[default]
    BestEffort,
    /// They are refused.
    Required,
}

impl Default for Record {
    fn default() -> Self {
        let usual = Settings::default();
        Self {
            reads: Reads::default(),
            bodies: Bodies::default(),
            body_bytes: usual.body_bytes,
            segment_bytes: usual.segment_bytes,
            segment_hours: 24,
        }
    }
}

impl Record {
    /// For the record itself.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            body_bytes: self.body_bytes,
            bodies_required: self.bodies == Bodies::Required,
            reads_synced: self.reads == Reads::Synced,
            segment_bytes: self.segment_bytes,
            segment_age: Duration::from_secs(u64::from(self.segment_hours.max(1)) * 3600),
            ..Settings::default()
        }
    }
}
