//! `holdpoint grants`: what reviewers have granted for a while, and taking it back.

use jiff::Timestamp;
use serde_json::json;

use super::approvals::{
    minutes,
    screen::{self, Keep, Output, safe, table},
    word,
};
use crate::{
    approvals::GrantView,
    control::{
        GrantList,
        client::{Client, Connect},
    },
};

/// What reviewers let principals do for a while without asking each time.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table", global = true)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the grants that are in force, newest first.
    List,
    /// End grants at once: whatever has not been let through by them yet is asked about again.
    Revoke {
        /// The grants, for example gr-3k9x2m7qht.
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// Why. Recorded.
        #[arg(long)]
        comment: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// When the daemon cannot be reached or refuses, with its reason.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    match &args.command {
        None | Some(Command::List) => list(&client, args.output).await,
        Some(Command::Revoke { ids, comment }) => {
            revoke(&client, ids, comment.as_deref(), args.output).await
        }
    }
}

async fn list(client: &Client, output: Output) -> anyhow::Result<()> {
    let list: GrantList = client.read("/v1/grants").await?;
    let text = match output {
        Output::Json => screen::json(&list.grants)?,
        Output::Table if list.grants.is_empty() => "No grants are in force.\n".into(),
        Output::Table => {
            let now = Timestamp::now();
            let rows: Vec<_> = list.grants.iter().map(|view| row(view, now)).collect();
            let head = ["ID", "LEFT", "BY", "PRINCIPAL", "ACTION", "OVER"];
            table(head, &rows, Keep::End)
        }
    };
    screen::print(&text)
}

fn row(view: &GrantView, now: Timestamp) -> [String; 6] {
    [
        view.id.to_string(),
        minutes(view.until.duration_since(now)),
        view.by.clone(),
        view.principal.clone(),
        view.action.clone(),
        format!("{} {}", view.over.scope(), view.over.name()),
    ]
}

/// All of them are tried; the first that cannot be is the error.
async fn revoke(
    client: &Client,
    ids: &[String],
    comment: Option<&str>,
    output: Output,
) -> anyhow::Result<()> {
    let (mut revoked, mut failure) = (Vec::new(), Ok(()));
    for id in ids {
        let path = format!("/v1/grants/{}/revoke", word(id)?);
        let body = json!({ "comment": comment });
        match client.post::<GrantView>(&path, &body).await {
            Ok(view) => revoked.push(view),
            Err(error) => failure = failure.and(Err(error.context(safe(id)))),
        }
    }
    let told = |view: &GrantView| format!("{}: revoked\n", view.id);
    screen::print(&match output {
        Output::Json => screen::json(&revoked)?,
        Output::Table => revoked.iter().map(told).collect(),
    })?;
    failure
}
