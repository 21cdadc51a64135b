//! What this host must have before a daemon can be tried on it, said in one line where it has not.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    mount::{MsFlags, mount},
    sys::{statfs::statfs, utsname::uname},
    unistd::geteuid,
};

/// The mount point of bpffs.
const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of linux/magic.h.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// The oldest kernel that has what the BPF programs use.
const OLDEST_KERNEL: (u32, u32) = (5, 10);

/// Checks for root, the kernel, cgroup2 and BPF; mounts bpffs where it is not.
///
/// # Errors
/// Names the one thing that is missing, and what to do.
pub fn require() -> anyhow::Result<()> {
    ensure!(
        geteuid().is_root(),
        "needs root (BPF programs, namespaces, another user): run it as root"
    );
    let release = uname()?.release().to_string_lossy().into_owned();
    ensure!(
        kernel_version(&release) >= Some(OLDEST_KERNEL),
        "needs Linux {}.{} or newer; this is {release}",
        OLDEST_KERNEL.0,
        OLDEST_KERNEL.1
    );
    cgroup2_root()?;
    require_bpffs().context("needs bpffs at /sys/fs/bpf, and it cannot be mounted: is this a kernel with BPF, and not an unprivileged container?")
}

/// Where cgroup2 is mounted.
///
/// # Errors
/// When it is not.
pub fn cgroup2_root() -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mut lines = mounts.lines().filter_map(|line| line.split_once(" - "));
    let found = lines.find(|(_, kind)| kind.starts_with("cgroup2 "));
    let (mount, _) = found.context(
        "needs cgroup2, and it is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified",
    )?;
    Ok(mount
        .split(' ')
        .nth(4)
        .context("/proc/self/mountinfo")?
        .into())
}

/// Whether this is a CI run, where nothing may be left out.
#[must_use]
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false" && ci != "0")
}

/// Finds a program in `PATH`.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    program_in(std::env::var_os("PATH")?, name)
}

/// Finds a program in one of the directories of `path`.
#[must_use]
pub fn program_in(path: impl AsRef<OsStr>, name: &str) -> Option<PathBuf> {
    let mut places = std::env::split_paths(path.as_ref()).map(|dir| dir.join(name));
    places.find(|place| place.is_file())
}

/// Requires a program in `PATH`.
///
/// # Errors
/// When it is not there; `package` says what to install.
pub fn require_program(name: &str, package: &str) -> anyhow::Result<()> {
    if program(name).is_none() {
        bail!("needs {name}: install {package} (`.ci/run` does it on Debian)");
    }
    Ok(())
}

fn require_bpffs() -> anyhow::Result<()> {
    let there = statfs(BPFFS).is_ok_and(|it| it.filesystem_type().0 == BPF_FS_MAGIC);
    if !there {
        let none = None::<&Path>;
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none)?;
    }
    Ok(())
}

fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_compare_as_numbers() {
        assert_eq!(kernel_version("6.1.0-13-amd64"), Some((6, 1)));
        assert!(kernel_version("5.9.1") < Some(OLDEST_KERNEL));
        assert!(kernel_version("5.10.0") >= Some(OLDEST_KERNEL));
        assert!(kernel_version("garbage") < Some(OLDEST_KERNEL));
    }
}
