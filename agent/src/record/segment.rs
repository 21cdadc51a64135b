//! A segment: a sled database of frames. Nothing else in Holdpoint touches sled, but the stored bodies.
//!
//! Key: the number of a frame's first event, 64 bits big endian.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, anyhow};

use super::{frame, layout};

/// Memory sled may use for its cache; its default is a gigabyte.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;

/// How often a database that somebody else has open is tried again.
const TRIES: usize = 5;
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

pub(super) const KEEP: &str = "keep its directory for an investigation and start with another one";

/// An open segment.
pub(super) struct Segment {
    first: u64,
    sled: sled::Db,
    database: Synced,
}

/// The events of a frame.
pub(super) struct Frame {
    pub(super) first: u64,
    pub(super) events: Vec<Vec<u8>>,
}

impl Frame {
    /// The bytes of one of them.
    pub(super) fn event(&self, seq: u64) -> Option<&[u8]> {
        let place = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        Some(self.events.get(place)?)
    }
}

impl Segment {
    /// Opens the segment of this number in the record's directory, or makes it.
    pub(super) fn open(dir: &Path, first: u64) -> anyhow::Result<Self> {
        Self::at(&layout::segment(dir, first), first)
    }

    /// Opens the segment that lies here.
    pub(super) fn at(path: &Path, first: u64) -> anyhow::Result<Self> {
        let sled = open_sled(path)?;
        let database = Synced::new(path)?;
        Ok(Self {
            first,
            sled,
            database,
        })
    }

    /// The number of its first event.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Writes frames and brings them to disk.
    pub(super) fn write(&self, frames: Vec<(u64, Vec<u8>)>) -> anyhow::Result<()> {
        for (first, value) in frames {
            self.sled.insert(first.to_be_bytes(), value)?;
        }
        self.database.sync(&self.sled)
    }

    /// The frame that this event is in.
    pub(super) fn frame_of(&self, seq: u64) -> anyhow::Result<Option<Frame>> {
        let frame = self.sled.range(..=seq.to_be_bytes()).next_back();
        let frame = frame.map(|item| unpacked(item?)).transpose()?;
        Ok(frame.filter(|frame| frame.event(seq).is_some()))
    }

    /// The first frame that begins at this event or later.
    pub(super) fn frame_from(&self, seq: u64) -> anyhow::Result<Option<Frame>> {
        let frame = self.sled.range(seq.to_be_bytes()..).next();
        frame.map(|item| unpacked(item?)).transpose()
    }

    /// All frames, in order.
    pub(super) fn frames(&self) -> impl Iterator<Item = anyhow::Result<Frame>> + use<> {
        self.sled.iter().map(|item| unpacked(item?))
    }
}

fn unpacked((key, value): (sled::IVec, sled::IVec)) -> anyhow::Result<Frame> {
    let key = <[u8; 8]>::try_from(&*key).context("a frame has no number")?;
    let first = u64::from_be_bytes(key);
    let events = frame::unpack(&value)
        .with_context(|| format!("the frame of event {first} is unreadable"))?;
    Ok(Frame { first, events })
}

/// The file that sled writes. `flush` alone only starts the writing (sync_file_range).
pub(super) struct Synced(File);

impl Synced {
    /// Of the database in this directory.
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path.join("db"))
            .with_context(|| format!("cannot open {}", path.join("db").display()))?;
        layout::sync_dir(path)
            .and_then(|()| layout::sync_dir(path.parent().unwrap_or(Path::new("/"))))
            .with_context(|| format!("cannot sync the directory {}", path.display()))?;
        Ok(Self(file))
    }

    /// Brings to disk what was written.
    pub(super) fn sync(&self, sled: &sled::Db) -> anyhow::Result<()> {
        sled.flush()?;
        Ok(self.0.sync_data()?)
    }

    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.0.metadata().map_or(0, |metadata| metadata.len())
    }
}

/// Opens a database. A reader may be about to let go of it.
pub(super) fn open_sled(path: &Path) -> anyhow::Result<sled::Db> {
    let open = || {
        sled::Config::new()
            .path(path)
            .mode(sled::Mode::HighThroughput)
            .cache_capacity(CACHE_BYTES)
            // Holdpoint does that.
            .flush_every_ms(None)
            .open()
    };
    let mut opened = open();
    for _ in 0..TRIES {
        match &opened {
            Err(sled::Error::Io(error)) if error.kind() == io::ErrorKind::Other => {
                thread::sleep(BETWEEN_TRIES);
                opened = open();
            }
            Err(sled::Error::Corruption { .. }) if forget_unfinished_snapshots(path)? => {
                opened = open();
            }
            _ => break,
        }
    }
    opened.map_err(|error| match error {
        sled::Error::Corruption { .. } => anyhow!("{} is damaged; {KEEP}", path.display()),
        other => anyhow!("cannot open {}: {other}", path.display()),
    })
}

/// Removes what sled was writing down of its own state when its process was killed; false where there is nothing of that. sled 0.34 takes it
/// for the newest of its snapshots (`get_snapshot_files` leaves out another ending than `write_snapshot` gives), though its log has everything.
fn forget_unfinished_snapshots(path: &Path) -> anyhow::Result<bool> {
    let context = || format!("cannot remove unfinished snapshots from {}", path.display());
    let mut is_any = false;
    for entry in path.read_dir().with_context(context)? {
        let file = entry.with_context(context)?;
        let name = file.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(file.path()).with_context(context)?;
            is_any = true;
        }
    }
    Ok(is_any)
}

/// A database, copied to where sled may write: opening one writes.
pub(super) struct Copy {
    pub(super) segment: Segment,
    // Removed after the segment is closed.
    _dir: TempCopy,
}

/// A directory, copied to the one for temporary files.
pub(super) struct TempCopy(PathBuf);

impl TempCopy {
    pub(super) fn of(from: &Path) -> anyhow::Result<Self> {
        let mut name = [0; 8];
        getrandom::fill(&mut name).expect("the kernel gives random bytes");
        let to = std::env::temp_dir().join(format!("holdpoint-{}", hex::encode(name)));
        let context = || format!("cannot copy {} to {}", from.display(), to.display());
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&to)
            .with_context(context)?;
        let copy = Self(to.clone());
        copy_dir(from, &to).with_context(context)?;
        Ok(copy)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempCopy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Copy {
    /// Copies the segment of this number; file systems that can share blocks (XFS, Btrfs) do (copy_file_range).
    pub(super) fn of(dir: &Path, first: u64) -> anyhow::Result<Self> {
        let dir = TempCopy::of(&layout::segment(dir, first))?;
        let segment = Segment::at(dir.path(), first)?;
        Ok(Self { segment, _dir: dir })
    }
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&to)?;
            copy_dir(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_that_was_not_finished_is_no_damage() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("segment");
        let segment = Segment::at(&path, 7).expect("made");
        segment
            .write(vec![(7, b"frame".to_vec())])
            .expect("written");
        drop(segment);
        for unfinished in [&b""[..], b"less than there will be"] {
            std::fs::write(path.join("snap.FFFFFFFFFFFFFFFF.generating"), unfinished)
                .expect("written");
            let segment = Segment::at(&path, 7).expect("opened again");
            let found = segment.sled.get(7_u64.to_be_bytes()).expect("readable");
            assert_eq!(found.as_deref(), Some(&b"frame"[..]));
        }
        std::fs::write(path.join("snap.FFFFFFFFFFFFFFFF"), b"damaged").expect("written");
        assert!(Segment::at(&path, 7).is_err(), "a finished one is damage");
    }
}
