//! The client's side of a terminal: the user's own, and a pseudo-terminal that stands for it in the session.
//!
//! The command never holds the user's terminal. It has the far side of a pty as its controlling terminal, made by the client and thus
//! the caller's own, and what is typed and printed is relayed. While the command has the foreground the user's terminal is
//! raw, so that keys mean what the pty's settings make of them.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    mem::{replace, take},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::openpty,
    sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
    unistd::{getpgrp, tcgetpgrp},
};

use super::sys;

/// What is relayed at once.
const CHUNK: usize = 16 << 10;
/// How often what is left is moved after the command has ended or stopped: more than a pty holds, and an end to what its children go
/// on printing.
const FLUSH_ROUNDS: usize = 64;

/// Both terminals and what is under way between them.
#[derive(Debug)]
pub struct Terminal {
    user: File,
    device: u32,
    before: Termios,
    raw: bool,
    /// The pty has been given the settings of the user's terminal, which in the background are another program's.
    likened: bool,
    /// Another process of the pipeline prints to the user's terminal, and counts on its output settings.
    shares_output: bool,
    master: File,
    /// Nobody in the session has the pty open any more.
    hung_up: bool,
    /// The user's terminal is gone.
    lost: bool,
    typed: Buffer,
    printed: Buffer,
}

/// What happened to the user's terminal.
#[derive(Debug, PartialEq, Eq)]
pub enum Relayed {
    /// It goes on.
    On,
    /// The user's terminal has just gone away.
    Lost,
}

impl Terminal {
    /// The terminal this process is controlled by, or else one of its standard descriptors, with a pty in its likeness. Returns
    /// the far side of the pty with it. None where there is no terminal.
    ///
    /// # Errors
    /// When there is one but no pty to be had.
    pub fn open() -> io::Result<Option<(Self, OwnedFd)>> {
        let Some(user) = user_terminal() else {
            return Ok(None);
        };
        let Some(device) = sys::terminal_device(user.as_fd()) else {
            return Ok(None);
        };
        let before = tcgetattr(&user)?;
        let likened = in_foreground(&user);
        let size = sys::window_size(user.as_fd())?;
        let pty = openpty(&size, likened.then_some(&before))?;
        fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let terminal = Self {
            user,
            device,
            before,
            raw: false,
            likened,
            shares_output: sys::terminal_device(io::stdout().as_fd()) != Some(device),
            master: pty.master.into(),
            hung_up: false,
            lost: false,
            typed: Buffer::default(),
            printed: Buffer::default(),
        };
        Ok(Some((terminal, pty.slave)))
    }

    /// Whether `fd` is the user's terminal, so that the pty has to take its place.
    pub fn is(&self, fd: BorrowedFd<'_>) -> bool {
        sys::terminal_device(fd) == Some(self.device)
    }

    /// Whether this process may use the user's terminal now. One that controls nobody is anybody's.
    pub fn in_foreground(&self) -> bool {
        in_foreground(&self.user)
    }

    /// Gives the terminal to the command: raw, and what is typed goes to the pty.
    pub fn give(&mut self) {
        if !self.raw
            && let Ok(now) = tcgetattr(&self.user)
        {
            self.before = now;
        }
        if !replace(&mut self.likened, true) {
            let _ = tcsetattr(&self.master, SetArg::TCSANOW, &self.before);
        }
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        if self.shares_output {
            raw.output_flags = self.before.output_flags;
        }
        // A terminal that is gone is noticed when it is read.
        let _ = tcsetattr(&self.user, SetArg::TCSADRAIN, &raw);
        self.raw = true;
        self.resize();
    }

    /// Takes it back, as it was.
    pub fn take_back(&mut self) {
        if take(&mut self.raw) {
            let _ = tcsetattr(&self.user, SetArg::TCSADRAIN, &self.before);
        }
    }

    /// Gives the pty the window size of the user's terminal.
    pub fn resize(&self) {
        if let Ok(size) = sys::window_size(self.user.as_fd()) {
            let _ = sys::set_window_size(self.master.as_fd(), size);
        }
    }

    /// What to wait for. A side that is gone is left out: poll(2) would report that for ever.
    pub fn interests(&self) -> Vec<PollFd<'_>> {
        let mut user = PollFlags::empty();
        let mut master = PollFlags::empty();
        user.set(PollFlags::POLLIN, self.raw && self.typed.is_empty());
        user.set(PollFlags::POLLOUT, !self.printed.is_empty());
        master.set(PollFlags::POLLIN, self.printed.is_empty());
        master.set(PollFlags::POLLOUT, !self.typed.is_empty());
        [
            (&self.user, user, self.lost),
            (&self.master, master, self.hung_up),
        ]
        .into_iter()
        .filter(|(_, events, gone)| !gone && !events.is_empty())
        .map(|(file, events, _)| PollFd::new(file.as_fd(), events))
        .collect()
    }

    /// Moves what can be moved without waiting.
    pub fn relay(&mut self) -> Relayed {
        let mut relayed = Relayed::On;
        if self.raw
            && !self.lost
            && self.typed.is_empty()
            && self.typed.fill(&mut self.user).is_err()
        {
            self.lost = true;
            relayed = Relayed::Lost;
        }
        if self.typed.drain(&mut self.master).is_err() {
            self.typed.clear();
        }
        if !self.hung_up && self.printed.is_empty() {
            self.hung_up = self.printed.fill(&mut self.master).is_err();
            if !self.raw || self.shares_output {
                self.printed.unix_lines();
            }
        }
        if self.printed.drain(&mut self.user).is_err() {
            self.printed.clear();
        }
        relayed
    }

    /// Prints what the command has printed before it ended or stopped.
    pub fn flush(&mut self) {
        for _ in 0..FLUSH_ROUNDS {
            let waiting = if self.printed.is_empty() {
                PollTimeout::ZERO
            } else {
                PollTimeout::from(1000_u16)
            };
            // The kernel brings what is still on its way through the pty to an end before it answers.
            match poll(&mut self.interests(), waiting) {
                Ok(0) | Err(_) => break,
                Ok(_) => self.relay(),
            };
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.take_back();
    }
}

fn in_foreground(terminal: &File) -> bool {
    tcgetpgrp(terminal).map_or(true, |group| group == getpgrp())
}

/// Opened anew: not to block is a property of the open file, which is shared with the shell.
fn user_terminal() -> Option<File> {
    let open = |path: &str| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
            .open(path)
            .ok()
    };
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let standard = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    open("/dev/tty").or_else(|| {
        let number = standard
            .iter()
            .position(|fd| sys::terminal_device(*fd).is_some())?;
        open(&format!("/proc/self/fd/{number}"))
    })
}

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    done: usize,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.done
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.done = 0;
    }

    /// Reads once. An end is an error.
    fn fill(&mut self, from: &mut impl Read) -> io::Result<()> {
        self.bytes.resize(CHUNK, 0);
        self.done = 0;
        let read = from.read(&mut self.bytes);
        self.bytes.truncate(*read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The pty has made CR LF of line ends; a terminal that processes output itself would make CR CR LF of that.
    fn unix_lines(&mut self) {
        let ends: Vec<bool> = self.bytes.windows(2).map(|pair| pair == b"\r\n").collect();
        let mut ends = ends.into_iter();
        self.bytes.retain(|_| !ends.next().unwrap_or(false));
    }

    /// Writes once.
    fn drain(&mut self, to: &mut impl Write) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        match to.write(&self.bytes[self.done..]) {
            Ok(written) => {
                self.done += written;
                Ok(())
            }
            Err(error) if passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_carriage_returns_before_line_feeds_go() {
        let mut buffer = Buffer {
            bytes: b"a\r\nb\rc\n\r\r\n\r".to_vec(),
            done: 0,
        };
        buffer.unix_lines();
        assert_eq!(buffer.bytes, b"a\nb\rc\n\r\n\r");
    }
}
