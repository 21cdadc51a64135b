//! The routes by which people answer, grant and take back.

use std::{collections::BTreeSet, time::Duration};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
};
use holdpoint_core::{
    approval::{Answer, Channel},
    grant::Scope,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{
    ControlState,
    api::Answered,
    caller::Caller,
    error::{ApiError, ErrorText},
};
use crate::{
    approvals::{ApprovalId, ApprovalView, GrantAsk, GrantId, GrantView, Opinion},
    record::{Event, Text},
};

/// Approvals that one answer may be about.
const MOST_AT_ONCE: usize = 256;

pub(super) type Body = Result<Bytes, BytesRejection>;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AnswerBody {
    comment: Option<String>,
    break_glass: bool,
}

pub(super) async fn approve(
    state: State<ControlState>,
    caller: Extension<Caller>,
    id: Path<String>,
    body: Body,
) -> Answered<ApprovalView> {
    answer(state, caller, id, body, Answer::Approve).await
}

pub(super) async fn deny(
    state: State<ControlState>,
    caller: Extension<Caller>,
    id: Path<String>,
    body: Body,
) -> Answered<ApprovalView> {
    answer(state, caller, id, body, Answer::Deny).await
}

async fn answer(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Body,
    answer: Answer,
) -> Answered<ApprovalView> {
    let body: AnswerBody = read(body, "{\"comment\": \"...\"}")?;
    let opinion = Opinion {
        reviewer: caller.reviewer(),
        answer,
        comment: said(body.comment),
        break_glass: body.break_glass,
        channel: Channel::Host,
        after: None,
    };
    let id = ApprovalId::named(&id);
    Ok(Json(state.approvals.answer(&id, opinion).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetBody {
    ids: Vec<String>,
    verdict: Answer,
    comment: Option<String>,
    #[serde(default)]
    break_glass: bool,
}

/// The answer of `POST /v1/approvals/answer`.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetAnswers {
    /// In the order of the ids; one id that was given twice is answered once.
    pub answers: Vec<SetAnswer>,
}

/// What came of one id: either of the two.
#[derive(Debug, Serialize, Deserialize)]
pub struct SetAnswer {
    /// The id.
    pub id: String,
    /// Where it stands now that the answer counts.
    pub approval: Option<ApprovalView>,
    /// Why the answer does not count.
    pub error: Option<ErrorText>,
}

/// One after the other, each bound to its own content and on record by itself.
pub(super) async fn answer_set(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answered<SetAnswers> {
    let body: SetBody = read(
        body,
        "{\"ids\": [\"ap-...\"], \"verdict\": \"approve\", \"comment\": \"...\"}",
    )?;
    if body.ids.len() > MOST_AT_ONCE {
        return Err(ApiError::bad_request(format!(
            "one answer is about {MOST_AT_ONCE} approvals at most"
        )));
    }
    let opinion = Opinion {
        reviewer: caller.reviewer(),
        answer: body.verdict,
        comment: said(body.comment),
        break_glass: body.break_glass,
        channel: Channel::Host,
        after: None,
    };
    let (mut answers, mut seen) = (Vec::with_capacity(body.ids.len()), BTreeSet::new());
    for id in body.ids {
        if !seen.insert(id.clone()) {
            continue;
        }
        let named = ApprovalId::named(&id);
        let answered = state.approvals.answer(&named, opinion.clone()).await;
        let (approval, error) = match answered {
            Ok(view) => (Some(view), None),
            Err(error) => (None, Some(ApiError::from(error).text())),
        };
        answers.push(SetAnswer {
            id,
            approval,
            error,
        });
    }
    Ok(Json(SetAnswers { answers }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantBody {
    seconds: u64,
    #[serde(default = "narrowest")]
    scope: Scope,
    comment: Option<String>,
}

fn narrowest() -> Scope {
    Scope::Resource
}

pub(super) async fn grant(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Body,
) -> Answered<GrantView> {
    let body: GrantBody = read(body, "{\"seconds\": 1800, \"scope\": \"resource\"}")?;
    let ask = GrantAsk {
        reviewer: caller.reviewer(),
        scope: body.scope,
        lasting: Duration::from_secs(body.seconds),
        comment: said(body.comment),
    };
    let id = ApprovalId::named(&id);
    Ok(Json(state.approvals.grant(&id, ask).await?))
}

/// The answer of `GET /v1/grants`.
#[derive(Debug, Serialize, Deserialize)]
pub struct GrantList {
    /// Newest first.
    pub grants: Vec<GrantView>,
}

pub(super) async fn grants(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
) -> Answered<GrantList> {
    let mut grants = state.approvals.grants().await;
    grants.retain(|grant| caller.sees_all() || grant.uid == caller.user.uid);
    Ok(Json(GrantList { grants }))
}

pub(super) async fn revoke(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Body,
) -> Answered<GrantView> {
    let body: AnswerBody = read(body, "{\"comment\": \"...\"}")?;
    let id = GrantId::named(&id);
    let revoked = state
        .approvals
        .revoke(&id, caller.reviewer(), said(body.comment));
    Ok(Json(revoked.await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginBody {
    token: Zeroizing<String>,
}

/// The answer of `POST /v1/login`.
#[derive(Debug, Serialize, Deserialize)]
pub struct LoggedIn {
    /// Who the caller is: `issuer#subject`.
    pub person: String,
    /// The reviewer groups the caller is in.
    pub groups: BTreeSet<String>,
    /// When it ends.
    pub until: Timestamp,
}

pub(super) async fn log_in(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Answered<LoggedIn> {
    let LoginBody { token } = read(body, "{\"token\": \"...\"}")?;
    let login = match state.logins.verify(token.trim()).await {
        Ok(login) => login,
        Err(error) => {
            let refused = Event::ControlRefused {
                user: caller.user.clone(),
                pid: None,
                request: "POST /v1/login".into(),
                reason: Text::from(error.to_string()),
            };
            state.record.append_unsynced(refused).await?;
            return Err(ApiError::forbidden("token", error.to_string()));
        }
    };
    let event = Event::ReviewerLogin {
        user: caller.user.clone(),
        principal: (&login.person).into(),
        until: login.until,
    };
    state.record.append(event).await?;
    let groups = super::logins::groups_of(&login.person, &state.reviewers);
    let logged_in = LoggedIn {
        person: login.person.name(),
        groups: groups.union(&caller.groups).cloned().collect(),
        until: login.until,
    };
    if !state.logins.insert(caller.user.uid, login) {
        return Err(ApiError::forbidden(
            "too_many",
            "too many users are logged in",
        ));
    }
    Ok(Json(logged_in))
}

/// What a reviewer is told who logs out.
#[derive(Debug, Serialize, Deserialize)]
pub struct LoggedOut {
    /// Whether there was a login.
    pub was_logged_in: bool,
}

/// `POST /v1/logout`: for those who leave before their token expires. Recorded before it is answered, and it counts even where that fails.
pub(super) async fn log_out(
    State(state): State<ControlState>,
    Extension(caller): Extension<Caller>,
) -> Answered<LoggedOut> {
    let was_logged_in = state.logins.remove(caller.user.uid);
    let event = Event::ReviewerLogout {
        user: caller.user.clone(),
    };
    state.record.append(event).await?;
    Ok(Json(LoggedOut { was_logged_in }))
}

/// An empty body is an empty object.
pub(super) fn read<T: DeserializeOwned>(body: Body, shape: &str) -> Result<T, ApiError> {
    let body = body.map_err(|rejection| ApiError::bad_request(rejection.body_text()))?;
    let body = match body.is_empty() {
        true => Bytes::from_static(b"{}"),
        false => body,
    };
    serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not {shape}: {error}")))
}

fn said(comment: Option<String>) -> Option<String> {
    comment.filter(|comment| !comment.trim().is_empty())
}
