//! The file that makes events durable: what is not in a segment yet is here, in the order it came.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{layout, page::Page};

/// The journal that is written.
pub(super) struct Journal {
    dir: PathBuf,
    file: File,
    length: u64,
}

impl Journal {
    /// One with these events, on disk.
    pub(super) fn create(dir: &Path, page: &Page) -> io::Result<Self> {
        Ok(Self {
            dir: dir.to_owned(),
            file: layout::put(&layout::journal(dir, page.first()), page.bytes())?,
            length: page.bytes().len() as u64,
        })
    }

    /// Goes on with one that was written before. What comes after the last whole event is cut off.
    pub(super) fn resume(dir: &Path, page: &Page) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(layout::journal(dir, page.first()))?;
        let length = page.bytes().len() as u64;
        file.set_len(length)?;
        file.sync_all()?;
        Ok(Self {
            dir: dir.to_owned(),
            file,
            length,
        })
    }

    /// Writes events; they survive the end of this process, and the loss of power after [`Self::sync`]. On an error none of them
    /// is there, if the disk lets that be.
    pub(super) fn append(&mut self, events: &Page) -> io::Result<()> {
        if let Err(error) = self.file.write_all_at(events.bytes(), self.length) {
            // What is left is a torn end, which nobody takes for an event that counts.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += events.bytes().len() as u64;
        Ok(())
    }

    /// Brings to disk what was written.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Another one with these events in its place. After a failed sync nobody can tell what the kernel still has of the old one.
    pub(super) fn rewrite(&mut self, page: &Page) -> io::Result<()> {
        *self = Self::create(&self.dir, page)?;
        Ok(())
    }
}
