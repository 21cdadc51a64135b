//! `cargo xtask build-ebpf`: the committed BPF object, from its sources.
//!
//! The object is committed because building it takes what a stock toolchain lacks: the standard library's sources and a
//! linker for BPF. Both are set up here. The same sources give the same bytes in any folder; `--check` holds them to it.

#[path = "../../agent/src/kernel/sources.rs"]
mod sources;
mod toolchain;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Build in another folder and fail if the committed object differs in a byte.
    #[arg(long)]
    check: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask is in the repository")?;
    let toolchain = Toolchain::set_up(root)?;
    if args.check {
        check(root, &toolchain)
    } else {
        build_and_commit(root, &toolchain)
    }
}

use toolchain::Toolchain;

fn build_and_commit(root: &Path, toolchain: &Toolchain) -> anyhow::Result<()> {
    let target = root.join("target/ebpf");
    let object = build(&root.join("agent-ebpf"), &target, toolchain)?;
    fs::copy(&object, root.join(sources::OBJECT))?;
    fs::write(root.join(sources::DIGESTS), sources::digests(root)?)?;
    println!("wrote {} and {}", sources::OBJECT, sources::DIGESTS);
    Ok(())
}

fn check(root: &Path, toolchain: &Toolchain) -> anyhow::Result<()> {
    let elsewhere = tempfile::tempdir()?;
    let sources = elsewhere.path().join("agent-ebpf");
    copy_tree(&root.join("agent-ebpf"), &sources)?;
    let object = build(&sources, &elsewhere.path().join("target"), toolchain)?;
    anyhow::ensure!(
        fs::read(object)? == fs::read(root.join(sources::OBJECT))?,
        "{} is not what its sources give: run `cargo xtask build-ebpf` and commit what it writes",
        sources::OBJECT
    );
    anyhow::ensure!(
        fs::read_to_string(root.join(sources::DIGESTS))? == sources::digests(root)?,
        "{} is out of date: run `cargo xtask build-ebpf` and commit what it writes",
        sources::DIGESTS
    );
    println!("{} is what its sources give", sources::OBJECT);
    Ok(())
}

/// Builds the package in `sources` and answers where the object is.
fn build(sources: &Path, target: &Path, toolchain: &Toolchain) -> anyhow::Result<PathBuf> {
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--locked", "-Z", "build-std=core"])
        .args(["--target", "bpfel-unknown-none", "--target-dir"])
        .arg(target)
        .current_dir(sources)
        // -Z on a stable toolchain.
        .env("RUSTC_BOOTSTRAP", "1")
        // The instruction set of every kernel since 4.14, and one answer for hosts of any architecture. It takes the place of
        // the caller's RUSTFLAGS.
        .env("CARGO_ENCODED_RUSTFLAGS", flags(sources)?)
        .env("AYA_BPF_TARGET_ARCH", "x86_64")
        .env("PATH", toolchain.path()?)
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .status()
        .context("cannot run cargo")?;
    anyhow::ensure!(status.success(), "building the BPF programs failed");
    let built = target.join("bpfel-unknown-none/release/holdpoint");
    let object = target.join("holdpoint.bpf.o");
    toolchain::strip(&built, &object)?;
    Ok(object)
}

/// Of rustc, each behind a separator.
fn flags(sources: &Path) -> anyhow::Result<String> {
    let mut flags = vec!["-Ctarget-cpu=v2".to_owned(), "-Clink-arg=--btf".into()];
    // BTF names source files: with names that are the same everywhere.
    for (path, name) in [
        (sources.to_path_buf(), "agent-ebpf"),
        (toolchain::cargo_home()?, "cargo"),
        (toolchain::sysroot()?, "rust"),
    ] {
        let path = path.to_str().context("a path that is not UTF-8")?;
        flags.push(format!("--remap-path-prefix={path}={name}"));
    }
    Ok(flags.join("\x1f"))
}

fn copy_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "target" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &copy)?;
        } else {
            fs::copy(&source, &copy)
                .with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}
