//! `[record]`: how the record is kept.

mod retention;
mod ship;

use std::{path::PathBuf, time::Duration};

use holdpoint_core::operation::Operation;
use serde::Deserialize;

pub use retention::{Age, Retention, Unkeepable};
pub use ship::{Destination, Ship};

use super::Place;
use crate::record::Settings;

/// How the record is kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Record {
    /// When an operation that only reads may go on.
    pub reads: Reads,
    /// Whose bodies are kept, masked, where policy says nothing (`@record`).
    pub bodies: RecordedBodies,
    /// Whether operations are refused while bodies cannot be stored. Else they go on, and the record says of their bodies that they
    /// are not stored.
    pub bodies_required: bool,
    /// Bytes of a body that are stored at most.
    pub body_bytes: usize,
    /// Bytes of events, and of stored bodies, after which another segment begins.
    pub segment_bytes: u64,
    /// Hours after which another segment begins.
    pub segment_hours: u32,
    /// How often it is signed, and where to.
    pub checkpoints: Checkpoints,
    /// How long what is in it stays.
    pub retention: Retention,
    /// Where it goes besides this host.
    pub ship: Option<Ship>,
}

/// How often the record is signed, with what, and where that goes besides the state directory and the journal.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoints {
    /// After this many events.
    pub every_events: u64,
    /// After this many seconds, if there is anything new.
    pub every_seconds: u64,
    /// The key that signs. `${CREDENTIALS_DIRECTORY}` at its start stands for systemd's. The host makes one of its own when absent.
    pub key_file: Option<PathBuf>,
    /// A file, on another mount for example, that checkpoints are added to.
    pub copy_to: Option<PathBuf>,
    /// Who is told of them.
    pub webhook: Option<CheckpointWebhook>,
}

/// Who is told of checkpoints, by a signed JSON message as of a `[[notification]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawWebhook")]
pub struct CheckpointWebhook {
    /// To whom.
    pub url: Place,
    /// The file with the secrets it is signed with.
    pub secret_file: PathBuf,
    /// CA certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    url: Option<String>,
    url_file: Option<PathBuf>,
    secret_file: PathBuf,
    ca_file: Option<PathBuf>,
}

impl TryFrom<RawWebhook> for CheckpointWebhook {
    type Error = String;

    fn try_from(raw: RawWebhook) -> Result<Self, String> {
        Ok(Self {
            url: Place::either(raw.url, raw.url_file)?,
            secret_file: raw.secret_file,
            ca_file: raw.ca_file,
        })
    }
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            every_events: 10_000,
            every_seconds: 300,
            key_file: None,
            copy_to: None,
            webhook: None,
        }
    }
}

impl Checkpoints {
    /// The configured key.
    ///
    /// # Errors
    /// When it is one of systemd's credentials, and there are none.
    pub fn key_file(&self) -> anyhow::Result<Option<PathBuf>> {
        let file = self.key_file.as_deref();
        file.map(super::in_credentials_directory).transpose()
    }
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

/// Whose bodies are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordedBodies {
    /// Nobody's.
    None,
    /// Those of operations that may change something, and their answers'.
    #[default]
    Mutating,
    /// All operations'.
    All,
}

impl RecordedBodies {
    /// Whether this one's are kept.
    #[must_use]
    pub fn include(self, operation: &Operation) -> bool {
        match self {
            Self::None => false,
            Self::Mutating => operation.action.mutates(),
            Self::All => true,
        }
    }
}

impl Default for Record {
    fn default() -> Self {
        let usual = Settings::default();
        Self {
            reads: Reads::default(),
            bodies: RecordedBodies::default(),
            bodies_required: false,
            body_bytes: usual.body_bytes,
            segment_bytes: usual.segment_bytes,
            segment_hours: 24,
            checkpoints: Checkpoints::default(),
            retention: Retention::default(),
            ship: None,
        }
    }
}

impl Record {
    /// For the record itself.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            body_bytes: self.body_bytes,
            bodies_required: self.bodies_required,
            reads_synced: self.reads == Reads::Synced,
            segment_bytes: self.segment_bytes,
            segment_age: Duration::from_secs(u64::from(self.segment_hours.max(1)) * 3600),
            ..Settings::default()
        }
    }
}
