//! `cargo xtask bench`: what Holdpoint costs, beside nothing and beside nginx.

use std::process::ExitCode;

use crate::{host, setup};

/// Options: `--seconds N`, `--rounds N`, `--connections 1,16,64`.
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
    host::require()?;
    host::require_program("nginx", "nginx")?;
    let programs = ["bench", "load-generator", "holdpoint"];
    setup::build_and_become("release", &programs, &args.to_bench.options)
}
