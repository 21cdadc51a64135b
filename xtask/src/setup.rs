//! How the tasks call cargo and what it builds.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, ensure};

use crate::host;

/// Options of the program that does the work.
#[derive(clap::Args)]
pub struct PassedOn {
    /// Passed on; `-- --help` tells what there is.
    #[arg(
        value_name = "OPTION",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub options: Vec<OsString>,
}

/// CI proves that the real client works, so there it has to be installed.
///
/// # Errors
/// When it is not.
pub fn require_gcloud_in_ci() -> anyhow::Result<()> {
    if host::in_ci() {
        host::require_program("gcloud", "google-cloud-cli")?;
    }
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

/// Builds `programs` and becomes the first of them, so that Ctrl-C reaches whoever has something to clean up.
///
/// # Errors
/// When they do not build.
pub fn build_and_become(
    profile: &str,
    programs: &[&str],
    options: &[OsString],
) -> anyhow::Result<ExitCode> {
    let mut build = cargo("build --quiet -p holdpoint -p holdpoint-tests");
    if profile == "release" {
        build.arg("--release");
    }
    for program in programs {
        build.args(["--bin", program]);
    }
    eprintln!("building Holdpoint ({profile}); the first time this takes some minutes ...");
    ensure!(build.status()?.success(), "it does not build");
    let program = built(profile).join(programs[0]);
    become_it(Command::new(&program).args(options))
        .with_context(|| format!("cannot start {}", program.display()))
}

/// `cargo xtask catalog` again, with what it takes: nothing else here needs Holdpoint itself.
///
/// # Errors
/// When cargo cannot be started.
#[cfg(not(feature = "catalog"))]
pub fn with_catalog(args: &PassedOn) -> anyhow::Result<ExitCode> {
    let mut run = cargo("run --quiet --package xtask --features catalog -- catalog");
    become_it(run.args(&args.options)).context("cannot run cargo")
}

fn become_it(command: &mut Command) -> io::Result<ExitCode> {
    Err(command.exec())
}
