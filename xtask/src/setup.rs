//! What the tasks need of the host, and how they call cargo.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, ensure};

/// Whether this is a CI run, where nothing may be left out.
pub fn in_ci() -> bool {
    env::var("CI").is_ok_and(|ci| !ci.is_empty() && ci != "false" && ci != "0")
}

/// Says in one line what is missing, before minutes go into a build.
///
/// # Errors
/// When this host cannot run Holdpoint.
pub fn require_host() -> anyhow::Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "needs root (BPF programs, namespaces, another user): run it as root"
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("needs Linux")?;
    ensure!(
        mounts.contains(" - cgroup2 "),
        "needs cgroup2, and it is not mounted: mount -t cgroup2 none /sys/fs/cgroup/unified"
    );
    Ok(())
}

/// The repository.
pub fn repository() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask/ lies in the repository")
}

/// The cargo that runs this, with a command line that has no spaces inside its words.
pub fn cargo(line: &str) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(line.split(' ')).current_dir(repository());
    // These describe xtask's own build and would make others rebuild.
    for name in [
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_PKG_NAME",
    ] {
        command.env_remove(name);
    }
    command
}

/// Where cargo puts what it builds with `profile` (`debug` or `release`).
pub fn built(profile: &str) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| "target".into());
    repository().join(target).join(profile)
}

/// Builds the binaries and becomes one of them, as far as the exit code goes.
///
/// # Errors
/// When they do not build.
pub fn build_and_run(profile: &str, program: &str, args: &[String]) -> anyhow::Result<ExitCode> {
    let mut build = cargo("build --quiet -p holdpoint -p holdpoint-tests --bins");
    if profile == "release" {
        build.arg("--release");
    }
    eprintln!("building Holdpoint ({profile}) ...");
    ensure!(build.status()?.success(), "it does not build");
    let program = built(profile).join(program);
    let status = Command::new(&program)
        .args(args)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
