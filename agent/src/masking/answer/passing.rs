//! The bodies of answers.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use holdpoint_core::refusal::Refusal;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::{Answering, Received, Withheld};
use crate::{
    allowance::Place,
    gate::Outcome,
    masking::{
        Unreadable,
        flow::{Flow, Undo},
        headers,
    },
};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body on its way; its end is the operation's outcome.
pub struct Passing {
    body: Received,
    /// Until it has ended.
    flow: Option<Flow>,
    trailers: Option<HeaderMap>,
    answering: Answering,
    outcome: Outcome,
    withheld: Option<Withheld>,
    is_grpc: bool,
    _place: Place,
}

impl Passing {
    /// The request has its place until the end.
    pub fn new(
        answering: Answering,
        body: Received,
        flow: Flow,
        outcome: Outcome,
        place: Place,
        is_grpc: bool,
    ) -> Self {
        Self {
            flow: (!body.is_end_stream()).then_some(flow),
            body,
            trailers: None,
            answering,
            outcome,
            withheld: None,
            is_grpc,
            _place: place,
        }
    }

    /// Why it was broken off, if it was.
    pub fn refusal(&self) -> Option<Refusal> {
        self.withheld.as_ref().map(Withheld::refusal)
    }

    fn finish(&mut self) -> Result<Bytes, Unreadable> {
        self.flow
            .take()
            .map_or_else(|| Ok(Bytes::new()), Flow::finish)
    }

    fn keep_trailers(&mut self, mut trailers: HeaderMap) {
        headers::guard(&mut trailers, &self.answering.plan.injected);
        if let Some(set) = self.answering.plan.whole() {
            headers::mask_trailers(&mut trailers, set);
        }
        self.trailers = Some(trailers);
    }

    /// The end, for a client that must not take what it has for all there is.
    fn break_off(&mut self, why: Unreadable) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.flow = None;
        self.trailers = None;
        let withheld = self.answering.withheld(why);
        self.answering.note_withheld(&withheld);
        let refusal = withheld.refusal();
        self.withheld = Some(withheld);
        if !self.is_grpc {
            return Poll::Ready(Some(Err(refusal.message.into())));
        }
        let (status, message) = refusal.to_grpc();
        let mut trailers = HeaderMap::new();
        for (name, text) in [("grpc-status", status), ("grpc-message", message)] {
            if let Ok(value) = HeaderValue::from_str(&text) {
                trailers.insert(HeaderName::from_static(name), value);
            }
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.flow.is_none() {
                return Poll::Ready(self.trailers.take().map(|it| Ok(Frame::trailers(it))));
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            let frame = match frame {
                Some(Ok(frame)) => Some(frame),
                Some(Err(error)) => {
                    self.flow = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => None,
            };
            let passed = match frame.map(Frame::into_data) {
                Some(Ok(piece)) => {
                    self.outcome.response_bytes += piece.len() as u64;
                    match &mut self.flow {
                        Some(flow) => flow.push(piece),
                        None => Ok(piece),
                    }
                }
                Some(Err(other)) => {
                    let ended = self.finish();
                    if let (Ok(trailers), Ok(_)) = (other.into_trailers(), &ended) {
                        self.keep_trailers(trailers);
                    }
                    ended
                }
                None => self.finish(),
            };
            match passed {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(why) => return self.break_off(why),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.flow.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.flow {
            None => SizeHint::with_exact(0),
            Some(Flow {
                undo: Undo::Nothing,
                mask: None,
                encoder: None,
                guard,
                ..
            }) => {
                let (held, rest) = (guard.held_len(), self.body.size_hint());
                let mut hint = SizeHint::new();
                hint.set_lower(held + rest.lower());
                if let Some(upper) = rest.upper() {
                    hint.set_upper(held + upper);
                }
                hint
            }
            Some(_) => SizeHint::default(),
        }
    }
}

/// A body of which the beginning was read before its head was passed on.
pub struct Primed {
    beginning: VecDeque<Frame<Bytes>>,
    rest: Option<Passing>,
}

impl Primed {
    pub fn whole(frames: VecDeque<Frame<Bytes>>) -> Self {
        Self {
            beginning: frames,
            rest: None,
        }
    }

    pub fn beginning(frames: VecDeque<Frame<Bytes>>, rest: Passing) -> Self {
        Self {
            beginning: frames,
            rest: Some(rest),
        }
    }
}

impl Body for Primed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(frame) = self.beginning.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        match &mut self.rest {
            None => Poll::Ready(None),
            Some(rest) => Pin::new(rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_empty() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let length = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len) as u64;
        let beginning: u64 = self.beginning.iter().map(length).sum();
        match &self.rest {
            None => SizeHint::with_exact(beginning),
            Some(_) => {
                let mut hint = SizeHint::new();
                hint.set_lower(beginning);
                hint
            }
        }
    }
}
