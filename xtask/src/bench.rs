//! `cargo xtask bench`: what Holdpoint costs, beside nothing and beside nginx.

use std::process::ExitCode;

use crate::{host, setup};

/// Options: `--seconds N`, `--rounds N`, `--connections 1,16,64`. `connects`: of connections that are given up at once, beside a plain listener.
/// `hooks`: of the BPF programs (under a minute). `policy`: of decisions, and of loading policies; numbers of policies may follow (1000 10000). `mask`: of masking (15 seconds).
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    to_bench: setup::PassedOn,
}

/// Runs the task.
///
/// # Errors
/// When this host lacks something, or Holdpoint does not build.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some((first, options)) = args.to_bench.options.split_first()
        && first == "hooks"
    {
        // What is measured is the kernel; the profile that tests use is built already.
        return setup::build_and_become("debug", &["bench-hooks"], options);
    }
    if let Some((first, sizes)) = args.to_bench.options.split_first()
        && (first == "policy" || first == "mask")
    {
        let mut bench = setup::cargo("bench --quiet -p holdpoint-core --bench");
        let status = bench.arg(first).arg("--").args(sizes).status()?;
        return Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    host::require()?;
    if let Some((first, options)) = args.to_bench.options.split_first()
        && first == "connects"
    {
        let programs = ["bench-connects", "storm", "holdpoint"];
        return setup::build_and_become("release", &programs, options);
    }
    host::require_program("nginx", "nginx")?;
    let programs = ["bench", "load-generator", "holdpoint"];
    setup::build_and_become("release", &programs, &args.to_bench.options)
}
