//! How far it is, in a small file: what was shipped is not sent again by the next daemon.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// In the state directory.
const FILE: &str = "shipped.json";

/// How far it is. Without a file, or with one of another place, everything is sent again; what is there under the same name is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Where to, and the directory there.
    pub(super) to: String,
    pub(super) log: String,
    /// Whether the public key is there.
    pub(super) key: bool,
    /// The number of the last event that is there.
    pub(super) events: u64,
    /// The last event of the object that was being sent: the same again has the same name, and so is there once.
    pub(super) sending: Option<u64>,
    /// The size of the last checkpoint that is there.
    pub(super) checkpoint: u64,
}

impl Progress {
    fn none(to: &str, log: &str) -> Self {
        Self {
            to: to.to_owned(),
            log: log.to_owned(),
            key: false,
            events: 0,
            sending: None,
            checkpoint: 0,
        }
    }
}

/// The file.
#[derive(Clone, Debug)]
pub(super) struct Kept(PathBuf);

impl Kept {
    pub(super) fn in_dir(state_dir: &Path) -> Self {
        Self(state_dir.join(FILE))
    }

    /// What it says of this place.
    pub(super) fn read(&self, to: &str, log: &str) -> Progress {
        let text = std::fs::read(&self.0).unwrap_or_default();
        let read: Option<Progress> = serde_json::from_slice(&text).ok();
        read.filter(|it| it.to == to && it.log == log)
            .unwrap_or_else(|| Progress::none(to, log))
    }

    /// Synced, whole or not at all. Blocks.
    pub(super) fn write(&self, progress: &Progress) -> io::Result<()> {
        let new = self.0.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec(progress)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_place_begins_anew() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let kept = Kept::in_dir(dir.path());
        let mut progress = kept.read("gs://a", "log");
        assert_eq!(progress, Progress::none("gs://a", "log"));
        progress.events = 17;
        kept.write(&progress).expect("written");
        assert_eq!(kept.read("gs://a", "log").events, 17);
        assert_eq!(kept.read("gs://b", "log").events, 0);
        assert_eq!(kept.read("gs://a", "other").events, 0);
        std::fs::write(dir.path().join(FILE), "{").expect("written");
        assert_eq!(kept.read("gs://a", "log").events, 0);
    }
}
