//! `cargo xtask bench`: what Holdpoint costs, beside nothing and beside nginx.

use std::process::ExitCode;

use crate::setup;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Passed on: `--seconds N`, `--rounds N`, `--connections 1,16,64`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

/// Runs the task.
///
/// # Errors
/// When this host lacks something, or Holdpoint does not build.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    setup::require_host()?;
    setup::build_and_run("release", "bench", &args.options)
}
