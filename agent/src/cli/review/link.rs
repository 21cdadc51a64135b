//! The screen's side of the control API: what waits, again and again, and what the screen asks for.

use std::time::Duration;

use anyhow::Context as _;
use holdpoint_core::{approval::Answer, grant::Scope};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};

use super::{
    confirm::{GRANT_SECONDS, Verdict},
    state::{Ballot, Effect, Event},
};
use crate::{
    approvals::{ApprovalDetail, ApprovalId, ApprovalView, GrantView},
    cli::{
        approvals::word,
        sessions::{command_line, events},
    },
    control::{ApprovalList, SessionDetail, SetAnswers, client::Client},
    record::{Event as Recorded, StoredEvent},
    session::SessionId,
};

/// Seconds the daemon may wait for news before it says that there are none.
const WAIT: u64 = 5;
/// Between two lists, so that many changes at once are one list.
const CALM: Duration = Duration::from_millis(200);
/// Between two tries to reach the daemon.
const RETRY: Duration = Duration::from_secs(1);
/// A daemon that takes longer to answer counts as gone.
const WITHIN: Duration = Duration::from_secs(10);
/// A session's last events that are looked through for operations, and operations that are shown.
const EVENTS: usize = 200;
const OPERATIONS: usize = 12;

/// What is known of a session.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    pub(super) standing: String,
    pub(super) command: String,
    pub(super) groups: String,
    pub(super) claims: Vec<(String, String)>,
    /// Its last operations in words, oldest first.
    pub(super) recent: Vec<String>,
}

/// Which holds are shown at all.
#[derive(Clone, Debug, Default)]
pub(super) struct Only {
    pub(super) session: Option<String>,
    pub(super) group: Option<String>,
}

impl Only {
    pub(super) fn takes(&self, view: &ApprovalView) -> bool {
        let session = self.session.as_deref();
        let group = self.group.as_ref();
        session.is_none_or(|id| view.session.as_str() == id)
            && group.is_none_or(|group| view.groups.contains(group))
    }
}

/// Tells what waits whenever that changes, for ever.
pub(super) async fn watch(client: Client, only: Only, events: mpsc::Sender<Event>) {
    let mut since = None;
    loop {
        let path = match since {
            None => "/v1/approvals?state=pending".to_owned(),
            Some(revision) => format!("/v1/approvals?state=pending&wait={WAIT}&since={revision}"),
        };
        let (event, pause) = match within(client.read::<ApprovalList>(&path)).await {
            Ok(mut list) => {
                since = Some(list.revision);
                list.approvals.retain(|view| only.takes(view));
                (Event::Listed(list.approvals), CALM)
            }
            Err(why) => {
                since = None;
                (Event::Lost(why), RETRY)
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Does what the screen asks for, without keeping it waiting.
pub(super) fn start(effect: Effect, client: &Client, events: &mpsc::Sender<Event>) {
    let (client, events) = (client.clone(), events.clone());
    match effect {
        Effect::Look(id) => {
            tokio::spawn(async move {
                let detail = within(look(&client, &id)).await.map(Box::new);
                events.send(Event::Looked(id, detail)).await
            });
        }
        Effect::Learn(id) => {
            tokio::spawn(async move {
                let about = within(learn(&client, &id)).await.map(Box::new);
                events.send(Event::Learned(id, about)).await
            });
        }
        Effect::Answer(ballot) => {
            tokio::spawn(async move {
                let results = match ballot.verdict {
                    Verdict::Grant => grant(&client, &ballot).await,
                    _ => answer(&client, &ballot).await,
                };
                for (id, result) in results {
                    let _ = events.send(Event::Answered(id, result)).await;
                }
            });
        }
        // The screen's own.
        Effect::Bell | Effect::Quit => {}
    }
}

async fn within<T>(call: impl Future<Output = anyhow::Result<T>>) -> Result<T, String> {
    match timeout(WITHIN, call).await {
        Ok(result) => result.map_err(|error| format!("{error:#}")),
        Err(_) => Err(format!(
            "the daemon has not answered for {} s",
            WITHIN.as_secs()
        )),
    }
}

async fn look(client: &Client, id: &ApprovalId) -> anyhow::Result<ApprovalDetail> {
    let id = word(id.as_str())?;
    client.read(&format!("/v1/approvals/{id}")).await
}

/// What came of the answer for each id.
type Answered = Vec<(ApprovalId, Result<Box<ApprovalView>, String>)>;

/// One answer to all of them; the daemon takes it for each by itself.
async fn answer(client: &Client, ballot: &Ballot) -> Answered {
    let verdict = match ballot.verdict {
        Verdict::Deny => Answer::Deny,
        Verdict::Approve | Verdict::Grant | Verdict::BreakGlass => Answer::Approve,
    };
    let body = json!({
        "ids": ballot.ids,
        "verdict": verdict,
        "comment": ballot.comment,
        "break_glass": ballot.verdict == Verdict::BreakGlass,
    });
    let set = within(client.post::<SetAnswers>("/v1/approvals/answer", &body)).await;
    let result_of = |id: &ApprovalId| {
        let set = set
            .as_ref()
            .map_err(|why| format!("it is not known whether it was taken: {why}"))?;
        let answer = set.answers.iter().find(|it| it.id == id.as_str());
        match answer.map(|it| (&it.approval, &it.error)) {
            Some((Some(view), _)) => Ok(Box::new(view.clone())),
            Some((None, Some(error))) => Err(error.message.clone()),
            _ => Err("the daemon does not say what came of it".to_owned()),
        }
    };
    ballot
        .ids
        .iter()
        .map(|id| (id.clone(), result_of(id)))
        .collect()
}

async fn grant(client: &Client, ballot: &Ballot) -> Answered {
    let body =
        json!({ "seconds": GRANT_SECONDS, "scope": Scope::Resource, "comment": ballot.comment });
    let mut results = Vec::new();
    for id in &ballot.ids {
        let granted = async {
            let path = format!("/v1/approvals/{}", word(id.as_str())?);
            let _: GrantView = client.post(&format!("{path}/grant"), &body).await?;
            client.read::<ApprovalView>(&path).await
        };
        results.push((id.clone(), within(granted).await.map(Box::new)));
    }
    results
}

async fn learn(client: &Client, id: &SessionId) -> anyhow::Result<About> {
    let id = word(id.as_str())?;
    let last: SessionDetail = client
        .read(&format!("/v1/sessions/{id}?last={EVENTS}"))
        .await?;
    let first: SessionDetail = client.read(&format!("/v1/sessions/{id}?limit=1")).await?;
    let first = first.events.first().context("nothing is recorded of it")?;
    Ok(about(&last, first))
}

fn about(session: &SessionDetail, first: &StoredEvent) -> About {
    let summary = &session.session.summary;
    let mut standing = match session.session.live {
        true => "open".to_owned(),
        false => "closed".to_owned(),
    };
    standing.push_str(&format!(
        "; operations: {}, held: {}, denied: {}",
        summary.operations, summary.held, summary.denied
    ));
    if let Some(service) = &summary.service {
        standing.push_str(&format!(", of the service {service}"));
    }
    let mut about = About {
        standing,
        command: command_line(&summary.command),
        recent: recent(&session.events),
        ..About::default()
    };
    if let Recorded::SessionOpened { principal, .. } = &first.event {
        let groups: Vec<_> = principal
            .groups
            .as_slice()
            .iter()
            .map(|it| it.as_str())
            .collect();
        about.groups = groups.join(", ");
        let claims = principal.claims.as_slice().iter();
        about.claims = claims
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
    }
    about
}

fn recent(events: &[StoredEvent]) -> Vec<String> {
    let tells = |stored: &&StoredEvent| {
        matches!(
            stored.event,
            Recorded::Intent { .. }
                | Recorded::Outcome { .. }
                | Recorded::ApprovalDecided { .. }
                | Recorded::RequestRefused { .. }
                | Recorded::ConnectionRefused { .. }
        )
    };
    let mut last: Vec<_> = events.iter().rev().filter(tells).take(OPERATIONS).collect();
    last.reverse();
    last.into_iter()
        .map(|stored| {
            format!(
                "{}  {}",
                stored.time.strftime("%H:%M:%SZ"),
                events::described(&stored.event)
            )
        })
        .collect()
}
