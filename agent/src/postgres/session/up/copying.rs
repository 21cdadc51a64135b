//! The data of a COPY on its way to the server.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Up;
use crate::{
    masking::{self, Watch},
    postgres::{
        frame::{HEAD, put, put_text},
        masking::{Kept, keep},
        session::{End, judge::Judge, state::Expected},
    },
};

impl<R, W, J> Up<'_, R, W, J>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    J: Judge,
{
    /// Data of a COPY goes on as it comes; other data the server would not look at.
    pub(super) async fn data(&mut self, length: usize) -> Result<(), End> {
        if self.takes_data().await? {
            self.inbox.take(HEAD);
            self.passing = length - HEAD;
            let mut state = self.shared.lock();
            if let Some(Expected::Query(run) | Expected::Execute { run, .. }) =
                state.expected.front_mut()
            {
                run.taken_in(length as u64);
                if let Some(kept) = run.keeps_copy() {
                    self.kept = Some(kept);
                }
            }
        } else {
            self.dropping = length;
        }
        Ok(())
    }

    /// One piece of data, in a message of its own: where they end means nothing (`CopyData`).
    pub(super) fn piece(&mut self, piece: &[u8]) {
        if !self.watch.finds_token(piece) {
            keep(&mut self.kept, |kept| kept.push(piece));
            put(&mut self.out, b'd', |body| body.extend_from_slice(piece));
            return;
        }
        // A masked value comes back. The COPY fails, and all of it is undone.
        let refusal = masking::returned("the data of the COPY");
        put(&mut self.out, b'f', |body| put_text(body, &refusal.message));
        self.shared.lock().copies_in = false;
        self.watch = Watch::default();
        self.kept = None;
        self.dropping = std::mem::take(&mut self.passing);
    }

    /// Whether the server takes data now, once it has said whether it does.
    pub(super) async fn takes_data(&mut self) -> Result<bool, End> {
        if self.skips {
            return Ok(false);
        }
        self.settled(|state| state.copies_in || !state.may_copy())
            .await?;
        Ok(self.shared.lock().copies_in)
    }

    /// `CopyDone` or `CopyFail`.
    pub(super) async fn data_ends(&mut self, whole: &Bytes) -> Result<(), End> {
        if self.takes_data().await? {
            let kept = self.kept.take().filter(|_| whole.first() == Some(&b'c'));
            kept.into_iter().for_each(Kept::finish);
            self.shared.lock().copies_in = false;
            self.watch = Watch::default();
            self.out.extend_from_slice(whole);
        }
        Ok(())
    }
}
