//! Who asks: by an ID token in the request, or by a seat that was taken after signing in.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use holdpoint_core::{
    approval::{Channel, Reviewer},
    identity::Principal,
};
use http::{HeaderMap, header};

use super::{Desk, form, table::Table};
use crate::oidc::{Begun, SignInError, TokenError, random};

/// Cookies that no other host, and nothing in clear, can set (RFC 6265bis, "The __Host- Prefix").
const SEAT: &str = "__Host-holdpoint-seat";
const FLOW: &str = "__Host-holdpoint-sign-in";
/// People who are signed in, and who are signing in, at once.
const MOST: usize = 1024;
/// How long signing in may take, and how long it is good for.
const LASTING: Duration = Duration::from_secs(600);

/// People who have signed in.
pub(super) struct Seats(Table<Seat>);

/// One of them.
#[derive(Clone)]
pub(super) struct Seat {
    person: Arc<Principal>,
    /// What every form carries that was made for this person.
    pub(super) form_token: Arc<str>,
}

/// Sign-ins under way.
pub(super) struct Flows(Table<Flow>);

struct Flow {
    begun: Begun,
    /// Where the person was going: the path of a link.
    to: String,
    /// What the browser it began in has as a cookie.
    browser: String,
}

impl Default for Seats {
    fn default() -> Self {
        Self(Table::new(MOST, LASTING))
    }
}

impl Default for Flows {
    fn default() -> Self {
        Self(Table::new(MOST, LASTING))
    }
}

/// Somebody who said who they are.
pub(super) struct Known {
    pub(super) reviewer: Reviewer,
    pub(super) channel: Channel,
    /// Of a browser's.
    pub(super) seat: Option<Seat>,
}

/// A response that sends the browser elsewhere: where to, and the cookie it gets.
pub(super) struct Redirect {
    pub(super) to: String,
    pub(super) cookie: String,
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSignedIn {
    #[error(
        "this sign-in did not begin in this browser, or took longer than 10 minutes; follow the link again"
    )]
    NoFlow,
    #[error("the issuer refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Failed(#[from] SignInError),
    #[error("too many people are signing in; try again in a few minutes")]
    Full,
}

impl Desk {
    /// `None`: nobody has said anything. Where there is a token, cookies do not count.
    pub(super) async fn who(&self, headers: &HeaderMap) -> Option<Result<Known, TokenError>> {
        let known = |person: &Principal, channel, seat| Known {
            reviewer: self.logins.reviewer(person, &self.reviewers),
            channel,
            seat,
        };
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let text = value.to_str().unwrap_or_default();
            let (scheme, token) = text.split_once(' ').unwrap_or_default();
            let token = match scheme.eq_ignore_ascii_case("bearer") {
                true => token.trim(),
                false => "",
            };
            let person = self.logins.person(token).await;
            return Some(person.map(|person| known(&person, Channel::Token, None)));
        }
        let seat = form::cookie(headers, SEAT)?;
        let seat = self.seats.0.look(seat, Instant::now())?;
        let person = seat.person.clone();
        Some(Ok(known(&person, Channel::Browser, Some(seat))))
    }

    /// Sends the browser to an issuer, to come back for `to`.
    pub(super) async fn begin(&self, issuer: usize, to: String) -> Result<Redirect, NotSignedIn> {
        let (state, browser) = (random(), random());
        let redirect_uri = self.redirect_uri();
        let (begun, location) = self.sign_in.begin(issuer, &redirect_uri, &state).await?;
        let flow = Flow {
            begun,
            to,
            browser: browser.clone(),
        };
        if !self.flows.0.put(&state, flow, Instant::now()) {
            return Err(NotSignedIn::Full);
        }
        Ok(Redirect {
            to: location,
            cookie: cookie(FLOW, &browser),
        })
    }

    /// The browser is back, with this query.
    pub(super) async fn finish(
        &self,
        headers: &HeaderMap,
        query: &str,
    ) -> Result<Redirect, NotSignedIn> {
        let now = Instant::now();
        let state = form::field(query, "state").ok_or(NotSignedIn::NoFlow)?;
        // Taken whatever comes of it: one answer is all there is.
        let flow = self.flows.0.take(&state, now).ok_or(NotSignedIn::NoFlow)?;
        if form::cookie(headers, FLOW) != Some(flow.browser.as_str()) {
            return Err(NotSignedIn::NoFlow);
        }
        if let Some(error) = form::field(query, "error") {
            return Err(NotSignedIn::Refused(error.chars().take(100).collect()));
        }
        let code = form::field(query, "code").ok_or(NotSignedIn::NoFlow)?;
        let issuer = form::field(query, "iss");
        let redirect_uri = self.redirect_uri();
        let person = self
            .sign_in
            .finish(flow.begun, &code, issuer.as_deref(), &redirect_uri)
            .await?;
        let (name, form_token) = (random(), random().into());
        let seat = Seat {
            person: Arc::new(person),
            form_token,
        };
        if !self.seats.0.put(&name, seat, Instant::now()) {
            return Err(NotSignedIn::Full);
        }
        Ok(Redirect {
            to: flow.to,
            cookie: cookie(SEAT, &name),
        })
    }
}

/// `Lax`, because issuers send browsers here: what they then ask for changes nothing.
fn cookie(name: &str, value: &str) -> String {
    let seconds = LASTING.as_secs();
    format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax")
}
