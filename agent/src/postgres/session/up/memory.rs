//! What a client's messages take up of its session's allowance: large ones while they are judged, texts for as long as they are known.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Up;
use crate::{
    allowance::Charge,
    postgres::{
        frame::{Head, READ},
        server_messages,
        session::{End, judge::Judge},
    },
};

/// How often a message is in memory while it is judged: read, taken apart, shown, written.
const COPIES: usize = 4;
/// Bytes that a text and what it says take up, for each of its own.
const OF_A_TEXT: usize = 4;

impl<R, W, J> Up<'_, R, W, J>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    J: Judge,
{
    /// Accounts for a message that is read whole, before it is; false where there is no room, and it is refused.
    pub(super) async fn has_room(&mut self, head: Head) -> Result<bool, End> {
        if head.whole() <= READ {
            return Ok(true);
        }
        if let Err(refusal) = self.charge.cover(head.whole() * COPIES) {
            let told = server_messages::refused(&refusal, &self.session, false);
            self.dropping = head.whole();
            self.answer_unread(head.tag, told).await?;
            return Ok(false);
        }
        if self.inbox.bytes().len() < head.whole() {
            self.inbox.make_room(head.whole());
        }
        Ok(true)
    }

    /// That message is sent, or refused.
    pub(super) async fn room_is_free(&mut self, head: Head) -> Result<(), End> {
        if head.whole() > READ {
            self.flush().await?;
            // To keep less never fails.
            let _ = self.charge.keep(0);
        }
        Ok(())
    }

    /// The memory for what is known of a text, for as long as it is.
    ///
    /// # Errors
    /// What the client is told where the session has no more.
    pub(super) fn account_for(&self, text: &str) -> Result<Arc<Charge>, Bytes> {
        let mut charge = self.judge.charge();
        match charge.cover(text.len() * OF_A_TEXT) {
            Ok(()) => Ok(Arc::new(charge)),
            Err(_) => Err(self.complaint(
                "53200",
                "Holdpoint did not send this statement: what this session has prepared, and what of it waits to be judged, is as much as it may take up",
                "Deallocate what is prepared and no longer needed, or keep fewer connections.",
            )),
        }
    }
}
