//! Process 1 of a session: starts the command, talks to the client, and takes the session with it.
//!
//! When it ends, the kernel kills every process of its PID namespace. It ends when the client goes away before the command has
//! ended, when the shim dies, and when, after the command, the last process is gone; a service's, with the command.

use std::{
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, kill, killpg, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, pipe2, setsid, tcsetpgrp},
};

use super::{
    command::{Command, OWN_FAILURE},
    message::{Event, Order},
    mounts, sys,
    wire::{self, MESSAGE_LIMIT, WireError},
};

/// Capabilities the init keeps: to signal the caller's processes (`CAP_KILL`, 5).
const KEPT: u32 = 1 << 5;

/// What the init is given.
pub struct Init {
    /// What to start.
    pub command: Command,
    /// The client.
    pub client: UnixStream,
    /// The controlling terminal, if any.
    pub terminal: Option<OwnedFd>,
    /// Holds one byte as soon as the shim knows of the init.
    pub shim: OwnedFd,
}

impl Init {
    /// Does all of it and ends the process.
    pub fn run(self) -> ! {
        let code = match self.serve() {
            Ok(()) => 0,
            Err(error) => {
                // The daemon's log.
                eprintln!("holdpoint shim: {error:#}");
                i32::from(OWN_FAILURE)
            }
        };
        // SAFETY: ends the process; nothing of the shim's, of which this is a fork, is to be run.
        unsafe { libc::_exit(code) }
    }

    fn serve(mut self) -> anyhow::Result<()> {
        let last = match self.start() {
            Ok(Ok((signals, command))) => match self.attend(&signals, command)? {
                Some(last) => last,
                None => return Ok(()),
            },
            Ok(Err(not_started)) => not_started,
            Err(error) => Event::NotStarted {
                code: OWN_FAILURE,
                message: format!("{error:#}"),
            },
        };
        // A client that is gone by now has ended its session.
        let goes_on = !self.command.start().ends_with_command;
        if self.tell(&last).is_ok() && goes_on {
            drop(self);
            reap_the_rest();
        }
        Ok(())
    }

    /// The client is told before the command can show a sign of life, so that it never takes a signal for one too early.
    fn start(&mut self) -> anyhow::Result<Result<(SignalFd, Pid), Event>> {
        let signals = self.become_init()?;
        let session = self.command.start().session.clone();
        self.tell(&Event::Started { session })?;
        Ok(self.launch()?.map(|command| (signals, command)))
    }

    fn become_init(&mut self) -> anyhow::Result<SignalFd> {
        prctl::set_pdeathsig(Signal::SIGKILL).context("cannot follow the shim")?;
        let mut byte = [0];
        let mut shim = std::fs::File::from(self.shim.try_clone()?);
        shim.read_exact(&mut byte).context("the shim is gone")?;

        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
        setsid().context("cannot make a session")?;
        if let Some(terminal) = &self.terminal {
            sys::set_controlling_terminal(terminal.as_fd()).context("cannot take the terminal")?;
        }
        mounts::own_views()?;
        let children = SigSet::from_iter([Signal::SIGCHLD]);
        Ok(SignalFd::with_flags(
            &children,
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        )?)
    }

    /// Forks the command. The inner result is what to tell the client when it could not be executed.
    fn launch(&mut self) -> anyhow::Result<Result<Pid, Event>> {
        let (mut errors, far) = {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            (std::fs::File::from(read), write)
        };
        // SAFETY: the init has one thread.
        let pid = match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Child => {
                let (failure, far) = self.command.execute(self.terminal.as_ref(), far);
                // A failed write leaves the pipe empty and closed, which the init takes for a start and a death at once.
                let frame = serde_json::to_vec(&failure).unwrap_or_default();
                let _ = std::fs::File::from(far).write_all(&frame);
                // SAFETY: ends the process, a fork whose descriptors are closed under their owners.
                unsafe { libc::_exit(i32::from(OWN_FAILURE)) }
            }
            ForkResult::Parent { child } => child,
        };
        drop(far);
        sys::keep_capabilities(KEPT).context("cannot give up capabilities")?;
        let mut failure = Vec::new();
        errors.read_to_end(&mut failure)?;
        if failure.is_empty() {
            return Ok(Ok(pid));
        }
        waitpid(pid, None)?;
        Ok(Err(serde_json::from_slice(&failure)?))
    }

    /// Until the command has ended (and how) or the client has gone away (None).
    fn attend(&self, signals: &SignalFd, command: Pid) -> anyhow::Result<Option<Event>> {
        loop {
            let mut ready = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.client.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut ready, PollTimeout::NONE)?;
            let [children, client] = ready.map(|fd| fd.any().unwrap_or(true));
            if children {
                while signals.read_signal()?.is_some() {}
                if let Some(last) = self.reap(command)? {
                    return Ok(Some(last));
                }
            }
            if client {
                match wire::receive(&self.client, MESSAGE_LIMIT) {
                    Ok((order, _)) => self.obey(&order, command),
                    Err(WireError::Closed | WireError::Io(_)) => return Ok(None),
                    Err(error) => {
                        return Err(error).context("the client does not speak our language");
                    }
                }
            }
        }
    }

    fn reap(&self, command: Pid) -> anyhow::Result<Option<Event>> {
        loop {
            let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
            let last = match waitpid(None, Some(flags)) {
                Ok(WaitStatus::StillAlive) => return Ok(None),
                Ok(WaitStatus::Exited(pid, code)) if pid == command => Event::Exited { code },
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => Event::Killed {
                    signal: signal as i32,
                },
                Ok(WaitStatus::Stopped(pid, signal)) if pid == command => {
                    self.tell(&Event::Stopped {
                        signal: signal as i32,
                    })?;
                    continue;
                }
                Ok(_) => continue,
                Err(error) => return Err(error).context("cannot wait for the command"),
            };
            return Ok(Some(last));
        }
    }

    /// The command is not reaped yet, so its number still means it; that it may be dead is no error.
    fn obey(&self, order: &Order, command: Pid) {
        match *order {
            Order::Signal { number, group } => {
                let Ok(signal) = Signal::try_from(number) else {
                    return;
                };
                if !group || killpg(command, signal).is_err() {
                    let _ = kill(command, signal);
                }
            }
            Order::Continue { foreground } => {
                if foreground && let Some(terminal) = &self.terminal {
                    let _ = tcsetpgrp(terminal, command);
                }
                if killpg(command, Signal::SIGCONT).is_err() {
                    let _ = kill(command, Signal::SIGCONT);
                }
            }
        }
    }

    fn tell(&self, event: &Event) -> anyhow::Result<()> {
        Ok(wire::send(&self.client, event, MESSAGE_LIMIT, &[])?)
    }
}

/// What the command left running goes on, and the session with it.
fn reap_the_rest() {
    while !matches!(waitpid(None, None), Err(Errno::ECHILD)) {}
}
