//! Request bodies that are read as far as judging needs, and replayed upstream.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use holdpoint_core::{
    recognise::Payload,
    refusal::{Kind, Refusal},
};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::{allowance::Charge, masking::Watch};

/// A client that sends nothing for this long is not waited for.
const IDLE: Duration = Duration::from_secs(60);
/// How much of a refused upload is read before it is answered: most clients read no answer while they write.
const DRAIN_LIMIT: usize = 64 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(10);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request body, of which the beginning has been read.
pub struct Asked {
    beginning: BytesMut,
    /// What comes after the beginning; none when the beginning is all.
    rest: Option<Incoming>,
    /// Whether the client waits for an answer before it ends.
    has_no_end: bool,
    /// For the beginning.
    charge: Charge,
}

impl Asked {
    /// A body of which nothing has been read; what is read is put on this account.
    #[must_use]
    pub fn new(body: Incoming, charge: Charge) -> Self {
        let rest = (!body.is_end_stream()).then_some(body);
        Self {
            beginning: BytesMut::new(),
            rest,
            has_no_end: false,
            charge,
        }
    }

    /// The client waits for an answer before it ends: nothing of it is read.
    pub fn has_no_end(&mut self) {
        self.has_no_end = true;
    }

    /// Reads on until the end, or until more than `limit` bytes are there. Trailers are left behind (RFC 9110, section
    /// 6.5.1, allows it): nobody has judged them.
    ///
    /// # Errors
    /// When the client breaks off or falls silent, or there is no room for more.
    pub async fn read(&mut self, limit: usize) -> Result<(), Refusal> {
        while self.beginning.len() <= limit
            && let Some(rest) = &mut self.rest
        {
            let frame = tokio::time::timeout(IDLE, rest.frame())
                .await
                .map_err(|_| {
                    broken(&format!(
                        "its body stopped arriving for {} seconds",
                        IDLE.as_secs()
                    ))
                })?;
            match frame {
                None => self.rest = None,
                Some(Err(error)) => return Err(broken(&format!("its body broke off: {error}"))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.charge.cover(self.beginning.len() + data.len())?;
                        self.beginning.extend_from_slice(&data);
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads and forgets what a client insists on sending before it reads an answer.
    pub async fn drain(mut self) {
        if self.has_no_end {
            return;
        }
        let mut left = DRAIN_LIMIT;
        let drain = async {
            while left > 0
                && let Some(rest) = &mut self.rest
                && let Some(Ok(frame)) = rest.frame().await
            {
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            }
        };
        // Too slow or too long: the connection is closed on it, as it would have been without this courtesy.
        let _ = tokio::time::timeout(DRAIN_TIME, drain).await;
    }

    /// What was read.
    #[must_use]
    pub fn payload(&self) -> Payload<'_> {
        match self.rest {
            None => Payload::Whole(&self.beginning),
            Some(_) => Payload::Beginning(&self.beginning),
        }
    }

    /// The bytes that were read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.beginning
    }

    /// Whether that is all.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.rest.is_none()
    }

    /// Takes everything out, to go upstream; `instead` takes the place of what was read. What comes back tells how much has gone.
    #[must_use]
    pub fn replay(&mut self, instead: Option<Vec<u8>>) -> (Replayed, Sent) {
        let sent = Sent::default();
        let beginning = std::mem::take(&mut self.beginning);
        let watch = Watch::behind(&beginning);
        let beginning = instead.map_or_else(|| beginning.freeze(), Bytes::from);
        let body = Replayed {
            beginning: Some(beginning).filter(|bytes| !bytes.is_empty()),
            rest: self.rest.take(),
            sent: sent.clone(),
            watch,
            _charge: self.charge.take(),
        };
        (body, sent)
    }
}

fn broken(problem: &str) -> Refusal {
    Refusal::new(
        Kind::Malformed,
        format!("Holdpoint did not send this request: {problem}."),
    )
}

/// A body that is sent again from its beginning.
pub struct Replayed {
    beginning: Option<Bytes>,
    rest: Option<Incoming>,
    sent: Sent,
    /// Over the rest, which nobody has read yet.
    watch: Watch,
    _charge: Charge,
}

/// What has become of a body that is sent.
#[derive(Clone, Default)]
pub struct Sent {
    /// Bytes that have gone.
    pub bytes: Arc<AtomicU64>,
    /// Whether it was broken off, because it holds a mask token.
    pub broken_off: Arc<AtomicBool>,
}

impl Replayed {
    /// What was read of it.
    #[must_use]
    pub fn beginning(&self) -> Bytes {
        self.beginning.clone().unwrap_or_default()
    }
}

impl Body for Replayed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = if let Some(beginning) = self.beginning.take() {
            Frame::data(beginning)
        } else if let Some(rest) = &mut self.rest {
            match ready!(Pin::new(rest).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_data() => {
                    let piece = frame.data_ref().cloned().unwrap_or_default();
                    if self.watch.finds_token(&piece) {
                        self.sent.broken_off.store(true, Ordering::Relaxed);
                        self.rest = None;
                        return Poll::Ready(Some(Err("it holds a mask token".into())));
                    }
                    frame
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                // Trailers, which come last, or the end.
                _ => {
                    self.rest = None;
                    return Poll::Ready(None);
                }
            }
        } else {
            return Poll::Ready(None);
        };
        let length = frame.data_ref().map_or(0, Bytes::len);
        self.sent.bytes.fetch_add(length as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.beginning.is_none() && self.rest.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let beginning = self.beginning.as_ref().map_or(0, Bytes::len) as u64;
        let rest = self
            .rest
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        hint.set_lower(beginning + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(beginning + upper);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::{Request, Response, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        sync::mpsc,
    };

    use super::*;
    use crate::allowance::Memory;

    /// What goes upstream of this chunked body, when `limit` bytes of it are read first: frames of data, and of others.
    async fn replayed(limit: usize) -> (Vec<u8>, usize) {
        const REQUEST: &[u8] = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
            Trailer: x-http-method-override\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n\
            0\r\nx-http-method-override: DELETE\r\n\r\n";
        let (mut near, far) = tokio::io::duplex(4096);
        let (seen, mut found) = mpsc::channel(1);
        let service = service_fn(move |request: Request<Incoming>| {
            let seen = seen.clone();
            async move {
                let mut asked =
                    Asked::new(request.into_body(), Memory::default().session().charge());
                asked.read(limit).await.expect("it all comes");
                let (mut body, _) = asked.replay(None);
                let (mut data, mut others) = (Vec::new(), 0);
                while let Some(frame) = body.frame().await {
                    match frame.expect("it all comes").into_data() {
                        Ok(piece) => data.extend_from_slice(&piece),
                        Err(_) => others += 1,
                    }
                }
                let _ = seen.send((data, others)).await;
                Ok::<_, Infallible>(Response::new(String::new()))
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(far), service));
        near.write_all(REQUEST).await.expect("it reads");
        let found = found.recv().await.expect("a request");
        let _ = near.read(&mut [0; 100]).await;
        found
    }

    #[tokio::test]
    async fn trailers_do_not_travel() {
        for limit in [0, 3, 100] {
            assert_eq!(replayed(limit).await, (b"abcdef".to_vec(), 0), "{limit}");
        }
    }
}
