//! `cargo xtask screenshot`: what the README shows of `holdpoint review`.

use std::process::ExitCode;

use crate::{host, setup};

/// Draws docs/review*.svg anew, from a real terminal (tmux) on real holds, one of them a statement (PostgreSQL).
///
/// # Errors
/// When this host lacks something, or Holdpoint does not build.
pub fn run() -> anyhow::Result<ExitCode> {
    host::require()?;
    let docs = setup::repository().join("docs");
    setup::build_and_become("debug", &["screenshot", "holdpoint"], &[docs.into()])
}
