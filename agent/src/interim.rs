//! Keeps an HTTP/1.1 client waiting with interim responses while a person decides.
//!
//! A `100 Continue` (RFC 9110, section 15.2.1) restarts the read time-out of gcloud, gsutil, both Python stacks, Node, bq and
//! curl. hyper's server cannot send one while a request is being answered, so it is written underneath it: hyper polls its
//! IO while the answer is pending, and writes nothing itself until there is one.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Go's HTTP client gives up on the fifth interim response of a request (net/http, `max1xxResponses`).
pub const MOST_PER_REQUEST: u32 = 4;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A stream that can slip interim responses in between what hyper writes.
pub struct InterimIo<T> {
    inner: T,
    queue: Arc<Mutex<Queue>>,
    /// How much of the interim response at the head of the queue is written.
    written: usize,
}

#[derive(Default)]
struct Queue {
    waiting: u32,
    connection: Option<Waker>,
}

/// Asks for interim responses on one connection.
#[derive(Clone)]
pub struct Interims(Arc<Mutex<Queue>>);

impl Interims {
    /// Sends one `100 Continue`. Only to be called while a request waits for the head of its response.
    pub fn send(&self) {
        let mut queue = lock(&self.0);
        queue.waiting += 1;
        if let Some(connection) = queue.connection.take() {
            connection.wake();
        }
    }
}

impl<T: AsyncWrite + Unpin> InterimIo<T> {
    /// Wraps a stream.
    pub fn new(inner: T) -> (Self, Interims) {
        let queue = Arc::<Mutex<Queue>>::default();
        (
            Self {
                inner,
                queue: queue.clone(),
                written: 0,
            },
            Interims(queue),
        )
    }

    /// Writes what is queued; ready when nothing is left. Runs before every other write, so that an interim response is
    /// never cut in two by a final one.
    fn poll_interims(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            {
                let mut queue = lock(&self.queue);
                if queue.waiting == 0 {
                    queue.connection = Some(cx.waker().clone());
                    return Poll::Ready(Ok(()));
                }
            }
            while self.written < CONTINUE.len() {
                let rest = &CONTINUE[self.written..];
                match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => self.written += n,
                }
            }
            self.written = 0;
            lock(&self.queue).waiting -= 1;
            ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for InterimIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Pending here only means that the client does not read; it may still write.
        if let Poll::Ready(Err(error)) = self.poll_interims(cx) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for InterimIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interims(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().expect("no panic while locked")
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn interims_reach_the_client_before_the_answer() {
        let (client, server) = tokio::io::duplex(4096);
        let (io, interims) = InterimIo::new(server);
        let service = service_fn(move |_: Request<Incoming>| {
            let interims = interims.clone();
            async move {
                for _ in 0..3 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    interims.send();
                }
                tokio::time::sleep(Duration::from_millis(30)).await;
                interims.send();
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"done"))))
            }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(io), service));

        let (mut read, mut write) = tokio::io::split(client);
        write
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .expect("the server reads");
        let mut seen = String::new();
        while !seen.ends_with("done") {
            let mut buffer = [0; 512];
            let n = read.read(&mut buffer).await.expect("the server writes");
            assert!(n > 0, "closed early: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        let expected = "HTTP/1.1 100 Continue\r\n\r\n".repeat(4) + "HTTP/1.1 200 OK\r\n";
        assert!(seen.starts_with(&expected), "{seen}");
    }
}
