//! What auditors ask for: what of the record goes when, and what is to stay.

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    ControlState,
    answers::{Body, read},
    api::Answered,
    caller::Caller,
    error::ApiError,
};
use crate::{
    retention::{HoldError, LegalHold, Report, Sum},
    session::SessionId,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    reason: String,
}

/// What would be purged now, and when the rest is.
pub(super) async fn report(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
) -> Answered<Report> {
    for_auditors(&caller, "see what becomes of the record")?;
    state.retention.report().await.map(Json).map_err(failed)
}

/// Purges what is old enough, which happens every hour anyway.
pub(super) async fn run(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
) -> Answered<Sum> {
    if caller.user.uid != 0 {
        return Err(ApiError::forbidden(
            "not_yours",
            "only root may have the record purged",
        ));
    }
    // It goes on if the caller goes away.
    let purged = tokio::spawn(async move { state.retention.run().await }).await;
    purged
        .map_err(anyhow::Error::from)
        .flatten()
        .map(Json)
        .map_err(failed)
}

pub(super) async fn hold(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    Path(session): Path<SessionId>,
    body: Body,
) -> Answered<LegalHold> {
    for_auditors(&caller, "hold a session's events")?;
    let (by, reason) = (caller.reviewer().name, said(body)?);
    let held = state.retention.hold(&session, &by, &reason).await;
    held.map(Json).map_err(ApiError::from)
}

pub(super) async fn release(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    Path(session): Path<SessionId>,
    body: Body,
) -> Answered<LegalHold> {
    for_auditors(&caller, "release a session's events")?;
    let (by, reason) = (caller.reviewer().name, said(body)?);
    let held = state.retention.release(&session, &by, &reason).await;
    held.map(Json).map_err(ApiError::from)
}

fn for_auditors(caller: &Caller, what: &str) -> Result<(), ApiError> {
    match caller.sees_all() {
        true => Ok(()),
        false => Err(ApiError::forbidden(
            "not_yours",
            format!("root and reviewers may {what}"),
        )),
    }
}

fn said(body: Body) -> Result<String, ApiError> {
    let Reason { reason } = read(body, "{\"reason\": \"...\"}")?;
    match reason.trim().is_empty() {
        true => Err(ApiError::bad_request("say why: the reason is recorded")),
        false => Ok(reason),
    }
}

impl From<HoldError> for ApiError {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::NoSession | HoldError::NotHeld => Self::not_found(&error.to_string()),
            HoldError::Record(error) => error.into(),
            HoldError::Unreadable(error) => failed(error),
        }
    }
}

fn failed(error: anyhow::Error) -> ApiError {
    let code = StatusCode::INTERNAL_SERVER_ERROR;
    ApiError::new(code, "record", format!("{error:#}"))
}
