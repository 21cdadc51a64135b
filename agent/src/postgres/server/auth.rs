//! What a server asks for before it lets us in, and what it gets.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::{
        backend::{AuthenticationSaslBody, Message},
        frontend,
    },
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use zeroize::{Zeroize as _, Zeroizing};

use super::{ConnectError, Peer, binding, read_message};
use crate::postgres::catalog::Secret;

/// Answers what the server asks until it says that we are in.
pub(super) async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    peer: &Peer,
    user: &str,
    secret: &Secret,
) -> Result<(), ConnectError> {
    match read_message(stream).await? {
        // It knows us by a certificate, or takes us as we are.
        Message::AuthenticationOk => return Ok(()),
        Message::AuthenticationCleartextPassword => {
            let password = in_clear(secret, peer)?;
            send_password(stream, password).await?;
        }
        Message::AuthenticationMd5Password(challenge) => {
            let Secret::Password(password) = secret else {
                return Err(nothing_for(secret));
            };
            let hash = Zeroizing::new(md5_hash(user.as_bytes(), password, challenge.salt()));
            send_password(stream, hash.as_bytes()).await?;
        }
        Message::AuthenticationSasl(offer) => scram(stream, peer, secret, &offer).await?,
        Message::ErrorResponse(error) => return Err(ConnectError::server(&error)),
        _ => {
            return Err(ConnectError::NotGiven(
                "it asks for a kind of authentication that Holdpoint does not have (GSSAPI, SSPI, ...): allow scram-sha-256 or cert for this user in its pg_hba.conf",
            ));
        }
    }
    match read_message(stream).await? {
        Message::AuthenticationOk => Ok(()),
        Message::ErrorResponse(error) => Err(ConnectError::server(&error)),
        _ => Err(ConnectError::Protocol(
            "it asks for one thing after the other",
        )),
    }
}

/// Only to whom it belongs.
fn in_clear<'a>(secret: &'a Secret, peer: &Peer) -> Result<&'a [u8], ConnectError> {
    match (secret, peer) {
        (Secret::Nothing, _) => Err(nothing_for(secret)),
        (Secret::Password(secret) | Secret::Token(secret), Peer::Verified(_)) => Ok(secret),
        _ => Err(ConnectError::NotGiven(
            "it asks for the password in clear, and nothing says that it is the server: use tls = \"verify-full\" or \"verify-ca\" in its [[connection]], or scram-sha-256 in its pg_hba.conf",
        )),
    }
}

fn nothing_for(secret: &Secret) -> ConnectError {
    ConnectError::NotGiven(match secret {
        Secret::Nothing => {
            "it asks for a password, and its [[connection]] has none: set password_file or iam"
        }
        Secret::Password(_) | Secret::Token(_) => {
            "it asks for the MD5 of a password, which no access token is: is the user an IAM user there?"
        }
    })
}

async fn scram<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    peer: &Peer,
    secret: &Secret,
    offer: &AuthenticationSaslBody,
) -> Result<(), ConnectError> {
    let (Secret::Password(password) | Secret::Token(password)) = secret else {
        return Err(nothing_for(secret));
    };
    let (mechanism, channel_binding) = mechanism(offer, peer)?;
    let mut scram = ScramSha256::new(password, channel_binding);
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut message)?;
    send(stream, &mut message).await?;
    match read_message(stream).await? {
        Message::AuthenticationSaslContinue(body) => {
            scram.update(body.data()).map_err(ConnectError::Scram)?;
        }
        Message::ErrorResponse(error) => return Err(ConnectError::server(&error)),
        _ => return Err(ConnectError::Protocol("it breaks SCRAM off")),
    }
    frontend::sasl_response(scram.message(), &mut message)?;
    send(stream, &mut message).await?;
    match read_message(stream).await? {
        // It, too, has to know the password.
        Message::AuthenticationSaslFinal(body) => {
            scram.finish(body.data()).map_err(ConnectError::Scram)
        }
        Message::ErrorResponse(error) => Err(ConnectError::server(&error)),
        _ => Err(ConnectError::Protocol("it breaks SCRAM off")),
    }
}

/// As libpq chooses (RFC 5802, section 6): with channel binding wherever there is TLS. A server that does not offer it is told that we could, so that nobody in
/// between can have taken the offer away.
fn mechanism(
    offer: &AuthenticationSaslBody,
    peer: &Peer,
) -> Result<(&'static str, ChannelBinding), ConnectError> {
    let (mut has_plain, mut has_plus) = (false, false);
    let mut mechanisms = offer.mechanisms();
    while let Some(mechanism) = mechanisms.next()? {
        has_plain |= mechanism == SCRAM_SHA_256;
        has_plus |= mechanism == SCRAM_SHA_256_PLUS;
    }
    let end_point = match peer {
        Peer::InClear => None,
        Peer::Unverified(certificate) | Peer::Verified(certificate) => {
            binding::end_point(certificate)
        }
    };
    match end_point {
        Some(hash) if has_plus => Ok((
            SCRAM_SHA_256_PLUS,
            ChannelBinding::tls_server_end_point(hash),
        )),
        Some(_) if has_plain => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        None if has_plain => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        _ => Err(ConnectError::NotGiven(
            "it offers no SASL mechanism that Holdpoint has (SCRAM-SHA-256): OAuth is not one of them",
        )),
    }
}

async fn send_password<S: AsyncWrite + Unpin>(
    stream: &mut S,
    password: &[u8],
) -> Result<(), ConnectError> {
    // At once, because a buffer that grows leaves copies behind.
    let mut message = BytesMut::with_capacity(password.len() + 16);
    frontend::password_message(password, &mut message)?;
    send(stream, &mut message).await
}

/// Sends a message and wipes it.
async fn send<S: AsyncWrite + Unpin>(
    stream: &mut S,
    message: &mut BytesMut,
) -> Result<(), ConnectError> {
    let sent = stream.write_all(message).await;
    message.as_mut().zeroize();
    message.clear();
    sent?;
    Ok(stream.flush().await?)
}
