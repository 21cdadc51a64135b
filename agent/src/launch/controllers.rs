//! The kernel's controllers that bound what a session takes up. On hosts where version 1 hierarchies hold them there are none.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::sandbox::Limits;

const CONTROLLERS: [&str; 2] = ["pids", "memory"];

/// Has the kernel count what sessions take up. Returns the controllers that it does not have for cgroup2: those limits do not hold.
pub fn enable(agents_cgroup: &Path) -> Vec<&'static str> {
    let root = agents_cgroup.parent().map(Path::to_owned);
    let levels: Vec<PathBuf> = root.into_iter().chain([agents_cgroup.to_owned()]).collect();
    CONTROLLERS
        .into_iter()
        .filter(|controller| {
            let enabled = levels.iter().all(|level| {
                fs::write(
                    level.join("cgroup.subtree_control"),
                    format!("+{controller}"),
                )
                .is_ok()
            });
            !enabled
        })
        .collect()
}

/// Bounds one session.
///
/// # Errors
/// When the kernel does not take a limit.
pub fn limit(cgroup: &Path, limits: Limits) -> anyhow::Result<()> {
    set(cgroup, "pids.max", limits.processes)?;
    if let Some(bytes) = limits.memory {
        set(cgroup, "memory.max", bytes)?;
        // Half a build is worse than none.
        set(cgroup, "memory.oom.group", 1)?;
    }
    Ok(())
}

fn set(cgroup: &Path, file: &str, value: u64) -> anyhow::Result<()> {
    let path = cgroup.join(file);
    // Not created: cgroup files are there or not.
    match fs::OpenOptions::new().write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => {
            opened.and_then(|file| io::Write::write_all(&mut &file, value.to_string().as_bytes()))
        }
    }
    .with_context(|| format!("cannot write {value} to {}", path.display()))
}
