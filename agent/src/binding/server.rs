//! What a sandbox may ask about itself: plain HTTP at a name of its own, as the metadata server is.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, HOST, ORIGIN},
};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::{BindError, Sandbox};
use crate::{
    daemon::House,
    metrics::metrics,
    record::Event,
    session::{Session, SessionId},
};

/// Its name in the sandbox.
pub const NAME: &str = "holdpoint.internal";
/// Its address: one of those that mean something inside of sandboxes only (RFC 2544), and the first, which no address book gives out.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// Bytes of a token at most, as the verifier takes them.
const TOKEN_LIMIT: usize = 16 * 1024;

/// What is told of the session that a sandbox acts for.
#[derive(Debug, Serialize, Deserialize)]
pub struct SessionView {
    /// Its name.
    pub session: SessionId,
    /// Who it acts for.
    pub principal: String,
    /// The service whose sandbox it is.
    pub service: Option<String>,
    /// Whether a job is bound.
    pub bound: bool,
    /// The audience that a job's token has to be for, where jobs can be bound.
    pub audience: Option<String>,
}

/// Serves one connection of a sandbox, made by the process `caller`.
///
/// # Errors
/// What was wrong with the HTTP.
pub async fn serve(
    house: Arc<House>,
    sandbox: Arc<Sandbox>,
    stream: TcpStream,
    caller: u32,
) -> hyper::Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let (house, sandbox) = (house.clone(), sandbox.clone());
        // Goes on when the client does not wait: half a change must not be.
        let answering = tokio::spawn(async move { answer(house, sandbox, caller, request).await });
        async move {
            let failed = || told(StatusCode::INTERNAL_SERVER_ERROR, "Holdpoint failed");
            Ok::<_, Infallible>(answering.await.unwrap_or_else(|_| failed()))
        }
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    house: Arc<House>,
    sandbox: Arc<Sandbox>,
    caller: u32,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    if let Err(why) = is_meant(&head.headers) {
        return told(StatusCode::FORBIDDEN, why);
    }
    let done = match (&head.method, head.uri.path()) {
        (&Method::GET, "/v1/session") => Ok(()),
        (&Method::POST, "/v1/session/bind") => match token(body).await {
            Ok(token) => sandbox.bind(&house, &token, caller).await.map(drop),
            Err(why) => return told(StatusCode::BAD_REQUEST, why),
        },
        (&Method::POST, "/v1/session/unbind") => sandbox.unbind(&house, caller).await,
        (_, "/v1/session" | "/v1/session/bind" | "/v1/session/unbind") => {
            return told(
                StatusCode::METHOD_NOT_ALLOWED,
                "read with GET, change with POST",
            );
        }
        _ => {
            return told(
                StatusCode::NOT_FOUND,
                "there are /v1/session, /v1/session/bind and /v1/session/unbind",
            );
        }
    };
    match done {
        Ok(()) => respond(StatusCode::OK, &view(&house, &sandbox)),
        Err(error) => {
            let message = error.to_string();
            record_refusal(&house, sandbox.own(), &message).await;
            told(status(&error), &message)
        }
    }
}

/// A page in a browser inside must not be able to ask: neither from another origin, nor by a name that it made lead here.
fn is_meant(headers: &HeaderMap) -> Result<(), &'static str> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = host.map(|host| host.strip_suffix(":80").unwrap_or(host));
    let ours = host.is_some_and(|host| host == NAME || host.parse() == Ok(ADDRESS));
    if !ours {
        return Err("the Host is another");
    }
    if headers.contains_key(ORIGIN) {
        return Err("web pages may not ask");
    }
    Ok(())
}

async fn token(body: Incoming) -> Result<Zeroizing<String>, &'static str> {
    let read = Limited::new(body, TOKEN_LIMIT).collect().await;
    let bytes = read.map_err(|_| "the token did not arrive, or is longer than 16 KiB")?;
    let bytes = Zeroizing::new(Vec::from(bytes.to_bytes()));
    let text = std::str::from_utf8(&bytes).map_err(|_| "the token is not text")?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn view(house: &House, sandbox: &Sandbox) -> SessionView {
    let session = sandbox.room().session.clone();
    let issuer = sandbox.service().map(|(_, issuer)| issuer);
    SessionView {
        session: session.id.clone(),
        principal: session.principal.name(),
        service: session.standing.service().map(|it| it.name.clone()),
        bound: session.standing.within().is_some(),
        audience: issuer.and_then(|it| house.verifier.audience(it).map(str::to_owned)),
    }
}

fn status(error: &BindError) -> StatusCode {
    match error {
        BindError::NoJobs | BindError::Token(_) => StatusCode::FORBIDDEN,
        BindError::Full(_) | BindError::Leftovers(_) | BindError::Record(_) | BindError::Ended => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

async fn record_refusal(house: &House, own: &Session, reason: &str) {
    metrics().session_refused();
    tracing::info!(session = %own.id, reason, "a job was not bound or unbound");
    let event = Event::SessionRefused {
        user: own.user.clone(),
        reason: format!("for a job in the sandbox of {}: {reason}", own.id).into(),
    };
    if let Err(error) = house.record.append(event).await {
        tracing::error!(%error, "a refused session is missing in the record");
    }
}

fn told(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    respond(status, &json!({ "error": message }))
}

fn respond(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let json = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Full::new(json.into()));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Whether this is where a sandbox asks about itself.
#[must_use]
pub fn is_address(ip: IpAddr) -> bool {
    ip.to_canonical() == IpAddr::V4(ADDRESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        pairs.collect()
    }

    #[test]
    fn web_pages_and_other_names_are_not_served() {
        for host in [NAME, "holdpoint.internal:80", "198.18.0.0"] {
            assert_eq!(is_meant(&headers(&[("host", host)])), Ok(()), "{host}");
        }
        assert!(is_meant(&headers(&[("host", "rebound.example")])).is_err());
        assert!(is_meant(&HeaderMap::new()).is_err());
        let page = headers(&[("host", NAME), ("origin", "https://example.com")]);
        assert!(is_meant(&page).is_err());
    }
}
