//! Answering: one operation or a chosen set, and granting more of the same.

use anyhow::ensure;
use holdpoint_core::approval::{Answer, State};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{
    lasting, left,
    screen::{self, Output, safe},
    word,
};
use crate::{
    approvals::{ApprovalView, GrantView},
    control::{SetAnswers, client::Client},
};

#[derive(Debug, clap::Args)]
pub(super) struct Answering {
    /// The approvals, for example ap-3k9x2m7qht. Each is answered by itself.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Why. Recorded, and told to the agent when you deny.
    #[arg(long)]
    comment: Option<String>,
    /// How to print what came of it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Approving {
    #[command(flatten)]
    answering: Answering,
    /// Approve alone what needs others, in an emergency: for the group that the configuration names, with a comment.
    #[arg(long, requires = "comment")]
    break_glass: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Granting {
    /// The held operation to grant more of, for example ap-3k9x2m7qht.
    id: String,
    /// How long, for example 30m.
    #[arg(long = "for", value_name = "TIME", value_parser = lasting)]
    lasting: SignedDuration,
    /// How much: `resource`, or `project` where the policy lets you.
    #[arg(long, default_value = "resource")]
    scope: String,
    /// Why. Recorded.
    #[arg(long)]
    comment: Option<String>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) async fn approve(client: &Client, approving: &Approving) -> anyhow::Result<()> {
    let glass = approving.break_glass;
    answer(client, &approving.answering, Answer::Approve, glass).await
}

pub(super) async fn deny(client: &Client, answering: &Answering) -> anyhow::Result<()> {
    answer(client, answering, Answer::Deny, false).await
}

/// What counts is printed before what does not is complained about.
async fn answer(
    client: &Client,
    answering: &Answering,
    verdict: Answer,
    break_glass: bool,
) -> anyhow::Result<()> {
    for id in &answering.ids {
        word(id)?;
    }
    let body = json!({
        "ids": answering.ids,
        "verdict": verdict,
        "comment": answering.comment,
        "break_glass": break_glass,
    });
    let set: SetAnswers = client.post("/v1/approvals/answer", &body).await?;
    match answering.output {
        Output::Json => screen::print(&screen::json(&set.answers)?)?,
        Output::Table => {
            let views = set.answers.iter().filter_map(|it| it.approval.as_ref());
            let lines: String = views.map(outcome).collect();
            screen::print(&lines)?;
        }
    }
    let failures: Vec<_> = set
        .answers
        .iter()
        .filter_map(|it| Some((&it.id, it.error.as_ref()?)))
        .map(|(id, error)| format!("{}: {}", safe(id), safe(&error.message)))
        .collect();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn outcome(view: &ApprovalView) -> String {
    let id = &view.id;
    match view.state {
        State::Pending => format!("{id}: your approval counts; more people have to approve\n"),
        State::Approved => format!(
            "{id}: approved; nobody is connected, the next request with this content uses it (within {})\n",
            left(view, Timestamp::now())
        ),
        State::Used => format!("{id}: approved, and on its way\n"),
        other => format!("{id}: {other}\n"),
    }
}

pub(super) async fn grant(client: &Client, granting: &Granting) -> anyhow::Result<()> {
    let id = word(&granting.id)?;
    let seconds = u64::try_from(granting.lasting.as_secs()).unwrap_or_default();
    let body = json!({
        "seconds": seconds,
        "scope": granting.scope,
        "comment": granting.comment,
    });
    let view: GrantView = client
        .post(&format!("/v1/approvals/{id}/grant"), &body)
        .await?;
    screen::print(&match granting.output {
        Output::Json => screen::json(&view)?,
        Output::Table => format!(
            "{id}: approved, and {} on {} {} granted until {}; take it back with `holdpoint grants revoke {}`\n",
            safe(&view.action),
            view.over.scope(),
            safe(view.over.name()),
            view.until,
            view.id
        ),
    })
}
