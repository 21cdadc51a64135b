//! A program of the operator's, run as an unprivileged user with some text to read: in the daemon what to run, in a shim running it.

use std::{
    ffi::{CString, OsStr},
    fmt, io,
    io::Write as _,
    os::{
        fd::AsFd as _,
        unix::{
            ffi::OsStrExt as _,
            net::UnixStream,
            process::{CommandExt as _, ExitStatusExt as _},
        },
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::prctl,
    unistd::{User, getgrouplist},
};

use super::{
    credentials,
    message::{Errand, Octets, Reply, RunHook},
    spawn::shim,
    wire::{MESSAGE_LIMIT, nonblocking},
};

/// How often a shim looks whether the program has ended.
const EVERY: Duration = Duration::from_millis(20);
/// Besides the program's time: for the launcher and the shim.
const PATIENCE: Duration = Duration::from_secs(10);
/// All it knows of the host.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is to be run, as whom, and for how long.
#[derive(Clone, Debug)]
pub struct Hook {
    command: Vec<Octets>,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    limit: Duration,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HookEnd {
    /// Its exit code, where it has exited.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether that was because its time was up.
    pub late: bool,
}

impl fmt::Display for HookEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.late, self.code, self.signal) {
            (true, ..) => f.write_str("its time was up, and it was killed"),
            (_, Some(code), _) => write!(f, "it exited with {code}"),
            (_, _, Some(signal)) => write!(f, "it was ended by signal {signal}"),
            _ => f.write_str("nobody knows how it ended"),
        }
    }
}

impl Hook {
    /// Looks the user up.
    ///
    /// # Errors
    /// When there is no such user, or it is root.
    pub fn new(command: &[String], user: &str, limit: Duration) -> anyhow::Result<Self> {
        let found = User::from_name(user).with_context(|| format!("cannot look up {user}"))?;
        let found = found.with_context(|| format!("there is no user {user}"))?;
        ensure!(
            !found.uid.is_root(),
            "a command runs as an unprivileged user, and {user} is root"
        );
        let groups = getgrouplist(&CString::new(user)?, found.gid)?;
        Ok(Self {
            command: command.iter().map(|it| Octets(it.clone().into())).collect(),
            uid: found.uid.as_raw(),
            gid: found.gid.as_raw(),
            groups: groups.iter().map(|gid| gid.as_raw()).collect(),
            limit,
        })
    }

    /// Runs it with `input` on its standard input.
    ///
    /// # Errors
    /// When the launcher does not start it.
    pub async fn run(&self, launcher: &Path, input: &str) -> anyhow::Result<HookEnd> {
        let errand = Errand::Hook(Box::new(RunHook {
            command: self.command.clone(),
            uid: self.uid,
            gid: self.gid,
            groups: self.groups.clone(),
            input: input.to_owned(),
            milliseconds: u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX),
        }));
        let shim = shim(launcher).await?;
        nonblocking::send(&shim, &errand, MESSAGE_LIMIT, &[], PATIENCE).await?;
        let patience = self.limit + PATIENCE;
        match nonblocking::receive::<Reply>(&shim, MESSAGE_LIMIT, patience)
            .await?
            .0
        {
            Reply::HookEnded(end) => Ok(end),
            Reply::Failed { message } => anyhow::bail!(message),
            _ => anyhow::bail!("a shim does not do what it was told"),
        }
    }
}

/// The shim's part: returns when the program and all that it has started are gone.
pub(super) fn run(daemon: &UnixStream, order: &RunHook) -> anyhow::Result<HookEnd> {
    // The program is the first process of a PID namespace: with it goes everything that it leaves behind.
    unshare(CloneFlags::CLONE_NEWPID).context("cannot make a PID namespace")?;
    let deadline = Instant::now() + Duration::from_millis(order.milliseconds);
    let mut child = start(order)?;
    let late = !ends_before(&mut child, deadline, daemon)?;
    if late {
        child.kill().context("cannot kill the command")?;
    }
    Ok(end_of(child.wait()?, late))
}

fn start(order: &RunHook) -> anyhow::Result<Child> {
    let mut words = order.command.iter().map(|word| OsStr::from_bytes(&word.0));
    let program = words.next().context("the command is empty")?;
    let (input, mut rest) = io::pipe()?;
    // A pipe takes 64 KiB at once, which is more than a message has.
    rest.write_all(order.input.as_bytes())?;
    drop(rest);
    let (uid, gid, groups) = (order.uid, order.gid, order.groups.clone());
    let mut command = Command::new(program);
    command
        .args(words)
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::from(input))
        .stdout(Stdio::null())
        // To the launcher's log.
        .stderr(Stdio::inherit());
    let become_user = move || {
        nix::unistd::setsid()?;
        prctl::set_no_new_privs()?;
        credentials::become_user(uid, gid, &groups).map_err(io::Error::other)
    };
    // SAFETY: the shim has one thread, so that the child may do between fork and exec whatever a program may.
    unsafe { command.pre_exec(become_user) };
    command
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}

/// A daemon that is gone does not want it to go on.
fn ends_before(child: &mut Child, deadline: Instant, daemon: &UnixStream) -> io::Result<bool> {
    while Instant::now() < deadline {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        let mut ready = [PollFd::new(daemon.as_fd(), PollFlags::POLLIN)];
        let every = PollTimeout::try_from(EVERY).unwrap_or(PollTimeout::ZERO);
        if poll(&mut ready, every)? != 0 {
            return Ok(false);
        }
    }
    Ok(false)
}

fn end_of(status: ExitStatus, late: bool) -> HookEnd {
    HookEnd {
        code: status.code(),
        signal: status.signal(),
        late,
    }
}
