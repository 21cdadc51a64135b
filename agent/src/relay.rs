//! HTTP on both sides of an admitted operation.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use holdpoint_core::{
    catalog::Catalog,
    operation::Operation,
    recognise::{self, BodyPlan, Head, Recognised, UploadStep},
    refusal::{Dress, Kind, Refusal},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version, header, request,
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

use crate::{
    allowance::Place,
    body::{Asked, Watched},
    daemon::{House, Room},
    gate::{Asker, Patience, Permits},
    interim::Interims,
    record::Event,
    upstream::{ProxyBody, SendError},
};

/// Bytes of a body read for judging, for requests that are not uploads.
const WHOLE_LIMIT: usize = 16 << 20;
/// Bytes of an upload read for judging; the rest streams.
const MEDIA_LIMIT: usize = 256 << 10;
/// Bytes of an upload that a person can be asked about.
const HOLD_LIMIT: usize = 32 << 20;

/// One opened connection to one Google host.
pub struct Visit {
    /// The daemon's parts.
    pub house: Arc<House>,
    /// The session.
    pub room: Arc<Room>,
    /// The host the TLS handshake named.
    pub host: String,
    /// The connection's number in the record.
    pub connection: u64,
    /// The way to keep an HTTP/1.1 client waiting.
    pub interims: Option<Interims>,
}

/// Answers one request, with what Google says or with why it was not asked.
///
/// # Errors
/// Never; hyper wants the type.
pub async fn answer(
    visit: Arc<Visit>,
    request: Request<Incoming>,
) -> Result<Response<ProxyBody>, Infallible> {
    let (mut head, body) = request.into_parts();
    let dress = Dress::of(&visit.host, head.uri.path(), &head.headers);
    let mut asked = Asked::new(body, visit.room.allowance.charge());
    let response = match relay(&visit, &mut head, &mut asked).await {
        Ok(response) => response,
        Err(refusal) => {
            if !matches!(refusal.kind, Kind::Upstream) {
                visit.record_malformed(&head, &refusal).await;
            }
            asked.drain().await;
            render(&refusal.in_session(visit.room.session.id.as_str()), dress)
        }
    };
    Ok(response)
}

async fn relay(
    visit: &Arc<Visit>,
    head: &mut request::Parts,
    asked: &mut Asked,
) -> Result<Response<ProxyBody>, Refusal> {
    let place = visit.room.allowance.request()?;
    check_head(head, &visit.host)?;
    // First of all: what is judged is what is sent. A header that decides what a request means must not go after that.
    strip_what_stays_here(&mut head.headers);
    let head = &*head;
    let view = Head {
        method: head.method.as_str(),
        authority: &visit.host,
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
    };
    let route = recognise::route(Catalog::built_in(), view).map_err(malformed)?;
    if let Some(UploadStep::GoesOn(id)) = route.upload()
        && !visit.room.uploads.knows(view.path, id)
    {
        return Err(Refusal::malformed(
            "it goes on with an upload that this session has not begun at this path; begin the upload anew",
        ));
    }
    asked
        .read(if route.body_plan() == BodyPlan::Media {
            MEDIA_LIMIT
        } else {
            WHOLE_LIMIT
        })
        .await?;
    let mut recognised = route.complete(asked.payload()).map_err(malformed)?;
    if !asked.is_whole() && visit.would_hold(&recognised) {
        asked.read(HOLD_LIMIT).await?;
        recognised = route.complete(asked.payload()).map_err(malformed)?;
    }

    // Asked for before anybody is bothered, and again below, because an approval can take longer than a token lives.
    visit.authorization().await?;
    let mut asker = Asker {
        session: visit.room.session.clone(),
        connection: visit.connection,
        patience: visit.patience(head),
        headers: &head.headers,
        body: asked.bytes(),
    };
    let permits = visit
        .house
        .gate
        .admit(&mut asker, operations(&recognised))
        .await?;
    let authorization = visit.authorization().await?;

    let instead = match recognised {
        Recognised::Batch(batch) => Some(batch.body),
        Recognised::One(_) => None,
    };
    let request = Outgoing::new(&visit.host, head, authorization, asked, instead)?;
    let begins_upload = route.upload() == Some(UploadStep::Begins);
    let forwarding = forward(visit.clone(), permits, request, begins_upload, place);
    // A client that goes away must not take the answer with it: the outcome belongs in the record.
    tokio::spawn(forwarding).await.unwrap_or_else(|error| {
        Err(Refusal::new(
            Kind::Upstream,
            format!("Holdpoint failed while it relayed this request: {error}"),
        ))
    })
}

/// Sends an admitted request. The permits are given up here and nowhere else.
async fn forward(
    visit: Arc<Visit>,
    permits: Permits,
    request: Outgoing,
    begins_upload: bool,
    place: Place,
) -> Result<Response<ProxyBody>, Refusal> {
    let mut outcome = permits.spend();
    outcome.sending();
    let result = visit.house.upstream.send(request.request).await;
    outcome.request_bytes = request.sent.load(Ordering::Relaxed);
    match result {
        Ok(response) => {
            outcome.answered(response.status().as_u16());
            let (mut head, body) = response.into_parts();
            if begins_upload && head.status.is_success() {
                visit.room.uploads.begun(&head.headers);
            }
            strip_hop_by_hop(&mut head.headers);
            head.headers.remove(header::ALT_SVC);
            Ok(Response::from_parts(
                head,
                Watched::new(body, outcome, place).boxed(),
            ))
        }
        Err(error @ SendError::NotSent { .. }) => {
            outcome.not_sent();
            Err(Refusal::new(
                Kind::Upstream,
                format!("Holdpoint allowed this and could not send it: {error}"),
            ))
        }
        Err(error @ SendError::Unknown { .. }) => Err(Refusal::new(
            Kind::Upstream,
            format!(
                "Holdpoint allowed this and sent it: {error}. Holdpoint does not send it again."
            ),
        )),
    }
}

/// A request as it goes to Google.
struct Outgoing {
    request: Request<ProxyBody>,
    sent: Arc<std::sync::atomic::AtomicU64>,
}

impl Outgoing {
    fn new(
        host: &str,
        head: &request::Parts,
        authorization: HeaderValue,
        asked: &mut Asked,
        instead: Option<Vec<u8>>,
    ) -> Result<Self, Refusal> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder()
            .scheme("https")
            .authority(host)
            .path_and_query(path)
            .build();
        let uri = uri.map_err(|error| Refusal::malformed(&error.to_string()))?;
        let mut headers = head.headers.clone();
        headers.remove(header::HOST);
        headers.remove(header::EXPECT);
        if asked.is_whole() {
            // Its length is known, and what the client said of it does not matter.
            headers.remove(header::CONTENT_LENGTH);
        }
        headers.insert(header::AUTHORIZATION, authorization);
        let (body, sent) = asked.replay(instead);
        let mut request = Request::new(body.boxed());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(Self { request, sent })
    }
}

/// Removes what concerns this connection only, and credentials an agent brought along: they are replaced, never passed on.
fn strip_what_stays_here(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(header::TRAILER);
    let credentials: Vec<_> = headers
        .keys()
        .filter(|name| recognise::is_credential_header(name.as_str()))
        .cloned()
        .collect();
    for name in credentials {
        headers.remove(name);
    }
}

/// RFC 9110, section 7.6.1, and what older clients send.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ] {
        headers.remove(name);
    }
}

/// Refuses what is not a plain request to the host of this connection.
fn check_head(head: &request::Parts, host: &str) -> Result<(), Refusal> {
    let no = |problem: &str| Err(Refusal::malformed(problem));
    if head.method == Method::CONNECT {
        return no(
            "CONNECT is not possible here: Holdpoint is no proxy that clients address; connect to the host itself",
        );
    }
    let upgrade = head.headers.contains_key(header::UPGRADE)
        || head
            .headers
            .get_all(header::CONNECTION)
            .iter()
            .any(|value| {
                value
                    .as_bytes()
                    .split(|byte| *byte == b',')
                    .any(|part| part.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
            });
    if upgrade {
        return no(
            "protocol upgrades (WebSocket, h2c) would leave the protocol that Holdpoint can judge",
        );
    }
    let http2 = head.version == Version::HTTP_2;
    if !http2 && head.uri.authority().is_some() {
        return no("the request line holds an absolute URI; it has to hold a path only");
    }
    let mut authorities: Vec<&str> = Vec::new();
    for value in head.headers.get_all(header::HOST) {
        match value.to_str() {
            Ok(value) => authorities.push(value),
            Err(_) => return no("its Host header is not text"),
        }
    }
    if authorities.len() > 1 {
        return no("it has more than one Host header");
    }
    authorities.extend(head.uri.authority().map(http::uri::Authority::as_str));
    if authorities.is_empty() {
        return no("it names no host");
    }
    for authority in authorities {
        if !is_host(authority, host) {
            return no(&format!(
                "it asks for the host \"{authority}\" on a connection that was opened to {host}; TLS server name, Host and :authority have to agree"
            ));
        }
    }
    Ok(())
}

/// Whether this authority is that host, spelled with the port and the trailing dot that clients add.
fn is_host(authority: &str, host: &str) -> bool {
    let name = authority.strip_suffix(":443").unwrap_or(authority);
    name.strip_suffix('.')
        .unwrap_or(name)
        .eq_ignore_ascii_case(host)
}

impl Visit {
    fn would_hold(&self, recognised: &Recognised) -> bool {
        self.house
            .gate
            .would_hold(&self.room.session, operations(recognised))
    }

    fn patience(&self, head: &request::Parts) -> Patience {
        match &self.interims {
            Some(interims) if head.version == Version::HTTP_11 => {
                Patience::http1(interims.clone(), head.headers.contains_key(header::EXPECT))
            }
            _ => Patience::AtMost(self.house.http2_answer),
        }
    }

    async fn authorization(&self) -> Result<HeaderValue, Refusal> {
        self.house.credentials.authorization().await.map_err(|error| {
            tracing::error!(%error, "no credential towards Google");
            Refusal::new(
                Kind::NotReady,
                format!("Holdpoint has no credential for Google at the moment, so nothing was sent: {error}"),
            )
        })
    }

    /// Requests that never became operations have no intent in the record; this is their trace.
    async fn record_malformed(&self, head: &request::Parts, refusal: &Refusal) {
        if refusal.kind != Kind::Malformed {
            return;
        }
        let event = Event::RequestRefused {
            session: self.room.session.id.clone(),
            connection: self.connection,
            request: format!("{} https://{}{}", head.method, self.host, head.uri.path()).into(),
            reason: (&refusal.message).into(),
        };
        if let Err(error) = self.house.record.append_unsynced(event).await {
            tracing::error!(%error, "a refused request is missing in the record");
        }
    }
}

fn operations(recognised: &Recognised) -> &[Operation] {
    match recognised {
        Recognised::One(operation) => std::slice::from_ref(operation),
        Recognised::Batch(batch) => &batch.operations,
    }
}

fn malformed(problem: recognise::Malformed) -> Refusal {
    Refusal::malformed(&problem.0)
}

/// The response that tells a client of a refusal.
#[must_use]
pub fn render(refusal: &Refusal, dress: Dress) -> Response<ProxyBody> {
    let mut response = Response::new(full(Bytes::new()));
    let headers = response.headers_mut();
    let (content_type, body) = match dress {
        Dress::Grpc => {
            let (status, message) = refusal.to_grpc();
            for (name, text) in [("grpc-status", status), ("grpc-message", message)] {
                if let Ok(value) = text.parse() {
                    headers.insert(name, value);
                }
            }
            ("application/grpc", String::new())
        }
        Dress::Json => ("application/json; charset=UTF-8", refusal.to_json()),
        Dress::Xml => ("application/xml; charset=UTF-8", refusal.to_xml()),
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if dress != Dress::Grpc {
        *response.status_mut() = http::StatusCode::from_u16(refusal.kind.status())
            .unwrap_or(http::StatusCode::FORBIDDEN);
        *response.body_mut() = full(body.into());
    }
    response
}

fn full(bytes: Bytes) -> ProxyBody {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(request: request::Builder) -> request::Parts {
        request.body(()).expect("a request").into_parts().0
    }

    const HOST: &str = "sqladmin.googleapis.com";

    #[test]
    fn host_and_server_name_have_to_agree() {
        for good in [
            HOST,
            "SqlAdmin.googleapis.com:443",
            "sqladmin.googleapis.com.",
        ] {
            let request = Request::get("/x").header("host", good);
            assert!(check_head(&head(request), HOST).is_ok(), "{good}");
        }
        for bad in [
            "storage.googleapis.com",
            "sqladmin.googleapis.com:8443",
            "",
            "sqladmin.googleapis.com@evil",
        ] {
            let request = Request::get("/x").header("host", bad);
            assert!(check_head(&head(request), HOST).is_err(), "{bad}");
        }
    }

    #[test]
    fn odd_requests_are_refused() {
        let plain = || Request::get("/x").header("host", HOST);
        let odd = [
            Request::get("/x"),
            plain().header("host", HOST),
            plain().header("upgrade", "websocket"),
            plain().header("connection", "keep-alive, Upgrade"),
            Request::get("https://sqladmin.googleapis.com/x").header("host", HOST),
            Request::builder()
                .method("CONNECT")
                .uri("sqladmin.googleapis.com:443")
                .header("host", HOST),
        ];
        for request in odd {
            let head = head(request);
            assert!(check_head(&head, HOST).is_err(), "{head:?}");
        }
    }

    #[test]
    fn http2_authority_is_checked_too() {
        let request = |uri: &str| head(Request::get(uri).version(Version::HTTP_2));
        assert!(check_head(&request("https://sqladmin.googleapis.com:443/x"), HOST).is_ok());
        assert!(check_head(&request("https://storage.googleapis.com/x"), HOST).is_err());
        let both = Request::get("https://sqladmin.googleapis.com/x")
            .version(Version::HTTP_2)
            .header("host", "storage.googleapis.com");
        assert!(check_head(&head(both), HOST).is_err());
    }

    #[test]
    fn headers_that_connection_names_do_not_travel() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("x-secret, close"));
        headers.insert("x-secret", HeaderValue::from_static("1"));
        headers.insert("x-kept", HeaderValue::from_static("1"));
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers.len(), 1);
    }
}
