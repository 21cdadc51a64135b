//! A process outside, of the same user: what a sandbox must not touch.

use std::io::{self, Write as _};

use nix::sys::prctl;
use serde::{Deserialize, Serialize};

use super::check;

/// What its secrets begin with, in memory and in the file it has open.
pub const SECRET: &[u8; 16] = b"HOLDPOINT-SECRET";
/// The variable in its environment.
pub const VARIABLE: &str = "HOLDPOINT_DOCTOR_SECRET";

/// How to find it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Victim {
    /// Its process id outside.
    pub pid: i32,
    /// Where in its memory the secret is.
    pub secret_at: usize,
}

/// Says where its secret is, and lives until it is killed. Its standard input is the secret file.
pub fn main() -> io::Result<()> {
    let secret = Box::new(*SECRET);
    prctl::set_dumpable(true)?;
    // Where Yama restricts ptrace to ancestors; elsewhere it is EINVAL.
    // SAFETY: takes no memory.
    let _ = unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY, 0, 0, 0) };
    let victim = Victim {
        pid: std::process::id().cast_signed(),
        secret_at: std::ptr::from_ref(&*secret).addr(),
    };
    let mut out = io::stdout();
    serde_json::to_writer(&mut out, &victim)?;
    out.write_all(b"\n")?;
    out.flush()?;
    loop {
        std::thread::sleep(std::time::Duration::from_secs(60));
        std::hint::black_box(&secret);
    }
}

/// Whether these are the secret's bytes.
pub fn is_secret(bytes: &[u8]) -> io::Result<()> {
    if bytes.starts_with(SECRET) {
        Ok(())
    } else {
        Err(super::no("something else was read"))
    }
}

/// Reads the secret from an open file.
pub fn read_secret(mut file: impl io::Read + io::Seek) -> io::Result<()> {
    let mut bytes = [0; SECRET.len()];
    file.rewind()?;
    file.by_ref().read_exact(&mut bytes)?;
    is_secret(&bytes)
}

/// A handle of a process.
pub fn pidfd_open(pid: i32) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: takes no memory.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just made it.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd as i32) })
}
