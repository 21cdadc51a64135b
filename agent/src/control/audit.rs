//! What auditors ask for: that what was recorded is signed, and shipped.

use std::time::Duration;

use axum::{Extension, Json, extract::State};
use http::StatusCode;
use serde_json::{Value, json};

use super::{ControlState, api::Answered, caller::Caller, error::ApiError};
use crate::shipping;

/// How long a caller waits for what is shipped.
const WITHIN: Duration = Duration::from_secs(20);

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

fn failed(error: anyhow::Error) -> ApiError {
    let code = StatusCode::INTERNAL_SERVER_ERROR;
    ApiError::new(code, "record", format!("{error:#}"))
}
