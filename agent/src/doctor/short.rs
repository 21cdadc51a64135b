//! The short list: what the daemon tries before it says that it is ready, in a sandbox made as every session's is and seen by nobody
//! else. It needs no stage: nothing on it takes more than a system call to tell whether it works.

use std::{
    io::Read as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::attack::{self, Outcome, Plan, Tried, Victim};
use crate::{
    kernel::Kernel,
    launch::{Network, RunRequest, Site},
    session::SessionId,
};

/// What is tried: each a door that one part of the sandbox keeps shut.
const LIST: [&str; 30] = [
    "udp4",
    "udp6",
    "quic4",
    "raw-icmp",
    "ping4",
    "packet",
    "source-route",
    "mptcp-socket",
    "vsock",
    "xdp",
    "sock-diag",
    "netlink-generic",
    "other-families",
    "io-uring",
    "int80",
    "x32",
    "bpf",
    "keyring",
    "new-user-net",
    "new-user-clone3",
    "setns-net",
    "mount",
    "open-tree",
    "chroot",
    "cgroup-root",
    "cgroup-parent",
    "daemon-memory",
    "host-name",
    "block-device",
    "tun",
];
/// It takes a fraction of a second.
const WITHIN: Duration = Duration::from_secs(20);

/// Attacks a sandbox of the daemon's own from inside.
///
/// # Errors
/// When something gets out of it, by name, or cannot be tried.
pub async fn prove(kernel: &Kernel, site: &Site, cgroup2: PathBuf) -> anyhow::Result<()> {
    let started = Instant::now();
    let plan = serde_json::to_string(&plan(cgroup2))?;
    let tried = tokio::time::timeout(WITHIN, attempt(kernel, site, &plan))
        .await
        .with_context(|| format!("it was not attacked within {WITHIN:?}"))
        .flatten()
        .context("the sandbox cannot be proved to hold")?;
    judge(&tried)?;
    tracing::info!(attacks = tried.len(), took = ?started.elapsed(), "a sandbox was attacked from inside, and held");
    Ok(())
}

fn plan(cgroup2: PathBuf) -> Plan {
    let own = std::process::id();
    Plan {
        mark: "start".into(),
        attacks: LIST.map(str::to_owned).into(),
        victim: Victim {
            pid: own.cast_signed(),
            secret_at: 0,
        },
        daemon: own,
        cgroup2,
        shared_memory: 0,
    }
}

/// In a session like any other, but that nobody serves its listeners.
async fn attempt(kernel: &Kernel, site: &Site, plan: &str) -> anyhow::Result<Vec<Tried>> {
    let (told, output) = std::io::pipe()?;
    // Its init is this program, and so is what the init starts.
    let command = ["/proc/self/exe", "attack", plan];
    let (request, client) = RunRequest::of_the_daemon(&command, output.into())?;
    let prepared = request
        .prepare(&SessionId::random(), site, Network::Own)
        .await;
    let prepared = prepared.map_err(|(_, error)| error)?;
    let cgroup_id = prepared.cgroup_id;
    kernel.open_session(cgroup_id, prepared.place.rules())?;
    let ended = async {
        let mut running = prepared.start(String::new()).await?;
        running.ended().await;
        drop(client);
        anyhow::Ok(())
    };
    let ended = ended.await;
    kernel.close_session(cgroup_id)?;
    ended?;
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        { told }.read_to_string(&mut text).map(|_| text)
    });
    let lines = read.await??;
    let tried = lines.lines().map(serde_json::from_str);
    Ok(tried.collect::<Result<_, _>>()?)
}

/// What is not refused is a hole, and so is what left no answer.
fn judge(tried: &[Tried]) -> anyhow::Result<()> {
    let outcome = |name: &str| {
        tried
            .iter()
            .find(|it| it.attack == name)
            .map(|it| &it.outcome)
    };
    let holes: Vec<_> = attack::all()
        .filter(|attack| LIST.contains(&attack.name))
        .filter_map(|attack| match outcome(attack.name) {
            Some(Outcome::Failed { .. } | Outcome::Killed { .. }) => None,
            Some(Outcome::Done) => Some(format!("{} ({}) worked", attack.name, attack.what)),
            Some(Outcome::TimedOut) => Some(format!("{} ({}) hung", attack.name, attack.what)),
            None => Some(format!("{} ({}) left no answer", attack.name, attack.what)),
        })
        .collect();
    anyhow::ensure!(
        holes.is_empty(),
        "the sandbox does not hold on this host, so no session is opened: from inside, {}; `holdpoint doctor` tells more",
        holes.join(", ")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(outcome: impl Fn(&str) -> Option<Outcome>) -> Vec<Tried> {
        let tried = LIST.iter().filter_map(|name| {
            outcome(name).map(|outcome| Tried {
                attack: (*name).to_owned(),
                outcome,
                ms: 0,
            })
        });
        tried.collect()
    }

    fn refused() -> Option<Outcome> {
        Some(Outcome::Failed {
            errno: Some(libc::EPERM),
            why: "no".into(),
        })
    }

    #[test]
    fn everything_on_the_list_is_an_attack() {
        for name in LIST {
            assert!(attack::all().any(|attack| attack.name == name), "{name}");
        }
    }

    #[test]
    fn a_hole_is_named() {
        assert!(judge(&tried(|_| refused())).is_ok());
        for (outcome, what) in [
            (Some(Outcome::Done), "bpf (a BPF map) worked"),
            (Some(Outcome::TimedOut), "bpf (a BPF map) hung"),
            (None, "bpf (a BPF map) left no answer"),
        ] {
            let all = tried(|name| match name {
                "bpf" => outcome.clone(),
                _ => refused(),
            });
            let error = judge(&all).expect_err("a hole").to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
