//! The messages between client, daemon, shim and init, and how they are framed.
//!
//! A frame is a length (4 bytes, big endian) and that many bytes of JSON. Descriptors travel with its first byte.

use std::{
    fmt, io,
    io::{Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::sys::{self, Limit};

/// The version of the messages; client and daemon must be of the same.
pub const VERSION: u32 = 1;
/// The most bytes of a [`Request`].
pub const REQUEST_LIMIT: usize = 1 << 20;
/// The most bytes of a [`Start`]: a request in other words.
pub const START_LIMIT: usize = 4 << 20;
/// The most bytes of all other messages.
pub const MESSAGE_LIMIT: usize = 64 << 10;
/// The most descriptors a message has use for.
pub const FDS_MAX: usize = 8;

/// Bytes that need not be UTF-8 (arguments, paths), in JSON as a string of the characters U+0000 to U+00FF.
#[derive(Clone, PartialEq, Eq)]
pub struct Octets(pub Vec<u8>);

impl Octets {
    /// As a path.
    pub fn to_path(&self) -> PathBuf {
        std::ffi::OsStr::from_bytes(&self.0).into()
    }
}

impl From<&Path> for Octets {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| char::from(*byte)).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.chars()
            .map(|char| u8::try_from(u32::from(char)))
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a character that stands for no byte"))
    }
}

/// The OIDC token that asks for a session.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Takes it over.
    pub fn new(mut token: Zeroizing<String>) -> Self {
        Self(std::mem::take(&mut *token))
    }

    /// Hands it on.
    pub fn reveal(mut self) -> Zeroizing<String> {
        Zeroizing::new(std::mem::take(&mut self.0))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// How the command starts on the terminal that came along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TerminalUse {
    /// In its foreground process group, so that it may read from it.
    pub foreground: bool,
}

/// Client to daemon, once. With it: stdin, stdout, stderr, the working directory, and the terminal where there is one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// The command and its arguments.
    pub command: Vec<Octets>,
    /// `NAME=value`, without the token.
    pub environment: Vec<Octets>,
    /// The token.
    pub token: Option<Token>,
    /// The file mode creation mask.
    pub umask: u32,
    /// Signals the caller ignores (nohup).
    pub ignored: Vec<i32>,
    /// Set when a terminal came along.
    pub terminal: Option<TerminalUse>,
}

/// Daemon or init to client.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// Holdpoint says no, or failed. Nothing was started.
    Refused { message: String },
    /// The command could not be executed after all.
    NotStarted { code: u8, message: String },
    /// The session is there, and signals reach it from now on; the command is being executed.
    Started { session: String },
    /// The command was stopped by a signal.
    Stopped { signal: i32 },
    /// The command exited.
    Exited { code: i32 },
    /// The command was killed by a signal.
    Killed { signal: i32 },
}

/// Client to init.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Send the command a signal: its process group when the client's was meant too (the terminal's keys do that).
    Signal { number: i32, group: bool },
    /// Continue the command, in the foreground of its terminal or not.
    Continue { foreground: bool },
}

/// Daemon to shim, first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// See [`super::Site::ca_bundle`].
    pub ca_bundle: Octets,
    /// See [`super::Site::runtime_dir`].
    pub runtime_dir: Octets,
}

/// Daemon to shim, second. With it: the client's socket, the cgroup, stdin, stdout, stderr, and the terminal if any.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The session's id.
    pub session: String,
    /// The caller.
    pub uid: u32,
    /// The caller's group.
    pub gid: u32,
    /// The caller's supplementary groups.
    pub groups: Vec<u32>,
    /// The command and its arguments.
    pub command: Vec<Octets>,
    /// Its whole environment.
    pub environment: Vec<Octets>,
    /// The working directory.
    pub directory: Directory,
    /// The file mode creation mask.
    pub umask: u32,
    /// The caller's resource limits.
    pub limits: Vec<Limit>,
    /// Signals to ignore.
    pub ignored: Vec<i32>,
    /// Set when a terminal comes along.
    pub terminal: Option<TerminalUse>,
}

/// A directory by name and by what it is, because the name is looked up again in another mount namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Its absolute path.
    pub path: Octets,
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// What a listener of a session serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    Proxy,
    DnsTcp,
    DnsUdp,
}

/// Shim to daemon.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// Namespaces and listeners are there. With it: the listeners, in this order.
    Ready { listeners: Vec<Service> },
    /// The init runs; what follows is between it and the client.
    Launched,
    /// It did not work.
    Failed { message: String },
}

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

    proptest! {
        #[test]
        fn octets_come_back_as_they_went(bytes: Vec<u8>) {
            let text = serde_json::to_string(&Octets(bytes.clone())).expect("serializes");
            let back: Octets = serde_json::from_str(&text).expect("parses");
            prop_assert_eq!(back.0, bytes);
        }

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

    #[test]
    fn a_token_is_never_printed() {
        let token = Token::new(Zeroizing::new("secret".to_owned()));
        assert!(!format!("{token:?}").contains("secret"));
    }
}
