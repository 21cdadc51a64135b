//! HTTP on both sides of an admitted operation.

use std::{
    borrow::Cow,
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;
use holdpoint_core::{
    catalog::Catalog,
    operation::Operation,
    policy::Terms,
    recognise::{self, BodyPlan, Head, Recognised, UploadStep},
    refusal::{Dress, Kind, Refusal, describe},
};
use http::{HeaderValue, Method, Request, Response, Uri, Version, header, request};
use http_body_util::{BodyExt as _, Either};
use hyper::body::Incoming;

use crate::{
    allowance::Place,
    binding::Room,
    body::{Asked, Sent},
    cut,
    daemon::House,
    gate::{Asker, Lease, Patience, Permits},
    head,
    interim::Interims,
    lookup::Asking,
    masking::{self, Answering, Plan},
    metrics::metrics,
    record::Event,
    reply,
    sqladmin::{self, Beside},
    upstream::{ProxyBody, SendError},
};

/// Bytes of a body read for judging, for requests that are not uploads.
const WHOLE_LIMIT: usize = 16 << 20;
/// Bytes of an upload read for judging; the rest streams.
const MEDIA_LIMIT: usize = 256 << 10;
/// Bytes of an upload that are searched where policy asks what it contains.
const SEARCH_LIMIT: usize = 1 << 20;
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
    let started = Instant::now();
    let (mut head, body) = request.into_parts();
    let dress = Dress::of(&visit.host, head.uri.path(), &head.headers);
    let mut asked = Asked::new(body, visit.room.allowance.charge());
    let relayed = relay(&visit, &mut head, &mut asked).await;
    metrics().request_answered(relayed.is_ok(), started.elapsed());
    let response = match relayed {
        Ok(response) => response,
        Err(refusal) => {
            if !matches!(refusal.kind, Kind::Upstream) {
                visit.record_malformed(&head, &refusal).await;
            }
            asked.drain().await;
            reply::render(&refusal.in_session(visit.room.session.id.as_str()), dress)
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
    head::check(head, &visit.host)?;
    // First of all: what is judged is what is sent. A header that decides what a request means must not go after that.
    head::strip_what_stays_here(&mut head.headers);
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
    let is_conversation = route.body_plan() == BodyPlan::Nothing;
    match route.body_plan() {
        BodyPlan::Whole => asked.read(WHOLE_LIMIT).await?,
        BodyPlan::Media => asked.read(MEDIA_LIMIT).await?,
        BodyPlan::Nothing => asked.has_no_end(),
    }
    let mut recognised = route.complete(asked.payload()).map_err(malformed)?;
    let within = sqladmin::within(&visit.house, &mut recognised).await;
    let looks_in = visit.asks_what_it_contains(recognised.requests())
        || visit.asks_what_it_contains(&only(within.operations));
    if looks_in {
        if !asked.is_whole() && !is_conversation {
            asked.read(SEARCH_LIMIT).await?;
            recognised = route.complete(asked.payload()).map_err(malformed)?;
        }
        visit.look_into(&view, asked, &mut recognised);
    }
    if !asked.is_whole() && !is_conversation && visit.would_hold(&recognised).await {
        asked.read(HOLD_LIMIT).await?;
        recognised = route.complete(asked.payload()).map_err(malformed)?;
        if looks_in {
            visit.look_into(&view, asked, &mut recognised);
        }
    }
    masking::refuse_returned(&view, asked.payload())?;
    let sqladmin::Within {
        operations: within,
        changes,
    } = sqladmin::within(&visit.house, &mut recognised).await;
    let places: Vec<usize> = within.iter().map(|(at, _)| *at).collect();
    let all = everything(&recognised, within);
    let is_ephemeral = |it: &Operation| sqladmin::is_ephemeral(it.action.id());
    if matches!(recognised, Recognised::Batch(_)) && all.iter().any(is_ephemeral) {
        return Err(Refusal::malformed(
            "a certificate for a Cloud SQL connector cannot be asked for in a batch",
        ));
    }

    // Asked for before anybody is bothered, and again below, because an approval can take longer than a token lives.
    visit.authorization().await?;
    let mut asker = Asker {
        session: visit.room.session.clone(),
        connection: visit.connection,
        patience: visit.patience(head),
        headers: &head.headers,
        body: asked.bytes(),
        rows: &[],
    };
    let admitted = visit.house.gate.admit(&mut asker, &all).await;
    let permits = admitted.map_err(|refusal| match is_conversation {
        true => refusal.with_another_way(),
        false => refusal,
    })?;
    drop(all);
    if let Recognised::One(operation) = &recognised
        && is_ephemeral(operation)
    {
        return sqladmin::certify(&visit.house, &visit.room, permits, operation);
    }
    // What was read whole is sent at once.
    let streaming = match &recognised {
        Recognised::One(operation) if !asked.is_whole() => Some((**operation).clone()),
        _ => None,
    };
    let authorization = visit.authorization().await?;

    let terms = of_requests(&permits, recognised.requests().len(), &places);
    sqladmin::refuse_rows_to_mask(recognised.requests(), &terms)?;
    let plan = visit.house.masking.plan(
        recognised.requests(),
        terms.iter().map(|terms| &**terms),
        &authorization,
        matches!(recognised, Recognised::Batch(_)),
    )?;
    let settings = match &recognised {
        Recognised::One(operation) if operation.action.id() == sqladmin::SETTINGS => {
            Some(operation.clone())
        }
        _ => None,
    };
    let request = Outgoing::new(visit, head, authorization, asked, recognised, plan)?;
    let begins_upload = route.upload() == Some(UploadStep::Begins);
    let beside = Beside {
        settings: settings.map(|operation| *operation),
        changes,
    };
    let forwarding = forward(
        visit.clone(),
        permits,
        request,
        streaming,
        beside,
        begins_upload,
        place,
    );
    // A client that goes away must not take the answer with it: the outcome belongs in the record.
    tokio::spawn(forwarding).await.unwrap_or_else(|error| {
        Err(Refusal::new(
            Kind::Upstream,
            format!("Holdpoint failed while it relayed this request: {error}"),
        ))
    })
}

/// Sends an admitted request. The permits are given up here and nowhere else. `streaming`: its body is still on its way, and is cut
/// when policy no longer allows it.
async fn forward(
    visit: Arc<Visit>,
    permits: Permits,
    request: Outgoing,
    streaming: Option<Operation>,
    beside: Beside,
    begins_upload: bool,
    place: Place,
) -> Result<Response<ProxyBody>, Refusal> {
    let (mut outcome, lease) = permits.spend_lasting();
    beside.changes.forget();
    let Outgoing {
        request,
        sent,
        plan,
        asked,
    } = request;
    if let Some(operation) = outcome.operations().first() {
        let session = &visit.room.session.id;
        plan.capture_request(
            &visit.house.record,
            session,
            operation,
            request.headers(),
            &asked.body,
        );
    }
    let is_head = request.method() == Method::HEAD;
    let grants = outcome.grants_over();
    let ends = visit.ends(grants, streaming.as_ref(), lease);
    let result = tokio::select! {
        biased;
        result = visit.house.upstream.send(&mut outcome, request) => result,
        reason = ends => {
            outcome.request_bytes = sent.bytes.load(Ordering::Relaxed);
            outcome.cut();
            let at = (visit.connection, visit.host.as_str(), 443);
            cut::record(&visit.house, &visit.room, at, &outcome, &reason).await;
            return Err(Refusal::cut(&reason));
        }
    };
    outcome.request_bytes = sent.bytes.load(Ordering::Relaxed);
    let told = |what: &str, error: SendError| {
        Refusal::new(
            Kind::Upstream,
            format!("Holdpoint allowed this and {what}: {error}"),
        )
    };
    let (mut head, body) = match result {
        Ok(response) => response.into_parts(),
        Err(_) if sent.broken_off.load(Ordering::Relaxed) => {
            return Err(masking::returned("its body"));
        }
        Err(error @ SendError::NotSent { .. }) => return Err(told("could not send it", error)),
        Err(error @ SendError::Unknown { .. }) => {
            return Err(told("sent it, and does not send it again", error));
        }
    };
    if begins_upload && head.status.is_success() {
        visit.room.uploads.begun(&head.headers);
    }
    head::strip_hop_by_hop(&mut head.headers);
    head.headers.remove(header::ALT_SVC);
    let (house, room) = (&visit.house, &visit.room);
    let body = Either::Left(body);
    let body = sqladmin::rewrite(house, room, beside.settings.as_ref(), &mut head, body).await?;
    outcome.note_answer(&plan.recorded_headers(&head.headers));
    let answering = Answering {
        plan,
        record: visit.house.record.clone(),
        session: visit.room.session.id.clone(),
        operations: outcome.operations().to_vec(),
        asked: asked.what,
        mutates: asked.mutates,
        names: asked.names,
        is_head,
    };
    answering.pass_on(head, body, outcome, place).await
}

/// A request as it goes to Google.
struct Outgoing {
    request: Request<ProxyBody>,
    sent: Sent,
    plan: Plan,
    asked: WhatWasAsked,
}

/// What is still to be known of a request once it was sent.
struct WhatWasAsked {
    /// For messages.
    what: String,
    mutates: bool,
    /// The ids of a batch's parts.
    names: Vec<Option<HeaderValue>>,
    /// As much of the body as was read, where it is all of it.
    body: Bytes,
}

impl Outgoing {
    fn new(
        visit: &Visit,
        head: &request::Parts,
        authorization: HeaderValue,
        asked: &mut Asked,
        recognised: Recognised,
        plan: Plan,
    ) -> Result<Self, Refusal> {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder()
            .scheme("https")
            .authority(visit.host.as_str())
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
        plan.ask_for_plain(&mut headers);
        let mut was_asked = WhatWasAsked::of(&recognised);
        let (method, instead) = match recognised {
            Recognised::Batch(batch) => (head.method.clone(), Some(batch.body)),
            // Its query is in the body, and may be too long for anywhere else.
            Recognised::One(it) if it.method == "GET" && !asked.bytes().is_empty() => {
                (head.method.clone(), None)
            }
            // The verb that was judged, and no override that some service may not know.
            Recognised::One(it) => {
                headers.remove("x-http-method-override");
                let verb = Method::from_bytes(it.method.as_bytes());
                (
                    verb.map_err(|error| Refusal::malformed(&error.to_string()))?,
                    None,
                )
            }
        };
        let is_whole = asked.is_whole();
        let (body, sent) = asked.replay(instead);
        if is_whole {
            was_asked.body = body.beginning();
        }
        let mut request = Request::new(body.boxed());
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(Self {
            request,
            sent,
            plan,
            asked: was_asked,
        })
    }
}

impl WhatWasAsked {
    fn of(recognised: &Recognised) -> Self {
        let operations = recognised.requests();
        let what: Vec<_> = operations.iter().map(describe).take(3).collect();
        let more = if operations.len() > what.len() {
            " and more"
        } else {
            ""
        };
        Self {
            what: format!("{}{more}", what.join(", ")),
            mutates: operations.iter().any(|it| it.action.mutates()),
            names: match recognised {
                Recognised::One(_) => Vec::new(),
                Recognised::Batch(batch) => batch.names.clone(),
            },
            body: Bytes::new(),
        }
    }
}

impl Visit {
    fn asks_what_it_contains(&self, operations: &[Operation]) -> bool {
        let asks = |it| {
            self.house
                .gate
                .asks_what_it_contains(&self.room.session, it)
        };
        operations.iter().any(asks)
    }

    /// Parts of a batch are looked into together: each of them then carries what any of them does.
    fn look_into(&self, head: &Head<'_>, asked: &Asked, recognised: &mut Recognised) {
        let masking = &self.house.masking;
        let found = tokio::task::block_in_place(|| masking.contained(head, asked.payload()));
        let operations = match recognised {
            Recognised::One(operation) => std::slice::from_mut(&mut **operation),
            Recognised::Batch(batch) => &mut batch.operations,
        };
        for operation in operations {
            operation.contains = Some(found.clone());
        }
    }

    async fn would_hold(&self, recognised: &Recognised) -> bool {
        let session = &self.room.session;
        let asking = self.asking();
        self.house
            .gate
            .would_hold(session, &asking, recognised.requests())
            .await
    }

    /// Returns, with the reason, when what was admitted may no longer go on; never where its body has been read whole.
    async fn ends(
        &self,
        grants_over: impl Future<Output = ()>,
        streaming: Option<&Operation>,
        lease: Lease,
    ) -> String {
        let Some(operation) = streaming else {
            return std::future::pending().await;
        };
        let session = &self.room.session;
        let asking = self.asking();
        tokio::select! {
            () = grants_over => "the grant it was sent by is over".to_owned(),
            reason = self.house.gate.no_longer_allows(session, &asking, operation, lease) => reason,
        }
    }

    fn asking(&self) -> Asking {
        Asking {
            session: self.room.session.id.clone(),
            connection: self.connection,
        }
    }

    fn patience(&self, head: &request::Parts) -> Patience<'static> {
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
        if !matches!(refusal.kind, Kind::Malformed | Kind::MaskToken) {
            return;
        }
        let request = format!("{} https://{}{}", head.method, self.host, head.uri.path());
        let event = Event::RequestRefused {
            session: self.room.session.id.clone(),
            connection: self.connection,
            request: (&*self.house.masking.shown().value("", &request)).into(),
            reason: (&refusal.message).into(),
        };
        if let Err(error) = self.house.record.append_unsynced(event).await {
            tracing::error!(%error, "a refused request is missing in the record");
        }
    }
}

/// What a request asks for, and the SQL in it.
fn everything(recognised: &Recognised, within: Vec<(usize, Operation)>) -> Cow<'_, [Operation]> {
    let requests = recognised.requests();
    match within.is_empty() {
        true => Cow::Borrowed(requests),
        false => requests.iter().cloned().chain(only(within)).collect(),
    }
}

fn only(within: Vec<(usize, Operation)>) -> Vec<Operation> {
    within.into_iter().map(|(_, operation)| operation).collect()
}

/// The terms of each request: its own, and those of the SQL in it; `places` says which request that is in.
fn of_requests<'a>(permits: &'a Permits, requests: usize, places: &[usize]) -> Vec<Cow<'a, Terms>> {
    let mut terms: Vec<_> = permits.terms().map(Cow::Borrowed).collect();
    let within = terms.split_off(requests.min(terms.len()));
    for (at, inner) in places.iter().zip(within) {
        if let Some(terms) = terms.get_mut(*at) {
            let terms = terms.to_mut();
            terms.masks.extend(inner.masks.iter().cloned());
            terms.record = terms.record.max(inner.record);
        }
    }
    terms
}

fn malformed(problem: recognise::Malformed) -> Refusal {
    Refusal::malformed(&problem.0)
}
