//! The root process behind one session: makes its cgroup and its namespaces, starts its init, and lives as long as it does.
//!
//! It has one thread, because it changes its own namespaces and forks. All it is told comes over its standard input, a socket
//! from the daemon: nothing over arguments or environment, which any user can read.

use std::{
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::ExitCode,
};

use anyhow::Context as _;
use nix::{
    fcntl::OFlag,
    sched::{CloneFlags, setns, unshare},
    sys::{
        prctl,
        signal::SigSet,
        socket::{AddressFamily, SockaddrLike as _, SockaddrStorage, getsockname},
    },
    unistd::{self, Pid, pipe2, setsid, write},
};

use super::{
    cgroup::{self, SessionCgroup},
    command::Command,
    controllers,
    door::{self, Door},
    hook,
    init::Init,
    keeper::Keeper,
    message::{self, Errand, Prepare, Reply, Start},
    mounts,
    network::{self, Network, Place},
    private,
    program::Program,
    sys,
    wire::{self, MESSAGE_LIMIT, START_LIMIT, WireError},
};

/// `holdpoint shim`: only ever started by the launcher.
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
        Ok(Part::Done) => ExitCode::SUCCESS,
        Ok(Part::Init(init)) => {
            drop(daemon);
            init.run()
        }
        Ok(Part::Keeper(keeper)) => keeper.attend(daemon),
        Err(error) => {
            let message = format!("{error:#}");
            // A daemon that is gone needs no answer.
            let _ = wire::send(&daemon, &Reply::Failed { message }, MESSAGE_LIMIT, &[]);
            ExitCode::FAILURE
        }
    }
}

/// What this process has come to be.
enum Part {
    /// Nothing is left to do.
    Done,
    /// The session's init, a fork.
    Init(Box<Init>),
    /// The one that stays with the session.
    Keeper(Keeper),
}

/// Takes the socket away from standard input, where forks would keep it.
fn daemon() -> anyhow::Result<UnixStream> {
    // The launcher waits for its children in its own way.
    SigSet::empty().thread_set_mask()?;
    prctl::set_name(c"holdpoint-shim")?;
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let address: SockaddrStorage = getsockname(stdin.as_raw_fd())
        .context("this command is the launcher's own: standard input is no socket")?;
    anyhow::ensure!(
        address.family() == Some(AddressFamily::Unix),
        "this command is the launcher's own: standard input is no Unix socket"
    );
    unistd::dup2_stdin(fs::File::open("/dev/null")?)?;
    Ok(stdin.into())
}

fn serve(daemon: &UnixStream) -> anyhow::Result<Part> {
    match wire::receive::<Errand>(daemon, MESSAGE_LIMIT) {
        // The daemon has only looked whether there is a launcher.
        Err(WireError::Closed) => Ok(Part::Done),
        Err(error) => Err(error).context("the daemon is not understood"),
        Ok((Errand::Prepare(order), _)) => make_session(daemon, &order),
        Ok((Errand::Clear { cgroup }, _)) => {
            cgroup::end(&cgroup.to_path())?;
            wire::send(daemon, &Reply::Cleared, MESSAGE_LIMIT, &[])?;
            Ok(Part::Done)
        }
        Ok((Errand::Sweep { agents_cgroup }, _)) => {
            private::remove_leftovers(&agents_cgroup.to_path());
            wire::send(daemon, &Reply::Cleared, MESSAGE_LIMIT, &[])?;
            Ok(Part::Done)
        }
        Ok((Errand::Hook(order), _)) => {
            let end = hook::run(daemon, &order)?;
            wire::send(daemon, &Reply::HookEnded(end), MESSAGE_LIMIT, &[])?;
            Ok(Part::Done)
        }
    }
}

fn make_session(daemon: &UnixStream, order: &Prepare) -> anyhow::Result<Part> {
    anyhow::ensure!(
        order.version == message::LAUNCHER_VERSION,
        "the daemon speaks version {} and the launcher {}: restart both (systemctl restart holdpoint-launcher holdpoint)",
        order.version,
        message::LAUNCHER_VERSION
    );
    let cgroup = SessionCgroup::create(&order.agents_cgroup.to_path(), &order.session)?;
    controllers::limit(cgroup.path(), order.sandbox.limits)?;
    let door = Door::open(&order.runtime_dir.to_path(), &order.session)?;
    let host = fs::File::open("/proc/self/ns/mnt").context("cannot open the host's mounts")?;
    let launched = launch(daemon, order, &cgroup);
    if let Ok(Some((Forked::Init(init), _))) = launched {
        door.leave();
        // It is the shim's to end and to remove.
        std::mem::forget(cgroup);
        return Ok(Part::Init(init));
    }
    // Cgroups, and what the session leaves in /tmp, are to be seen here only.
    setns(host, CloneFlags::CLONE_NEWNS).context("cannot return to the host's mounts")?;
    match launched? {
        Some((Forked::Shim(init), kept)) => {
            let keeper = Keeper::new(init, cgroup, door, kept)?;
            door::hasten(daemon)?;
            // A daemon that is gone meanwhile: the next one adopts the session.
            let _ = wire::send(daemon, &Reply::Launched, MESSAGE_LIMIT, &[]);
            Ok(Part::Keeper(keeper))
        }
        _ => Ok(Part::Done),
    }
}

/// None when nothing is to be started after all; with it, what the daemon wants to be kept, and where the listeners are.
fn launch(
    daemon: &UnixStream,
    order: &Prepare,
    cgroup: &SessionCgroup,
) -> anyhow::Result<Option<(Forked, (String, Place))>> {
    let (place, programs) = prepare(daemon, order, cgroup)?;
    let (start, fds) = match wire::receive::<Start>(daemon, START_LIMIT) {
        Err(WireError::Closed) => return Ok(None),
        received => received?,
    };
    let state = start.state.clone();
    let forked = fork((start, programs), order, fds, cgroup)?;
    Ok(Some((forked, (state, place))))
}

fn prepare(
    daemon: &UnixStream,
    order: &Prepare,
    cgroup: &SessionCgroup,
) -> anyhow::Result<(Place, Vec<Program>)> {
    setsid().context("cannot leave the launcher's session")?;
    // Shared memory and message queues of processes outside stay outside; a name of the host's own stays what it is.
    let mut own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    if order.network == Network::Own {
        own |= CloneFlags::CLONE_NEWNET;
    }
    unshare(own).context("cannot make the session's namespaces")?;
    mounts::isolate(
        &order.runtime_dir.to_path(),
        &order.ca_bundle.to_path(),
        &order.sandbox,
    )?;
    let (place, opened) = network::open(order.network)?;
    let (listeners, sockets): (Vec<_>, Vec<_>) = opened.into_iter().unzip();
    let fds: Vec<_> = sockets.iter().map(OwnedFd::as_fd).collect();
    let programs = match &order.named {
        Some(named) => named.look(&order.sandbox.caller)?,
        None => Vec::new(),
    };
    let ready = Reply::Ready {
        cgroup_id: cgroup.id(),
        listeners,
        place,
        programs: programs.clone(),
    };
    wire::send(daemon, &ready, MESSAGE_LIMIT, &fds)?;
    Ok((place, programs))
}

/// Where the fork returned.
enum Forked {
    /// In the session's init.
    Init(Box<Init>),
    /// In the shim, with the init's process id.
    Shim(Pid),
}

fn fork(
    (start, programs): (Start, Vec<Program>),
    order: &Prepare,
    fds: Vec<OwnedFd>,
    cgroup: &SessionCgroup,
) -> anyhow::Result<Forked> {
    let mut fds = fds.into_iter();
    let (Some(client), Some(stdin), Some(stdout), Some(stderr)) =
        (fds.next(), fds.next(), fds.next(), fds.next())
    else {
        anyhow::bail!("descriptors are missing");
    };
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let init = Init {
        command: Command::new(start, order, programs, [stdin, stdout, stderr])?,
        client: client.into(),
        terminal: fds.next(),
        shim: reader,
    };
    // SAFETY: the shim has one thread.
    match unsafe { sys::clone_into(cgroup.as_fd()) }
        .context("cannot start in the session's cgroup")?
    {
        sys::Cloned::Child => Ok(Forked::Init(Box::new(init))),
        sys::Cloned::Parent(pid) => {
            write(&writer, &[1]).context("the session's init is gone")?;
            Ok(Forked::Shim(pid))
        }
    }
}
