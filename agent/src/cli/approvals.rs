//! `holdpoint approvals`: list, show and answer held operations.

mod answer;
pub(in crate::cli) mod change;
#[cfg(test)]
pub(in crate::cli) mod fixtures;
mod pretty;
pub mod screen;
mod wait;

use std::{cmp::Reverse, collections::BTreeMap, fmt::Write as _};

use anyhow::ensure;
use jiff::{SignedDuration, Timestamp};

use crate::{
    approvals::{ApprovalDetail, ApprovalView},
    control::{
        ApprovalList,
        client::{Client, Connect},
    },
};
use answer::{Answering, Approving, Granting};
use holdpoint_core::approval::{Answer, State};
use screen::{Keep, Output, quoted, safe, table};
use wait::Waiting;

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
    Approve(Approving),
    /// Do not let it happen.
    Deny(Answering),
    /// Let it happen, and more of the same for a while, where the policy that holds it says so (@grantable).
    Grant(Granting),
    /// Wait until one is answered, or until something new waits for an answer.
    Wait(Waiting),
}

/// Runs the command.
///
/// # Errors
/// When the daemon cannot be reached or refuses, with its reason.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    match &args.command {
        Command::List { state, output } => screen::print(&list(&client, state, *output).await?),
        Command::Show { id, output } => screen::print(&show(&client, id, *output).await?),
        Command::Approve(approving) => answer::approve(&client, approving).await,
        Command::Deny(answering) => answer::deny(&client, answering).await,
        Command::Grant(granting) => answer::grant(&client, granting).await,
        Command::Wait(waiting) => wait::wait(&client, waiting).await,
    }
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
    let views = by_session(&list.approvals);
    let rows: Vec<_> = views.iter().map(|view| row(view, now)).collect();
    Ok(listing(&rows))
}

fn listing(rows: &[[String; 7]]) -> String {
    let head = [
        "SESSION", "ID", "STATE", "LEFT", "USER", "ACTION", "RESOURCE",
    ];
    table(head, rows, Keep::End)
}

/// What a session asks for stands together; the session that asked last comes first.
fn by_session(views: &[ApprovalView]) -> Vec<&ApprovalView> {
    let mut latest = BTreeMap::new();
    for view in views {
        let at = latest
            .entry(view.session.as_str())
            .or_insert(view.opened_at);
        *at = view.opened_at.max(*at);
    }
    let mut views: Vec<_> = views.iter().collect();
    views.sort_by_key(|view| {
        let session = view.session.as_str();
        (Reverse(latest.get(session)), session, view.opened_at)
    });
    views
}

fn row(view: &ApprovalView, now: Timestamp) -> [String; 7] {
    [
        view.session.to_string(),
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

pub(super) fn minutes(left: SignedDuration) -> String {
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

/// All of it as text, safe to print; what the agent wrote is marked as that.
pub(crate) fn described_in_full(detail: &ApprovalDetail, now: Timestamp) -> String {
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
        if !rule.grantable.is_empty() {
            let scopes: Vec<_> = rule.grantable.iter().map(|scope| scope.name()).collect();
            field("", &format!("may be granted by {}", scopes.join(" or ")));
        }
    }
    for answer in &view.decisions {
        let verb = match answer.verdict {
            Answer::Approve if answer.break_glass => "BREAK GLASS",
            Answer::Approve => "approved by",
            Answer::Deny => "denied by",
        };
        let comment = answer.comment.as_deref().unwrap_or("no comment");
        field(
            verb,
            &format!("{} at {}: {comment}", answer.reviewer, answer.at),
        );
    }
    if let Some(looked_up) = &detail.looked_up {
        text.push_str(&change::found(looked_up, now));
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

/// Of SQL there is no method, only where it goes.
pub(in crate::cli) fn request_line(view: &ApprovalView) -> String {
    format!("{} {}", view.method, view.url)
        .trim_start()
        .to_owned()
}

/// The request as it would be sent, with its body made readable; not yet safe to print.
pub(in crate::cli) fn request_text(detail: &ApprovalDetail) -> String {
    let view = &detail.approval;
    let mut text = format!("{}\n", request_line(view));
    for (name, value) in &detail.headers {
        let _ = writeln!(text, "{name}: {value}");
    }
    if !detail.body.text.is_empty() {
        let _ = write!(text, "\n{}", pretty::readable(&detail.body.text));
    }
    text
}

/// How long, such as `90s` or `10m`.
pub(in crate::cli) fn lasting(text: &str) -> Result<SignedDuration, String> {
    let time: SignedDuration = text
        .parse()
        .map_err(|_| "write a time such as 90s, 10m or 2h".to_owned())?;
    match time.is_negative() {
        true => Err("that is over already; write a time such as 90s, 10m or 2h".to_owned()),
        false => Ok(time),
    }
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
