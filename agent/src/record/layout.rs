//! What lies in the record's directory, by the names of its files. All are named after the number of their first event.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};

use super::chain::Link;

/// The numbers there are of each kind of file.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// sled databases of events.
    pub(super) segments: BTreeSet<u64>,
    /// Of segments that are complete: their sessions.
    pub(super) indexes: BTreeSet<u64>,
    /// Of segments that are gone: the hashes of their events.
    pub(super) links: BTreeSet<u64>,
    /// Events that are in no segment yet.
    pub(super) journals: BTreeSet<u64>,
    /// sled databases of bodies.
    pub(super) bodies: BTreeSet<u64>,
}

impl Layout {
    /// Reads the directory.
    ///
    /// # Errors
    /// When it cannot be read, or is one of before there were segments.
    pub(super) fn read(dir: &Path) -> anyhow::Result<Self> {
        let context = || format!("cannot read the record's directory {}", dir.display());
        ensure!(
            !dir.join("db").exists(),
            "the record in {} is of an older version of Holdpoint, which kept it in one file: move the directory away to keep \
            it, and this version begins a new one",
            dir.display()
        );
        let mut layout = Self::default();
        for entry in std::fs::read_dir(dir).with_context(context)? {
            let name = entry.with_context(context)?.file_name();
            let Some((first, kind)) = name.to_str().and_then(numbered) else {
                continue;
            };
            let _ = match kind {
                "" => layout.segments.insert(first),
                "index" => layout.indexes.insert(first),
                "links" => layout.links.insert(first),
                "journal" => layout.journals.insert(first),
                "bodies" => layout.bodies.insert(first),
                _ => false,
            };
        }
        Ok(layout)
    }

    /// Whether nothing was ever recorded here.
    pub(super) fn is_new(&self) -> bool {
        self.segments.is_empty() && self.links.is_empty() && self.journals.is_empty()
    }
}

fn numbered(name: &str) -> Option<(u64, &str)> {
    let (number, kind) = name.split_once('.').unwrap_or((name, ""));
    let is_number = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().ok())?.map(|it| (it, kind))
}

pub(super) fn segment(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}"))
}

pub(super) fn bodies(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.bodies"))
}

pub(super) fn index(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.index"))
}

pub(super) fn links(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.links"))
}

/// The hash that was left of one event of a segment that is gone.
pub(super) fn link(dir: &Path, first: u64, seq: u64) -> anyhow::Result<Link> {
    let path = links(dir, first);
    let mut link = [0; 32];
    File::open(&path)
        .and_then(|file| file.read_exact_at(&mut link, (seq - first) * 32))
        .with_context(|| format!("cannot read the hash of event {seq} in {}", path.display()))?;
    Ok(Link::from_bytes(link))
}

pub(super) fn journal(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.journal"))
}

/// Writes a file, synced, that is there as a whole or not at all, and returns it open for writing.
///
/// # Errors
/// When the disk does not take it.
pub(super) fn put(path: &Path, contents: &[u8]) -> io::Result<File> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&new)?;
    file.write_all(contents)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_dir(path.parent().unwrap_or(Path::new("/")))?;
    Ok(file)
}

/// Removes a directory, if it is there. First it gets another name, with this ending, so that whoever opens it finds all of it or
/// nothing, and whoever is killed here leaves what can be told to be on its way out.
///
/// # Errors
/// When it cannot be removed.
pub(super) fn remove_dir(path: &Path, dying: &str) -> anyhow::Result<()> {
    let context = || format!("cannot remove {}", path.display());
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(dying);
    let renamed = PathBuf::from(name);
    if renamed.exists() {
        std::fs::remove_dir_all(&renamed).with_context(context)?;
    }
    match std::fs::rename(path, &renamed) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.with_context(context)?,
    }
    sync_dir(path.parent().unwrap_or(Path::new("/"))).with_context(context)?;
    std::fs::remove_dir_all(&renamed).with_context(context)
}

/// Brings the names in a directory to disk.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_files_are_ours() {
        let first = format!("{:020}", 17);
        assert_eq!(numbered(&first), Some((17, "")));
        assert_eq!(numbered(&format!("{first}.links")), Some((17, "links")));
        for name in [
            "17",
            "synced",
            "0000000000000000001x",
            "99999999999999999999",
        ] {
            assert_eq!(numbered(name), None, "{name}");
        }
    }
}
