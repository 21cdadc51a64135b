//! The BPF programs: pinned, attached, and enforcing.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use serde_json::Value;

use super::Finding;
use crate::{
    config::Config,
    kernel::{self, AgentsCgroup, inspect},
};

const RESTART: &str = "restart the daemon: it attaches and pins them anew, and ends all sessions";

/// `status`: what a running daemon says.
pub fn check(config: &Config, status: Option<&Value>) -> Vec<Finding> {
    let mut findings = vec![bpffs(&config.bpf_dir)];
    let Ok(root) = kernel::cgroup2_root() else {
        return findings;
    };
    if status.is_none() && !config.bpf_dir.join("links").exists() {
        let says = "nothing is pinned: no daemon has run since the host was started";
        findings.push(Finding::warn("BPF programs", says, "start the daemon"));
        return findings;
    }
    findings.extend(links(config, &root, status));
    if root.join(&config.agents_cgroup).exists() {
        findings.push(enforcing(&root, &config.agents_cgroup));
    }
    findings
}

fn bpffs(dir: &Path) -> Finding {
    const SUBJECT: &str = "bpffs";
    let existing = dir.ancestors().find(|ancestor| ancestor.exists());
    let existing = existing.unwrap_or(Path::new("/"));
    match kernel::is_bpffs(existing) {
        Ok(true) => Finding::ok(SUBJECT, format!("{} is on one", dir.display())),
        _ if dir.starts_with("/sys/fs/bpf") => Finding::warn(
            SUBJECT,
            "none is mounted at /sys/fs/bpf",
            "nothing: the daemon mounts it",
        ),
        _ => Finding::fail(
            SUBJECT,
            format!(
                "{} is on none: the programs could not be pinned, and would be gone with the daemon",
                dir.display()
            ),
            "put `bpf_dir` below /sys/fs/bpf",
        ),
    }
}

/// Every program, as the kernel and as the daemon tell.
fn links(config: &Config, root: &Path, status: Option<&Value>) -> Vec<Finding> {
    const SUBJECT: &str = "BPF programs";
    let root_id = std::fs::metadata(root).map_or(0, |it| it.ino());
    let claimed: Option<Vec<&str>> = status.and_then(|status| {
        let links = status["links"].as_array()?;
        Some(
            links
                .iter()
                .filter_map(|link| link["pin"].as_str())
                .collect(),
        )
    });
    let inspected = inspect::links(&config.bpf_dir);
    let count = inspected.len();
    let mut findings = Vec::new();
    for link in inspected {
        let (program, pin) = (link.program, link.pin.display());
        let problem = match link.cgroup {
            Err(error) => format!("{program} is not pinned at {pin} ({error})"),
            Ok(0) => format!("{program} is pinned at {pin} and was detached by force"),
            Ok(id) if id != root_id => {
                format!("{program} is attached to cgroup {id} and not to the root of cgroup2")
            }
            Ok(_) => {
                let pin = link.pin.to_string_lossy();
                match &claimed {
                    Some(claimed) if !claimed.contains(&&*pin) => {
                        format!(
                            "{program} is pinned at {pin}, but the running daemon did not put it there"
                        )
                    }
                    _ => continue,
                }
            }
        };
        let says = format!("{problem}: sessions are not held by it");
        findings.push(Finding::fail(SUBJECT, says, RESTART));
    }
    if findings.is_empty() {
        let says = format!("all {count} are pinned and attached to the root of cgroup2");
        findings.push(Finding::ok(SUBJECT, says));
    }
    findings
}

/// By trying: what is below the agents' cgroup and in no session has no network.
fn enforcing(root: &Path, agents: &str) -> Finding {
    const SUBJECT: &str = "enforcement";
    let tried =
        AgentsCgroup::create(root, agents).and_then(|agents| inspect::try_enforcement(&agents));
    match tried {
        Ok(count) => Finding::ok(
            SUBJECT,
            format!("{count} attempts without a session were refused"),
        ),
        Err(error) => Finding::fail(SUBJECT, format!("{error:#}"), RESTART),
    }
}
