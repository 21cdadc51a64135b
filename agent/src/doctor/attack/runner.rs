//! Runs attacks, each in a process of its own: some kill theirs, some hang, some change it for good.

use std::{
    io::{self, Read as _, Write as _},
    os::fd::AsFd as _,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, killpg},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork, pipe, setsid},
};
use serde::{Deserialize, Serialize};

use super::{Attack, Plan, Scene, all, victim};

/// How long one attack may take. What is refused is refused at once; what has to pass takes an emulated machine seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What became of one attack, as its process tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Its name.
    pub attack: String,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took, in milliseconds.
    pub ms: u64,
}

/// How an attack ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing stopped it.
    Done,
    /// An error did.
    Failed {
        /// The kernel's error number, if it was the kernel.
        errno: Option<i32>,
        /// In words.
        why: String,
    },
    /// The kernel killed it.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// It hung.
    TimedOut,
}

/// `holdpoint attack`: only ever started by the doctor. `what` is a [`Plan`] in JSON, or `victim`.
#[must_use]
pub fn main(what: &str) -> ExitCode {
    let done = match what {
        "victim" => victim::main(),
        plan => serde_json::from_str(plan)
            .map_err(io::Error::from)
            .and_then(|plan| run(&plan)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdpoint attack: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A line of JSON for each attack.
fn run(plan: &Plan) -> io::Result<()> {
    for attack in all().filter(|attack| plan.attacks.iter().any(|name| name == attack.name)) {
        let started = Instant::now();
        let outcome = apart(attack, plan)?;
        let tried = Tried {
            attack: attack.name.to_owned(),
            outcome,
            ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let mut line = serde_json::to_vec(&tried)?;
        line.push(b'\n');
        io::stdout().write_all(&line)?;
    }
    Ok(())
}

/// In a process, and a process group, of its own.
fn apart(attack: &Attack, plan: &Plan) -> io::Result<Outcome> {
    let (reader, writer) = pipe()?;
    // SAFETY: this process has one thread.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            drop(reader);
            let _ = setsid();
            let outcome = catch_unwind(AssertUnwindSafe(|| attempt(attack, plan)))
                .unwrap_or_else(|_| failed(&io::Error::other("the attack panicked")));
            let _ = std::fs::File::from(writer)
                .write_all(&serde_json::to_vec(&outcome).unwrap_or_default());
            // SAFETY: ends the process; nothing of the parent's is to be run.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => child,
    };
    drop(writer);
    let told = read_within(std::fs::File::from(reader), PATIENCE);
    let _ = killpg(child, Signal::SIGKILL);
    let ended = wait(child)?;
    Ok(match (told, ended) {
        (Ok(None), _) => Outcome::TimedOut,
        (Ok(Some(bytes)), ended) => match (serde_json::from_slice(&bytes), ended) {
            (Ok(outcome), _) => outcome,
            (Err(_), WaitStatus::Signaled(_, signal, _)) => Outcome::Killed {
                signal: signal as i32,
            },
            (Err(_), _) => failed(&io::Error::other("it left no answer")),
        },
        (Err(error), _) => failed(&error),
    })
}

fn attempt(attack: &Attack, plan: &Plan) -> Outcome {
    let scene = Scene {
        plan: plan.clone(),
        name: attack.name,
    };
    match (attack.way)(&scene) {
        Ok(()) => Outcome::Done,
        Err(error) => failed(&error),
    }
}

fn failed(error: &io::Error) -> Outcome {
    Outcome::Failed {
        errno: error.raw_os_error(),
        why: error.to_string(),
    }
}

/// All there is to read until the other end is closed; None when that takes too long.
fn read_within(mut from: std::fs::File, limit: Duration) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + limit;
    let mut bytes = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(from.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Ok(None);
        }
        let mut part = [0; 4096];
        match from.read(&mut part)? {
            0 => return Ok(Some(bytes)),
            length => bytes.extend_from_slice(&part[..length]),
        }
    }
}

fn wait(child: Pid) -> io::Result<WaitStatus> {
    loop {
        match waitpid(child, None) {
            Err(nix::errno::Errno::EINTR) => {}
            ended => return Ok(ended?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_survive_the_pipe() {
        for outcome in [
            Outcome::Done,
            failed(&io::Error::from_raw_os_error(libc::EPERM)),
            Outcome::Killed { signal: 31 },
            Outcome::TimedOut,
        ] {
            let bytes = serde_json::to_vec(&outcome).expect("is JSON");
            assert_eq!(
                serde_json::from_slice::<Outcome>(&bytes).expect("comes back"),
                outcome
            );
        }
    }

    #[test]
    fn a_pipe_that_stays_open_is_not_waited_for() {
        let (reader, writer) = pipe().expect("a pipe");
        let read = read_within(reader.into(), Duration::from_millis(50)).expect("reads");
        assert_eq!(read, None);
        drop(writer);
    }
}
