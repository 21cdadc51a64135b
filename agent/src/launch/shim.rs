//! The root process behind one session: makes its namespaces, starts its init, and lives as long as it does.
//!
//! It has one thread, because it changes its own namespaces and forks. All it is told comes over its standard input, a socket
//! from the daemon: nothing over arguments or environment, which any user can read.

use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    fcntl::OFlag,
    sched::{CloneFlags, unshare},
    sys::{
        socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getsockname},
        wait::waitpid,
    },
    unistd::{Pid, pipe2, setsid, write},
};

use super::{
    command::Command,
    init::Init,
    message::{Octets, Prepare, Reply, Start},
    mounts, network, sys,
    wire::{self, MESSAGE_LIMIT, START_LIMIT, WireError},
};

/// `holdpoint shim`: only ever started by the daemon.
#[must_use]
pub fn main() -> ExitCode {
    let daemon = match daemon() {
        Ok(daemon) => daemon,
        Err(error) => {
            eprintln!("holdpoint shim: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match serve(&daemon) {
        Ok(init) => {
            drop(daemon);
            while let Err(Errno::EINTR) = waitpid(init, None) {}
            ExitCode::SUCCESS
        }
        Err(error) => {
            let message = format!("{error:#}");
            // A daemon that is gone needs no answer.
            let _ = wire::send(&daemon, &Reply::Failed { message }, MESSAGE_LIMIT, &[]);
            ExitCode::FAILURE
        }
    }
}

fn daemon() -> anyhow::Result<UnixStream> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let address: SockaddrStorage = getsockname(stdin.as_raw_fd())
        .context("this command is the daemon's own: standard input is no socket")?;
    anyhow::ensure!(
        address.family() == Some(AddressFamily::Unix),
        "this command is the daemon's own: standard input is no Unix socket"
    );
    Ok(stdin.into())
}

/// Until the init runs.
fn serve(daemon: &UnixStream) -> anyhow::Result<Pid> {
    let (order, _) = wire::receive::<Prepare>(daemon, MESSAGE_LIMIT)?;
    prepare(daemon, &order)?;
    let (start, fds) = match wire::receive::<Start>(daemon, START_LIMIT) {
        // Nothing is to be started after all.
        Err(WireError::Closed) => std::process::exit(0),
        received => received?,
    };
    let init = launch(start, order.sandbox.sockets, fds)?;
    wire::send(daemon, &Reply::Launched, MESSAGE_LIMIT, &[])?;
    Ok(init)
}

fn prepare(daemon: &UnixStream, order: &Prepare) -> anyhow::Result<()> {
    setsid().context("cannot leave the daemon's session")?;
    // Shared memory and message queues of processes outside stay outside; a name of the host's own stays what it is.
    unshare(
        CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS,
    )
    .context("cannot make the session's namespaces")?;
    let (runtime_dir, ca_bundle) = (order.runtime_dir.to_path(), order.ca_bundle.to_path());
    mounts::isolate(&runtime_dir, &ca_bundle, &order.sandbox)?;
    let (services, listeners): (Vec<_>, Vec<_>) = network::listeners()?.into_iter().unzip();
    let fds: Vec<_> = listeners.iter().map(OwnedFd::as_fd).collect();
    wire::send(
        daemon,
        &Reply::Ready {
            listeners: services,
        },
        MESSAGE_LIMIT,
        &fds,
    )?;
    Ok(())
}

fn launch(start: Start, sockets: Vec<Octets>, fds: Vec<OwnedFd>) -> anyhow::Result<Pid> {
    let mut fds = fds.into_iter();
    let (Some(client), Some(cgroup), Some(stdin), Some(stdout), Some(stderr)) =
        (fds.next(), fds.next(), fds.next(), fds.next(), fds.next())
    else {
        anyhow::bail!("descriptors are missing");
    };
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let init = Init {
        command: Command::new(start, sockets, [stdin, stdout, stderr])?,
        client: client.into(),
        terminal: fds.next(),
        shim: reader,
    };
    // SAFETY: the shim has one thread.
    match unsafe { sys::clone_into(cgroup.as_fd()) }
        .context("cannot start in the session's cgroup")?
    {
        sys::Cloned::Child => {
            drop(writer);
            init.run()
        }
        sys::Cloned::Parent(pid) => {
            write(&writer, &[1]).context("the session's init is gone")?;
            Ok(pid)
        }
    }
}
