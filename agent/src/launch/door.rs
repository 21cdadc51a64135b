//! The socket on which a session's shim is found by a daemon that was started anew.

use std::{
    fs::{self, DirBuilder},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{DirBuilderExt as _, PermissionsExt as _},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sys::socket::{getsockopt, sockopt},
    unistd::{UnlinkatFlags, unlinkat},
};

/// The directory of these sockets in the runtime directory. Inside a session it is covered.
const DIRECTORY: &str = "sessions";
const SUFFIX: &str = ".sock";

/// How long a visitor may take for a message. It is root's, and asks at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// The listening socket of one session; its file is removed when this is dropped.
pub struct Door {
    listener: UnixListener,
    file: File,
}

/// Held by its directory, because the shim comes to see another file system there.
struct File {
    directory: Option<OwnedFd>,
    name: String,
}

impl Door {
    /// Listens, for root only.
    ///
    /// # Errors
    /// When the socket cannot be made, or is there already.
    pub fn open(runtime_dir: &Path, session: &str) -> anyhow::Result<Self> {
        let directory = runtime_dir.join(DIRECTORY);
        let name = format!("{session}{SUFFIX}");
        let path = directory.join(&name);
        let made = || -> io::Result<Self> {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)?;
            let directory = fs::File::open(&directory)?.into();
            let listener = UnixListener::bind(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
            let file = File {
                directory: Some(directory),
                name,
            };
            Ok(Self { listener, file })
        };
        made().with_context(|| format!("cannot listen on {}", path.display()))
    }

    /// Lets in who has come, if it is root.
    ///
    /// # Errors
    /// When it is not, or is gone.
    pub fn admit(&self) -> io::Result<UnixStream> {
        let (visitor, _) = self.listener.accept()?;
        if getsockopt(&visitor, sockopt::PeerCredentials)?.uid() != 0 {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        hasten(&visitor)?;
        Ok(visitor)
    }

    /// Closes it in a fork of the process whose it is: the file stays.
    pub fn leave(mut self) {
        self.file.directory = None;
    }
}

/// Where the shim of a session is found.
pub fn path(runtime_dir: &Path, session: &str) -> PathBuf {
    runtime_dir
        .join(DIRECTORY)
        .join(format!("{session}{SUFFIX}"))
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // Gone already: as good.
            let _ = unlinkat(directory, self.name.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Whoever is slow at the other end must not keep a shim from its session.
///
/// # Errors
/// What setsockopt(2) says.
pub fn hasten(stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// The sessions that have a socket, and where.
///
/// # Errors
/// When the directory cannot be read.
pub fn list(runtime_dir: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let directory = runtime_dir.join(DIRECTORY);
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot read {}", directory.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", directory.display()))?;
        let name = entry.file_name();
        if let Some(session) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) {
            found.push((session.to_owned(), entry.path()));
        }
    }
    Ok(found)
}

/// Waits until the shims of sessions that were ended have cleaned up behind them, and does it for those that cannot any more. Blocks.
///
/// # Errors
/// When a socket cannot be removed.
pub fn close_doors(runtime_dir: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let left = list(runtime_dir)?;
        if left.is_empty() {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            for (_, path) in left {
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
