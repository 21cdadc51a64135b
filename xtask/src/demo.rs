//! `cargo xtask demo`: the main job, once, for everyone to see.

use std::{
    ffi::OsString,
    io::{IsTerminal as _, stdin},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::ensure;

use crate::{host, setup};

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Approve without asking.
    #[arg(long)]
    yes: bool,
    /// Leave upstream.jsonl, approvals.json, links.json, session.json and database.json in this directory.
    #[arg(long, value_name = "DIR")]
    evidence: Option<PathBuf>,
}

/// Runs the task.
///
/// # Errors
/// When this host lacks something, or Holdpoint does not build.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    host::require()?;
    setup::require_gcloud_in_ci()?;
    ensure!(
        args.yes || stdin().is_terminal(),
        "the demo asks you for an approval, and there is no terminal to ask on: run it in one, or with --yes"
    );
    let mut options: Vec<OsString> = Vec::new();
    if args.yes {
        options.push("--yes".into());
    }
    if let Some(dir) = &args.evidence {
        options.extend(["--evidence".into(), std::path::absolute(dir)?.into()]);
    }
    setup::build_and_become("debug", &["demo", "holdpoint"], &options)
}
