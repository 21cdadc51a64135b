//! `holdpoint sessions`: what happened.

pub(in crate::cli) mod events;

use std::fmt::Write as _;

use crate::{
    cli::approvals::{
        screen::{self, Keep, Output, safe, table},
        word,
    },
    control::{
        SessionDetail, SessionList, SessionView,
        client::{Client, Connect},
    },
    record::{StoredEvent, Texts},
};

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
    /// List sessions, newest first.
    List {
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// How to print them.
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Show everything that happened in a session.
    Show {
        /// The session, for example s-3k9x2m7qht.
        id: String,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
}

/// Runs the command.
///
/// # Errors
/// When the daemon cannot be reached or refuses, with its reason.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let text = match &args.command {
        Command::List { limit, output } => list(&client, *limit, *output).await?,
        Command::Show { id, output } => show(&client, id, *output).await?,
    };
    screen::print(&text)
}

async fn list(client: &Client, limit: usize, output: Output) -> anyhow::Result<String> {
    let list: SessionList = client.read(&format!("/v1/sessions?limit={limit}")).await?;
    if output == Output::Json {
        return screen::json(&list.sessions);
    }
    if list.sessions.is_empty() {
        return Ok("No sessions yet.\n".into());
    }
    let rows: Vec<_> = list.sessions.iter().map(row).collect();
    let passed = list.sessions.iter().map(|it| it.summary.observed).sum();
    let mut text = table(
        [
            "ID", "OPENED", "STATE", "USER", "OPS", "HELD", "DENIED", "COMMAND",
        ],
        &rows,
        Keep::Beginning,
    );
    if passed > 0 {
        let _ = writeln!(text, "\n{}", observed(passed));
    }
    Ok(text)
}

fn observed(passed: u64) -> String {
    format!(
        "{passed} of the held and denied passed all the same: policy was only observed ([policy] mode = \"observe\")"
    )
}

fn row(session: &SessionView) -> [String; 8] {
    let summary = &session.summary;
    [
        summary.id.to_string(),
        summary.opened_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        state(session).into(),
        summary.user.name.clone(),
        summary.operations.to_string(),
        summary.held.to_string(),
        summary.denied.to_string(),
        command_line(&summary.command),
    ]
}

fn state(session: &SessionView) -> &'static str {
    if session.live { "open" } else { "closed" }
}

pub(in crate::cli) fn command_line(command: &Texts) -> String {
    let words: Vec<_> = command
        .as_slice()
        .iter()
        .map(|word| word.as_str())
        .collect();
    words.join(" ")
}

async fn show(client: &Client, id: &str, output: Output) -> anyhow::Result<String> {
    let detail = whole(client, word(id)?).await?;
    match output {
        Output::Json => screen::json(&detail),
        Output::Table => Ok(described(&detail)),
    }
}

/// All pages of a session in one.
async fn whole(client: &Client, id: &str) -> anyhow::Result<SessionDetail> {
    let mut detail: SessionDetail = client.read(&format!("/v1/sessions/{id}")).await?;
    while let Some(after) = detail.next {
        let path = format!("/v1/sessions/{id}?after={after}");
        let more: SessionDetail = client.read(&path).await?;
        detail.events.extend(more.events);
        detail.next = more.next;
    }
    Ok(detail)
}

fn described(detail: &SessionDetail) -> String {
    let summary = &detail.session.summary;
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {}", safe(value));
    };
    field("session", summary.id.as_str());
    field("state", state(&detail.session));
    field("principal", &summary.principal);
    let user = &summary.user;
    field("user", &format!("{} (uid {})", user.name, user.uid));
    field("command", &command_line(&summary.command));
    if let Some(service) = &summary.service {
        let job = summary.within.as_ref();
        let job = job.map(|it| format!(", a job in the sandbox of {it}"));
        field("service", &format!("{service}{}", job.unwrap_or_default()));
    }
    field("opened", &summary.opened_at.to_string());
    if let (Some(at), Some(reason)) = (summary.closed_at, &summary.close_reason) {
        field("closed", &format!("{at}: {reason}"));
    }
    if summary.observed > 0 {
        field("observed", &observed(summary.observed));
    }
    let counts = format!(
        "{} ({} held, {} denied); {} refused before they were understood",
        summary.operations, summary.held, summary.denied, summary.refused
    );
    field("operations", &counts);
    text.push('\n');
    for event in &detail.events {
        text.push_str(&line(event));
    }
    text
}

fn line(stored: &StoredEvent) -> String {
    let time = stored.time.strftime("%H:%M:%S%.3fZ");
    format!("{time}  {}\n", safe(&events::described(&stored.event)))
}

#[cfg(test)]
mod tests;
