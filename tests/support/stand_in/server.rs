//! The listeners: TLS and HTTP in, [`Call`]s out.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Sleep, sleep},
};
use tokio_rustls::TlsAcceptor;

use super::{
    batch,
    call::{Answer, Call},
    journal::{Entry, Journal},
};

/// A body longer than this is refused: it is more than any test sends.
const BODY_LIMIT: u64 = 256 << 20;

/// What answers calls.
pub trait Service: Send + Sync + 'static {
    /// The answer to one request.
    fn answer(&self, call: &Call) -> Answer;
}

/// Serves Google's hosts: TLS, HTTP/1.1 and HTTP/2; every request is written down.
pub async fn serve_tls(
    listener: TcpListener,
    tls: TlsAcceptor,
    journal: Journal,
    service: Arc<dyn Service>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(connection(
            stream,
            tls.clone(),
            journal.clone(),
            service.clone(),
        ));
    }
}

async fn connection(
    stream: TcpStream,
    tls: TlsAcceptor,
    journal: Journal,
    service: Arc<dyn Service>,
) {
    let _ = stream.set_nodelay(true);
    let Ok(stream) = tls.accept(stream).await else {
        return;
    };
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let handler = service_fn(move |request| {
        let (journal, service) = (journal.clone(), service.clone());
        async move { recorded(request, &journal, service.as_ref()).await }
    });
    let io = TokioIo::new(stream);
    // A client that goes away in the middle is that client's business.
    if h2 {
        let _ = http2::Builder::new(TokioExecutor::new())
            .serve_connection(io, handler)
            .await;
    } else {
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(io, handler)
            .await;
    }
}

async fn recorded(
    request: Request<Incoming>,
    journal: &Journal,
    service: &dyn Service,
) -> Result<Response<Said>, hyper::Error> {
    let (head, mut incoming) = request.into_parts();
    let host = host(&head);
    if !journal.is_enabled() {
        let body = incoming.collect().await?.to_bytes();
        return Ok(response(service.answer(&call(head, &host, body))));
    }
    let mut entry = Entry::begin(journal, &head, &host);
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        if let Ok(piece) = frame?.into_data() {
            entry.body(&piece);
            body.extend_from_slice(&piece);
        }
        if body.len() as u64 > BODY_LIMIT {
            return Ok(response(Answer::error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "uploadTooLarge",
                "the body is too long",
            )));
        }
    }
    let call = call(head, &host, body.freeze());
    entry.end(
        batch::parts(&call)
            .into_iter()
            .map(|part| part.line)
            .collect(),
    );
    Ok(response(service.answer(&call)))
}

/// Serves plain HTTP/1.1, unrecorded: the metadata server, the OIDC issuer.
pub async fn serve_plain(listener: TcpListener, service: Arc<dyn Service>) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = service.clone();
        let handler = service_fn(move |request: Request<Incoming>| {
            let service = service.clone();
            async move {
                let (head, incoming) = request.into_parts();
                let body = incoming.collect().await?.to_bytes();
                let host = host(&head);
                Ok::<_, hyper::Error>(response(service.answer(&call(head, &host, body))))
            }
        });
        let io = TokioIo::new(stream);
        tokio::spawn(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(io, handler),
        );
    }
}

fn call(head: http::request::Parts, host: &str, body: Bytes) -> Call {
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    Call::new(head.method.as_str(), host, target, head.headers, body)
}

fn host(head: &http::request::Parts) -> String {
    let header = head.headers.get("host").and_then(|host| host.to_str().ok());
    let name = head.uri.host().or(header).unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    name.to_ascii_lowercase()
}

fn response(answer: Answer) -> Response<Said> {
    let said = match answer.rest.is_empty() && answer.trailers.is_none() {
        true => Full::new(answer.body).boxed(),
        false => Spoken {
            pieces: std::iter::once((Duration::ZERO, answer.body))
                .chain(answer.rest)
                .filter(|(_, piece)| !piece.is_empty())
                .collect(),
            pause: None,
            trailers: answer.trailers,
        }
        .boxed(),
    };
    let mut response = Response::new(said);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

type Said = BoxBody<Bytes, Infallible>;

/// A body that takes its time.
struct Spoken {
    pieces: VecDeque<(Duration, Bytes)>,
    pause: Option<Pin<Box<Sleep>>>,
    trailers: Option<HeaderMap>,
}

impl Body for Spoken {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((pause, _)) = self.pieces.front() else {
            return Poll::Ready(self.trailers.take().map(|it| Ok(Frame::trailers(it))));
        };
        let pause = *pause;
        if !pause.is_zero() {
            let sleep = self.pause.get_or_insert_with(|| Box::pin(sleep(pause)));
            ready!(sleep.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(
            self.pieces
                .pop_front()
                .map(|(_, piece)| Ok(Frame::data(piece))),
        )
    }
}
