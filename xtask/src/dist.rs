//! `cargo xtask dist`: the Debian package.

mod binary;
mod deb;
mod tree;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, ensure};

use crate::{host, setup};
use deb::Compression;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Where the package goes.
    #[arg(long, value_name = "DIR", default_value = "target/dist")]
    out: PathBuf,
    /// Package the debug build, linked with this host's C library: quick, and good for tests on this very host only.
    #[arg(long)]
    debug: bool,
}

/// Runs the task. The last line it prints is the package's path.
///
/// # Errors
/// When this host lacks something, or Holdpoint does not build.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    host::require_program("dpkg-shlibdeps", "dpkg-dev")?;
    let out = std::path::absolute(&args.out)?;
    fs::create_dir_all(&out)?;
    let (binary, compression) = match args.debug {
        true => (binary::debug()?, Compression::Quick),
        false => (binary::release()?, Compression::Good),
    };
    let stage = tempfile::Builder::new().prefix("stage-").tempdir_in(&out)?;
    let moment = Moment::of_the_sources()?;
    tree::lay_out(&binary, stage.path())?;
    let package = deb::build(stage.path(), &out, moment, compression)?;
    eprintln!("needs glibc {}", binary::glibc_needed(&binary)?);
    println!("{}", package.display());
    Ok(ExitCode::SUCCESS)
}

/// The time that all files are said to be from, so that the same sources give the same package
/// (reproducible-builds.org, `SOURCE_DATE_EPOCH`).
#[derive(Clone, Copy)]
struct Moment(i64);

impl Moment {
    /// What the environment says, or the time of the last commit.
    fn of_the_sources() -> anyhow::Result<Self> {
        let text = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => text,
            Err(_) => stdout_of(
                Command::new("git")
                    .args(["log", "-1", "--format=%ct"])
                    .current_dir(setup::repository()),
            )
            .context("set SOURCE_DATE_EPOCH where there is no git repository")?,
        };
        let text = text.trim();
        let seconds = text
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is not a number of seconds: {text}"))?;
        Ok(Self(seconds))
    }
}

/// Runs it; its standard output as text.
fn stdout_of(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    ensure!(output.status.success(), "{name}: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs it.
fn done(command: &mut Command) -> anyhow::Result<()> {
    // What it has to say is no result of ours.
    std::io::stderr().write_all(stdout_of(command)?.as_bytes())?;
    Ok(())
}

fn file_names(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = fs::read_dir(dir)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<Vec<_>>>()
        })
        .with_context(|| format!("cannot read {}", dir.display()))?;
    found.sort();
    Ok(found)
}
