//! `holdpoint approvals`: list, show, approve and deny held operations.

mod pretty;
pub mod screen;

use std::fmt::Write as _;

use anyhow::ensure;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::{
    approvals::{ApprovalDetail, ApprovalView},
    control::{
        ApprovalList,
        client::{Client, Connect},
    },
};
use holdpoint_core::approval::{Answer, State};
use screen::{Keep, Output, quoted, safe, table};

/// Operations that wait for a person, and the answers they got.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List held operations, newest first.
    List {
        /// pending, approved, denied, expired, withdrawn, used, lapsed or all.
        #[arg(long, default_value = "pending")]
        state: String,
        /// How to print them.
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Show exactly what would happen.
    Show {
        /// The approval, for example ap-3k9x2m7qht.
        id: String,
        /// How to print it.
        #[arg(long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Let it happen, once.
    Approve(Answering),
    /// Do not let it happen.
    Deny(Answering),
}

#[derive(Debug, clap::Args)]
struct Answering {
    /// The approval, for example ap-3k9x2m7qht.
    id: String,
    /// Why. Recorded, and told to the agent when you deny.
    #[arg(long)]
    comment: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// When the daemon cannot be reached or refuses, with its reason.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let text = match &args.command {
        Command::List { state, output } => list(&client, state, *output).await?,
        Command::Show { id, output } => show(&client, id, *output).await?,
        Command::Approve(answering) => answer(&client, answering, Answer::Approve).await?,
        Command::Deny(answering) => answer(&client, answering, Answer::Deny).await?,
    };
    screen::print(&text)
}

async fn list(client: &Client, state: &str, output: Output) -> anyhow::Result<String> {
    let state = word(state)?;
    let list: ApprovalList = client.read(&format!("/v1/approvals?state={state}")).await?;
    if output == Output::Json {
        return screen::json(&list.approvals);
    }
    if list.approvals.is_empty() {
        return Ok(match state {
            "pending" => "Nothing waits for an answer.\n".into(),
            other => format!("No approvals: {other}.\n"),
        });
    }
    let now = Timestamp::now();
    let rows: Vec<_> = list.approvals.iter().map(|view| row(view, now)).collect();
    Ok(table(
        ["ID", "STATE", "LEFT", "USER", "ACTION", "RESOURCE"],
        &rows,
        Keep::End,
    ))
}

fn row(view: &ApprovalView, now: Timestamp) -> [String; 6] {
    [
        view.id.to_string(),
        view.state.to_string(),
        left(view, now),
        view.user.name.clone(),
        view.action.clone(),
        view.resource.clone(),
    ]
}

/// How long it still waits, or is good.
fn left(view: &ApprovalView, now: Timestamp) -> String {
    match view.state {
        State::Pending | State::Approved => minutes(view.expires_at.duration_since(now)),
        _ => "-".into(),
    }
}

fn minutes(left: SignedDuration) -> String {
    let seconds = left.as_secs().max(0);
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

async fn show(client: &Client, id: &str, output: Output) -> anyhow::Result<String> {
    let id = word(id)?;
    let detail: ApprovalDetail = client.read(&format!("/v1/approvals/{id}")).await?;
    match output {
        Output::Json => screen::json(&detail),
        Output::Table => Ok(described_in_full(&detail, Timestamp::now())),
    }
}

fn described_in_full(detail: &ApprovalDetail, now: Timestamp) -> String {
    let view = &detail.approval;
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<11} {}", safe(value));
    };
    field("approval", view.id.as_str());
    let state = match view.state {
        State::Pending => format!(
            "pending, {} left, {} waiting",
            left(view, now),
            view.waiting
        ),
        State::Approved => format!("approved, good for {}", left(view, now)),
        other => other.to_string(),
    };
    field("state", &state);
    field("action", &view.action);
    field("resource", &view.resource);
    if !view.traits.is_empty() {
        let traits: Vec<_> = view.traits.iter().map(String::as_str).collect();
        field("note", &traits.join(", "));
    }
    field("principal", &view.principal);
    field(
        "user",
        &format!("{} (uid {})", view.user.name, view.user.uid),
    );
    field("session", view.session.as_str());
    field("opened", &view.opened_at.to_string());
    field("digest", &view.digest.to_string());
    for rule in &view.policies {
        let reason = rule.reason.as_deref().unwrap_or("no reason given");
        let people = rule.min_approvals;
        field(
            "held by",
            &format!("{} ({}:{}): {reason}", rule.id, rule.file, rule.line),
        );
        field("", &format!("asks {people} of {}", rule.group));
    }
    for answer in &view.decisions {
        let verb = match answer.verdict {
            Answer::Approve => "approved by",
            Answer::Deny => "denied by",
        };
        let comment = answer.comment.as_deref().unwrap_or("no comment");
        field(
            verb,
            &format!("{} at {}: {comment}", answer.reviewer, answer.at),
        );
    }
    text.push_str("\nThe request:\n");
    text.push_str(&quoted(&request_text(detail)));
    if detail.body.cut {
        let _ = writeln!(
            text,
            "The body goes on: {} bytes in all. The digest covers all of it.",
            detail.body.length
        );
    }
    text
}

/// The request as it would be sent, with its body made readable; not yet safe to print.
pub(in crate::cli) fn request_text(detail: &ApprovalDetail) -> String {
    let view = &detail.approval;
    let mut text = format!("{} {}\n", view.method, view.url);
    for (name, value) in &detail.headers {
        let _ = writeln!(text, "{name}: {value}");
    }
    if !detail.body.text.is_empty() {
        let _ = write!(text, "\n{}", pretty::readable(&detail.body.text));
    }
    text
}

async fn answer(client: &Client, answering: &Answering, answer: Answer) -> anyhow::Result<String> {
    let id = word(&answering.id)?;
    let verb = match answer {
        Answer::Approve => "approve",
        Answer::Deny => "deny",
    };
    let body = json!({ "comment": answering.comment });
    let path = format!("/v1/approvals/{id}/{verb}");
    let view: ApprovalView = client.post(&path, &body).await?;
    Ok(match view.state {
        State::Pending => format!("{id}: your approval counts; more people have to approve\n"),
        State::Approved => format!(
            "{id}: approved; nobody is connected, the next request with this content uses it (within {})\n",
            left(&view, Timestamp::now())
        ),
        State::Used => format!("{id}: approved, and on its way\n"),
        other => format!("{id}: {other}\n"),
    })
}

/// What goes into a path of the API as it is.
pub(super) fn word(text: &str) -> anyhow::Result<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    ensure!(
        !text.is_empty() && text.bytes().all(is_plain),
        "`{}` is not a name: letters, digits and `-` only",
        safe(text)
    );
    Ok(text)
}

#[cfg(test)]
mod tests;
