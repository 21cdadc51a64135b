//! What auditors ask for: signatures, and the record as it is stored.

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
