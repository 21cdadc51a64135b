//! Proves enforcement by trying: a child process below the agents' cgroup, in no session, must be refused everything.

use std::{
    fs::{self, File, OpenOptions},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, connect, sendto, socket,
        },
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, write},
};

use super::AgentsCgroup;

/// The child's exit code when it could not enter the cgroup. Below it: the number of the attempt that was not refused.
const NOT_ENTERED: i32 = 100;

/// RFC 863.
const DISCARD: u16 = 9;

/// Tries everything there is to try, and answers how many attempts that were.
///
/// # Errors
/// When something was not refused with EPERM, or could not be tried.
pub fn all_refused(agents: &AgentsCgroup) -> anyhow::Result<u64> {
    let attempts = attempts().context("cannot prepare the proof of enforcement")?;
    let cgroup = StrayCgroup::create(&agents.path)?;
    let door = cgroup.door()?;
    // SAFETY: between fork and _exit the child makes system calls only, on what was made before: no allocation, no lock.
    match unsafe { fork() }.context("cannot start the process that proves enforcement")? {
        ForkResult::Child => {
            let code = try_from_inside(&door, &attempts);
            // SAFETY: ends the process at once, running nothing of the parent's.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => match wait(child)? {
            // And the making of a socket.
            0 => Ok(attempts.len() as u64 + 1),
            NOT_ENTERED => anyhow::bail!(
                "cannot prove enforcement: no process can be moved into {}",
                cgroup.0.display()
            ),
            number => anyhow::bail!(
                "the BPF programs are attached but do not enforce: {} was not refused to a process below {}",
                usize::try_from(number - 1)
                    .ok()
                    .and_then(|index| attempts.get(index))
                    .map_or("the making of a socket", |attempt| attempt.what),
                agents.path.display()
            ),
        },
    }
}

/// Something that must not work. Loopback: where nothing is enforced, nothing leaves the host either.
struct Attempt {
    what: &'static str,
    socket: OwnedFd,
    to: SockaddrStorage,
    way: Way,
}

enum Way {
    Connect,
    Send,
}

impl Attempt {
    fn make(&self) -> nix::Result<()> {
        let socket = self.socket.as_raw_fd();
        match self.way {
            Way::Connect => connect(socket, &self.to),
            Way::Send => sendto(socket, &[0], &self.to, MsgFlags::empty()).map(drop),
        }
    }
}

fn attempts() -> anyhow::Result<Vec<Attempt>> {
    let mut attempts = Vec::new();
    for (what, loopback, way) in [
        (
            "TCP over IPv4",
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Way::Connect,
        ),
        ("TCP over IPv6", Ipv6Addr::LOCALHOST.into(), Way::Connect),
        ("UDP over IPv4", Ipv4Addr::LOCALHOST.into(), Way::Send),
        ("UDP over IPv6", Ipv6Addr::LOCALHOST.into(), Way::Send),
    ] {
        let family = match loopback {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        let kind = match way {
            Way::Connect => SockType::Stream,
            Way::Send => SockType::Datagram,
        };
        match socket(family, kind, SockFlag::SOCK_CLOEXEC, None) {
            Ok(socket) => attempts.push(Attempt {
                what,
                socket,
                to: SocketAddr::new(loopback, DISCARD).into(),
                way,
            }),
            // A kernel without IPv6 has nothing to enforce there.
            Err(Errno::EAFNOSUPPORT) if loopback.is_ipv6() => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(attempts)
}

/// Runs in the child.
fn try_from_inside(door: &File, attempts: &[Attempt]) -> i32 {
    // 0 stands for the writer.
    if write(door, b"0").is_err() {
        return NOT_ENTERED;
    }
    let mut number = 0;
    for attempt in attempts {
        number += 1;
        if attempt.make() != Err(Errno::EPERM) {
            return number;
        }
    }
    match socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::empty(),
        None,
    ) {
        Err(Errno::EPERM) => 0,
        _ => number + 1,
    }
}

fn wait(child: Pid) -> anyhow::Result<i32> {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                anyhow::bail!("the process that proves enforcement was ended by {signal}")
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("cannot wait for the proof of enforcement"),
        }
    }
}

/// A cgroup below the agents' that is no session's; removed when dropped.
struct StrayCgroup(PathBuf);

impl StrayCgroup {
    fn create(agents: &Path) -> anyhow::Result<Self> {
        let path = agents.join(crate::session::random_id("prove-"));
        fs::create_dir(&path)
            .with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Self(path))
    }

    /// What a process writes its id to.
    fn door(&self) -> anyhow::Result<File> {
        let path = self.0.join("cgroup.procs");
        OpenOptions::new()
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }
}

impl Drop for StrayCgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            tracing::warn!("cannot remove the cgroup {}: {error}", self.0.display());
        }
    }
}
