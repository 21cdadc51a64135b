//! What has to wait before it goes on: for the server to say enough, for the gate, and for people.

use std::{pin::Pin, sync::Arc, time::Duration};

use holdpoint_core::{
    refusal::Refusal,
    sql::{Control, Statement},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};

use super::Up;
use crate::{
    gate::{Attended, Waiting},
    postgres::{
        frame::put,
        server_messages,
        session::{
            End, Shared,
            judge::{Admitted, Judge, Question},
            state::State,
        },
    },
};

/// How long something is held while its transaction is open: others may wait for its locks.
const IN_TRANSACTION: Duration = Duration::from_secs(60);
/// Bytes that are read from a client while something of it is held: enough to notice that it went away.
const WHILE_HELD: usize = 1 << 20;

impl<R, W, J> Up<'_, R, W, J>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    J: Judge,
{
    /// Waits until the server has said enough. It is asked to say what it has to.
    pub(super) async fn settled(&mut self, is: impl Fn(&State) -> bool) -> Result<(), End> {
        if is(&self.shared.lock()) {
            return Ok(());
        }
        put(&mut self.out, b'H', |_| {});
        self.flush().await?;
        loop {
            {
                let state = self.shared.lock();
                if is(&state) || state.skips {
                    return Ok(());
                }
            }
            self.shared.changed.notified().await;
        }
    }

    /// Has it judged, and people asked. What was admitted before goes on first; a client that goes away ends it.
    pub(super) async fn admit(
        &mut self,
        questions: &[Question<'_>],
        is_open: bool,
    ) -> Result<Result<Admitted, Refusal>, End> {
        if let Some(refusal) = questions
            .iter()
            .find_map(|it| refused_setting(&it.statement))
        {
            return Ok(Err(refusal));
        }
        self.flush().await?;
        let (shared, session) = (self.shared, self.session.as_str());
        let tell = move |held: &Waiting| {
            let told = server_messages::held(&held.message, &held.approval, session);
            shared.lock().aside.extend_from_slice(&told);
            shared.for_client.notify_one();
        };
        let judged = Judged::new(shared);
        let attended = Attended {
            tell: &tell,
            called_off: judged.called_off.clone(),
            at_most: is_open.then_some(IN_TRANSACTION),
        };
        // Of no named type: what is behind it is deep.
        let mut admitting: Pin<Box<dyn Future<Output = _> + Send + '_>> =
            Box::pin(self.judge.admit(questions, attended));
        loop {
            let reads = self.inbox.bytes().len() < WHILE_HELD;
            tokio::select! {
                biased;
                admitted = &mut admitting => return Ok(admitted),
                read = self.inbox.fill(), if reads => match read {
                    Ok(0) | Err(_) => return Err(End::ClientGone),
                    Ok(_) => {}
                },
            }
        }
    }
}

/// Something is judged, and can be called off, while this lives.
struct Judged<'a> {
    shared: &'a Shared,
    called_off: Arc<Notify>,
}

impl<'a> Judged<'a> {
    fn new(shared: &'a Shared) -> Self {
        let called_off = Arc::new(Notify::new());
        *shared.judged() = Some(called_off.clone());
        Self { shared, called_off }
    }
}

impl Drop for Judged<'_> {
    fn drop(&mut self) {
        *self.shared.judged() = None;
    }
}

/// Settings that decide how a text is read, by the server and by Holdpoint alike, stay as they are.
fn refused_setting(statement: &Statement) -> Option<Refusal> {
    let Control::Set { name, value, .. } = &statement.control else {
        return None;
    };
    let value = value.as_deref().unwrap_or_default().to_ascii_lowercase();
    let is_right = match name.as_str() {
        "client_encoding" => ["utf8", "utf-8", "unicode", ""].contains(&value.as_str()),
        "standard_conforming_strings" => ["on", "true", "yes", "1", ""].contains(&value.as_str()),
        _ => true,
    };
    (!is_right).then(|| {
        Refusal::malformed(&format!(
            "it sets {name} to {value}, which changes how statements are read; keep client_encoding at UTF8 and \
             standard_conforming_strings on"
        ))
    })
}
