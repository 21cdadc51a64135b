//! Ends what one job left running before the next one begins, in a sandbox that outlives both.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long the kernel may take to freeze a sandbox. It waits for processes in the middle of a write to a slow disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// A process, and no other that gets its number later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ProcessId {
    pid: u32,
    /// In clock ticks since the boot (field 22 of proc_pid_stat(5)).
    started: u64,
}

/// The processes that outlive a sandbox's jobs: those that were there when the last one was bound.
#[derive(Debug, Default)]
pub struct Residents(Option<HashSet<ProcessId>>);

impl Residents {
    /// Kills every process of the sandbox that is neither a resident nor `caller` nor an ancestor of it. Nothing runs in the sandbox
    /// meanwhile, so nothing can be started to get away. With `settle`, those that are left are the residents from now on;
    /// until that has happened once, all are. Blocks.
    ///
    /// # Errors
    /// When the caller is not in the sandbox any more, or the sandbox cannot be frozen in 5 s, or read.
    pub fn end_strays(&mut self, cgroup: &Path, caller: u32, settle: bool) -> anyhow::Result<()> {
        if self.0.is_none() && !settle {
            return Ok(());
        }
        let _frozen = Frozen::freeze(cgroup)?;
        let processes = Processes::of(cgroup)?;
        let callers = processes.with_ancestors(caller);
        anyhow::ensure!(
            !callers.is_empty(),
            "the calling process is not in the sandbox any more"
        );
        let mut left = HashSet::new();
        for process in processes.ids() {
            if callers.contains(&process) || self.has(&process) {
                left.insert(process);
            } else {
                // It cannot run, and so cannot end and give its number away, unless somebody else kills it just now.
                let _ = kill(Pid::from_raw(process.pid.cast_signed()), Signal::SIGKILL);
            }
        }
        if settle {
            self.0 = Some(left);
        }
        Ok(())
    }

    fn has(&self, process: &ProcessId) -> bool {
        self.0.as_ref().is_none_or(|known| known.contains(process))
    }
}

/// A cgroup in which nothing runs (cgroup-v2.rst, `cgroup.freeze`; Linux 5.2). Dropped, all goes on.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(cgroup: &Path) -> anyhow::Result<Self> {
        let what = || format!("cannot freeze {}", cgroup.display());
        let frozen = Self(cgroup.to_owned());
        fs::write(cgroup.join("cgroup.freeze"), "1").with_context(what)?;
        let started = Instant::now();
        loop {
            let events = fs::read_to_string(cgroup.join("cgroup.events")).with_context(what)?;
            if events.lines().any(|line| line == "frozen 1") {
                return Ok(frozen);
            }
            anyhow::ensure!(
                started.elapsed() < PATIENCE,
                "{}: its processes do not stop",
                what()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = fs::write(self.0.join("cgroup.freeze"), "0")
            && self.0.exists()
        {
            eprintln!("holdpoint shim: {} stays frozen: {error}", self.0.display());
        }
    }
}

/// The processes of a cgroup and those below it.
struct Processes(HashMap<u32, Stat>);

impl Processes {
    fn of(cgroup: &Path) -> anyhow::Result<Self> {
        let mut processes = HashMap::new();
        let mut cgroups = vec![cgroup.to_owned()];
        while let Some(cgroup) = cgroups.pop() {
            let pids = fs::read_to_string(cgroup.join("cgroup.procs"))?;
            for pid in pids.lines().filter_map(|line| line.parse().ok()) {
                let stat = fs::read(format!("/proc/{pid}/stat"));
                // One that is gone by now was killed from outside.
                if let Ok(stat) = stat {
                    let stat = Stat::parse(&stat);
                    let stat =
                        stat.with_context(|| format!("/proc/{pid}/stat is not understood"))?;
                    processes.insert(pid, stat);
                }
            }
            for entry in fs::read_dir(&cgroup)? {
                let path = entry?.path();
                if path.is_dir() {
                    cgroups.push(path);
                }
            }
        }
        Ok(Self(processes))
    }

    fn ids(&self) -> impl Iterator<Item = ProcessId> {
        self.0.iter().map(|(pid, stat)| ProcessId {
            pid: *pid,
            started: stat.started,
        })
    }

    /// The process and its ancestors, as far as they are in the cgroup.
    fn with_ancestors(&self, pid: u32) -> HashSet<ProcessId> {
        let mut found = HashSet::new();
        let mut next = pid;
        while let Some(stat) = self.0.get(&next) {
            let new = found.insert(ProcessId {
                pid: next,
                started: stat.started,
            });
            if !new {
                break;
            }
            next = stat.parent;
        }
        found
    }
}

/// What matters of `/proc/PID/stat` (proc_pid_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    started: u64,
}

impl Stat {
    /// The name, in parentheses, may hold anything, parentheses and spaces too: fields count from the last one.
    fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        Some(Self {
            parent: fields.nth(1)?.parse().ok()?,
            started: fields.nth(17)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_cannot_pass_for_other_fields() {
        let own = fs::read("/proc/self/stat").expect("there is one");
        let own = Stat::parse(&own).expect("is understood");
        assert_eq!(own.parent, std::os::unix::process::parent_id());
        let line = b"7 (x) S 1 1 (y) S 5 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 1 2 3";
        let stat = Stat::parse(line).expect("is understood");
        assert_eq!(
            stat,
            Stat {
                parent: 5,
                started: 987
            }
        );
    }

    #[test]
    fn ancestors_are_found_as_far_as_the_sandbox_goes() {
        let stat = |parent| Stat { parent, started: 1 };
        let processes = Processes([(2, stat(1)), (3, stat(2)), (4, stat(2))].into());
        let pids = |pid| {
            let mut pids: Vec<_> = processes
                .with_ancestors(pid)
                .iter()
                .map(|it| it.pid)
                .collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!(pids(3), [2, 3]);
        assert_eq!(pids(1), [0; 0]);
        let circular = Processes([(2, stat(3)), (3, stat(2))].into());
        assert_eq!(circular.with_ancestors(2).len(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text: Vec<u8>) {
            let _ = Stat::parse(&text);
        }
    }
}
