//! What there is to ask for: the question behind a link, its answer, and signing in.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, RawQuery, State},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use holdpoint_core::approval::{self, Answer};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;

use super::{
    Desk, form,
    identity::{Known, NotSignedIn, Redirect},
    page,
};
use crate::{
    approvals::{ApprovalDetail, Opinion},
    control::ApiError,
    metrics::metrics,
    notifications::Link,
};

/// Bytes of an answer at most.
const BODY_LIMIT: usize = 16 * 1024;

/// Nothing is kept, framed, or taken from elsewhere. `same-origin`, because browsers leave the origin out of posted forms otherwise.
const HEADERS: [(HeaderName, &str); 7] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    ),
];

pub(super) fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/a/{*link}", get(question).post(answer))
        .route("/sign-in/{issuer}/a/{*link}", get(sign_in))
        .route("/callback", get(callback))
        .route("/style.css", get(style))
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::map_response(hardened))
        .with_state(desk)
}

async fn hardened(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

/// Why something is refused, for a person or for a program.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Whether a program asks.
    json: bool,
}

type Answered = Result<Response, Refusal>;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        metrics().answer_request(self.code);
        if self.json {
            return ApiError::new(self.status, self.code, self.message).into_response();
        }
        html(self.status, page::told("No", &self.message))
    }
}

fn html(status: StatusCode, page: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/html; charset=utf-8")];
    (status, kind, page).into_response()
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css")], page::STYLE).into_response()
}

async fn nothing_here(headers: HeaderMap) -> Refusal {
    Refusal {
        status: StatusCode::NOT_FOUND,
        code: "not_found",
        message: "There is nothing here. Follow a link that Holdpoint has sent.".to_owned(),
        json: is_program(&headers),
    }
}

/// Whoever shows a token is one: browsers do not by themselves.
fn is_program(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION)
}

/// A link that is good, and what it leads to.
struct Found {
    link: Link,
    detail: ApprovalDetail,
}

impl Desk {
    /// What the link leads to. Of links that are none of this host's nobody learns which part is wrong.
    async fn find(&self, text: &str, json: bool) -> Result<Found, Refusal> {
        let refusal = |status, code, message: String| Refusal {
            status,
            code,
            message,
            json,
        };
        let none = || {
            let message =
                "This link is not one of this host's, or what it was about was over long ago.";
            refusal(StatusCode::NOT_FOUND, "bad_link", message.to_owned())
        };
        let link = Link::parse(text).map_err(|_| none())?;
        let detail = self.approvals.show(&link.approval).await.ok_or_else(none)?;
        let view = &detail.approval;
        if !self.links.is_mine(&link, &view.digest) {
            return Err(none());
        }
        if view.state != approval::State::Pending {
            let message = format!(
                "There is nothing left to answer: it is {} already.",
                view.state
            );
            return Err(refusal(StatusCode::GONE, "over", message));
        }
        if link.is_over(Timestamp::now()) {
            let message = "This link has expired.".to_owned();
            return Err(refusal(StatusCode::GONE, "expired", message));
        }
        if view.decisions.len() != link.after {
            let message = "This link is used up: somebody has answered since it was sent. A new one was sent if another \
                           answer is needed.";
            return Err(refusal(StatusCode::GONE, "link_used", message.to_owned()));
        }
        Ok(Found { link, detail })
    }

    /// Somebody of those who are asked, or who may break the glass; nobody else is shown what is asked.
    async fn reviewer(&self, headers: &HeaderMap, found: &Found) -> Result<Option<Known>, Refusal> {
        let json = is_program(headers);
        let known = match self.who(headers).await {
            None => return Ok(None),
            Some(Ok(known)) => known,
            Some(Err(error)) => {
                tracing::warn!(%error, "an answer by link is refused: nobody knows whose it is");
                return Err(Refusal {
                    status: StatusCode::UNAUTHORIZED,
                    code: "token",
                    message: error.to_string(),
                    json,
                });
            }
        };
        let asked = &found.detail.approval.groups;
        if asked.is_disjoint(&known.reviewer.groups) && !self.may_break_glass(&known) {
            tracing::warn!(
                who = known.reviewer.name,
                approval = %found.link.approval,
                "somebody who is not asked has followed a link"
            );
            let groups: Vec<_> = asked.iter().map(String::as_str).collect();
            return Err(Refusal {
                status: StatusCode::FORBIDDEN,
                code: "not_a_reviewer",
                message: format!(
                    "Only reviewers of {} are asked; {} is none.",
                    groups.join(", "),
                    known.reviewer.name
                ),
                json,
            });
        }
        Ok(Some(known))
    }

    fn may_break_glass(&self, known: &Known) -> bool {
        let group = self.break_glass.as_ref();
        group.is_some_and(|group| known.reviewer.groups.contains(group))
    }
}

async fn question(
    State(desk): State<Arc<Desk>>,
    Path(link): Path<String>,
    headers: HeaderMap,
) -> Answered {
    let found = desk.find(&link, is_program(&headers)).await?;
    let Some(known) = desk.reviewer(&headers, &found).await? else {
        let page = page::sign_in(&found.link.path(), desk.sign_in.issuers());
        return Ok(html(StatusCode::OK, page));
    };
    metrics().answer_request("shown");
    Ok(match &known.seat {
        None => Json(found.detail).into_response(),
        Some(seat) => {
            let glass = desk.may_break_glass(&known);
            let now = Timestamp::now();
            let page = page::question(&found.detail, &known.reviewer, &seat.form_token, glass, now);
            html(StatusCode::OK, page)
        }
    })
}

/// What a person says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    verdict: Answer,
    comment: Option<String>,
    #[serde(default)]
    break_glass: bool,
}

async fn answer(
    State(desk): State<Arc<Desk>>,
    Path(link): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let json = is_program(&headers);
    let refusal = |status, code, message: &str| Refusal {
        status,
        code,
        message: message.to_owned(),
        json,
    };
    let found = desk.find(&link, json).await?;
    let Some(known) = desk.reviewer(&headers, &found).await? else {
        let message = "Nobody is signed in any more. Follow the link again.";
        return Err(refusal(StatusCode::UNAUTHORIZED, "nobody", message));
    };
    let said = match &known.seat {
        None => serde_json::from_slice(&body).ok(),
        Some(seat) => {
            if !desk.is_own_form(&headers, &body, &seat.form_token) {
                let message = "This form was not made for you. Follow the link again.";
                return Err(refusal(StatusCode::FORBIDDEN, "foreign_form", message));
            }
            said_in_form(&body)
        }
    };
    let shape = "the answer is not {\"verdict\": \"approve\" or \"deny\", \"comment\": \"...\"}";
    let said: Said = said.ok_or_else(|| refusal(StatusCode::BAD_REQUEST, "bad_request", shape))?;
    let opinion = Opinion {
        reviewer: known.reviewer,
        answer: said.verdict,
        comment: said.comment.filter(|it| !it.trim().is_empty()),
        break_glass: said.break_glass,
        channel: known.channel,
        after: Some(found.link.after),
    };
    match desk.approvals.answer(&found.link.approval, opinion).await {
        Ok(view) => {
            metrics().answer_request("answered");
            if json {
                return Ok(Json(view).into_response());
            }
            let text = match view.state {
                approval::State::Pending => {
                    "Your answer counts. Another person has to answer as well.".to_owned()
                }
                state => format!("{} is {state}.", view.id),
            };
            Ok(html(StatusCode::OK, page::told("Thank you", &text)))
        }
        Err(error) => {
            let error = ApiError::from(error);
            Err(Refusal {
                status: error.status,
                code: error.code,
                message: error.text().message,
                json,
            })
        }
    }
}

impl Desk {
    /// Cookies travel with whatever another site makes a browser post; where the form is from, and what was put into it, does not.
    fn is_own_form(&self, headers: &HeaderMap, body: &[u8], form_token: &str) -> bool {
        let is = |name: HeaderName, expected: &str| {
            let values = headers.get_all(name);
            values
                .iter()
                .all(|value| value.as_bytes() == expected.as_bytes())
        };
        let kind = headers.get(header::CONTENT_TYPE);
        let is_form = kind.is_some_and(|it| it.as_bytes() == b"application/x-www-form-urlencoded");
        let body = str::from_utf8(body).unwrap_or_default();
        is_form
            && is(header::ORIGIN, self.links.origin())
            && is(HeaderName::from_static("sec-fetch-site"), "same-origin")
            && form::field(body, "form_token").as_deref() == Some(form_token)
    }
}

fn said_in_form(body: &[u8]) -> Option<Said> {
    let body = str::from_utf8(body).ok()?;
    let verdict = match form::field(body, "verdict")?.as_str() {
        "approve" => Answer::Approve,
        "deny" => Answer::Deny,
        _ => return None,
    };
    Some(Said {
        verdict,
        comment: form::field(body, "comment"),
        break_glass: form::field(body, "break_glass").is_some(),
    })
}

async fn sign_in(
    State(desk): State<Arc<Desk>>,
    Path((issuer, link)): Path<(usize, String)>,
) -> Answered {
    let found = desk.find(&link, false).await?;
    let begun = desk.begin(issuer, found.link.path()).await;
    begun.map(redirect).map_err(not_signed_in)
}

async fn callback(
    State(desk): State<Arc<Desk>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Answered {
    let finished = desk.finish(&headers, &query.unwrap_or_default()).await;
    finished.map(redirect).map_err(not_signed_in)
}

fn redirect(redirect: Redirect) -> Response {
    let headers = [
        (header::LOCATION, redirect.to),
        (header::SET_COOKIE, redirect.cookie),
    ];
    (StatusCode::SEE_OTHER, headers).into_response()
}

fn not_signed_in(error: NotSignedIn) -> Refusal {
    tracing::warn!("a reviewer was not signed in: {error}");
    let (status, code) = match &error {
        NotSignedIn::NoFlow => (StatusCode::BAD_REQUEST, "no_sign_in"),
        NotSignedIn::Refused(_) | NotSignedIn::Failed(_) => (StatusCode::FORBIDDEN, "sign_in"),
        NotSignedIn::Full => (StatusCode::SERVICE_UNAVAILABLE, "full"),
    };
    Refusal {
        status,
        code,
        message: format!("You are not signed in: {error}."),
        json: false,
    }
}
