//! `holdpoint status`: whether the daemon runs and what it has attached.

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::Value;

use crate::control::client::Connect;

/// Whether the daemon runs, how many sessions are open, and which BPF programs are attached.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// A table for people, or JSON for programs.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Deserialize)]
struct Status {
    version: String,
    sessions: u64,
    links: Vec<Link>,
    refusals: Vec<Count>,
}

#[derive(Deserialize)]
struct Link {
    program: String,
    attach_type: String,
    pin: String,
}

#[derive(Deserialize)]
struct Count {
    reason: String,
    count: u64,
}

/// Asks the daemon and prints what it says.
///
/// # Errors
/// When the daemon does not answer.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let status: Value = args.connect.client()?.read("/v1/status").await?;
    match args.output {
        Output::Json => println!("{status:#}"),
        Output::Table => print(&serde_json::from_value(status)?),
    }
    Ok(())
}

fn print(status: &Status) {
    println!(
        "holdpoint {} is running; {} sessions are open",
        status.version, status.sessions
    );
    println!("\n{:<16} {:<24} PINNED AT", "PROGRAM", "ATTACHED TO");
    for Link {
        program,
        attach_type,
        pin,
    } in &status.links
    {
        println!("{program:<16} {attach_type:<24} {pin}");
    }
    println!("\n{:<40} COUNT", "REFUSED IN THE KERNEL");
    for Count { reason, count } in &status.refusals {
        println!("{reason:<40} {count}");
    }
}
