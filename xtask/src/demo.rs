//! `cargo xtask demo`: the main job, once, for everyone to see.

use std::{path::PathBuf, process::ExitCode};

use crate::setup;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Approve without asking.
    #[arg(long)]
    yes: bool,
    /// Leave upstream.jsonl, approvals.json, links.json and session.json in this directory.
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
}

/// Runs the task.
///
/// # Errors
/// When this host lacks something, or Holdpoint does not build.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    setup::require_host()?;
    let mut passed_on = Vec::new();
    if args.yes {
        passed_on.push("--yes".to_owned());
    }
    if let Some(dir) = &args.evidence {
        let dir = std::path::absolute(dir)?;
        passed_on.push(format!("--evidence={}", dir.display()));
    }
    setup::build_and_run("debug", "demo", &passed_on)
}
