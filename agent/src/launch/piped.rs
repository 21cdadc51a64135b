//! Output that a session may not have itself: what systemd gives a unit is a socket of its journal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::stat::{SFlag, fstat},
    unistd::pipe2,
};

/// How long a look takes at whether the command has ended, in milliseconds.
const LOOK: u16 = 50;

/// Pipes in place of sockets, and threads that pass on what comes.
#[derive(Default)]
pub struct Piped {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Piped {
    /// Something that a session may write to instead of `output`; `None` when `output` itself will do.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn replace(&mut self, output: BorrowedFd<'_>) -> std::io::Result<Option<OwnedFd>> {
        if !is_socket(output) {
            return Ok(None);
        }
        let (near, far) = pipe2(OFlag::O_CLOEXEC)?;
        let to = File::from(output.try_clone_to_owned()?);
        let ended = self.ended.clone();
        let passing = move || pass_on(File::from(near), to, &ended);
        self.threads.push(thread::Builder::new().spawn(passing)?);
        Ok(Some(far))
    }

    /// The command has ended: passes on what it wrote. What it left running is not waited for.
    pub fn flush(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn is_socket(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFSOCK.bits())
}

/// Until the other end is closed, or the command has ended and nothing more is there.
fn pass_on(mut from: File, mut to: File, ended: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let was_ended = ended.load(Ordering::Relaxed);
        let mut ready = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(LOOK)) {
            Ok(0) if was_ended => return,
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => return,
        }
        match from.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            // A journal that is gone loses the text; the command must not notice, as it does not without a session.
            Ok(read) => drop(to.write_all(&buffer[..read])),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn all_that_was_written_arrives_though_the_pipe_stays_open() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        let mut piped = Piped::default();
        let pipe = piped.replace(near.as_fd()).expect("a pipe");
        let mut pipe = File::from(pipe.expect("a socket is replaced"));
        let text: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = text.clone();
        let reader = thread::spawn(move || {
            let mut got = vec![0; expected.len()];
            far.read_exact(&mut got).map(|()| got == expected)
        });
        pipe.write_all(&text).expect("writes");
        piped.flush();
        assert!(reader.join().expect("no panic").expect("reads"));
    }

    #[test]
    fn what_a_session_may_have_stays() {
        let file = File::open("/dev/null").expect("is there");
        let mut piped = Piped::default();
        assert!(piped.replace(file.as_fd()).expect("looked at").is_none());
    }
}
