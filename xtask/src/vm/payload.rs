//! The second disk: the package, the tests, and what to do with them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};
use serde::Deserialize;

use super::image::file_system;
use crate::setup::{self, cargo};

const SCRIPT: &str = include_str!("guest.sh");

/// The test programs that run in the machine: what they are called in tests/Cargo.toml, and what the script calls them.
const TESTS: [&str; 2] = ["kernel", "packaging"];

/// Makes the disk in `dir`, of the debug build.
///
/// # Errors
/// When something does not build.
pub fn disk(dir: &Path) -> anyhow::Result<PathBuf> {
    let root = dir.join("payload");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    fs::create_dir_all(&root)?;
    fs::write(root.join("guest.sh"), SCRIPT)?;
    for test in TESTS {
        stripped(&test_program(test)?, &root.join(test))?;
    }
    let package = package(dir)?;
    fs::copy(&package, root.join("holdpoint.deb"))
        .with_context(|| format!("cannot copy {}", package.display()))?;
    let disk = dir.join("payload.disk");
    file_system(&root, &disk, 8)?;
    Ok(disk)
}

/// A line of `cargo --message-format=json`, as far as it matters.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
    name: String,
}

fn test_program(name: &str) -> anyhow::Result<PathBuf> {
    let mut build =
        cargo("test --quiet --workspace --all-features --no-run --message-format=json --test");
    let output = build.arg(name).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the test {name} does not build");
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let messages = lines.filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    // Programs that the test may want are among them.
    let mut tests = messages.filter(|it| it.target.name == name && it.target.kind == ["test"]);
    tests
        .find_map(|test| test.executable)
        .with_context(|| format!("cargo does not say where the test {name} is"))
}

fn package(dir: &Path) -> anyhow::Result<PathBuf> {
    let out = dir.join("deb");
    let output = Command::new(setup::built("debug").join("xtask"))
        .args(["dist", "--debug", "--out"])
        .arg(&out)
        .current_dir(setup::repository())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run xtask")?;
    ensure!(output.status.success(), "the package does not build");
    let path = String::from_utf8(output.stdout)?;
    Ok(path.trim().into())
}

/// What a debugger wants is most of a test program.
fn stripped(program: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("strip")
        .arg("--strip-unneeded")
        .arg("-o")
        .args([to, program])
        .status()
        .context("cannot run strip: install binutils")?;
    ensure!(status.success(), "strip: {status}");
    Ok(())
}
