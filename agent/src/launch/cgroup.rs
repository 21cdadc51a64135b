//! The cgroup of a session.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::private;

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A session's cgroup; ended when dropped.
#[derive(Debug)]
pub struct SessionCgroup {
    path: PathBuf,
    /// Where its path is not to be seen.
    directory: File,
    id: u64,
}

impl SessionCgroup {
    /// Makes `<parent>/<name>`.
    ///
    /// # Errors
    /// When it exists already or the kernel refuses.
    pub fn create(parent: &Path, name: &str) -> anyhow::Result<Self> {
        let path = parent.join(name);
        let made = || -> io::Result<Self> {
            fs::create_dir(&path)?;
            let directory = File::open(&path)?;
            Ok(Self {
                path: path.clone(),
                id: directory.metadata()?.ino(),
                directory,
            })
        };
        made().with_context(|| format!("cannot make the session's cgroup {}", path.display()))
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, open.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Its id: the inode number of its directory, which is what BPF helpers name a cgroup by.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Kills what lives in it, waits until all of it is gone, and removes it with the files that were the session's alone. Blocks.
    ///
    /// # Errors
    /// When the kernel refuses, or processes do not go away for 10 seconds.
    pub fn end(&self) -> anyhow::Result<()> {
        end(&self.path)
    }
}

impl Drop for SessionCgroup {
    fn drop(&mut self) {
        if self.path.exists() {
            // What does not die keeps it; the daemon, or the next one, has it cleared.
            let _ = self.end();
        }
    }
}

/// The cgroups of the sessions there are, in order.
///
/// # Errors
/// When they cannot be listed.
pub fn sessions(agents_cgroup: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(agents_cgroup)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    };
    list().with_context(|| format!("cannot read the cgroup {}", agents_cgroup.display()))
}

/// Kills and removes the sessions a dead daemon left behind, with their files. Blocks.
///
/// # Errors
/// When the kernel refuses, or processes do not go away for 10 seconds.
pub fn end_leftovers(agents_cgroup: &Path) -> anyhow::Result<()> {
    for session in sessions(agents_cgroup)? {
        end(&session)?;
    }
    private::remove_leftovers(agents_cgroup);
    Ok(())
}

/// Kills every process of every session at once, and waits for nothing.
///
/// # Errors
/// When the kernel refuses.
pub fn kill_sessions(agents_cgroup: &Path) -> anyhow::Result<()> {
    if agents_cgroup.join("cgroup.kill").exists() {
        return Ok(kill_all(agents_cgroup)?);
    }
    for session in sessions(agents_cgroup)? {
        kill_all(&session)?;
    }
    Ok(())
}

/// Kills what lives in a cgroup, waits until all of it is gone, and removes it with the files that were the session's alone. Blocks.
///
/// # Errors
/// When the kernel refuses, or processes do not go away for 10 seconds.
pub fn end(cgroup: &Path) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    while !end_once(cgroup)? {
        anyhow::ensure!(started.elapsed() < PATIENCE, still_alive(cgroup));
        std::thread::sleep(Duration::from_millis(5));
    }
    private::remove_of(cgroup);
    Ok(())
}

fn still_alive(cgroup: &Path) -> String {
    format!("processes in {} do not die", cgroup.display())
}

/// Kills what is there and removes the cgroup if it is empty by now. True when it is gone.
fn end_once(cgroup: &Path) -> anyhow::Result<bool> {
    match fs::remove_dir(cgroup) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot remove {}", cgroup.display()));
        }
    }
    kill_all(cgroup).with_context(|| format!("cannot kill what is in {}", cgroup.display()))?;
    // Its containers': their runtime would remove them too, in its own time.
    for child in sessions(cgroup).unwrap_or_default() {
        end_once(&child)?;
    }
    Ok(false)
}

fn kill_all(cgroup: &Path) -> io::Result<()> {
    match write_existing(&cgroup.join("cgroup.kill"), "1") {
        // Linux before 5.14 has no such file. The init's death takes the rest along, so one pass finds them all in the end.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let processes = match fs::read_to_string(cgroup.join("cgroup.procs")) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                read => read?,
            };
            let pids = processes.lines().filter_map(|line| line.parse().ok());
            // 0 is who is in no PID namespace of ours; to kill(2) it is this process and its like.
            for pid in pids.filter(|pid| *pid > 0) {
                match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                    // Gone already: as good.
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            for child in sessions(cgroup).unwrap_or_default() {
                kill_all(&child)?;
            }
            Ok(())
        }
        written => written,
    }
}

/// What asks to make a file that the kernel does not have is refused (EACCES), and not told that it is missing.
fn write_existing(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_does_not_have_is_missing_and_nothing_else() {
        let cgroup = crate::kernel::cgroup2_root().expect("cgroup2 is mounted");
        let missing = write_existing(&cgroup.join("cgroup.no-such-file"), "1");
        assert_eq!(
            missing.expect_err("there is none").kind(),
            io::ErrorKind::NotFound
        );
    }
}
