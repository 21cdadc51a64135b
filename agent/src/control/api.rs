//! The routes.

use std::time::Duration;

use axum::{
    Extension, Json, Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    routing::{get, post},
};
use holdpoint_core::approval;
use http::{Method, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};

use super::{
    ControlState, answers, audit,
    caller::{Caller, Stranger},
    error::ApiError,
    reading, retention,
};
use crate::{
    approvals::{ApprovalDetail, ApprovalId, ApprovalView},
    metrics::CONTENT_TYPE,
    record::{Event, Record, SessionSummary, StoredEvent, Text},
    refusals::Refused,
    session::SessionId,
};

/// Bytes of a request's body at most.
const BODY_LIMIT: usize = 64 * 1024;
/// How long an answer may wait for news: less than a connection may take in all.
const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// Sessions and events in one answer, unless asked for fewer.
pub(super) const PAGE: usize = 500;

pub(super) type Answered<T> = Result<Json<T>, ApiError>;

/// What a process outside of all sessions may ask for.
pub(super) fn router(state: ControlState, caller: Caller) -> Router {
    Router::new()
        .route("/v1/approvals", get(approvals))
        .route("/v1/approvals/{id}", get(approval))
        .route("/v1/approvals/answer", post(answers::answer_set))
        .route("/v1/approvals/{id}/approve", post(answers::approve))
        .route("/v1/approvals/{id}/deny", post(answers::deny))
        .route("/v1/approvals/{id}/grant", post(answers::grant))
        .route("/v1/grants", get(answers::grants))
        .route("/v1/grants/{id}/revoke", post(answers::revoke))
        .route("/v1/login", post(answers::log_in))
        .route("/v1/logout", post(answers::log_out))
        .route("/v1/record/checkpoint", post(audit::checkpoint))
        .route("/v1/record/ship", post(audit::ship))
        .route(
            "/v1/record/retention",
            get(retention::report).post(retention::run),
        )
        .route("/v1/sessions", get(reading::sessions))
        .route("/v1/sessions/{id}", get(session))
        .route("/v1/sessions/{id}/hold", post(retention::hold))
        .route("/v1/sessions/{id}/release", post(retention::release))
        .route("/v1/sessions/{id}/bodies/{seq}", get(reading::body))
        .route("/v1/events", get(reading::events))
        .route("/v1/events/last", get(reading::last))
        .route("/v1/status", get(status))
        .route("/v1/metrics", get(metrics))
        .fallback(nothing_here)
        .method_not_allowed_fallback(other_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(Extension(caller))
        .with_state(state)
}

/// What anybody else gets: a refusal, on record.
pub(super) fn refusing_router(record: Record, stranger: Stranger) -> Router {
    Router::new().fallback(async move |method: Method, uri: Uri| {
        tracing::warn!(
            user = stranger.user.name,
            pid = stranger.pid,
            "a control request is refused"
        );
        let refused = Event::ControlRefused {
            user: stranger.user.clone(),
            pid: stranger.pid,
            request: Text::short(&format!("{method} {}", uri.path())),
            reason: Text::from(&stranger.reason),
        };
        // Refused all the same when it cannot be recorded.
        if let Err(error) = record.append_unsynced(refused).await {
            tracing::error!(%error, "a refusal is not recorded");
        }
        ApiError::new(
            StatusCode::FORBIDDEN,
            "inside_a_session",
            stranger.reason.clone(),
        )
    })
}

async fn nothing_here(uri: Uri) -> ApiError {
    ApiError::not_found(&format!(
        "there is nothing at {}; see /v1/approvals, /v1/grants, /v1/sessions, /v1/events, /v1/status, /v1/metrics",
        uri.path()
    ))
}

async fn other_method(method: Method, uri: Uri) -> ApiError {
    let message = format!(
        "{} does not take {method}: read with GET, answer with POST",
        uri.path()
    );
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
}

/// The answer of `GET /v1/approvals`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ApprovalList {
    /// To ask for as `since`, with `wait`: the answer comes as soon as there is another.
    pub revision: u64,
    /// Newest first.
    pub approvals: Vec<ApprovalView>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApprovalFilter {
    state: Option<String>,
    /// The revision that the caller has.
    since: Option<u64>,
    /// Seconds to wait for another one, 25 at most.
    #[serde(default)]
    wait: u64,
}

impl ApprovalFilter {
    fn state(&self) -> Result<Option<approval::State>, ApiError> {
        let Some(name) = self.state.as_deref().filter(|name| *name != "all") else {
            return Ok(None);
        };
        serde_json::from_value(name.into()).map(Some).map_err(|_| {
            ApiError::bad_request(
                "`state` is one of pending, approved, denied, expired, withdrawn, used, lapsed, all",
            )
        })
    }
}

async fn approvals(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    filter: Result<Query<ApprovalFilter>, axum::extract::rejection::QueryRejection>,
) -> Answered<ApprovalList> {
    let filter = query(filter)?;
    let wanted = filter.state()?;
    if let Some(since) = filter.since {
        let wait = LONGEST_WAIT.min(Duration::from_secs(filter.wait));
        // The list is the answer whether or not it changed.
        let _ = tokio::time::timeout(wait, state.approvals.changed(since)).await;
    }
    // Read before the list: what changes in between is news to the caller the next time.
    let revision = state.approvals.revision();
    let mut approvals = state.approvals.list().await;
    approvals
        .retain(|view| caller.sees(&view.user) && wanted.is_none_or(|wanted| view.state == wanted));
    Ok(Json(ApprovalList {
        revision,
        approvals,
    }))
}

async fn approval(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answered<ApprovalDetail> {
    let detail = state.approvals.show(&ApprovalId::named(&id)).await;
    detail
        .filter(|detail| caller.sees(&detail.approval.user))
        .map(Json)
        .ok_or_else(|| {
            ApiError::not_found(
                "there is no approval of this id that you may see; `holdpoint approvals list --state all` shows them",
            )
        })
}

/// A session.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionView {
    /// Whether it is open now.
    pub live: bool,
    /// What the record says.
    #[serde(flatten)]
    pub summary: SessionSummary,
}

/// The answer of `GET /v1/sessions/{id}`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionDetail {
    /// The session.
    pub session: SessionView,
    /// Its events with numbers above `after`, or the `last` so many; oldest first.
    pub events: Vec<StoredEvent>,
    /// What to ask for as `after` when there may be more.
    pub next: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
    /// Of a session's events, only so many, from the end.
    last: Option<usize>,
}

impl Page {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE)
    }
}

async fn session(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SessionId>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Answered<SessionDetail> {
    let page = query(page)?;
    state.record.settled().await;
    let summary = reading::visible(&state, &caller, &id)?;
    let events = match page.last {
        Some(last) => state.record.last_events_of(&id, last.min(PAGE)).await,
        None => state.record.events_of(&id, page.after, page.limit()).await,
    };
    let events = events.map_err(reading::unreadable)?;
    let is_full = page.last.is_none() && events.len() == page.limit();
    Ok(Json(SessionDetail {
        session: view(&state, summary),
        next: events.last().map(|event| event.seq).filter(|_| is_full),
        events,
    }))
}

pub(super) fn view(state: &ControlState, summary: SessionSummary) -> SessionView {
    let live = state.sessions.list().iter().any(|it| it.id == summary.id);
    SessionView { live, summary }
}

async fn metrics(State(state): State<ControlState>) -> impl axum::response::IntoResponse {
    (
        [(header::CONTENT_TYPE, CONTENT_TYPE)],
        state.metrics.text().await,
    )
}

async fn status(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
) -> Json<serde_json::Value> {
    let mut status = (state.status)();
    let mut refused = state.refusals.list();
    refused.retain(|seen| caller.sees_all() || is_own(&state, &caller, &seen.refused));
    status["refused"] = serde_json::json!(refused);
    Json(status)
}

/// What a session was refused is for its user, like the session itself.
fn is_own(state: &ControlState, caller: &Caller, refused: &Refused) -> bool {
    let session = refused.session.as_ref();
    session
        .and_then(|id| state.record.session(id))
        .is_some_and(|summary| caller.sees(&summary.user))
}

pub(super) fn query<T>(
    query: Result<Query<T>, axum::extract::rejection::QueryRejection>,
) -> Result<T, ApiError> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| ApiError::bad_request(rejection.body_text()))
}
