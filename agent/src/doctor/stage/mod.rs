//! A stage to try attacks on: a host in small, in namespaces of its own, with an outside world at the end of a cable. Nothing on it
//! can be reached from elsewhere, nothing of it reaches the real host or its network, and nothing of it is left over.

mod backdrop;
pub mod cable;
mod host;
mod issuer;
mod listen;
mod outside;
pub mod places;
mod seen;
mod world;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use self::{
    issuer::Issuer,
    places::{PINS, PROGRAM, RUNTIME},
    seen::Seen,
    world::{Daemon, with_us},
};
use super::{
    attack::{Plan, SECRET, Tried, VARIABLE, VARIABLES, Victim},
    person::Person,
    verdict::Trial,
};
use crate::{kernel, launch::sys::loopback_up, session::random_id};

/// How long all attacks of one pass may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long what was sent may be under way.
const SETTLE: Duration = Duration::from_millis(300);

/// Where and as whom attacks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Outside, as the user.
    Outside,
    /// Outside, as root: for what the user may not do anyway.
    OutsideAsRoot,
    /// In a session.
    Inside,
}

impl Place {
    const fn letter(self) -> char {
        match self {
            Self::Outside => 'u',
            Self::OutsideAsRoot => 'r',
            Self::Inside => 'i',
        }
    }
}

/// A stage that is set.
pub struct Stage {
    daemon: Daemon,
    victim: Child,
    plan: Plan,
    run: String,
    seen: Seen,
    token: String,
    person: Person,
    proxy: Option<host::OpenProxy>,
}

impl Stage {
    /// Sets it, with the BPF program `without` taken away if it is named: to see whether the doctor notices. The calling thread is on it
    /// from then on.
    ///
    /// # Errors
    /// When the kernel refuses, the daemon does not start, or there is no such program.
    pub fn set(person: Person, without: Option<&str>) -> anyhow::Result<Self> {
        let run = random_id("hp");
        let seen = Seen::of(&run);
        let cgroup2 = kernel::cgroup2_root()?;
        backdrop::put_up(person.uid)?;
        cable::trust_addresses();
        loopback_up().context("cannot set loopback up")?;
        outside::open(&seen)?;
        backdrop::network()?;
        let issuer = Issuer::new()?;
        let token = issuer.token()?;
        let proxy = host::open(&seen, issuer)?;
        let shared_memory = shared_memory().context("cannot make shared memory")?;
        message_queue().context("cannot make a message queue")?;
        let (victim, found) = victim(&person)?;
        let daemon = Daemon::start(&cgroup2, without.is_none())?;
        if let Some(program) = without {
            let pin = Path::new(PINS).join("links").join(program);
            fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))?;
        }
        let plan = Plan {
            mark: String::new(),
            attacks: Vec::new(),
            victim: found,
            daemon: daemon.pid(),
            cgroup2,
            shared_memory,
        };
        Ok(Self {
            daemon,
            victim,
            plan,
            run,
            seen,
            token,
            person,
            proxy: Some(proxy),
        })
    }

    /// Tries attacks. What is missing in the answer left no result.
    ///
    /// # Errors
    /// When they cannot be run at all.
    pub fn attempt(&mut self, place: Place, attacks: &[&str]) -> anyhow::Result<Vec<Trial>> {
        if place == Place::Inside {
            self.proxy = None;
        }
        let plan = Plan {
            mark: format!("{}{}", self.run, place.letter()),
            attacks: attacks.iter().map(|name| (*name).to_owned()).collect(),
            ..self.plan.clone()
        };
        let mut command = self.command(place, &serde_json::to_string(&plan)?);
        let lines = output_within(&mut command, PATIENCE)
            .with_context(|| format!("the attacks ({place:?}) did not run"))
            .map_err(|error| match place {
                Place::Inside => error.context(format!("the daemon says:\n{}", self.daemon.log())),
                _ => error,
            })?;
        thread::sleep(SETTLE);
        lines
            .iter()
            .map(|line| {
                let tried: Tried = serde_json::from_str(line)
                    .with_context(|| format!("an attack says {line:?}"))?;
                let arrived = self.seen.has(&format!("{}-{}", plan.mark, tried.attack));
                Ok(Trial { tried, arrived })
            })
            .collect()
    }

    fn command(&self, place: Place, plan: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        if place == Place::Inside {
            let socket = Path::new(RUNTIME).join("run.sock");
            command.args(["run", "--socket"]).arg(socket);
            command.arg("--").arg(PROGRAM);
        }
        command.args(["attack", plan]);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .envs(VARIABLES.map(|name| (name, "doctor")))
            .env("HOLDPOINT_TOKEN", &self.token)
            .current_dir("/");
        if place != Place::OutsideAsRoot {
            command.uid(self.person.uid).gid(self.person.gid);
        }
        with_us(command)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
    }
}

fn victim(person: &Person) -> anyhow::Result<(Child, Victim)> {
    let mut child = with_us(Command::new(PROGRAM));
    let mut child = child
        .args(["attack", "victim"])
        .env_clear()
        .env(VARIABLE, "doctor")
        .current_dir("/")
        .uid(person.uid)
        .gid(person.gid)
        .stdin(File::open(backdrop::VICTIMS_FILE)?)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a process of the user's")?;
    let stdout = child.stdout.take().context("it has an output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let victim = serde_json::from_str(&line).context("a process of the user's does not start")?;
    Ok((child, victim))
}

/// A segment that every user may attach to, with the secret in it.
fn shared_memory() -> anyhow::Result<i32> {
    let mut key = [0; 4];
    getrandom::fill(&mut key).context("no random bytes")?;
    let key = i32::from_ne_bytes(key) | 1;
    // SAFETY: takes no memory.
    let segment = unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | libc::IPC_EXCL | 0o666) };
    // SAFETY: attaches where the kernel finds room.
    let at = unsafe { libc::shmat(segment, std::ptr::null(), 0) };
    if segment == -1 || at.addr() == usize::MAX {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: the segment has 4096 bytes and nobody else has it mapped.
    unsafe { at.cast::<[u8; 16]>().write(*SECRET) };
    Ok(key)
}

/// A queue that every user may open.
fn message_queue() -> anyhow::Result<()> {
    let name = places::QUEUE.as_ptr();
    // SAFETY: reads a terminated name.
    let queue = unsafe {
        libc::mq_open(
            name,
            libc::O_CREAT | libc::O_RDWR,
            0o666 as libc::mode_t,
            std::ptr::null::<libc::mq_attr>(),
        )
    };
    // SAFETY: takes no memory. The umask has taken permissions away.
    if queue != -1 && unsafe { libc::fchmod(queue, 0o666) } != -1 {
        return Ok(());
    }
    match std::io::Error::last_os_error() {
        // A kernel without them.
        error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        error => Err(error.into()),
    }
}

/// The lines a command prints until it ends.
fn output_within(command: &mut Command, limit: Duration) -> anyhow::Result<Vec<String>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (
        collect(child.stdout.take().context("it has an output")?),
        collect(child.stderr.take().context("it has an output")?),
    );
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("they still ran after {limit:?}");
        }
        thread::sleep(Duration::from_millis(10));
    };
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    let (stdout, stderr) = (text(stdout), text(stderr));
    anyhow::ensure!(status.success(), "{status}: {}", stderr.trim());
    Ok(stdout.lines().map(str::to_owned).collect())
}

fn collect(mut from: impl std::io::Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut text = Vec::new();
        let _ = from.by_ref().read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    })
}
