//! What is said on a connection that is let in.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Conversation, Refused};

/// Passes on what policy allows, until one side is done.
///
/// # Errors
/// Always: until statements are judged here, nothing is passed on.
pub async fn run<C, S>(conversation: Conversation<C, S>) -> Result<(), Refused>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    drop(conversation);
    Err(Refused("statements are not judged yet".to_owned()))
}
