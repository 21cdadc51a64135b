//! From the client to the server: every message is read and judged in its order, and what is not judged yet does not go on.

mod admission;
mod copying;
mod extended;
mod meaning;
mod memory;
mod simple;

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::{End, Shared, judge::Judge, run::Run, state::Expected};
use crate::{
    allowance::Charge,
    masking::Watch,
    postgres::{
        client_messages::{self, Asked, is_copy, limit, split},
        frame::{Inbox, empty},
        masking::Kept,
        server_messages::{Complaint, TOO_LARGE, UNSUPPORTED},
        statements::Definition,
    },
};

/// Messages that the server has not answered yet, at most: how far a pipeline is judged ahead of it.
const AHEAD: usize = 512;
/// What no server can run.
const POISON: &str = "HOLDPOINT: what follows was not admitted";

pub(super) struct Up<'a, R, W, J> {
    inbox: Inbox<R>,
    server: W,
    shared: &'a Shared,
    judge: &'a J,
    session: String,
    /// Judged, and not sent yet.
    out: BytesMut,
    /// Statements that were named since the last Sync.
    fresh: HashMap<String, Definition>,
    /// `Parse` messages that nothing needs yet: a server that analyses a statement locks what it is about.
    waiting: Vec<(String, Definition, Bytes)>,
    /// Bytes of those.
    unsent: usize,
    /// After a refusal: nothing counts up to the next Sync.
    skips: bool,
    /// Something was executed since the last Sync, so that there may be an implicit transaction.
    executed: bool,
    /// A transaction may have begun or ended since the last Sync.
    moved: bool,
    /// Once so many ReadyForQuery have come, the server has said whether what ran since, and may do anything, has changed how texts are read.
    unsure_until: Option<u64>,
    /// Bytes of a message that is not passed on, still to come.
    dropping: usize,
    /// Bytes of data that are passed on as they come, still to come.
    passing: usize,
    /// Looks for masked values in that data.
    watch: Watch,
    /// The memory for a message that is read whole.
    charge: Charge,
    /// What the record keeps of it.
    kept: Option<Kept>,
}

impl<'a, R, W, J> Up<'a, R, W, J>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    J: Judge,
{
    pub(super) fn new(
        client: R,
        server: W,
        shared: &'a Shared,
        judge: &'a J,
        session: String,
    ) -> Self {
        Self {
            inbox: Inbox::new(client),
            server,
            shared,
            judge,
            session,
            out: BytesMut::new(),
            fresh: HashMap::new(),
            unsent: 0,
            waiting: Vec::new(),
            skips: false,
            executed: false,
            moved: false,
            unsure_until: None,
            dropping: 0,
            passing: 0,
            watch: Watch::default(),
            charge: judge.charge(),
            kept: None,
        }
    }

    /// Runs until the client takes its leave, or the connection has to end.
    pub(super) async fn run(&mut self) -> Result<(), End> {
        loop {
            if !self.read_messages().await? {
                let _ = self.server.shutdown().await;
                return Ok(());
            }
            self.flush().await?;
            match self.inbox.fill().await {
                Ok(0) | Err(_) => return Err(End::ClientGone),
                Ok(_) => {}
            }
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        if !self.out.is_empty() {
            let written = self.server.write_all(&self.out).await;
            written.map_err(|_| End::ServerGone)?;
            empty(&mut self.out);
            self.server.flush().await.map_err(|_| End::ServerGone)?;
        }
        Ok(())
    }

    /// All that are there; false where the client takes its leave.
    async fn read_messages(&mut self) -> Result<bool, End> {
        loop {
            if self.dropping > 0 || self.passing > 0 {
                let piece = self.inbox.take(self.dropping.max(self.passing));
                if piece.is_empty() {
                    return Ok(true);
                }
                self.dropping = self.dropping.saturating_sub(piece.len());
                if self.passing > 0 {
                    self.passing -= piece.len();
                    self.piece(&piece);
                    self.flush().await?;
                }
                continue;
            }
            let Some(head) = self.inbox.head()? else {
                return Ok(true);
            };
            match limit(head.tag) {
                None => {
                    self.data(head.whole()).await?;
                    continue;
                }
                Some(limit) if head.body > limit => {
                    self.dropping = head.whole();
                    self.too_large(head.tag, head.body, limit).await?;
                    continue;
                }
                Some(_) => {}
            }
            if !self.has_room(head).await? {
                continue;
            }
            if self.inbox.bytes().len() < head.whole() {
                return Ok(true);
            }
            // A server that is slower than its client is not hurried.
            self.settled(|state| state.expected.len() < AHEAD || state.copies_in)
                .await?;
            let whole = self.inbox.take(head.whole());
            if head.tag == b'X' {
                self.out.extend_from_slice(&whole);
                self.flush().await?;
                return Ok(false);
            }
            self.message(head.tag, whole).await?;
            self.room_is_free(head).await?;
        }
    }

    async fn message(&mut self, tag: u8, whole: Bytes) -> Result<(), End> {
        let skips = self.skips || self.shared.lock().skips;
        if skips && tag != b'S' {
            return Ok(());
        }
        if !is_copy(tag) {
            // A COPY takes what follows it for its data: the server would not read it, and take what comes then for something else.
            self.settled(|state| state.copies_in || !state.may_copy())
                .await?;
        }
        let skips = self.skips || self.shared.lock().skips;
        if skips && tag != b'S' {
            return Ok(());
        }
        if self.shared.lock().copies_in && !is_copy(tag) {
            return match tag {
                // As the server does: clients send those without noticing that what they asked for is a COPY.
                b'H' | b'S' => Ok(()),
                _ => Err(End::Broken(
                    "a COPY is under way, and takes nothing but its data".into(),
                )),
            };
        }
        let message = split(tag, &whole);
        let asked = client_messages::read(&message)?;
        match asked {
            Asked::Query(text) => self.query(text, &whole).await,
            Asked::Parse { name, text, types } => {
                self.parse(name, text, types, whole.clone()).await
            }
            Asked::Bind {
                portal,
                statement,
                parameters,
            } => self.bind(portal, statement, &parameters, &whole).await,
            Asked::Execute(portal) => self.execute(portal, &whole).await,
            Asked::Describe(..) => {
                if !self.send_parses(None).await? {
                    return Ok(());
                }
                self.send(&whole, Expected::Describe { hidden: false });
                Ok(())
            }
            Asked::Close(target, name) => self.close(target, name, &whole).await,
            Asked::Flush => {
                self.send_parses(None).await?;
                self.out.extend_from_slice(&whole);
                Ok(())
            }
            Asked::Sync => self.sync(&whole).await,
            Asked::CopyDone | Asked::CopyFail => self.data_ends(&whole).await,
            Asked::FunctionCall => {
                let told = self.complaint(
                    UNSUPPORTED,
                    "Holdpoint passes no function calls by number (the F message): what they do cannot be judged.",
                    "Call the function by SQL: SELECT name(...).",
                );
                self.settled(|state| state.expected.is_empty()).await?;
                self.answer_query(told);
                Ok(())
            }
            Asked::Terminate => Ok(()),
        }
    }

    fn send(&mut self, bytes: &[u8], expected: Expected) {
        let mut state = self.shared.lock();
        if state.skips {
            return;
        }
        state.expect(expected);
        drop(state);
        self.out.extend_from_slice(bytes);
    }

    /// Whether a transaction is, or may be, open by now.
    fn is_open(&self) -> bool {
        self.moved || self.shared.lock().status != b'I'
    }

    /// What may do anything may also have prepared other statements under names that are known.
    fn forgets(&mut self, run: &Run) {
        if run.admitted.is_opaque {
            self.fresh.clear();
            let mut state = self.shared.lock();
            state.names.forget();
            self.unsure_until = Some(state.asked + 1);
        }
    }

    /// Answers a simple query, or what is answered like one, in the server's place.
    fn answer_query(&mut self, told: Bytes) {
        let mut state = self.shared.lock();
        state.expect(Expected::Local(told));
        state.expect(Expected::LocalReady);
        drop(state);
        self.shared.for_client.notify_one();
    }

    async fn too_large(&mut self, tag: u8, length: usize, limit: usize) -> Result<(), End> {
        let told = self.complaint(
            TOO_LARGE,
            &format!("Holdpoint reads no message of {length} bytes of this kind (\"{}\"): {limit} are the limit, so it was not sent.", char::from(tag)),
            "Send large data by COPY, and long scripts in parts.",
        );
        self.answer_unread(tag, told).await
    }

    /// Answers a message that is not read.
    async fn answer_unread(&mut self, tag: u8, told: Bytes) -> Result<(), End> {
        match tag {
            b'Q' => {
                self.settled(|state| state.expected.is_empty()).await?;
                self.answer_query(told);
            }
            b'P' | b'B' => self.refuse(told, false),
            _ => {
                return Err(End::Broken(
                    "a message is larger than any of its kind".into(),
                ));
            }
        }
        Ok(())
    }

    fn complaint(&self, code: &str, message: &str, hint: &str) -> Bytes {
        Complaint {
            severity: "ERROR",
            code,
            message,
            detail: "",
            hint: &format!("{hint} Holdpoint session {}.", self.session),
        }
        .message()
    }
}
