//! What the shim does while its session runs: waits for its end, and is there for the daemon, or for the one after it.

use std::{
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::waitpid,
    unistd::Pid,
};

use super::{
    cgroup::SessionCgroup,
    door::Door,
    message::{Demand, Reply, Service},
    network::{self, Place, is_in_use},
    strays::Residents,
    sys,
    wire::{self, MESSAGE_LIMIT, START_LIMIT, WireError},
};

/// How long the sockets of a dead daemon may stay in use: a fork of it may hold them.
const RELEASED_WITHIN: Duration = Duration::from_secs(1);

/// A session that runs.
pub struct Keeper {
    init: Pid,
    /// Readable once the init has ended.
    ended: OwnedFd,
    cgroup: SessionCgroup,
    door: Door,
    state: String,
    place: Place,
    adoptions: u32,
    residents: Residents,
}

impl Keeper {
    /// Stays with an init that was just started.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn new(
        init: Pid,
        cgroup: SessionCgroup,
        door: Door,
        (state, place): (String, Place),
    ) -> anyhow::Result<Self> {
        Ok(Self {
            init,
            ended: sys::pidfd_open(init).context("cannot watch the session's init")?,
            cgroup,
            door,
            state,
            place,
            adoptions: 0,
            residents: Residents::default(),
        })
    }

    /// Until the session has ended, and nothing is left of it. The daemon learns of it by the end of its connection.
    pub fn attend(mut self, daemon: UnixStream) -> ExitCode {
        let mut daemon = Some(daemon);
        let outcome = self.watch(&mut daemon).and_then(|()| self.finish());
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("holdpoint shim: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn watch(&mut self, daemon: &mut Option<UnixStream>) -> anyhow::Result<()> {
        loop {
            let (ended, visited, asked) = self.wait(daemon.as_ref())?;
            if ended {
                return Ok(());
            }
            if asked
                && let Some(stream) = daemon
                && !self.answer(stream)
            {
                *daemon = None;
            }
            // Whoever asks last is the daemon: there is one at a time, and this one asks.
            if visited
                && let Ok(visitor) = self.door.admit()
                && self.answer(&visitor)
            {
                *daemon = Some(visitor);
            }
        }
    }

    /// Until something happens: whether the init has ended, somebody has come, the daemon wants something or is gone.
    fn wait(&self, daemon: Option<&UnixStream>) -> anyhow::Result<(bool, bool, bool)> {
        let mut ready = vec![
            PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.door.as_fd(), PollFlags::POLLIN),
        ];
        ready.extend(daemon.map(|daemon| PollFd::new(daemon.as_fd(), PollFlags::POLLIN)));
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is = |index: usize| ready.get(index).is_some_and(|fd| fd.any().unwrap_or(true));
        Ok((is(0), is(1), is(2)))
    }

    /// Whether the connection goes on.
    fn answer(&mut self, daemon: &UnixStream) -> bool {
        match wire::receive::<Demand>(daemon, MESSAGE_LIMIT) {
            Ok((demand, _)) => {
                let once = matches!(demand, Demand::EndStrays { .. } | Demand::NameInit);
                self.obey(&demand, daemon).is_ok() && !once
            }
            Err(_) => false,
        }
    }

    fn obey(&mut self, demand: &Demand, daemon: &UnixStream) -> Result<(), WireError> {
        let failed = |error: &anyhow::Error| Reply::Failed {
            message: format!("{error:#}"),
        };
        match demand {
            Demand::Adopt => {
                self.adoptions = self.adoptions.saturating_add(1);
                let adopted = Reply::Adopted {
                    state: self.state.clone(),
                    times: self.adoptions,
                };
                wire::send(daemon, &adopted, START_LIMIT, &[])
            }
            Demand::Listen => match listen_again(self.place) {
                Ok(opened) => {
                    let (listeners, sockets): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
                    let fds: Vec<_> = sockets.iter().map(OwnedFd::as_fd).collect();
                    wire::send(daemon, &Reply::Listening { listeners }, MESSAGE_LIMIT, &fds)
                }
                Err(error) => wire::send(daemon, &failed(&error), MESSAGE_LIMIT, &[]),
            },
            Demand::EndStrays { caller, settle } => {
                let ended = self
                    .residents
                    .end_strays(self.cgroup.path(), *caller, *settle);
                let reply = match ended {
                    Ok(()) => Reply::StraysEnded,
                    Err(error) => failed(&error),
                };
                wire::send(daemon, &reply, MESSAGE_LIMIT, &[])
            }
            Demand::NameInit => {
                let pid = self.init.as_raw().cast_unsigned();
                wire::send(daemon, &Reply::Init { pid }, MESSAGE_LIMIT, &[])
            }
            Demand::End => match self.cgroup.end() {
                Ok(()) => Ok(()),
                Err(error) => wire::send(daemon, &failed(&error), MESSAGE_LIMIT, &[]),
            },
        }
    }

    /// With the init went all that is in its PID namespace. What somebody has moved into the cgroup goes now.
    fn finish(&self) -> anyhow::Result<()> {
        while let Err(Errno::EINTR) = waitpid(self.init, None) {}
        self.cgroup.end()
    }
}

fn listen_again(place: Place) -> anyhow::Result<Vec<(Service, OwnedFd)>> {
    let started = Instant::now();
    loop {
        match network::listeners(place) {
            Err(error) if is_in_use(&error) && started.elapsed() < RELEASED_WITHIN => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}
