//! `holdpoint audit`: for auditors.

use std::process::ExitCode;

use super::report;

/// What an auditor asks.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Who approved what, when, and the exact request.
    Report(report::Args),
}

/// Runs the command.
///
/// # Errors
/// When the daemon cannot be reached or refuses, with its reason.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Report(args) => report::run(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}
