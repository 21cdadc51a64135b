//! The end of Holdpoint on a host: before the package is removed, and with it the only program that could do this.

use std::{fs, io, os::unix::net::UnixStream};

use anyhow::Context as _;

use crate::{config::Config, kernel, launch};

/// Ends the sessions that a daemon left, then detaches the BPF programs. In this order: at no time does a session run without them.
///
/// # Errors
/// When a daemon runs, a session does not end, or something cannot be removed. The programs are still attached then, or all but gone.
pub fn run(config: &Config) -> anyhow::Result<()> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "only root can detach BPF programs"
    );
    anyhow::ensure!(
        UnixStream::connect(config.control_socket()).is_err(),
        "a daemon runs, and its sessions need the BPF programs: stop it first (`systemctl stop holdpoint`)"
    );
    let agents = kernel::cgroup2_root()?.join(&config.agents_cgroup);
    if agents.exists() {
        launch::end_leftovers(&agents)?;
        launch::close_doors(&config.runtime_dir)?;
        fs::remove_dir(&agents).with_context(|| format!("cannot remove {}", agents.display()))?;
    }
    match fs::remove_dir_all(&config.bpf_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error)
            .with_context(|| format!("cannot remove the pins in {}", config.bpf_dir.display())),
        _ => Ok(()),
    }
}
