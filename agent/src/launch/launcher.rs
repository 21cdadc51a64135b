//! `holdpoint launcher`: starts the sessions' shims, as inetd would: one for every connection of the daemon's.
//!
//! It is apart from the daemon so that neither what systemd takes from the daemon is taken from sessions, nor a daemon that ends takes
//! them along. It reads nothing and holds nothing: started anew, it leaves the sessions as they are.

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        socket::{getsockopt, sockopt},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
};

use super::request::in_a_session;

/// How long to leave alone what cannot be done just now.
const PAUSE: Duration = Duration::from_millis(100);

/// How long it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// Until it is told to end.
    Lasting,
    /// Until nobody holds the other end of the pipe that is its standard output, and no shim is left.
    Temporary,
}

/// Serves the listening socket that is the standard input (systemd's `StandardInput=socket`, inetd's `wait`), or else `socket`.
///
/// # Errors
/// When it cannot listen.
pub fn run(socket: &Path, agents_cgroup: PathBuf, term: Term) -> anyhow::Result<()> {
    let children = SigSet::from_iter([Signal::SIGCHLD]);
    children.thread_block()?;
    let listener = match handed_over()? {
        Some(listener) => listener,
        None => bind(socket)?,
    };
    listener.set_nonblocking(true)?;
    Launcher {
        listener: Some(listener),
        children: SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?,
        agents_cgroup,
        term,
    }
    .serve()
}

fn handed_over() -> anyhow::Result<Option<UnixListener>> {
    let stdin = io::stdin();
    if !getsockopt(&stdin, sockopt::AcceptConn).unwrap_or(false) {
        return Ok(None);
    }
    Ok(Some(stdin.as_fd().try_clone_to_owned()?.into()))
}

/// For root only.
pub(super) fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let what = || format!("cannot listen on {}", path.display());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(what);
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(what)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).with_context(what)?;
    Ok(listener)
}

struct Launcher {
    /// None once nobody is to be served any more.
    listener: Option<UnixListener>,
    children: SignalFd,
    agents_cgroup: PathBuf,
    term: Term,
}

impl Launcher {
    fn serve(mut self) -> anyhow::Result<()> {
        loop {
            let (called, ended, orphaned) = self.wait()?;
            if ended {
                while self.children.read_signal()?.is_some() {}
            }
            let alone = reap()?;
            if orphaned {
                self.listener = None;
            }
            if self.listener.is_none() && alone {
                return Ok(());
            }
            if called && let Err(error) = self.answer() {
                tracing::warn!("no session was started: {error:#}");
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Until something happens: whether somebody calls, a shim has ended, the daemon is gone.
    fn wait(&self) -> anyhow::Result<(bool, bool, bool)> {
        let stdout = io::stdout();
        let mut ready = vec![PollFd::new(self.children.as_fd(), PollFlags::POLLIN)];
        if let Some(listener) = &self.listener {
            ready.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
            if self.term == Term::Temporary {
                // An error is what a pipe without a reader is polled for.
                ready.push(PollFd::new(stdout.as_fd(), PollFlags::empty()));
            }
        }
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is = |index: usize| ready.get(index).is_some_and(|fd| fd.any().unwrap_or(true));
        Ok((is(1), is(0), is(2)))
    }

    fn answer(&self) -> anyhow::Result<()> {
        let stream = match &self.listener {
            Some(listener) => listener.accept(),
            None => return Ok(()),
        };
        let stream = match stream {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            stream => stream.context("cannot accept")?.0,
        };
        self.check(&stream)?;
        // The running program once more, whatever has become of its file.
        Command::new("/proc/self/exe")
            .arg0("holdpoint")
            .arg("shim")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(stream)))
            .stdout(Stdio::null())
            .spawn()
            .map(drop)
            .context("cannot start a shim")
    }

    fn check(&self, stream: &UnixStream) -> anyhow::Result<()> {
        let peer = getsockopt(stream, sockopt::PeerCredentials).context("cannot tell who asks")?;
        anyhow::ensure!(
            peer.uid() == 0,
            "user {} asks, and only root may",
            peer.uid()
        );
        let pid = u32::try_from(peer.pid()).unwrap_or_default();
        anyhow::ensure!(
            !in_a_session(pid, &self.agents_cgroup)?,
            "process {pid} asks, and it is in a session"
        );
        Ok(())
    }
}

/// Whether no child is left.
fn reap() -> anyhow::Result<bool> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return Ok(false),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(true),
            Err(error) => return Err(error).context("cannot wait for the shims"),
        }
    }
}
