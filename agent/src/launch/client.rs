//! `holdpoint run`: asks for a session, then stands where the command would: its terminal, its signals, its exit code.
//!
//! One thread, one loop over what may happen: a signal, a message of the session's, terminal input and output.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _, net::UnixStream},
    },
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, raise, sigprocmask},
        signalfd::{SfdFlags, SignalFd, siginfo},
        stat::{SFlag, fstat},
    },
    unistd::Pid,
};
use zeroize::Zeroizing;

use super::{
    caller::ProcessState,
    environment,
    message::{self, Event, Octets, Order, Request, TerminalUse, Token},
    piped::Piped,
    sys,
    terminal::{Relayed, Terminal},
    wire::{self, MESSAGE_LIMIT, REQUEST_LIMIT, WireError},
};

/// Signals that are passed on or acted upon; SIGTTOU is only blocked, so that terminal settings can always be put back.
const HANDLED: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGWINCH,
    Signal::SIGTTOU,
];

/// `si_code` of a signal the kernel sent, for a key pressed for one (`asm-generic/siginfo.h`).
const SI_KERNEL: i32 = 0x80;

/// What to run, and where to ask.
pub struct Invocation {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The OIDC token, if any.
    pub token: Option<Zeroizing<String>>,
    /// The service whose session it shall be, instead of a token.
    pub service: Option<String>,
    /// The command and its arguments.
    pub command: Vec<OsString>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an exit code.
    Exited(u8),
    /// By a signal.
    Killed(Signal),
}

impl Ending {
    /// Ends this process the same way; returns the exit code to end with where that is not possible.
    #[must_use]
    pub fn imitate(self) -> u8 {
        match self {
            Self::Exited(code) => code,
            Self::Killed(signal) => {
                // A core dump would be this program's.
                let _ = sys::set_limit((libc::RLIMIT_CORE, 0, 0));
                sys::reset_disposition(signal);
                let _ = raise(signal);
                let _ = sigprocmask(
                    SigmaskHow::SIG_UNBLOCK,
                    Some(&SigSet::from_iter([signal])),
                    None,
                );
                128_u8.saturating_add(signal as u8)
            }
        }
    }
}

/// Runs a command in a new session, to its end.
///
/// # Errors
/// When Holdpoint refuses or fails; what the caller is to be told.
pub fn run(invocation: Invocation) -> anyhow::Result<Ending> {
    anyhow::ensure!(
        std::env::var_os(environment::SESSION).is_none(),
        "this is already a session, and sessions do not nest: run the command directly"
    );
    let state = ProcessState::read()?;
    let handled = HANDLED
        .into_iter()
        .filter(|signal| !state.ignores(*signal))
        .collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&handled), None)?;
    let signals = SignalFd::with_flags(&handled, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;

    let daemon = connect(&invocation.socket)?;
    let (terminal, far) = Terminal::open()
        .context("cannot make a pseudo-terminal")?
        .unzip();
    let foreground = terminal
        .as_ref()
        .is_some_and(|terminal| terminal.in_foreground() && !in_a_pipeline());
    let mut piped = Piped::default();
    ask(
        &daemon,
        invocation,
        &state,
        (terminal.as_ref(), far),
        foreground,
        &mut piped,
    )?;
    Client {
        daemon,
        signals,
        piped,
        terminal,
        foreground,
        started: false,
    }
    .attend()
}

fn connect(socket: &Path) -> anyhow::Result<UnixStream> {
    UnixStream::connect(socket).with_context(|| {
        format!(
            "cannot reach the Holdpoint daemon at {}; is it running? (systemctl status holdpoint)",
            socket.display()
        )
    })
}

/// Sends the request with the descriptors the command shall have.
fn ask(
    daemon: &UnixStream,
    invocation: Invocation,
    state: &ProcessState,
    (terminal, far): (Option<&Terminal>, Option<OwnedFd>),
    foreground: bool,
    piped: &mut Piped,
) -> anyhow::Result<()> {
    let request = Request {
        version: message::VERSION,
        command: invocation
            .command
            .iter()
            .map(|part| Octets(part.as_bytes().to_vec()))
            .collect(),
        environment: environment(),
        token: invocation.token.map(Token::new),
        service: invocation.service,
        umask: state.umask,
        ignored: state.ignored(),
        terminal: far.as_ref().map(|_| TerminalUse { foreground }),
    };
    let directory = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(".")
        .context("cannot open the working directory")?;
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let (out_pipe, err_pipe) = (
        piped.replace(stdout.as_fd())?,
        piped.replace(stderr.as_fd())?,
    );
    let stdout = out_pipe.as_ref().map_or(stdout.as_fd(), AsFd::as_fd);
    let stderr = err_pipe.as_ref().map_or(stderr.as_fd(), AsFd::as_fd);
    let mut fds: Vec<BorrowedFd<'_>> = [stdin.as_fd(), stdout, stderr]
        .into_iter()
        .map(|fd| match (terminal, &far) {
            (Some(terminal), Some(far)) if terminal.is(fd) => far.as_fd(),
            _ => fd,
        })
        .collect();
    fds.push(directory.as_fd());
    fds.extend(far.as_ref().map(AsFd::as_fd));
    match wire::send(daemon, &request, REQUEST_LIMIT, &fds) {
        // A daemon that closes early has said why: that is read next.
        Err(WireError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error @ WireError::TooLong { .. }) => {
            Err(error).context("the command line and the environment are too large to be sent")
        }
        sent => sent.context("cannot send the request to the Holdpoint daemon"),
    }
}

fn environment() -> Vec<Octets> {
    std::env::vars_os()
        .filter(|(name, _)| name != environment::TOKEN)
        .map(|(name, value)| Octets([name.as_bytes(), b"=", value.as_bytes()].concat()))
        .collect()
}

/// In a pipeline another process may be the one that reads the terminal: the command gets it when it asks.
fn in_a_pipeline() -> bool {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]
        .into_iter()
        .any(|fd| {
            fstat(fd).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFIFO.bits())
        })
}

struct Client {
    daemon: UnixStream,
    signals: SignalFd,
    piped: Piped,
    terminal: Option<Terminal>,
    /// Whether the command has the terminal, or gets it as soon as it has started.
    foreground: bool,
    started: bool,
}

impl Client {
    fn attend(mut self) -> anyhow::Result<Ending> {
        loop {
            let (signalled, spoken) = self.wait()?;
            // Messages first: that the command has started is known before anything it did is acted upon or shown.
            if spoken && let Some(ending) = self.listen()? {
                return Ok(ending);
            }
            if signalled && let Some(ending) = self.pass_signals_on()? {
                return Ok(ending);
            }
            if let Some(terminal) = &mut self.terminal
                && terminal.relay() == Relayed::Lost
            {
                self.order(&Order::Signal {
                    number: Signal::SIGHUP as i32,
                    group: true,
                });
            }
        }
    }

    /// Until something happens. Whether it was a signal, or a message.
    fn wait(&self) -> anyhow::Result<(bool, bool)> {
        let mut interests = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.daemon.as_fd(), PollFlags::POLLIN),
        ];
        interests.extend(self.terminal.iter().flat_map(Terminal::interests));
        match poll(&mut interests, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok((
            interests[0].any().unwrap_or(true),
            interests[1].any().unwrap_or(true),
        ))
    }

    fn pass_signals_on(&mut self) -> anyhow::Result<Option<Ending>> {
        while let Some(info) = self.signals.read_signal()? {
            let signal = Signal::try_from(info.ssi_signo as i32)?;
            match signal {
                Signal::SIGWINCH => {
                    if let Some(terminal) = &self.terminal {
                        terminal.resize();
                    }
                }
                Signal::SIGTTOU => {}
                Signal::SIGCONT => self.resume(self.foreground),
                Signal::SIGTSTP if !self.started => stop_self(signal),
                Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP | Signal::SIGQUIT
                    if !self.started =>
                {
                    return Ok(Some(Ending::Killed(signal)));
                }
                _ => self.order(&forwarded(&info)),
            }
        }
        Ok(None)
    }

    fn listen(&mut self) -> anyhow::Result<Option<Ending>> {
        let event = match wire::receive::<Event>(&self.daemon, MESSAGE_LIMIT) {
            Ok((event, _)) => event,
            Err(WireError::Closed | WireError::Io(_)) => anyhow::bail!(self.unexpected_end()),
            Err(error) => return Err(error).context("the session's answer is not understood"),
        };
        match event {
            Event::Refused { message } => anyhow::bail!(message),
            Event::NotStarted { code, message } => {
                eprintln!("holdpoint: {message}");
                return Ok(Some(Ending::Exited(code)));
            }
            Event::Started { .. } => {
                self.started = true;
                self.terminal
                    .iter_mut()
                    .filter(|_| self.foreground)
                    .for_each(Terminal::give);
            }
            Event::Stopped { signal } => self.stop_likewise(Signal::try_from(signal)?),
            Event::Exited { code } => {
                self.flush();
                self.piped.flush();
                return Ok(Some(Ending::Exited(u8::try_from(code)?)));
            }
            Event::Killed { signal } => {
                self.flush();
                self.piped.flush();
                return Ok(Some(Ending::Killed(Signal::try_from(signal)?)));
            }
        }
        Ok(None)
    }

    fn unexpected_end(&self) -> &'static str {
        if self.started {
            "the session was ended, and the command with it (holdpoint sessions shows why)"
        } else {
            "the daemon went away before the command was started"
        }
    }

    /// The command has stopped: to get the terminal, which it is given if it is ours to give; or else for its user.
    fn stop_likewise(&mut self, signal: Signal) {
        let wants_terminal = matches!(signal, Signal::SIGTTIN | Signal::SIGTTOU);
        if !(wants_terminal && self.may_have_terminal()) {
            self.flush();
            self.terminal.iter_mut().for_each(Terminal::take_back);
            stop_self(signal);
        }
        self.resume(self.foreground || wants_terminal);
    }

    fn may_have_terminal(&self) -> bool {
        self.terminal.as_ref().is_some_and(Terminal::in_foreground)
    }

    fn resume(&mut self, wants_terminal: bool) {
        self.foreground = wants_terminal && self.may_have_terminal();
        if self.started {
            self.terminal
                .iter_mut()
                .filter(|_| self.foreground)
                .for_each(Terminal::give);
            self.order(&Order::Continue {
                foreground: self.foreground,
            });
        }
    }

    fn flush(&mut self) {
        self.terminal.iter_mut().for_each(Terminal::flush);
    }

    /// A session that has just ended does not listen; what it said last is still to be read.
    fn order(&self, order: &Order) {
        if self.started {
            let _ = wire::send(&self.daemon, order, MESSAGE_LIMIT, &[]);
        }
    }
}

/// A key's signal is meant for every process at the terminal; one sent to this process, for the command alone.
fn forwarded(info: &siginfo) -> Order {
    Order::Signal {
        number: info.ssi_signo as i32,
        group: info.ssi_code == SI_KERNEL,
    }
}

/// Stops this process's whole group, as the terminal would have, and returns when it is continued. Where nobody could continue it
/// (an orphaned group), the kernel does not stop it.
fn stop_self(signal: Signal) {
    if signal == Signal::SIGSTOP {
        let _ = raise(signal);
        return;
    }
    let only = SigSet::from_iter([signal]);
    let mut before = SigSet::empty();
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&only), Some(&mut before));
    let _ = kill(Pid::from_raw(0), signal);
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
}
