//! Answers on their way to the agent.

mod passing;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use holdpoint_core::{
    mask::{Form, MaskSet, Masker},
    refusal::{Kind, Refusal},
};
use http::{HeaderValue, Response, StatusCode, header, response};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};

use self::passing::{Passing, Primed};
use super::{
    Plan, Unreadable, batch,
    coding::{Coding, Decoder, Encoder},
    flow::{Copy, Flow, Undo},
    grpc, headers,
    injected::Guard,
};
use crate::{
    allowance::Place,
    gate::Outcome,
    metrics::metrics,
    record::{OperationId, Record, Way},
    session::SessionId,
    upstream::ProxyBody,
};

/// How long an answer that is masked is waited for, and how much of it read, before its head is passed on: as long as nothing has been
/// sent, what cannot be read makes a proper error.
const PATIENCE: Duration = Duration::from_millis(100);
const BEFORE_HEAD: usize = 64 << 10;

/// The body of an answer: as it comes in, or made anew from what came in.
pub type Received = http_body_util::Either<Incoming, http_body_util::Full<Bytes>>;

/// An answer to one request, about to be passed on.
pub struct Answering {
    /// What is to become of it.
    pub plan: Plan,
    /// Where copies go.
    pub record: Record,
    /// The session.
    pub session: SessionId,
    /// The operations it answers.
    pub operations: Vec<OperationId>,
    /// What was asked for, for messages.
    pub asked: String,
    /// Whether it may have changed something.
    pub mutates: bool,
    /// The ids of a batch's parts.
    pub names: Vec<Option<HeaderValue>>,
    /// Whether the request was a HEAD.
    pub is_head: bool,
}

/// Why an answer is not passed on.
#[derive(Clone)]
pub(super) struct Withheld {
    asked: String,
    mutates: bool,
    why: Unreadable,
}

impl Withheld {
    pub(super) fn refusal(&self) -> Refusal {
        let done = match self.mutates {
            true => "Google has carried it out",
            false => "Google has answered",
        };
        Refusal::new(
            Kind::Withheld,
            format!(
                "Holdpoint withheld the answer to {}, which has to be masked and cannot be: {}. {done}; asking again does not help. \
                 The owners of the policy can let it pass (@mask).",
                self.asked, self.why
            ),
        )
    }
}

impl Answering {
    /// The answer as the agent gets it.
    ///
    /// # Errors
    /// When it has to be masked and cannot be read, and that shows before anything of it was passed on.
    pub async fn pass_on(
        self,
        mut head: response::Parts,
        body: Received,
        mut outcome: Outcome,
        place: Place,
    ) -> Result<Response<ProxyBody>, Refusal> {
        headers::guard(&mut head.headers, &self.plan.injected);
        if let Some(set) = self.plan.parts.iter().flatten().next()
            && !self.plan.is_batch
        {
            headers::mask(&mut head.headers, set);
        }
        let is_empty = self.is_head
            || body.is_end_stream()
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        if is_empty {
            if self.plan.masks() {
                self.without_body(&mut head);
            }
            let flow = self.guarded(Undo::Nothing, true);
            let passing = Passing::new(self, body, flow, outcome, place, false);
            return Ok(Response::from_parts(head, passing.boxed()));
        }
        let withheld = |asking: &Self, why| {
            let withheld = asking.withheld(why);
            asking.note_withheld(&withheld);
            withheld.refusal()
        };
        if self.plan.is_batch && (self.plan.masks() || self.plan.copy.is_some()) {
            return match self.batch(&mut head, body, &mut outcome).await {
                Ok(body) => {
                    drop((outcome, place));
                    Ok(Response::from_parts(head, body))
                }
                Err(why) => Err(withheld(&self, why)),
            };
        }
        let is_promised = self.plan.masks();
        let is_prompt = is_prompt(&head);
        let flow = match self.flow(&mut head) {
            Ok(flow) => flow,
            Err(why) => return Err(withheld(&self, why)),
        };
        let is_grpc = grpc::is_grpc(content_type(&head));
        let passing = Passing::new(self, body, flow, outcome, place, is_grpc);
        if !is_promised {
            return Ok(Response::from_parts(head, passing.boxed()));
        }
        primed(head, passing, is_prompt).await
    }

    /// The stations that the body passes. The head is told what becomes of it.
    fn flow(&self, head: &mut response::Parts) -> Result<Flow, Unreadable> {
        if self.plan.is_media && head.status.is_success() {
            return Ok(self.guarded(Undo::Nothing, true));
        }
        let set = self.plan.whole();
        if set.is_some() && head.status == StatusCode::PARTIAL_CONTENT {
            return Err(Unreadable::new("it is only a part of something"));
        }
        let content_type = content_type(head).map(str::to_owned);
        let content_type = content_type.as_deref();
        let codings = Coding::of(&head.headers);
        let is_grpc = grpc::is_grpc(content_type);
        let undo = match &codings {
            Ok(codings) if !codings.is_empty() => Undo::Codings(Decoder::new(codings)?),
            Ok(_) if is_grpc => match grpc::Unpack::new(&head.headers)? {
                unpack if unpack.is_needed() => Undo::Messages(unpack),
                _ => Undo::Nothing,
            },
            Ok(_) => Undo::Nothing,
            // Nobody can tell whether Holdpoint's own credential is in it.
            Err(why) => return Err(why.clone()),
        };
        let is_coded = matches!(undo, Undo::Codings(_));
        let mut flow = self.guarded(undo, headers::has_digest(&head.headers) && set.is_none());
        if is_coded {
            if is_grpc {
                return Err(Unreadable::new("gRPC messages are compressed as a whole"));
            }
            flow.encoder = Some(Encoder::new(&codings?)?);
        }
        if set.is_some() || !matches!(flow.undo, Undo::Nothing) {
            headers::altered(&mut head.headers);
        }
        flow.mask = match set {
            Some(set) if head.status.is_success() => Some(masker(set, content_type)?),
            Some(set) => Some(Masker::new(set.clone(), Form::of(content_type))),
            None => None,
        };
        flow.copy = self.copy(content_type);
        Ok(flow)
    }

    fn guarded(&self, undo: Undo, is_untouchable: bool) -> Flow {
        Flow {
            undo,
            guard: Guard::new(self.plan.injected.clone()),
            is_untouchable,
            mask: None,
            encoder: None,
            copy: None,
        }
    }

    fn copy(&self, content_type: Option<&str>) -> Option<Copy> {
        let set = self.plan.copy.as_ref()?;
        let operation = self.operations.first()?;
        if !self.plan.may_keep(&Form::of(content_type)) {
            return None;
        }
        Some(Copy {
            mask: Masker::new(set.clone(), Form::of(content_type)),
            capture: self
                .record
                .capture(&self.session, operation, Way::Response, content_type),
        })
    }

    /// The answer to a batch is read whole, and put together again from masked parts.
    async fn batch(
        &self,
        head: &mut response::Parts,
        mut body: Received,
        outcome: &mut Outcome,
    ) -> Result<ProxyBody, Unreadable> {
        let mut decoder = Decoder::new(&Coding::of(&head.headers)?)?;
        let mut plain = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Unreadable::new(format!("it broke off: {error}")))?;
            if let Ok(piece) = frame.into_data() {
                outcome.response_bytes += piece.len() as u64;
                decoder.push(&piece, &mut plain)?;
            }
            if plain.len() > batch::MOST {
                return Err(Unreadable::new(format!(
                    "the answer to the batch is longer than the {} bytes that Holdpoint reads",
                    batch::MOST
                )));
            }
        }
        decoder.finish(&mut plain)?;
        self.plan.injected.blot_out(&mut plain);
        let content_type = content_type(head).unwrap_or_default().to_owned();
        let is_divided = content_type.trim_start().starts_with("multipart/");
        self.capture_batch(&content_type, &plain, is_divided);
        // An error about the batch as a whole is no batch.
        let masked = match (is_divided, self.plan.masks()) {
            (_, false) => plain,
            (true, true) => {
                let sets = batch::Sets::Each(&self.plan.parts, &self.names);
                batch::rewrite(&content_type, &plain, &sets)?
            }
            (false, true) => self.by_all(&content_type, plain)?,
        };
        head.headers.remove(header::CONTENT_ENCODING);
        headers::altered(&mut head.headers);
        head.headers
            .insert(header::CONTENT_LENGTH, masked.len().into());
        Ok(full(masked.into()))
    }

    /// An undivided answer to a batch, by the sets of all its parts one after another.
    fn by_all(&self, content_type: &str, mut plain: Vec<u8>) -> Result<Vec<u8>, Unreadable> {
        for set in self.plan.parts.iter().flatten() {
            let mut masked = Vec::with_capacity(plain.len());
            let mut masker = masker(set, Some(content_type))?;
            masker.push(&plain, &mut masked)?;
            masker.finish(&mut masked)?;
            plain = masked;
        }
        Ok(plain)
    }

    fn capture_batch(&self, content_type: &str, plain: &[u8], is_divided: bool) {
        let Some(set) = &self.plan.copy else { return };
        if is_divided {
            let masked = batch::rewrite(content_type, plain, &batch::Sets::All(set));
            if let (Ok(masked), Some(operation)) = (masked, self.operations.first()) {
                let (session, way) = (&self.session, Way::Response);
                let mut capture = self
                    .record
                    .capture(session, operation, way, Some(content_type));
                capture.push(&masked);
                capture.finish();
            }
        } else if let Some(copy) = self.copy(Some(content_type)) {
            copy.all(plain);
        }
    }

    /// Of an answer without a body its head may say how long it would be, which the masked one would not.
    fn without_body(&self, head: &mut response::Parts) {
        let is_masked = !self.plan.is_media;
        if is_masked && self.is_head {
            headers::altered(&mut head.headers);
        }
    }

    pub(super) fn withheld(&self, why: Unreadable) -> Withheld {
        Withheld {
            asked: self.asked.clone(),
            mutates: self.mutates,
            why,
        }
    }

    pub(super) fn note_withheld(&self, withheld: &Withheld) {
        metrics().answer_withheld();
        tracing::warn!(session = %self.session.as_str(), asked = %self.asked, why = %withheld.why, "an answer was withheld");
        for operation in &self.operations {
            self.record.note(crate::record::Event::AnswerWithheld {
                session: self.session.clone(),
                operation: operation.clone(),
                reason: (&withheld.why.0).into(),
            });
        }
    }
}

/// For an answer of this type.
///
/// # Errors
/// When what the set looks for does not show in such a body: whoever asks for credentials may also ask in which form they come
/// (`alt=proto`, `callback=`).
pub(super) fn masker(set: &Arc<MaskSet>, content_type: Option<&str>) -> Result<Masker, Unreadable> {
    let form = Form::of(content_type);
    if !set.sees_minted(&form) {
        return Err(Unreadable::new(
            "credentials cannot be told from the rest in an answer of this type; ask for JSON",
        ));
    }
    Ok(Masker::new(set.clone(), form))
}

/// Reads on until the answer is whole, enough of it is there, or it takes its time.
async fn primed(
    mut head: response::Parts,
    mut passing: Passing,
    is_prompt: bool,
) -> Result<Response<ProxyBody>, Refusal> {
    let deadline = Instant::now() + PATIENCE;
    let mut first = BytesMut::new();
    let mut frames = VecDeque::new();
    while first.len() < BEFORE_HEAD && (first.is_empty() || !is_prompt) {
        let Ok(frame) = timeout_at(deadline, passing.frame()).await else {
            break;
        };
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => first.extend_from_slice(&data),
                Err(trailers) => frames.push_back(trailers),
            },
            Some(Err(error)) => {
                return Err(passing.refusal().unwrap_or_else(|| {
                    Refusal::new(
                        Kind::Upstream,
                        format!("Holdpoint allowed this and the answer broke off: {error}"),
                    )
                }));
            }
            None => {
                if frames.is_empty() {
                    head.headers
                        .insert(header::CONTENT_LENGTH, first.len().into());
                }
                frames.push_front(Frame::data(first.freeze()));
                return Ok(Response::from_parts(head, Primed::whole(frames).boxed()));
            }
        }
    }
    if !first.is_empty() {
        frames.push_front(Frame::data(first.freeze()));
    }
    Ok(Response::from_parts(
        head,
        Primed::beginning(frames, passing).boxed(),
    ))
}

fn content_type(head: &response::Parts) -> Option<&str> {
    head.headers.get(header::CONTENT_TYPE)?.to_str().ok()
}

/// Whether each piece is awaited by somebody.
fn is_prompt(head: &response::Parts) -> bool {
    let content_type = content_type(head);
    grpc::is_grpc(content_type)
        || content_type.is_some_and(|it| it.trim_start().starts_with("text/event-stream"))
}

fn full(bytes: Bytes) -> ProxyBody {
    http_body_util::Full::new(bytes)
        .map_err(|never| match never {})
        .boxed()
}
