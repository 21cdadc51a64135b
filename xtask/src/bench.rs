//! `cargo xtask bench`: what Holdpoint costs, beside nothing and beside nginx.

use std::process::ExitCode;

use crate::{host, setup};

/// Options: `--seconds N`, `--rounds N`, `--connections 1,16,64`. `connects`: of connections that are given up at once, beside a plain listener.
/// `hooks`: of the BPF programs (under a minute). `policy`: of decisions, and of loading policies; numbers of policies may follow (1000 10000).
/// `mask`: of masking (15 seconds). `record`: of the record; how many events, and a directory on the disk to be measured, may follow
/// (10000000 /var/tmp). `postgres`: pgbench through Holdpoint, beside nothing and beside pgbouncer (five minutes); `postgres --help` tells its options.
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
        && let Some(bench) = match first.to_str() {
            Some("policy") => Some("bench --quiet -p holdpoint-core --bench policy --"),
            Some("mask") => Some("bench --quiet -p holdpoint-core --bench mask --"),
            Some("record") => Some("bench --quiet -p holdpoint --bench record --"),
            _ => None,
        }
    {
        let status = setup::cargo(bench).args(sizes).status()?;
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
    if let Some((first, options)) = args.to_bench.options.split_first()
        && first == "postgres"
    {
        return setup::build_and_become("release", &["bench-postgres", "holdpoint"], options);
    }
    host::require_program("nginx", "nginx")?;
    let programs = ["bench", "load-generator", "holdpoint"];
    setup::build_and_become("release", &programs, &args.to_bench.options)
}
