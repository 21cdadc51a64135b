//! `cargo xtask test`: every test there is.

pub mod report;

use std::{
    process::{Command, ExitCode},
    time::Instant,
};

use report::Report;

use crate::{
    host,
    setup::{self, cargo},
    vm,
};

/// End-to-end tests mostly wait; this many at once keep two cores busy.
const E2E_THREADS: &str = "--test-threads=6";

/// The tests of the package, by the modules they are in.
const SKIP_PACKAGE: [&str; 3] = ["--skip=package::", "--skip=work::", "--skip=dropins::"];

/// The kernels that CI tries: Debian 12's, and the newest.
const CI_KERNELS: [&str; 2] = ["6.1", "newest"];

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Also rebuild the BPF object and compare it, as CI does.
    #[arg(long)]
    ebpf: bool,
    /// Also build the Debian package and try it in a container with systemd, as CI does (wants lintian, mmdebstrap and systemd-nspawn).
    #[arg(long)]
    package: bool,
    /// Only boot Debian's kernels in virtual machines, with systemd, and try the BPF programs, the package, the main job and the
    /// doctor's attacks there (wants qemu-system-x86 and mmdebstrap). Names some of 5.10, 6.1, 6.12 and newest; all without. CI does it
    /// with 6.1 and newest.
    #[arg(long, value_name = "KERNEL", num_args = 0..)]
    vm: Option<Vec<String>>,
    /// Only these end-to-end tests (names of files in tests/), and nothing else.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

/// Runs the task.
///
/// # Errors
/// When this host lacks something; a test that fails is not an error but the exit code.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    host::require()?;
    setup::require_gcloud_in_ci()?;
    let mut report = Report::start();
    if !args.only.is_empty() {
        if report.run(
            "build",
            cargo("build --workspace --all-targets --all-features"),
        )? {
            let named = args.only.iter().map(|name| format!("--test={name}"));
            end_to_end(&mut report, &named.collect::<Vec<_>>(), true)?;
        }
        return Ok(report.close());
    }
    if let Some(kernels) = &args.vm {
        vm::run(&mut report, kernels)?;
        return Ok(report.close());
    }
    sources(&mut report)?;
    if report.run(
        "build",
        cargo("build --workspace --all-targets --all-features"),
    )? {
        let package = args.package || host::in_ci();
        unit_tests(&mut report)?;
        object(&mut report, args.ebpf || host::in_ci())?;
        policies(&mut report)?;
        demo(&mut report)?;
        if !package {
            report.note("the package was not built and tried: CI does it, or --package");
        }
        end_to_end(&mut report, &["--test=*".to_owned()], package)?;
        other_kernels(&mut report);
    }
    Ok(report.close())
}

/// After all else, because tests that are about time want the processors for themselves.
fn other_kernels(report: &mut Report) {
    if !host::in_ci() {
        report.note("no other kernel was tried: CI does it, or --vm");
        return;
    }
    let begun = Instant::now();
    // An error here is to hide nothing of what was tested before.
    if let Err(error) = vm::run(report, &CI_KERNELS.map(str::to_owned)) {
        report.note(&format!("virtual machines: {error:#}"));
        report.printed("virtual machines", &[], false, begun);
    }
}

fn sources(report: &mut Report) -> anyhow::Result<()> {
    report.run("format", cargo("fmt --all --check"))?;
    let ebpf = "fmt --manifest-path agent-ebpf/Cargo.toml --check";
    report.run("format of the BPF programs", cargo(ebpf))?;
    let clippy = "clippy --workspace --all-targets --all-features -- -D warnings";
    report.run("clippy", cargo(clippy))?;
    Ok(())
}

// Always the whole workspace with all features: a smaller choice would build much of it twice.

fn unit_tests(report: &mut Report) -> anyhow::Result<()> {
    let inside = "test --workspace --all-features --lib --bins --no-fail-fast";
    report.tests("unit tests", cargo(inside))?;
    let examples = "test --workspace --all-features --doc";
    report.tests("examples in the documentation", cargo(examples))
}

/// The committed object is what the sources give. Takes a toolchain of its own, hence not by default.
fn object(report: &mut Report, wanted: bool) -> anyhow::Result<()> {
    if !wanted {
        report.note("the BPF object was not rebuilt: CI does it, or --ebpf");
        return Ok(());
    }
    // Not the running program: the build may have replaced its file.
    let mut check = Command::new(setup::built("debug").join("xtask"));
    check
        .args(["build-ebpf", "--check"])
        .current_dir(setup::repository());
    report.run("the BPF object is what its sources give", check)?;
    Ok(())
}

fn policies(report: &mut Report) -> anyhow::Result<()> {
    for dir in policy_dirs()? {
        for verb in [["check"].as_slice(), &["test", "--coverage"]] {
            let mut command = Command::new(setup::built("debug").join("holdpoint"));
            command.arg("policy").args(verb).arg(&dir);
            command.current_dir(setup::repository());
            report.run(&format!("policy {} {dir}", verb.join(" ")), command)?;
        }
    }
    Ok(())
}

/// The starter set, and each example.
fn policy_dirs() -> anyhow::Result<Vec<String>> {
    let mut dirs = vec!["policies".to_owned()];
    for entry in std::fs::read_dir(setup::repository().join("policies/examples"))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            dirs.push(format!("policies/examples/{}", entry.file_name().display()));
        }
    }
    dirs.sort();
    Ok(dirs)
}

fn demo(report: &mut Report) -> anyhow::Result<()> {
    let mut demo = Command::new(setup::built("debug").join("demo"));
    demo.arg("--yes");
    report.run("demo", demo)?;
    Ok(())
}

fn end_to_end(report: &mut Report, which: &[String], package: bool) -> anyhow::Result<()> {
    let mut command = cargo("test --workspace --all-features --no-fail-fast");
    command.args(which).args(["--", E2E_THREADS]);
    if !package {
        command.args(SKIP_PACKAGE);
    }
    report.tests("end-to-end tests", command)
}
