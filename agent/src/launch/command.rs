//! The last steps of a session's command: everything between fork and exec.

use std::{
    ffi::{CStr, CString, OsStr},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sys::{
        signal::{
            SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask,
        },
        stat::{Mode, umask},
    },
    unistd::{self, Pid},
};

use super::{
    confine::confine,
    credentials, environment,
    filter::Filter,
    message::{Directory, Event, Octets, Prepare, Start},
    network::Network,
    private,
    program::Program,
    sys,
};

/// Exit code of a command that does not exist (POSIX shell, 2.8.2).
const NOT_FOUND: u8 = 127;
/// Exit code of a command that exists but cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// Exit code for Holdpoint's own failures.
pub const OWN_FAILURE: u8 = 125;
/// Where execvp(3) looks when there is no PATH.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// A command that only has to be executed.
pub struct Command {
    arguments: Vec<CString>,
    environment: Vec<CString>,
    candidates: Vec<CString>,
    programs: Vec<Program>,
    filter: Filter,
    start: Start,
    sockets: Vec<Octets>,
    network: Network,
    standard: [OwnedFd; 3],
}

impl Command {
    /// Gets all ready that can be before the fork. Where the command's file is known, that is what will be executed, or nothing.
    ///
    /// # Errors
    /// When an argument holds a NUL byte, there is no command, or the filter cannot be made.
    pub fn new(
        start: Start,
        order: &Prepare,
        programs: Vec<Program>,
        standard: [OwnedFd; 3],
    ) -> anyhow::Result<Self> {
        let name = &start.command.first().context("no command")?.0;
        let mut candidates = candidates(name, environment::value(&start.environment, "PATH"))?;
        if let Some(program) = programs.first() {
            let (known, directory) = (program.path.to_path(), start.directory.path.to_path());
            candidates.retain(|it| directory.join(OsStr::from_bytes(it.as_bytes())) == known);
        }
        Ok(Self {
            arguments: terminated(&start.command)?,
            environment: terminated(&start.environment)?,
            candidates,
            programs,
            filter: Filter::compile()?,
            standard,
            start,
            sockets: order.sandbox.sockets.clone(),
            network: order.network,
        })
    }

    /// What it is started with.
    pub fn start(&self) -> &Start {
        &self.start
    }

    /// Turns the calling process, just forked, into the command. Returns only if that fails, with what to tell the client.
    pub fn execute(&self, terminal: Option<&OwnedFd>, errors: OwnedFd) -> (Event, OwnedFd) {
        let (failure, errors) = match self.enter(terminal, errors) {
            Ok(errors) => (self.exec(), errors),
            Err((error, errors)) => (
                Event::NotStarted {
                    code: OWN_FAILURE,
                    message: format!("{error:#}"),
                },
                errors,
            ),
        };
        (failure, errors)
    }

    /// The order matters: descriptors and limits as root, the directory as the caller, the filter last of all.
    fn enter(
        &self,
        terminal: Option<&OwnedFd>,
        errors: OwnedFd,
    ) -> Result<OwnedFd, (anyhow::Error, OwnedFd)> {
        let job = self.own_process_group(terminal);
        let errors = match job.and_then(|()| self.descriptors()) {
            Ok(()) => only_this_one(errors)?,
            Err(error) => return Err((error, errors)),
        };
        let rest = || -> anyhow::Result<()> {
            umask(Mode::from_bits_truncate(self.start.umask));
            credentials::become_caller(&self.start)?;
            enter_directory(&self.start.directory)?;
            reset_signals(&self.start.ignored)?;
            confine(self.sockets.iter().map(Octets::to_path), self.network)?;
            self.filter.apply()
        };
        match rest() {
            Ok(()) => Ok(errors),
            Err(error) => Err((error, errors)),
        }
    }

    /// A group of its own, so that it is a job of the init's session and can be stopped and continued like one.
    fn own_process_group(&self, terminal: Option<&OwnedFd>) -> anyhow::Result<()> {
        unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))
            .context("cannot make a process group")?;
        match (terminal, self.start.terminal) {
            // All signals are still blocked, SIGTTOU among them.
            (Some(terminal), Some(usage)) if usage.foreground => {
                unistd::tcsetpgrp(terminal, unistd::getpid()).context("cannot take the terminal")
            }
            _ => Ok(()),
        }
    }

    fn descriptors(&self) -> anyhow::Result<()> {
        let [stdin, stdout, stderr] = &self.standard;
        unistd::dup2_stdin(stdin)
            .and_then(|()| unistd::dup2_stdout(stdout))
            .and_then(|()| unistd::dup2_stderr(stderr))
            .context("cannot set stdin, stdout and stderr")
    }

    fn exec(&self) -> Event {
        if !self.programs.iter().all(Program::is_unchanged) {
            return Event::NotStarted {
                code: NOT_EXECUTABLE,
                message: "the command's file was replaced or changed while the session was opened, and another one is on record: run it again".into(),
            };
        }
        let mut worst = Errno::ENOENT;
        for path in &self.candidates {
            let error = match unistd::execve(path, &self.arguments, &self.environment) {
                Err(Errno::ENOEXEC) => self.exec_by_shell(path),
                Err(error) => error,
            };
            match error {
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES => worst = error,
                _ => {
                    worst = error;
                    break;
                }
            }
        }
        let name = String::from_utf8_lossy(&self.start.command[0].0);
        match worst {
            Errno::ENOENT => Event::NotStarted {
                code: NOT_FOUND,
                message: format!("{name}: command not found"),
            },
            error => Event::NotStarted {
                code: NOT_EXECUTABLE,
                message: format!("{name}: cannot be executed: {}", error.desc()),
            },
        }
    }

    /// A script without a first line that says by what: the shell's, as execvp(3) has it.
    fn exec_by_shell(&self, path: &CStr) -> Errno {
        let mut arguments = vec![c"/bin/sh", path];
        arguments.extend(self.arguments.iter().skip(1).map(CString::as_c_str));
        match unistd::execve(c"/bin/sh", &arguments, &self.environment) {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }
}

fn terminated(strings: &[Octets]) -> anyhow::Result<Vec<CString>> {
    strings
        .iter()
        .map(|string| {
            CString::new(string.0.as_slice()).context("an argument or variable holds a NUL byte")
        })
        .collect()
}

/// The files a command's name may mean, in the order they are tried.
pub(super) fn candidates(name: &[u8], path: Option<&[u8]>) -> anyhow::Result<Vec<CString>> {
    anyhow::ensure!(!name.is_empty(), "the command's name is empty");
    if name.contains(&b'/') {
        return Ok(vec![CString::new(name)?]);
    }
    path.unwrap_or(DEFAULT_PATH)
        .split(|byte| *byte == b':')
        .map(|directory| {
            let file = match directory {
                b"" => name.to_vec(),
                _ => [directory, b"/", name].concat(),
            };
            Ok(CString::new(file)?)
        })
        .collect()
}

/// Moves it to 3, close-on-exec, and closes all that follow.
fn only_this_one(errors: OwnedFd) -> Result<OwnedFd, (anyhow::Error, OwnedFd)> {
    let moved = sys::move_to(errors, 3);
    // SAFETY: this process, a fork, uses no descriptor but 0 to 3 from here on, and ends by exec or _exit: no owner
    // of a closed one is dropped.
    match unsafe { sys::close_from(4) } {
        Ok(()) => Ok(moved),
        Err(error) => Err((
            anyhow::Error::new(error).context("cannot close descriptors"),
            moved,
        )),
    }
}

/// By name, as the caller, and only if that is the same directory the client is in: a descriptor made outside would lead
/// around the session's mounts. Who starts in `/tmp` starts in the session's.
fn enter_directory(directory: &Directory) -> anyhow::Result<()> {
    let path = directory.path.to_path();
    unistd::chdir(&path)
        .map_err(anyhow::Error::from)
        .and_then(|()| {
            let here = std::fs::metadata(".")?;
            anyhow::ensure!(
                (here.dev(), here.ino()) == (directory.device, directory.inode)
                    || private::is_root(&path),
                "another directory is there"
            );
            Ok(())
        })
        .with_context(|| {
            format!(
                "the working directory {} cannot be reached inside a session",
                path.display()
            )
        })
}

fn reset_signals(ignored: &[i32]) -> anyhow::Result<()> {
    sys::reset_all_dispositions();
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in ignored {
        // SAFETY: sets no handler.
        unsafe { sigaction(Signal::try_from(*signal)?, &ignore) }
            .context("cannot ignore a signal")?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .context("cannot reset signals")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(name: &str, path: Option<&str>) -> Vec<String> {
        candidates(name.as_bytes(), path.map(str::as_bytes))
            .expect("valid")
            .into_iter()
            .map(|path| path.into_string().expect("was UTF-8"))
            .collect()
    }

    #[test]
    fn commands_are_looked_up_as_execvp_does() {
        assert_eq!(names("./x", Some("/a:/b")), ["./x"]);
        assert_eq!(names("x", Some("/a::/b")), ["/a/x", "x", "/b/x"]);
        assert_eq!(names("x", None), ["/bin/x", "/usr/bin/x"]);
        assert!(candidates(b"", None).is_err());
    }
}
