//! Errors of the control API: `{"error": {"code", "message"}}`.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use holdpoint_core::approval::Refused;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{approvals::AnswerError, record::RecordError};

/// The body of an error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: ErrorText,
}

/// What went wrong.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorText {
    /// For programs.
    pub code: String,
    /// For people: what happened and what to do.
    pub message: String,
}

#[derive(Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    message: String,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(crate) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// What it says, without the status.
    pub(crate) fn text(self) -> ErrorText {
        ErrorText {
            code: self.code.to_owned(),
            message: self.message,
        }
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status;
        let error = self.text();
        (status, Json(ErrorBody { error })).into_response()
    }
}

impl From<AnswerError> for ApiError {
    fn from(error: AnswerError) -> Self {
        let (status, code) = match &error {
            AnswerError::Unknown | AnswerError::UnknownGrant => {
                (StatusCode::NOT_FOUND, "not_found")
            }
            AnswerError::LinkUsed => (StatusCode::CONFLICT, "link_used"),
            AnswerError::NotGrantable(_) => (StatusCode::FORBIDDEN, "not_grantable"),
            AnswerError::TooManyGrants(_) => (StatusCode::CONFLICT, "too_many"),
            AnswerError::MayNotRevoke => (StatusCode::FORBIDDEN, "may_not_revoke"),
            AnswerError::Refused(Refused::NotBreakGlass(_)) => {
                (StatusCode::FORBIDDEN, "not_break_glass")
            }
            AnswerError::Refused(Refused::NoReason) => (StatusCode::BAD_REQUEST, "no_reason"),
            AnswerError::Refused(Refused::NotAlone(_)) => (StatusCode::FORBIDDEN, "not_alone"),
            AnswerError::Refused(Refused::OwnOperation) => (StatusCode::FORBIDDEN, "own_operation"),
            AnswerError::Refused(Refused::NotAReviewer(_)) => {
                (StatusCode::FORBIDDEN, "not_a_reviewer")
            }
            AnswerError::Refused(Refused::AlreadyApproved) => {
                (StatusCode::CONFLICT, "already_approved")
            }
            AnswerError::Refused(Refused::Over(_)) => (StatusCode::CONFLICT, "over"),
            AnswerError::Record(_) => (StatusCode::SERVICE_UNAVAILABLE, "record"),
            AnswerError::Closed => (StatusCode::SERVICE_UNAVAILABLE, "closing"),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "record", error.to_string())
    }
}
