//! From the server to the client: answers are matched with what was asked, rows are masked where they have to be, and everything
//! else goes on as it comes, in large pieces.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use holdpoint_core::mask::rows::MAX_ROW;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    End, Shared, errors,
    rows::{self, Columns, Rows},
    state::{Expected, State},
};
use crate::{
    allowance::Charge,
    postgres::{
        client_messages::Target,
        frame::{Fields, FrameError, HEAD, Head, Inbox, READ, empty},
        masking::{Kept, LONGEST_ROW, keep},
        server_messages::{self, EMPTY_QUERY, field, ready},
    },
    record::Way,
};

/// Bytes of a message that has to be read whole: a row that is masked, at most.
const WHOLE: usize = MAX_ROW;
/// How often such a message is in memory while it is masked: read, masked, written.
const COPIES: usize = 3;
/// How long a client may take to read why its connection ends.
const FAREWELL: Duration = Duration::from_secs(5);
/// Bytes that wait for more before they are written.
const BATCH: usize = 32 << 10;

pub(super) struct Down<'a, R, W, C> {
    inbox: Inbox<R>,
    client: W,
    shared: &'a Shared,
    columns: &'a C,
    out: BytesMut,
    /// What is still to come of a message that is passed on as it comes.
    passing: usize,
    rows: Rows,
    /// What the record keeps of them.
    kept: Option<Kept>,
    /// Passed on and not accounted for yet: rows, bytes.
    passed: (u64, u64),
    /// The memory for a message that is read whole.
    charge: Charge,
}

impl<'a, R, W, C> Down<'a, R, W, C>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    C: Columns,
{
    pub(super) fn new(
        server: R,
        client: W,
        shared: &'a Shared,
        columns: &'a C,
        charge: Charge,
    ) -> Self {
        Self {
            inbox: Inbox::new(server),
            client,
            shared,
            columns,
            out: BytesMut::new(),
            passing: 0,
            rows: Rows::Unknown,
            kept: None,
            passed: (0, 0),
            charge,
        }
    }

    /// Runs until one of the two is gone, or the connection has to end.
    pub(super) async fn run(&mut self) -> Result<(), End> {
        loop {
            self.pass_on().await?;
            self.flush().await?;
            tokio::select! {
                read = self.inbox.fill() => match read {
                    Ok(0) | Err(_) => return Err(End::ServerGone),
                    Ok(_) => {}
                },
                () = self.shared.for_client.notified() => {}
            }
        }
    }

    /// Tells the client why this is the end, where it still listens between two messages.
    pub(super) async fn farewell(&mut self, told: &[u8]) {
        if self.passing == 0 {
            self.out.extend_from_slice(told);
        }
        let farewell = async {
            let _ = self.flush().await;
            let _ = self.client.shutdown().await;
        };
        // Whether it listens is up to it.
        let _ = timeout(FAREWELL, farewell).await;
    }

    async fn flush(&mut self) -> Result<(), End> {
        if !self.out.is_empty() {
            let written = self.client.write_all(&self.out).await;
            written.map_err(|_| End::ClientGone)?;
            empty(&mut self.out);
            self.client.flush().await.map_err(|_| End::ClientGone)?;
        }
        Ok(())
    }

    async fn pass_on(&mut self) -> Result<(), End> {
        loop {
            if self.passing > 0 {
                let piece = self.inbox.take(self.passing);
                if piece.is_empty() {
                    return Ok(());
                }
                self.passing -= piece.len();
                self.write(&piece).await?;
                continue;
            }
            self.speak();
            let Some(head) = self.inbox.head()? else {
                return Ok(());
            };
            if matches!(head.tag, b'D' | b'd') && self.passes_rows()? {
                if head.body > LONGEST_ROW {
                    keep(&mut self.kept, |kept| kept.left_out(head.body));
                    self.pass_rows(head).await?;
                    continue;
                }
                if self.kept.is_none() {
                    self.pass_rows(head).await?;
                    continue;
                }
            }
            if head.body > WHOLE {
                return Err(End::Withheld(format!(
                    "a message of {} bytes would have to be read as a whole",
                    head.body
                )));
            }
            if self.inbox.bytes().len() < head.whole() {
                return self.expect_large(head);
            }
            let whole = self.inbox.take(head.whole());
            self.message(head, whole).await?;
            if head.whole() > READ {
                self.flush().await?;
                // To keep less never fails.
                let _ = self.charge.keep(0);
            }
        }
    }

    /// Accounts for a message that is read whole, before it is.
    fn expect_large(&mut self, head: Head) -> Result<(), End> {
        if head.whole() > READ {
            let account = self.charge.cover(head.whole() * COPIES);
            account.map_err(|_| {
                End::Withheld(format!(
                    "a row of {} bytes would have to be masked as a whole, and this session takes up as much memory as it may already",
                    head.body
                ))
            })?;
            self.inbox.make_room(head.whole());
        }
        Ok(())
    }

    /// What Holdpoint itself has to say here.
    fn speak(&mut self) {
        let mut state = self.shared.lock();
        self.out.extend_from_slice(&state.aside.split());
        loop {
            match state.expected.front() {
                Some(Expected::Local(_)) => {
                    if let Some(Expected::Local(bytes)) = state.next() {
                        self.out.extend_from_slice(&bytes);
                    }
                }
                Some(Expected::LocalReady) => {
                    state.next();
                    self.out.extend_from_slice(&ready(state.status));
                }
                _ => break,
            }
            self.shared.changed.notify_one();
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        if bytes.len() < BATCH {
            self.out.extend_from_slice(bytes);
            if self.out.len() < BATCH {
                return Ok(());
            }
            return self.flush().await;
        }
        self.flush().await?;
        let written = self.client.write_all(bytes).await;
        written.map_err(|_| End::ClientGone)
    }

    /// Whether rows, or data, go on as they come.
    fn passes_rows(&mut self) -> Result<bool, End> {
        if let Rows::Unknown = self.rows {
            let state = self.shared.lock();
            let run = match state.expected.front() {
                Some(Expected::Query(run) | Expected::Execute { run, .. }) => run,
                _ => return Err(UNASKED.into()),
            };
            if run.admitted.masks.is_some() {
                return Err(End::Withheld(
                    "its rows have to be masked, and nothing says what columns they have".into(),
                ));
            }
            self.rows = Rows::Pass;
        }
        Ok(matches!(self.rows, Rows::Pass))
    }

    /// All rows that are there, at once; of the last one, what is there.
    async fn pass_rows(&mut self, first: Head) -> Result<(), End> {
        let bytes = self.inbox.bytes();
        let (mut head, mut length) = (first, 0);
        let mut rows = 0;
        loop {
            length += head.whole();
            rows += 1;
            if length >= bytes.len() || self.kept.is_some() {
                break;
            }
            match Head::of(&bytes[length..])? {
                Some(next) if next.tag == first.tag => head = next,
                _ => break,
            }
        }
        self.passed.0 += rows;
        self.passed.1 += length as u64;
        let there = self.inbox.take(length);
        self.passing = length - there.len();
        self.write(&there).await
    }

    async fn message(&mut self, head: Head, whole: Bytes) -> Result<(), End> {
        let body = &whole[HEAD..];
        match head.tag {
            b'N' => {
                let state = self.shared.lock();
                let told = match state.expected.front() {
                    Some(Expected::Query(run) | Expected::Execute { run, .. }) => {
                        errors::told(run, &whole)?
                    }
                    _ => whole.clone(),
                };
                self.out.extend_from_slice(&told);
                return Ok(());
            }
            b'A' => {}
            b'S' => check_parameter(body)?,
            b'E' => return self.error(&whole),
            b'T' => return self.described(&whole).await,
            b'D' | b'd' => return self.masked(head, &whole).await,
            b'H' => self.copy_out(body)?,
            b'W' => {
                return Err(End::Broken(
                    "the server began to replicate, which is not passed on".into(),
                ));
            }
            b'c' => {
                let before = self.out.len();
                self.rows.copy_ends(&mut self.out)?;
                self.keep_written(before);
            }
            _ => return self.answered(head.tag, &whole),
        }
        self.out.extend_from_slice(&whole);
        Ok(())
    }

    /// Gives the running query or portal what was passed on since it was last given any.
    fn account(&mut self, state: &mut State) {
        let (rows, bytes) = std::mem::take(&mut self.passed);
        if let Some(Expected::Query(run) | Expected::Execute { run, .. }) =
            state.expected.front_mut()
        {
            run.passed(rows, bytes);
        }
    }

    /// What the server says of the oldest thing it was asked.
    fn answered(&mut self, tag: u8, whole: &Bytes) -> Result<(), End> {
        let shared = self.shared;
        let mut state = shared.lock();
        let state = &mut *state;
        self.account(state);
        let body = &whole[HEAD..];
        let mut hidden = false;
        match (tag, state.expected.front_mut()) {
            (b'1', Some(Expected::Parse(..))) => {
                if let Some(Expected::Parse(name, definition)) = state.next() {
                    state.names.parsed(&name, definition);
                }
            }
            (b'2', Some(Expected::Bind(_))) => {
                if let Some(Expected::Bind(portal)) = state.next() {
                    state.names.portal(&portal);
                }
            }
            (b'3', Some(Expected::Close(..))) => match state.next() {
                Some(Expected::Close(Target::Statement, name)) => state.names.closed(&name),
                Some(Expected::Close(Target::Portal, name)) => state.names.portal(&name),
                _ => {}
            },
            (b't', Some(Expected::Describe { .. })) => {}
            (b'n', Some(Expected::Describe { hidden: is })) => {
                hidden = *is;
                state.next();
            }
            (b'G', Some(Expected::Query(_) | Expected::Execute { .. })) => {
                state.begins_copy();
            }
            (b'C' | b'I', Some(Expected::Query(run))) => {
                let tag = Fields(body).c_string().unwrap_or_default();
                run.command_completed(&String::from_utf8_lossy(tag), &mut state.names);
                self.rows = Rows::Unknown;
                self.kept.take().into_iter().for_each(Kept::finish);
            }
            (b'C' | b'I' | b's', Some(Expected::Execute { .. })) => {
                self.rows = Rows::Unknown;
                if let Some(Expected::Execute {
                    portal,
                    number,
                    mut run,
                }) = state.next()
                {
                    if tag == b's' {
                        run.kept = self.kept.take();
                        // Another one may have been bound under its name meanwhile.
                        let there = state.portals.get_mut(&portal);
                        match there.filter(|there| there.number == number) {
                            Some(there) => there.run = Some(run),
                            None => run.given_up(),
                        }
                    } else {
                        let tag = Fields(body).c_string().unwrap_or_default();
                        run.command_completed(&String::from_utf8_lossy(tag), &mut state.names);
                        self.kept.take().into_iter().for_each(Kept::finish);
                        run.ended();
                    }
                }
            }
            (b'Z', Some(Expected::Sync | Expected::Query(_) | Expected::Poison { .. })) => {
                self.rows = Rows::Unknown;
                self.kept = None;
                state.status = Fields(body).byte()?;
                state.copies_in = false;
                if let Some(Expected::Query(run)) = state.next() {
                    run.ended();
                }
                if state.status == b'I' {
                    self.columns.transaction_ended(state.answered);
                    state.drop_portals();
                }
            }
            _ => return Err(UNASKED.into()),
        }
        if !hidden {
            self.out.extend_from_slice(whole);
        }
        shared.changed.notify_one();
        Ok(())
    }

    fn error(&mut self, whole: &Bytes) -> Result<(), End> {
        let shared = self.shared;
        let mut state = shared.lock();
        let state = &mut *state;
        self.account(state);
        self.rows = Rows::Unknown;
        self.kept = None;
        state.copies_in = false;
        let body = &whole[HEAD..];
        if field(body, b'V')?.is_some_and(|it| it == "FATAL" || it == "PANIC") {
            self.out.extend_from_slice(whole);
            state.over = Some("the server ended the connection".into());
            return Ok(());
        }
        match state.expected.front_mut() {
            Some(Expected::Poison { told, query }) => {
                self.out.extend_from_slice(told);
                if !*query {
                    state.next();
                    state.skip();
                }
            }
            Some(Expected::Query(run)) => {
                self.out.extend_from_slice(&errors::told(run, whole)?);
                run.failed(field(body, b'C')?, &mut state.names);
            }
            Some(_) => {
                if let Some(Expected::Execute { mut run, .. }) = state.next() {
                    self.out.extend_from_slice(&errors::told(&run, whole)?);
                    run.failed(field(body, b'C')?, &mut state.names);
                    run.ended();
                } else {
                    self.out.extend_from_slice(whole);
                }
                state.skip();
            }
            // A server that shuts down says so unasked.
            None => self.out.extend_from_slice(whole),
        }
        shared.changed.notify_one();
        Ok(())
    }

    /// Rows of this form follow, or would.
    async fn described(&mut self, whole: &Bytes) -> Result<(), End> {
        let shared = self.shared;
        let (masks, statement, keeping, kept, hidden) = {
            let mut state = shared.lock();
            let hidden = match state.expected.front() {
                Some(Expected::Query(_)) => false,
                Some(Expected::Describe { hidden }) => {
                    let hidden = *hidden;
                    state.next();
                    hidden
                }
                _ => return Err(UNASKED.into()),
            };
            let run = match state.expected.front_mut() {
                Some(Expected::Execute { run, .. }) if hidden => run,
                Some(Expected::Query(run)) if !hidden => run,
                _ => {
                    drop(state);
                    self.out.extend_from_slice(whole);
                    shared.changed.notify_one();
                    return Ok(());
                }
            };
            let kept = run.kept.take();
            match run.reads_rows() {
                true => {
                    let keeping = run.keeping().filter(|_| kept.is_none()).cloned();
                    (
                        run.admitted.masks.clone(),
                        run.text_of_rows(),
                        keeping,
                        kept,
                        hidden,
                    )
                }
                false => (None, None, None, kept, hidden),
            }
        };
        let columns = match masks.is_some() || keeping.is_some() {
            true => {
                let described = server_messages::described(&whole[HEAD..])?;
                rows::columns(described, self.columns).await
            }
            false => Some(Vec::new()),
        };
        let (statement, columns) = (statement.as_deref(), columns.as_deref());
        self.rows = match (masks, columns) {
            (None, _) => Rows::Pass,
            (Some(set), Some(columns)) => Rows::of(set, columns, statement),
            (Some(_), None) => {
                return Err(End::Withheld(
                    "some of its columns may have to be masked, and which they are cannot be looked up on the server"
                        .into(),
                ));
            }
        };
        // What cannot be masked is not kept.
        self.kept = kept.or_else(|| Some(keeping?.rows(columns?, statement)));
        if !hidden {
            self.out.extend_from_slice(whole);
        }
        Ok(())
    }

    fn copy_out(&mut self, body: &[u8]) -> Result<(), End> {
        let state = self.shared.lock();
        let run = match state.expected.front() {
            Some(Expected::Query(run) | Expected::Execute { run, .. }) => run,
            _ => return Err(UNASKED.into()),
        };
        if !run.reads_rows() {
            self.rows = Rows::Pass;
            return Ok(());
        }
        let mut fields = Fields(body);
        fields.byte()?;
        let columns = fields.count()?;
        let statement = run.text_of_rows();
        self.kept = run.keeping().and_then(|keeping| {
            let copying = run.copying().filter(|it| it.columns.len() == columns);
            keeping.copy(Way::Response, copying, statement.as_deref())
        });
        self.rows = match &run.admitted.masks {
            None => Rows::Pass,
            Some(set) => Rows::of_copy(set.clone(), run.copying(), columns, statement.as_deref())?,
        };
        Ok(())
    }

    /// A row, or a piece of data, that is read on its way.
    async fn masked(&mut self, head: Head, whole: &[u8]) -> Result<(), End> {
        let before = self.out.len();
        match self.rows {
            Rows::Pass => self.out.extend_from_slice(whole),
            _ => self.rows.mask(head.tag, &whole[HEAD..], &mut self.out)?,
        }
        self.keep_written(before);
        self.passed.0 += 1;
        self.passed.1 += (self.out.len() - before) as u64;
        if self.out.len() >= BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    /// Keeps the one message that was written, if one was: as the agent gets it.
    fn keep_written(&mut self, before: usize) {
        if self.kept.is_some()
            && let Some(data) = self.out.get(before + HEAD..)
        {
            keep(&mut self.kept, |kept| kept.push(data));
        }
    }
}

const UNASKED: FrameError = FrameError::Malformed("the server answers what it was not asked");

/// Both decide how texts are read, by the server and by Holdpoint alike.
fn check_parameter(body: &[u8]) -> Result<(), End> {
    let mut fields = Fields(body);
    let (name, value) = (fields.c_string()?, fields.c_string()?);
    let is_right = match name {
        b"client_encoding" => value == b"UTF8",
        b"standard_conforming_strings" => value == b"on",
        _ => true,
    };
    if is_right {
        return Ok(());
    }
    let name = String::from_utf8_lossy(name);
    Err(End::Broken(format!(
        "{name} was changed, so that Holdpoint would no longer read statements as the server does; leave it as it is"
    )))
}

/// What an empty query is answered with.
pub(super) fn nothing_asked() -> Bytes {
    Bytes::from_static(&EMPTY_QUERY)
}
