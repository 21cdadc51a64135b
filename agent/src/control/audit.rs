//! What auditors ask for: signatures, and the record as it is stored.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::{Query, State},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    ControlState,
    api::{Answered, query},
    caller::Caller,
    error::ApiError,
};
use crate::shipping;

/// How long a caller waits for what is shipped.
const WITHIN: Duration = Duration::from_secs(20);
/// Bytes of events in one answer, and a little more.
const PAGE: usize = 4 * 1024 * 1024;

/// Signs what was recorded so far.
pub(super) async fn checkpoint(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
) -> Answered<Value> {
    if !caller.sees_all() {
        return Err(ApiError::forbidden(
            "not_yours",
            "root and reviewers may have the record signed",
        ));
    }
    let note = state.checkpoints.now().await.map_err(failed)?;
    Ok(Json(json!({ "note": note })))
}

/// Ships what there is, as long as a caller may wait, and tells how far it is. It goes on if that is too short.
pub(super) async fn ship(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
) -> Answered<shipping::Status> {
    if !caller.sees_all() {
        return Err(ApiError::forbidden(
            "not_yours",
            "root and reviewers may have the record shipped",
        ));
    }
    let Some(shipping) = state.shipping else {
        return Err(ApiError::not_found(
            "the record is not shipped: the configuration has no [record.ship]",
        ));
    };
    // What fails is in the status.
    let _ = tokio::time::timeout(WITHIN, shipping.now()).await;
    Ok(Json(shipping.status()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// The number of the last event that the caller has.
    #[serde(default)]
    after: u64,
}

/// Lines of an export: everybody's events, as they are stored.
pub(super) async fn events(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    page: Result<Query<Page>, axum::extract::rejection::QueryRejection>,
) -> Result<Vec<u8>, ApiError> {
    if caller.user.uid != 0 {
        return Err(ApiError::forbidden(
            "not_yours",
            "only root may read the whole record",
        ));
    }
    let after = query(page)?.after;
    let read = move || state.record.lines(after, PAGE);
    let lines = tokio::task::spawn_blocking(read).await;
    let lines = lines
        .map_err(anyhow::Error::from)
        .flatten()
        .map_err(failed)?;
    let mut page = Vec::with_capacity(PAGE);
    for line in lines {
        page.extend_from_slice(&line);
        page.push(b'\n');
    }
    Ok(page)
}

fn failed(error: anyhow::Error) -> ApiError {
    let code = StatusCode::INTERNAL_SERVER_ERROR;
    ApiError::new(code, "record", format!("{error:#}"))
}
