//! What goes on after it was judged, and is broken off when it may no longer.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{binding::Room, daemon::House, gate::Outcome, record::Event};

/// Records that something was cut, with what had gone by then, and may have had its effect. Of the connection with this number, to
/// this host and port.
pub async fn record(
    house: &House,
    room: &Room,
    (connection, host, port): (u64, &str, u16),
    outcome: &Outcome,
    reason: &str,
) {
    let session = room.session.id.clone();
    tracing::info!(%session, connection, reason, "cut: policy no longer allows it");
    let event = Event::ConnectionCut {
        session,
        connection,
        destination: format!("{host}:{port}").into(),
        reason: reason.into(),
        request_bytes: outcome.request_bytes,
        response_bytes: outcome.response_bytes,
    };
    if let Err(error) = house.record.append_unsynced(event).await {
        tracing::error!(%error, "something that was cut is missing in the record");
    }
}

/// Counts the bytes that go through, so that they are known whenever it ends.
pub struct Counted<S> {
    inner: S,
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that were written.
    pub written: u64,
}

impl<S> Counted<S> {
    /// Nothing has gone through yet.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            read: 0,
            written: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        self.read += (buffer.filled().len() - before) as u64;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(length)) = &polled {
            self.written += *length as u64;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_goes_through_is_counted() {
        let (near, mut far) = tokio::io::duplex(4);
        let mut counted = Counted::new(near);
        counted.write_all(b"abc").await.expect("there is room");
        far.write_all(b"de").await.expect("there is room");
        counted.read_u8().await.expect("a byte");
        assert_eq!((counted.written, counted.read), (3, 1));
    }
}
