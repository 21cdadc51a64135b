//! Waiting: for the answer to one operation, or for anything new to answer.

use std::{collections::BTreeSet, time::Instant};

use anyhow::bail;
use holdpoint_core::approval::State;
use jiff::{SignedDuration, Timestamp};

use super::{
    lasting, listing, row,
    screen::{self, Output},
    word,
};
use crate::{
    approvals::{ApprovalDetail, ApprovalId, ApprovalView},
    control::{ApprovalList, client::Client},
};

/// Seconds that the daemon may keep one question.
const PATIENCE: u64 = 25;

#[derive(Debug, clap::Args)]
pub(super) struct Waiting {
    /// The approval to wait for; without one, for the next operation that is held.
    id: Option<String>,
    /// The state to wait for; any but pending by default.
    #[arg(long, requires = "id")]
    state: Option<String>,
    /// Give up after this time, for example 10m.
    #[arg(long, value_name = "TIME", value_parser = lasting)]
    timeout: Option<SignedDuration>,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// Fails when it is over and another state was waited for, and when time is up.
pub(super) async fn wait(client: &Client, waiting: &Waiting) -> anyhow::Result<()> {
    let state = waiting.state.as_deref().map(named).transpose()?;
    let (started, mut list) = (Instant::now(), all(client, None).await?);
    let known = pending(&list);
    loop {
        let found = match &waiting.id {
            Some(id) => reached(&list, client, word(id)?, state).await?,
            None => {
                let new = |view: &&ApprovalView| !known.contains(&view.id);
                pending_views(&list).filter(new).cloned().collect()
            }
        };
        if !found.is_empty() {
            return print(&found, waiting.output);
        }
        let timeout = waiting.timeout.map(SignedDuration::unsigned_abs);
        let left = timeout.map(|timeout| timeout.saturating_sub(started.elapsed()));
        if left.is_some_and(|left| left.is_zero()) {
            bail!(
                "nothing of the kind within {:?}",
                timeout.unwrap_or_default()
            );
        }
        let patience = left.map_or(PATIENCE, |left| left.as_secs().clamp(1, PATIENCE));
        list = all(client, Some((list.revision, patience))).await?;
    }
}

async fn all(client: &Client, news: Option<(u64, u64)>) -> anyhow::Result<ApprovalList> {
    let query = news.map_or_else(String::new, |(since, wait)| {
        format!("&since={since}&wait={wait}")
    });
    client
        .read(&format!("/v1/approvals?state=all{query}"))
        .await
}

fn pending_views(list: &ApprovalList) -> impl Iterator<Item = &ApprovalView> {
    let views = list.approvals.iter();
    views.filter(|view| view.state == State::Pending)
}

fn pending(list: &ApprovalList) -> BTreeSet<ApprovalId> {
    pending_views(list).map(|view| view.id.clone()).collect()
}

/// The approval when it is where one waits for it to be. One that the list no longer has may still be told about.
async fn reached(
    list: &ApprovalList,
    client: &Client,
    id: &str,
    wanted: Option<State>,
) -> anyhow::Result<Vec<ApprovalView>> {
    let listed = list.approvals.iter().find(|view| view.id.as_str() == id);
    let view = match listed {
        Some(view) => view.clone(),
        None => {
            let path = format!("/v1/approvals/{id}");
            client.read::<ApprovalDetail>(&path).await?.approval
        }
    };
    let live = matches!(view.state, State::Pending | State::Approved);
    match wanted {
        Some(state) if view.state == state => Ok(vec![view]),
        // An approval that was used was approved before.
        Some(State::Approved) if view.state == State::Used => Ok(vec![view]),
        Some(state) if !live => bail!("{id} is {}, and will never be {state}", view.state),
        None if view.state != State::Pending => Ok(vec![view]),
        _ => Ok(Vec::new()),
    }
}

fn named(state: &str) -> anyhow::Result<State> {
    Ok(serde_json::from_value(state.into())?)
}

fn print(views: &[ApprovalView], output: Output) -> anyhow::Result<()> {
    let now = Timestamp::now();
    screen::print(&match output {
        Output::Json => screen::json(&views)?,
        Output::Table => {
            let rows: Vec<_> = views.iter().map(|view| row(view, now)).collect();
            listing(&rows)
        }
    })
}
