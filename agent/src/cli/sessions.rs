//! `holdpoint sessions`: what happened.

pub(crate) mod events;
mod export;
mod follow;
mod keys;
mod list;
mod moments;
mod player;
mod replay;
mod show;

use crate::{control::client::Connect, record::Texts};
pub(in crate::cli) use list::time;

/// Sessions, and what happened in them.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List sessions, newest first, or find some by what happened in them.
    List(list::Listing),
    /// Show everything that happened in a session.
    Show(show::Showing),
    /// Watch a session again as it happened.
    Replay(replay::Replaying),
    /// Watch what happens now.
    Follow(follow::Following),
    /// Write what happened in a form for other programs.
    Export(export::Exporting),
}

/// Runs the command.
///
/// # Errors
/// When the daemon cannot be reached or refuses, with its reason.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    match &args.command {
        Command::List(listing) => list::list(&client, listing).await,
        Command::Show(showing) => show::show(&client, showing).await,
        Command::Replay(replaying) => replay::replay(&client, replaying).await,
        Command::Follow(following) => follow::follow(&client, following).await,
        Command::Export(exporting) => export::export(client, exporting).await,
    }
}

/// As one would type it, for people.
pub(crate) fn command_line(command: &Texts) -> String {
    let words: Vec<_> = command
        .as_slice()
        .iter()
        .map(|word| word.as_str())
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests;
