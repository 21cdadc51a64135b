//! What may become a session's stdin, stdout and stderr.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::sys::stat::{SFlag, fstat, major};

use super::{
    message::{Directory, Octets},
    sys,
};

/// Major number of /dev/null, zero, full, random and urandom (Documentation/admin-guide/devices.txt).
const MEM_MAJOR: u64 = 1;

/// Why descriptors are refused.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// It would be a connection out of the sandbox.
    #[error(
        "{name} is a socket, which would lead out of the sandbox: use a file, a pipe or a terminal (append `| cat`, or `< /dev/null`)"
    )]
    Socket {
        /// stdin, stdout or stderr.
        name: &'static str,
    },
    /// It is none of what is known to lead nowhere else.
    #[error("{name} is neither a file, a pipe, a terminal nor /dev/null")]
    Other {
        /// stdin, stdout or stderr.
        name: &'static str,
    },
    /// The terminal that came along is none.
    #[error("what came as the terminal is not one")]
    NoTerminal,
    /// The working directory is none.
    #[error("the working directory is not a directory that can be named")]
    NoDirectory,
    /// The client has not sent what it should.
    #[error("{received} descriptors came with the request instead of {expected}")]
    Count {
        /// How many came.
        received: usize,
        /// How many should have.
        expected: usize,
    },
}

/// The descriptors of a request, checked.
#[derive(Debug)]
pub struct Stdio {
    /// stdin, stdout and stderr.
    pub standard: [OwnedFd; 3],
    /// The terminal to become the controlling one.
    pub terminal: Option<OwnedFd>,
    /// The working directory.
    pub directory: Directory,
}

impl Stdio {
    /// Checks what came with a request: stdin, stdout, stderr, the working directory, and a terminal if announced.
    ///
    /// Allow-listed by type: a directory would lead around the session's mounts, a socket or a device such as
    /// /dev/net/tun out of its network.
    ///
    /// # Errors
    /// [`StdioError`].
    pub fn check(fds: Vec<OwnedFd>, with_terminal: bool) -> Result<Self, StdioError> {
        let (received, expected) = (fds.len(), if with_terminal { 5 } else { 4 });
        let mut fds = fds.into_iter();
        let (Some(stdin), Some(stdout), Some(stderr), Some(directory), terminal, None) = (
            fds.next(),
            fds.next(),
            fds.next(),
            fds.next(),
            fds.next(),
            fds.next(),
        ) else {
            return Err(StdioError::Count { received, expected });
        };
        if received != expected {
            return Err(StdioError::Count { received, expected });
        }
        allowed(stdin.as_fd(), "stdin")?;
        allowed(stdout.as_fd(), "stdout")?;
        allowed(stderr.as_fd(), "stderr")?;
        if terminal
            .as_ref()
            .is_some_and(|fd| sys::terminal_device(fd.as_fd()).is_none())
        {
            return Err(StdioError::NoTerminal);
        }
        Ok(Self {
            standard: [stdin, stdout, stderr],
            terminal,
            directory: directory_of(directory.as_fd())?,
        })
    }
}

fn allowed(fd: BorrowedFd<'_>, name: &'static str) -> Result<(), StdioError> {
    let other = StdioError::Other { name };
    let Ok(stat) = fstat(fd) else {
        return Err(other);
    };
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG | SFlag::S_IFIFO => Ok(()),
        SFlag::S_IFCHR if major(stat.st_rdev) == MEM_MAJOR => Ok(()),
        SFlag::S_IFCHR if sys::terminal_device(fd).is_some() => Ok(()),
        SFlag::S_IFSOCK => Err(StdioError::Socket { name }),
        _ => Err(other),
    }
}

fn directory_of(fd: BorrowedFd<'_>) -> Result<Directory, StdioError> {
    let stat = fstat(fd).map_err(|_| StdioError::NoDirectory)?;
    if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFDIR {
        return Err(StdioError::NoDirectory);
    }
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map_err(|_| StdioError::NoDirectory)?;
    Ok(Directory {
        path: Octets::from(path.as_path()),
        device: stat.st_dev,
        inode: stat.st_ino,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::net::UnixStream};

    use super::*;

    fn file(path: &str) -> OwnedFd {
        File::open(path).expect("opens").into()
    }

    fn standard() -> Vec<OwnedFd> {
        vec![
            file("/dev/null"),
            file("/dev/null"),
            file("/etc/passwd"),
            file("/tmp"),
        ]
    }

    #[test]
    fn files_and_null_pass_and_the_directory_is_named() {
        let stdio = Stdio::check(standard(), false).expect("passes");
        assert_eq!(stdio.directory.path.0, b"/tmp");
    }

    #[test]
    fn sockets_directories_and_devices_are_refused() {
        for index in 0..3 {
            let (socket, _other) = UnixStream::pair().expect("a pair");
            let mut fds = standard();
            fds[index] = socket.into();
            assert!(matches!(
                Stdio::check(fds, false),
                Err(StdioError::Socket { .. })
            ));
            let mut fds = standard();
            fds[index] = file("/");
            assert!(matches!(
                Stdio::check(fds, false),
                Err(StdioError::Other { .. })
            ));
        }
    }

    #[test]
    fn the_number_of_descriptors_has_to_be_right() {
        let mut fds = standard();
        fds.push(file("/dev/null"));
        assert!(matches!(
            Stdio::check(fds, false),
            Err(StdioError::Count { .. })
        ));
        assert!(matches!(
            Stdio::check(standard(), true),
            Err(StdioError::Count { .. })
        ));
        let mut fds = standard();
        fds.push(file("/dev/null"));
        assert!(matches!(
            Stdio::check(fds, true),
            Err(StdioError::NoTerminal)
        ));
    }
}
