//! Connections to the databases themselves: dialled, encrypted and logged in with what agents never have.

mod auth;
mod binding;
mod error;
pub(crate) mod trust;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use bytes::BytesMut;
use postgres_protocol::message::{
    backend::{self, ParameterStatusBody},
    frontend,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use zeroize::Zeroizing;

pub use self::error::ConnectError;
use super::{
    cancel::CancelKey,
    catalog::Entry,
    frame::{HEAD, Head},
    startup::Settings,
    stream::Stream,
};
use crate::config::connection::Place;

/// How long it may take until a server has let us in.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most bytes of one message before that. PostgreSQL's own are a few hundred.
const LONGEST: usize = 64 << 10;
/// The most messages before it is ready.
const MOST: usize = 1000;
/// `SSLRequest` (length 8, code 1234.5679) and `CancelRequest` (code 1234.5678) in "Message Formats" of PostgreSQL's manual.
const CANCEL_REQUEST: i32 = (1234 << 16) | 5678;

/// A connection that is logged in and has said so: the next message either way is the first of a query.
pub struct ServerLink<S = Stream<TcpStream>> {
    /// Nothing was read ahead from it.
    pub stream: S,
    /// What the server says of itself and of the connection's settings.
    pub parameters: BTreeMap<String, String>,
    /// What the server calls this connection in requests to cancel.
    pub key: Option<CancelKey>,
    /// Who Holdpoint is there.
    pub user: Arc<str>,
}

/// Connects to a database and logs in, within 10 s.
///
/// # Errors
/// When it cannot be reached, is not who it should be, or does not let us in.
pub async fn connect(
    entry: &Entry,
    database: &str,
    settings: &Settings,
) -> Result<ServerLink, ConnectError> {
    let connecting = async {
        let (stream, certificate) = open(entry).await?;
        log_in(stream, certificate, entry, database, settings).await
    };
    let connected = timeout(PATIENCE, connecting).await;
    connected.unwrap_or_else(|_| Err(ConnectError::Late(PATIENCE)))
}

/// What is known of the server at the other end of a stream.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Nothing: nothing is encrypted.
    InClear,
    /// What it does not have to be for anybody in between.
    Unverified(Vec<u8>),
    /// It is the one. Its certificate.
    Verified(Vec<u8>),
}

async fn open(entry: &Entry) -> Result<(Stream<TcpStream>, Peer), ConnectError> {
    if let Some(dialer) = &entry.by_connector {
        let (tls, certificate) = dialer.open().await.map_err(ConnectError::NoWay)?;
        return Ok((
            Stream::Tls(Box::new(tls.into())),
            Peer::Verified(certificate),
        ));
    }
    let mut tcp = dial(&entry.place)
        .await
        .map_err(ConnectError::Unreachable)?;
    let Some(connector) = &entry.tls.connector else {
        return Ok((Stream::Plain(tcp), Peer::InClear));
    };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    tcp.write_all(&request).await?;
    match tcp.read_u8().await? {
        b'S' => {}
        b'N' => return Err(ConnectError::NoTls),
        // It is not encrypted, so what it says may be anybody's.
        b'E' => {
            return Err(ConnectError::Protocol(
                "it answered SSLRequest with an error",
            ));
        }
        _ => return Err(ConnectError::Protocol("it is no PostgreSQL server")),
    }
    let connecting = connector.connect(entry.tls.name.clone(), tcp);
    let tls = connecting.await.map_err(ConnectError::Tls)?;
    let certificates = tls.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|them| them.first());
    let certificate = certificate.map(|it| it.to_vec()).unwrap_or_default();
    let peer = match entry.tls.is_verified {
        true => Peer::Verified(certificate),
        false => Peer::Unverified(certificate),
    };
    Ok((Stream::Tls(Box::new(tls.into())), peer))
}

async fn dial(place: &Place) -> io::Result<TcpStream> {
    let mut last = None;
    for address in lookup_host((place.host.as_str(), place.port)).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::KeepAlive, &true)?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other("its name has no address")))
}

/// Logs in on a stream that leads to the server. There is no limit to how long that takes.
///
/// # Errors
/// When the server does not let us in.
pub async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    peer: Peer,
    entry: &Entry,
    database: &str,
    settings: &Settings,
) -> Result<ServerLink<S>, ConnectError> {
    let user = entry.user().await.map_err(ConnectError::Secret)?;
    let secret = entry.secret().await.map_err(ConnectError::Secret)?;
    let fixed = [("user", &*user), ("database", database)];
    let mut startup = BytesMut::new();
    frontend::startup_message(fixed.into_iter().chain(settings.iter()), &mut startup)?;
    stream.write_all(&startup).await?;
    auth::authenticate(&mut stream, &peer, &user, &secret).await?;
    drop(secret);
    let (parameters, key) = until_ready(&mut stream).await?;
    Ok(ServerLink {
        stream,
        parameters,
        key,
        user,
    })
}

async fn until_ready<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
) -> Result<(BTreeMap<String, String>, Option<CancelKey>), ConnectError> {
    let mut parameters = BTreeMap::new();
    let mut key = None;
    for _ in 0..MOST {
        match read_message(stream).await? {
            backend::Message::ParameterStatus(status) => {
                let (name, value) = texts(&status)?;
                parameters.insert(name, value);
            }
            backend::Message::BackendKeyData(data) => {
                key = Some(CancelKey {
                    process: data.process_id(),
                    secret: Zeroizing::new(data.secret_key().to_be_bytes().to_vec()),
                });
            }
            backend::Message::NoticeResponse(_) => {}
            backend::Message::ErrorResponse(error) => return Err(ConnectError::server(&error)),
            backend::Message::ReadyForQuery(_) => return Ok((parameters, key)),
            _ => return Err(ConnectError::Protocol("it sent a message before its time")),
        }
    }
    Err(ConnectError::Protocol("it does not become ready"))
}

fn texts(status: &ParameterStatusBody) -> io::Result<(String, String)> {
    Ok((status.name()?.to_owned(), status.value()?.to_owned()))
}

/// One message, and nothing of what follows it.
async fn read_message<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<backend::Message, ConnectError> {
    let mut message = BytesMut::zeroed(HEAD);
    stream.read_exact(&mut message).await?;
    let head = Head::of(&message).ok().flatten();
    let whole = head.map(Head::whole).filter(|whole| *whole <= 1 + LONGEST);
    let whole = whole.ok_or(ConnectError::Protocol("it is no PostgreSQL server"))?;
    message.resize(whole, 0);
    stream.read_exact(&mut message[HEAD..]).await?;
    let parsed = backend::Message::parse(&mut message)?;
    parsed.ok_or(ConnectError::Protocol("a message of it is not whole"))
}

/// Asks a server to cancel what it does on one of our connections.
#[derive(Clone, Debug)]
pub struct ServerCancel {
    entry: Arc<Entry>,
    key: Option<CancelKey>,
}

impl ServerCancel {
    /// For the connection with this key.
    #[must_use]
    pub fn new(entry: Arc<Entry>, key: Option<CancelKey>) -> Self {
        Self { entry, key }
    }

    /// Asks, and waits until the server has seen to it.
    ///
    /// # Errors
    /// When the server cannot be asked. Whether there was something to cancel, it never tells.
    pub async fn send(&self) -> Result<(), ConnectError> {
        let Some(key) = &self.key else { return Ok(()) };
        let asking = async {
            let (mut stream, _) = open(&self.entry).await?;
            stream.write_all(&cancel_request(key)).await?;
            stream.flush().await?;
            // The server closes when it is done, some of them without a farewell.
            let _ = stream.read(&mut [0]).await;
            Ok(())
        };
        let asked = timeout(PATIENCE, asking).await;
        asked.unwrap_or_else(|_| Err(ConnectError::Late(PATIENCE)))
    }
}

fn cancel_request(key: &CancelKey) -> Zeroizing<Vec<u8>> {
    let length = i32::try_from(12 + key.secret.len()).unwrap_or(i32::MAX);
    let head = [length, CANCEL_REQUEST, key.process].map(i32::to_be_bytes);
    Zeroizing::new([&head.concat()[..], &key.secret].concat())
}

#[cfg(test)]
mod tests;
