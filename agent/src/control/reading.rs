//! The routes by which the record is read: sessions that are looked for, stored events as they are, and bodies.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{StatusCode, header};
use http_body::Frame;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};

use super::{
    ControlState, SessionView,
    api::{Answered, PAGE, query, view},
    caller::Caller,
    error::ApiError,
};
use crate::{
    record::{
        Asked, Cursor, DecisionVerdict, Event, Needle, Pattern, RawEvent, Search, SecretSums,
        SessionSummary,
    },
    session::SessionId,
};

/// How long one answer looks through events for sessions: less than a connection may take in all.
const LOOK_FOR: Duration = Duration::from_secs(5);
/// How long one answer goes on with events: less than a connection may take in all, with time left to read the last ones.
const GO_ON_FOR: Duration = Duration::from_secs(20);
/// Events that are read at a time.
const BATCH: usize = 200;
/// Batches that wait for a slow reader.
const AHEAD: usize = 2;

/// The answer of `GET /v1/sessions`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionList {
    /// Newest first.
    pub sessions: Vec<SessionView>,
    /// What to ask for as `cursor` when there may be more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    limit: Option<usize>,
    cursor: Option<Cursor>,
    /// Not over before.
    since: Option<Timestamp>,
    /// Opened at this time or before.
    until: Option<Timestamp>,
    principal: Option<Pattern>,
    action: Option<Pattern>,
    resource: Option<Pattern>,
    decision: Option<DecisionVerdict>,
    /// In bodies, and in what events tell.
    text: Option<String>,
    /// The same, of a secret that only the caller knows.
    secret: Option<SecretSums>,
}

pub(super) async fn sessions(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Answered<SessionList> {
    let wanted = query(wanted)?;
    let seen = match (wanted.text, wanted.secret) {
        (Some(_), Some(_)) => {
            let message = "look for `text` or for `secret`, one of them at a time";
            return Err(ApiError::bad_request(message));
        }
        (Some(text), None) => Some(Needle::text(&text)),
        (None, secret) => secret.map(|sums| Needle::secret(sums, &*state.token_end)),
    };
    let search = Search {
        principal: wanted.principal,
        since: wanted.since,
        until: wanted.until,
        asked: Asked {
            action: wanted.action,
            resource: wanted.resource,
            decision: wanted.decision,
        },
        seen,
    };
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let from = wanted.cursor.unwrap_or_default();
    state.record.settled().await;
    let may = |summary: &SessionSummary| caller.sees(&summary.user);
    let found = state
        .record
        .search(&search, may, from, (limit, LOOK_FOR))
        .await
        .map_err(unreadable)?;
    let sessions = found.sessions.into_iter();
    Ok(Json(SessionList {
        sessions: sessions.map(|it| view(&state, it)).collect(),
        next: found.next,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    session: Option<SessionId>,
    #[serde(default)]
    after: u64,
    /// Whether to wait for more.
    #[serde(default)]
    follow: bool,
}

/// Stored events, byte for byte, one a line. An answer ends after 20 seconds at the latest; what comes after its last event is to be
/// asked for again. One without events has reached the end.
pub(super) async fn events(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    wanted: Result<Query<Stream>, QueryRejection>,
) -> Result<Response, ApiError> {
    let wanted = query(wanted)?;
    match &wanted.session {
        Some(id) => drop(visible(&state, &caller, id)?),
        None if caller.sees_all() => {}
        None => {
            return Err(ApiError::forbidden(
                "not_a_reviewer",
                "what happened on the whole host is for reviewers and root; name one of your own sessions",
            ));
        }
    }
    state.record.settled().await;
    let news = state.record.news();
    let first = batch(&state, &wanted, wanted.after).await?;
    let (queue, batches) = mpsc::channel(AHEAD);
    tokio::spawn(send(state, wanted, first, news, queue));
    let ndjson = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((ndjson, Body::new(Batches(batches))).into_response())
}

/// The answer of `GET /v1/events/last`.
#[derive(Debug, Serialize, Deserialize)]
pub struct LastEvent {
    /// The number of the last event; 0 in an empty record.
    pub seq: u64,
}

pub(super) async fn last(State(state): State<ControlState>) -> Json<LastEvent> {
    state.record.settled().await;
    let seq = *state.record.news().borrow();
    Json(LastEvent { seq })
}

/// Sends batch after batch until there is nothing more to come, time is up, or nobody listens.
async fn send(
    state: ControlState,
    wanted: Stream,
    first: Vec<RawEvent>,
    mut news: watch::Receiver<u64>,
    queue: mpsc::Sender<Bytes>,
) {
    let until = Instant::now() + GO_ON_FOR;
    let (mut after, mut events) = (wanted.after, first);
    loop {
        if let Some(last) = events.last() {
            after = last.seq;
            let sent = timeout_at(until, queue.send(lines(events))).await;
            if !matches!(sent, Ok(Ok(()))) {
                return;
            }
        } else if wanted.follow {
            let more = tokio::select! {
                more = timeout_at(until, news.changed()) => more,
                () = queue.closed() => return,
            };
            if !matches!(more, Ok(Ok(()))) {
                return;
            }
        } else {
            return;
        }
        if Instant::now() >= until {
            return;
        }
        events = match batch(&state, &wanted, after).await {
            Ok(events) => events,
            // The caller asks again, and is told why.
            Err(_) => return,
        };
    }
}

async fn batch(
    state: &ControlState,
    wanted: &Stream,
    after: u64,
) -> Result<Vec<RawEvent>, ApiError> {
    let stored = state.record.stored(wanted.session.as_ref(), after, BATCH);
    stored.await.map_err(unreadable)
}

fn lines(events: Vec<RawEvent>) -> Bytes {
    let mut lines = Vec::with_capacity(events.iter().map(|it| it.bytes.len() + 1).sum());
    for event in events {
        lines.extend(event.bytes);
        lines.push(b'\n');
    }
    lines.into()
}

/// A body made of what comes out of a queue.
struct Batches(mpsc::Receiver<Bytes>);

impl http_body::Body for Batches {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.0.poll_recv(context);
        next.map(|batch| batch.map(|batch| Ok(Frame::data(batch))))
    }
}

/// The body that a session's event of this number is about.
pub(super) async fn body(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    Path((id, seq)): Path<(SessionId, u64)>,
) -> Result<Response, ApiError> {
    visible(&state, &caller, &id)?;
    let missing = || ApiError::not_found("this session has no body in an event of this number");
    let before = seq.checked_sub(1).ok_or_else(missing)?;
    let stored = state.record.stored(Some(&id), before, 1).await;
    let stored = stored.map_err(unreadable)?;
    let event = stored.first().filter(|it| it.seq == seq);
    let event = event.ok_or_else(missing)?.read().map_err(unreadable)?;
    let Event::Body { body, .. } = event.event else {
        return Err(missing());
    };
    let Some(kept) = body.kept else {
        let message =
            "this body was not kept: policy did not ask for it, or it could not be masked";
        return Err(ApiError::new(StatusCode::GONE, "not_kept", message));
    };
    match state.record.body(&kept).await.map_err(unreadable)? {
        Some(bytes) => {
            // Whatever it says it is, nobody shall take it for something to run.
            let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
            Ok((kind, bytes).into_response())
        }
        None => Err(ApiError::new(
            StatusCode::GONE,
            "purged",
            "this body was purged: its time in the record was over",
        )),
    }
}

/// The session, where the caller may see it.
pub(super) fn visible(
    state: &ControlState,
    caller: &Caller,
    id: &SessionId,
) -> Result<SessionSummary, ApiError> {
    let summary = state.record.session(id);
    summary
        .filter(|summary| caller.sees(&summary.user))
        .ok_or_else(|| {
            ApiError::not_found(
                "there is no session of this id that you may see; `holdpoint sessions list` shows them",
            )
        })
}

pub(super) fn unreadable(error: anyhow::Error) -> ApiError {
    let message = format!("the record cannot be read: {error:#}");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "record", message)
}
