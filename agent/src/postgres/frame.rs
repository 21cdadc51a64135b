//! Messages of PostgreSQL's protocol 3 (<https://www.postgresql.org/docs/current/protocol-message-formats.html>): where one ends,
//! what fields it has, how one is written. What they mean is for others to know.

use std::io;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes before the body of a message: its type, and its length.
pub const HEAD: usize = 5;
/// Bytes of the length, which counts itself.
const LENGTH: usize = 4;
/// Bytes that a message's body has at most: what PostgreSQL itself accepts (`PQ_LARGE_MESSAGE_LIMIT`, `MaxAllocSize`).
pub const MOST: usize = (1 << 30) - 1;
/// Bytes read at once.
pub const READ: usize = 64 << 10;
/// Bytes of room that are enough to read again.
const LEAST: usize = READ / 4;

/// Why bytes are no message, or none that is taken.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The bytes do not follow the protocol.
    #[error("what was sent is not PostgreSQL's protocol: {0}")]
    Malformed(&'static str),
    /// The message is larger than what is read of its kind.
    #[error("a message of {length} bytes was sent where {limit} are the limit")]
    TooLarge {
        /// Of the body.
        length: usize,
        /// Of what is read.
        limit: usize,
    },
    /// The stream failed, or ended within a message.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The beginning of a message: what follows is `body` bytes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The type of the message.
    pub tag: u8,
    /// The length of its body in bytes: without type and length.
    pub body: usize,
}

impl Head {
    /// The head of the message these bytes begin with; `None` while there are too few.
    ///
    /// # Errors
    /// When the length is impossible.
    pub fn of(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let Some((&tag, length)) = bytes.split_first().filter(|_| bytes.len() >= HEAD) else {
            return Ok(None);
        };
        let body = body_length(length)?;
        Ok(Some(Self { tag, body }))
    }

    /// Bytes of the whole message.
    #[must_use]
    pub fn whole(self) -> usize {
        HEAD + self.body
    }
}

/// What four bytes of length say of a body.
fn body_length(mut length: &[u8]) -> Result<usize, FrameError> {
    let length = usize::try_from(length.get_i32())
        .map_err(|_| FrameError::Malformed("a message's length is negative"))?;
    match length.checked_sub(LENGTH) {
        Some(body) if body <= MOST => Ok(body),
        Some(_) => Err(FrameError::Malformed("a message is longer than 1 GiB")),
        None => Err(FrameError::Malformed(
            "a message is shorter than its length",
        )),
    }
}

/// A whole message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub tag: u8,
    /// What follows type and length. May be a password: no `Debug`.
    pub body: Bytes,
}

impl Message {
    /// Its fields, from the first one on.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        Fields(&self.body)
    }
}

/// Reads one message of at most `limit` bytes of body, and not a byte more. `None` where the stream has ended in good order. For
/// handshakes: each message takes two reads.
///
/// # Errors
/// When that is no message, is too large, or the stream fails.
pub async fn read_message(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<Message>, FrameError> {
    let mut head = [0; HEAD];
    if stream.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..]).await?;
    let body = read_body(stream, body_length(&head[1..])?, limit).await?;
    Ok(Some(Message { tag: head[0], body }))
}

async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
    limit: usize,
) -> Result<Bytes, FrameError> {
    if length > limit {
        return Err(FrameError::TooLarge { length, limit });
    }
    let mut body = BytesMut::zeroed(length);
    stream.read_exact(&mut body).await?;
    Ok(body.freeze())
}

/// Empties a buffer, and gives back the memory that a large message made it take.
pub fn empty(out: &mut BytesMut) {
    match out.capacity() > 4 * READ {
        true => *out = BytesMut::new(),
        false => out.clear(),
    }
}

/// Appends a message to `out`; `body` writes what follows type and length.
///
/// # Panics
/// When that is more than 2 GiB, which nothing here writes.
pub fn put(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_i32(0);
    body(out);
    let length = i32::try_from(out.len() - at).expect("messages that are written are small");
    out[at..at + LENGTH].copy_from_slice(&length.to_be_bytes());
}

/// Appends text that ends with a zero byte; what follows one within it is left out, for nobody could read it.
pub fn put_text(out: &mut BytesMut, text: &str) {
    let text = text.split('\0').next().unwrap_or_default();
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

/// The fields of a message, one after the other.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next byte.
    ///
    /// # Errors
    /// When the message ends before; as with all of these.
    pub fn byte(&mut self) -> Result<u8, FrameError> {
        Ok(self.take(1)?[0])
    }

    /// The next 16 bits.
    ///
    /// # Errors
    /// See [`Self::byte`].
    pub fn int16(&mut self) -> Result<i16, FrameError> {
        Ok(self.take(2)?.get_i16())
    }

    /// The next 32 bits.
    ///
    /// # Errors
    /// See [`Self::byte`].
    pub fn int32(&mut self) -> Result<i32, FrameError> {
        Ok(self.take(4)?.get_i32())
    }

    /// A number of things that follow, 16 bits without a sign, as servers since 14 and libpq read it.
    ///
    /// # Errors
    /// See [`Self::byte`].
    pub fn count(&mut self) -> Result<usize, FrameError> {
        Ok(usize::from(self.take(2)?.get_u16()))
    }

    /// Bytes up to the next zero byte, which is passed over.
    ///
    /// # Errors
    /// See [`Self::byte`].
    pub fn c_string(&mut self) -> Result<&'a [u8], FrameError> {
        let end = memchr::memchr(0, self.0).ok_or(ENDS_EARLY)?;
        let text = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Ok(text)
    }

    /// Text up to the next zero byte.
    ///
    /// # Errors
    /// See [`Self::byte`]; also when it is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, FrameError> {
        let text = std::str::from_utf8(self.c_string()?);
        text.map_err(|_| FrameError::Malformed("a text is not UTF-8"))
    }

    /// A value with its length before it; `None` for NULL.
    ///
    /// # Errors
    /// See [`Self::byte`].
    pub fn value(&mut self) -> Result<Option<&'a [u8]>, FrameError> {
        match self.int32()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) => self.take(length).map(Some),
                Err(_) => Err(FrameError::Malformed("a value's length is negative")),
            },
        }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// See [`Self::byte`].
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ENDS_EARLY)?;
        self.0 = rest;
        Ok(taken)
    }

    /// That nothing follows.
    ///
    /// # Errors
    /// When something does.
    pub fn end(self) -> Result<(), FrameError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Malformed("a message goes on after its end"))
        }
    }
}

const ENDS_EARLY: FrameError = FrameError::Malformed("a message ends before its last field");

/// A stream's bytes as they come, cut into messages without waiting for the end of large ones.
pub struct Inbox<R> {
    stream: R,
    buffer: BytesMut,
    /// Room was made for a large message that is not taken yet.
    is_large: bool,
}

impl<R: AsyncRead + Unpin> Inbox<R> {
    /// Nothing has been read yet.
    #[must_use]
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            is_large: false,
        }
    }

    /// Makes room for a message of this many bytes, which is given back when that was taken. Without, room is doubled as it comes.
    pub fn make_room(&mut self, length: usize) {
        let missing = (length + READ).saturating_sub(self.buffer.len());
        self.buffer.reserve(missing);
        self.is_large = true;
    }

    /// Reads what there is, at most 64 KiB; 0 at the stream's end. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn fill(&mut self) -> io::Result<usize> {
        // What was taken may still be in use, so that more room is another piece of memory: not for every short message.
        if self.buffer.capacity() - self.buffer.len() < LEAST {
            self.buffer.reserve(READ);
        }
        self.stream.read_buf(&mut self.buffer).await
    }

    /// What has been read and not been taken.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    /// The head of the next message, if that is there.
    ///
    /// # Errors
    /// When it is none.
    pub fn head(&self) -> Result<Option<Head>, FrameError> {
        Head::of(&self.buffer)
    }

    /// Takes the first `length` bytes, or as many as there are.
    pub fn take(&mut self, length: usize) -> Bytes {
        let length = length.min(self.buffer.len());
        let taken = self.buffer.split_to(length).freeze();
        if self.is_large {
            self.is_large = false;
            // What is left would keep all of the room.
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        taken
    }

    /// The stream, for what is not reading.
    pub fn stream(&mut self) -> &mut R {
        &mut self.stream
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn messages_are_read_to_their_end_and_no_further() {
        let mut out = BytesMut::new();
        put(&mut out, b'Q', |body| put_text(body, "select 1"));
        put(&mut out, b'X', |_| {});
        let mut stream: &[u8] = &out;
        let query = read_message(&mut stream, 100).await.expect("a message");
        let query = query.expect("there is one");
        assert_eq!(query.tag, b'Q');
        let mut fields = query.fields();
        assert_eq!(fields.text().expect("text"), "select 1");
        fields.end().expect("nothing more");
        assert_eq!(stream.len(), HEAD);
        let end = read_message(&mut stream, 100).await.expect("a message");
        assert_eq!(end.expect("there is one").tag, b'X');
        assert!(
            read_message(&mut stream, 1)
                .await
                .expect("an end")
                .is_none()
        );
    }

    #[tokio::test]
    async fn limits_come_before_memory() {
        let mut stream: &[u8] = &[b'p', 0x3f, 0xff, 0xff, 0xff];
        let refused = read_message(&mut stream, 10_000).await;
        assert!(matches!(refused, Err(FrameError::TooLarge { .. })));
        for [a, b, c, d] in [[0, 0, 0, 3], [0xff; 4], [0x7f, 0xff, 0xff, 0xff]] {
            let mut stream: &[u8] = &[b'p', a, b, c, d];
            let refused = read_message(&mut stream, usize::MAX).await;
            assert!(matches!(refused, Err(FrameError::Malformed(_))));
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_message_is_an_error() {
        let mut stream: &[u8] = &[b'Q', 0, 0, 0, 8, b'x'];
        assert!(read_message(&mut stream, 100).await.is_err());
        let mut stream: &[u8] = b"Q\0";
        assert!(read_message(&mut stream, 100).await.is_err());
    }

    proptest! {
        #[test]
        fn fields_never_read_beyond_their_message(bytes: Vec<u8>, order: Vec<u8>) {
            let mut fields = Fields(&bytes);
            for kind in order {
                let _ = match kind % 6 {
                    0 => fields.byte().map(drop),
                    1 => fields.int16().map(drop),
                    2 => fields.int32().map(drop),
                    3 => fields.count().map(drop),
                    4 => fields.c_string().map(drop),
                    _ => fields.value().map(drop),
                };
            }
            prop_assert!(fields.0.len() <= bytes.len());
        }

        #[test]
        fn heads_are_found_or_refused(bytes: Vec<u8>) {
            if let Ok(Some(head)) = Head::of(&bytes) {
                prop_assert!(bytes.len() >= HEAD && head.body <= MOST);
            }
        }
    }
}
