//! The agent's side of a connection until it says what it wants: TLS, where it asks for it, and its first message.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    answer::Complaint,
    cancel::CancelKey,
    server::trust::ALPN,
    startup::{self, First, Startup},
    stream::Stream,
};
use crate::tls::{DatabaseAcceptor, handshake_problem};

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// A client asks for GSSAPI, then for TLS, then perhaps for both again in there.
const MOST_REQUESTS: usize = 6;

/// What a client wants, on a stream of which nothing else was read.
pub struct Greeting<S> {
    /// The way to answer it.
    pub stream: Stream<S>,
    /// What it wants, or why it cannot have it.
    pub guest: Result<Guest, Complaint>,
}

/// What a client wants.
pub enum Guest {
    /// Something cancelled.
    Canceller(CancelKey),
    /// To log in.
    User(Box<Startup>),
}

/// How a client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// With a message of PostgreSQL's.
    Plain,
    /// With a ClientHello (`sslnegotiation=direct`).
    WithTls,
}

impl Begins {
    /// As the first byte tells: it is a TLS record's type (RFC 8446, section 5.1), or a length's, which is zero.
    #[must_use]
    pub fn by(first_byte: u8) -> Self {
        match first_byte {
            22 => Self::WithTls,
            _ => Self::Plain,
        }
    }
}

/// Lets a client say what it wants, who connected to `host`. The reason why nothing comes of it is for the record.
///
/// # Errors
/// When it does not say it.
pub async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    begins: Begins,
    acceptor: &DatabaseAcceptor,
    host: &str,
) -> Result<Greeting<S>, String> {
    let greeting = async {
        let stream = match begins {
            Begins::Plain => Stream::Plain(stream),
            Begins::WithTls => match direct_tls(stream, acceptor, host).await? {
                Ok(stream) => stream,
                Err(refused) => return Ok(refused),
            },
        };
        converse(stream, acceptor, host).await
    };
    let greeted = timeout(PATIENCE, greeting).await;
    greeted.unwrap_or_else(|_| Err("it did not say what it wants".to_owned()))
}

/// A client that begins with TLS has to say that it means this protocol, so that nobody can make one of another believe so.
async fn direct_tls<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    acceptor: &DatabaseAcceptor,
    host: &str,
) -> Result<Result<Stream<S>, Greeting<S>>, String> {
    let stream = tls(stream, acceptor, host).await?;
    let says_so =
        matches!(&stream, Stream::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(ALPN));
    if says_so {
        return Ok(Ok(stream));
    }
    let guest = Err(Complaint::new(
        "08P01",
        "received direct SSL connection request without ALPN protocol negotiation extension",
    ));
    Ok(Err(Greeting { stream, guest }))
}

/// Greets a client inside of what it has begun: what it says in TLS stays in this TLS.
///
/// # Errors
/// When it does not say what it wants.
pub async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: Stream<S>,
    acceptor: &DatabaseAcceptor,
    host: &str,
) -> Result<Greeting<S>, String> {
    for _ in 0..MOST_REQUESTS {
        let guest = match first_message(&mut stream).await.map_err(broken_off)? {
            Ok(First::Ssl) => {
                stream = answer_ssl(stream, acceptor, host).await?;
                continue;
            }
            Ok(First::Gssenc) => {
                answer(&mut stream, b"N").await.map_err(broken_off)?;
                continue;
            }
            Ok(First::Cancel(key)) => Ok(Guest::Canceller(key)),
            Ok(First::Startup(startup)) => Ok(Guest::User(startup)),
            Err(complaint) => Err(complaint),
        };
        return Ok(Greeting { stream, guest });
    }
    Err("it keeps asking for encryption".to_owned())
}

async fn first_message<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut Stream<S>,
) -> io::Result<Result<First, Complaint>> {
    let mut first = [0; 8];
    stream.read_exact(&mut first).await?;
    let length = match startup::rest(first) {
        Ok(length) => length,
        Err(complaint) => return Ok(Err(complaint)),
    };
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    Ok(startup::read(first, &rest))
}

/// What was sent after SSLRequest and before our answer is taken for TLS, which it is not: nothing can be slipped in.
async fn answer_ssl<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: Stream<S>,
    acceptor: &DatabaseAcceptor,
    host: &str,
) -> Result<Stream<S>, String> {
    match stream {
        Stream::Plain(mut plain) => {
            answer(&mut plain, b"S").await.map_err(broken_off)?;
            tls(plain, acceptor, host).await
        }
        Stream::Tls(_) => {
            answer(&mut stream, b"N").await.map_err(broken_off)?;
            Ok(stream)
        }
    }
}

async fn tls<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    acceptor: &DatabaseAcceptor,
    host: &str,
) -> Result<Stream<S>, String> {
    let accepted = acceptor.accept(host, stream).await;
    let tls = accepted.map_err(|error| {
        format!(
            "{}. A client that pins `sslrootcert` needs that file in root_files of the [[connection]]",
            handshake_problem(&error)
        )
    })?;
    Ok(Stream::Tls(Box::new(tls.into())))
}

async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

fn broken_off(error: io::Error) -> String {
    format!("it broke off: {error}")
}

#[cfg(test)]
mod tests;
