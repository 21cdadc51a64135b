//! How messages travel over sockets: as frames of a length (4 bytes, big endian) and that many bytes of JSON. Descriptors travel
//! with the first byte.

use std::{
    io,
    io::{Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::sys;

/// The most bytes of a [`super::message::Request`].
pub const REQUEST_LIMIT: usize = 1 << 20;
/// The most bytes of a [`super::message::Start`]: a request in other words.
pub const START_LIMIT: usize = 4 << 20;
/// The most bytes of all other messages.
pub const MESSAGE_LIMIT: usize = 64 << 10;
/// The most descriptors a message has use for.
pub const FDS_MAX: usize = 8;

/// Why no message came.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The other side closed between two messages.
    #[error("the other side closed the connection")]
    Closed,
    /// The other side announced more than is accepted.
    #[error("a message of {length} bytes; at most {limit} are accepted")]
    TooLong {
        /// Bytes announced.
        length: usize,
        /// Bytes accepted.
        limit: usize,
    },
    /// More descriptors than any message has.
    #[error("a message with more than {FDS_MAX} descriptors")]
    TooManyDescriptors,
    /// Not the JSON that was expected.
    #[error("a message that cannot be understood")]
    Malformed(#[from] serde_json::Error),
    /// Nothing came in time.
    #[error("no complete message in time")]
    TimedOut,
    /// The socket failed.
    #[error("the connection failed")]
    Io(#[from] io::Error),
}

/// A message as a frame. The buffer never moves while it is filled, so that no copy of a token stays behind.
///
/// # Errors
/// [`WireError::TooLong`].
pub fn encode(message: &impl Serialize, limit: usize) -> Result<Zeroizing<Vec<u8>>, WireError> {
    let mut frame = Zeroizing::new(vec![0; 4 + limit]);
    let mut rest = &mut frame[4..];
    match serde_json::to_writer(&mut rest, message) {
        Ok(()) => {}
        Err(error) if error.is_io() => {
            let length = serde_json::to_vec(message).map(Zeroizing::new)?.len();
            return Err(WireError::TooLong { length, limit });
        }
        Err(error) => return Err(error.into()),
    }
    let length = limit - rest.len();
    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
    frame.truncate(4 + length);
    Ok(frame)
}

fn length_of(header: [u8; 4], limit: usize) -> Result<usize, WireError> {
    let length = u32::from_be_bytes(header) as usize;
    if length > limit {
        return Err(WireError::TooLong { length, limit });
    }
    Ok(length)
}

/// Sends a message with descriptors.
///
/// # Errors
/// [`WireError::TooLong`] and [`WireError::Io`].
pub fn send(
    stream: &UnixStream,
    message: &impl Serialize,
    limit: usize,
    fds: &[BorrowedFd<'_>],
) -> Result<(), WireError> {
    let frame = encode(message, limit)?;
    let sent = sys::send_with(stream.as_fd(), &frame, fds)?;
    let mut stream = stream;
    Ok(stream.write_all(&frame[sent..])?)
}

/// Receives a message and its descriptors.
///
/// # Errors
/// All of [`WireError`] but the time-out, unless the stream has one.
pub fn receive<T: DeserializeOwned>(
    stream: &UnixStream,
    limit: usize,
) -> Result<(T, Vec<OwnedFd>), WireError> {
    let mut header = [0; 4];
    let (received, fds) = sys::receive_with(stream.as_fd(), &mut header)?;
    if received == 0 {
        return Err(WireError::Closed);
    }
    if fds.len() > FDS_MAX {
        return Err(WireError::TooManyDescriptors);
    }
    let mut stream = stream;
    stream.read_exact(&mut header[received..])?;
    let mut body = Zeroizing::new(vec![0; length_of(header, limit)?]);
    stream.read_exact(&mut body)?;
    Ok((serde_json::from_slice(&body)?, fds))
}

/// The same for the daemon, which must not block.
pub mod nonblocking {
    use std::{
        io,
        os::fd::{AsFd, BorrowedFd, OwnedFd},
        time::Duration,
    };

    use serde::{Serialize, de::DeserializeOwned};
    use tokio::{io::Interest, net::UnixStream, time::timeout};
    use zeroize::Zeroizing;

    use super::{FDS_MAX, WireError, encode, length_of};
    use crate::launch::sys;

    /// Sends a message with descriptors within `patience`.
    ///
    /// # Errors
    /// All of [`WireError`].
    pub async fn send(
        stream: &UnixStream,
        message: &impl Serialize,
        limit: usize,
        fds: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<(), WireError> {
        let frame = encode(message, limit)?;
        let work = async {
            let mut sent = stream
                .async_io(Interest::WRITABLE, || {
                    sys::send_with(stream.as_fd(), &frame, fds)
                })
                .await?;
            while sent < frame.len() {
                sent += stream
                    .async_io(Interest::WRITABLE, || {
                        sys::send_with(stream.as_fd(), &frame[sent..], &[])
                    })
                    .await?;
            }
            Ok(())
        };
        timeout(patience, work)
            .await
            .unwrap_or(Err(WireError::TimedOut))
    }

    /// Receives a message and its descriptors within `patience`.
    ///
    /// # Errors
    /// All of [`WireError`].
    pub async fn receive<T: DeserializeOwned>(
        stream: &UnixStream,
        limit: usize,
        patience: Duration,
    ) -> Result<(T, Vec<OwnedFd>), WireError> {
        let work = async {
            let mut header = [0; 4];
            let (received, fds) = stream
                .async_io(Interest::READABLE, || {
                    sys::receive_with(stream.as_fd(), &mut header)
                })
                .await?;
            if received == 0 {
                return Err(WireError::Closed);
            }
            if fds.len() > FDS_MAX {
                return Err(WireError::TooManyDescriptors);
            }
            read_exact(stream, &mut header[received..]).await?;
            let mut body = Zeroizing::new(vec![0; length_of(header, limit)?]);
            read_exact(stream, &mut body).await?;
            Ok((serde_json::from_slice(&body)?, fds))
        };
        timeout(patience, work)
            .await
            .unwrap_or(Err(WireError::TimedOut))
    }

    /// Descriptors attached to these bytes are dropped by the kernel: only the first byte may bring some.
    async fn read_exact(stream: &UnixStream, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            stream.readable().await?;
            match stream.try_read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => buffer = &mut buffer[read..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::launch::message::{Event, Order};

    proptest! {
        #[test]
        fn garbage_is_an_error_and_takes_no_more_than_the_limit(bytes: Vec<u8>) {
            let (near, far) = UnixStream::pair().expect("a socket pair");
            (&near).write_all(&bytes).expect("fits the socket's buffer");
            drop(near);
            prop_assert!(receive::<Order>(&far, MESSAGE_LIMIT).is_err());
        }
    }

    #[test]
    fn descriptors_arrive_with_their_message() {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        let order = Order::Signal {
            number: 15,
            group: true,
        };
        send(&near, &order, MESSAGE_LIMIT, &[near.as_fd(), far.as_fd()]).expect("sends");
        let (got, fds) = receive::<Order>(&far, MESSAGE_LIMIT).expect("receives");
        assert_eq!((got, fds.len()), (order, 2));
    }

    #[test]
    fn a_message_over_the_limit_is_refused_on_both_sides() {
        let long = Event::Refused {
            message: "x".repeat(100),
        };
        assert!(matches!(
            encode(&long, 50),
            Err(WireError::TooLong { limit: 50, .. })
        ));
        let (near, far) = UnixStream::pair().expect("a socket pair");
        send(&near, &long, MESSAGE_LIMIT, &[]).expect("sends");
        assert!(matches!(
            receive::<Event>(&far, 50),
            Err(WireError::TooLong { .. })
        ));
    }

    #[test]
    fn too_many_descriptors_are_refused_and_closed() {
        let (near, far) = UnixStream::pair().expect("a socket pair");
        let many = [near.as_fd(); FDS_MAX + 1];
        send(
            &near,
            &Order::Continue { foreground: true },
            MESSAGE_LIMIT,
            &many,
        )
        .expect("sends");
        assert!(matches!(
            receive::<Order>(&far, MESSAGE_LIMIT),
            Err(WireError::TooManyDescriptors)
        ));
    }
}
