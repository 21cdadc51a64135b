//! From the client to the server: every message is read and judged in its order, and what is not judged yet does not go on.

use std::{borrow::Cow, collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use holdpoint_core::{
    refusal::{Kind, Refusal},
    sql::{Control, Parameter, Statement},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use super::{
    End, Shared,
    down::nothing_asked,
    judge::{Admitted, Judge, Question},
    run::Run,
    state::{Expected, Portal},
};
use crate::{
    gate::Attended,
    masking::{self, Watch},
    postgres::{
        client_messages::{self, Asked, Target, is_copy, limit, split},
        frame::{HEAD, Inbox, put, put_text},
        masking::{Kept, keep},
        server_messages::{self, Complaint, TOO_LARGE, UNSUPPORTED},
        statements::Definition,
    },
};

/// How long something is held while its transaction is open: others may wait for its locks.
const IN_TRANSACTION: Duration = Duration::from_secs(60);
/// Bytes that are read from a client while something of it is held: enough to notice that it went away.
const WHILE_HELD: usize = 1 << 20;
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
    /// After a refusal: nothing counts up to the next Sync.
    skips: bool,
    /// Something was executed since the last Sync, so that there may be an implicit transaction.
    executed: bool,
    /// A transaction may have begun or ended since the last Sync.
    moved: bool,
    /// Bytes of a message that is not passed on, still to come.
    dropping: usize,
    /// Bytes of data that are passed on as they come, still to come.
    passing: usize,
    /// Looks for masked values in that data.
    watch: Watch,
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
            waiting: Vec::new(),
            skips: false,
            executed: false,
            moved: false,
            dropping: 0,
            passing: 0,
            watch: Watch::default(),
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
            self.out.clear();
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
            if self.inbox.bytes().len() < head.whole() {
                return Ok(true);
            }
            let whole = self.inbox.take(head.whole());
            if head.tag == b'X' {
                self.out.extend_from_slice(&whole);
                self.flush().await?;
                return Ok(false);
            }
            self.message(head.tag, whole).await?;
        }
    }

    async fn message(&mut self, tag: u8, whole: Bytes) -> Result<(), End> {
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
                let parsed = self.judge.parse(text);
                let definition = Definition::new(text.into(), parsed, 0, types.into());
                self.fresh.insert(name.to_owned(), definition.clone());
                self.waiting.push((name.to_owned(), definition, whole));
                Ok(())
            }
            Asked::Bind {
                portal,
                statement,
                parameters,
            } => self.bind(portal, statement, &parameters, &whole).await,
            Asked::Execute(portal) => self.execute(portal, &whole).await,
            Asked::Describe(..) => {
                self.send_parses();
                self.send(&whole, Expected::Describe { hidden: false });
                Ok(())
            }
            Asked::Close(target, name) => {
                self.send_parses();
                let closed = match target {
                    Target::Statement => {
                        self.fresh.remove(name);
                        Some(name.to_owned())
                    }
                    Target::Portal => {
                        let closed = self.shared.lock().portals.remove(name);
                        closed.into_iter().for_each(Portal::given_up);
                        None
                    }
                };
                self.send(&whole, Expected::Close(closed));
                Ok(())
            }
            Asked::Flush => {
                self.send_parses();
                self.out.extend_from_slice(&whole);
                Ok(())
            }
            Asked::Sync => {
                self.sync(&whole);
                Ok(())
            }
            Asked::CopyDone | Asked::CopyFail => {
                if self.takes_data().await? {
                    let kept = self.kept.take();
                    kept.filter(|_| tag == b'c')
                        .into_iter()
                        .for_each(Kept::finish);
                    self.shared.lock().copies_in = false;
                    self.watch = Watch::default();
                    self.out.extend_from_slice(&whole);
                }
                Ok(())
            }
            Asked::FunctionCall => {
                let told = self.complaint(
                    UNSUPPORTED,
                    "Holdpoint passes no function calls by number (the F message): what they do cannot be judged.",
                    "Call the function by SQL: SELECT name(...).",
                );
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

    fn send_parses(&mut self) {
        for (name, definition, whole) in std::mem::take(&mut self.waiting) {
            self.send(&whole, Expected::Parse(name, definition));
        }
    }

    fn sync(&mut self, whole: &Bytes) {
        if self.skips {
            self.waiting.clear();
        }
        self.send_parses();
        self.skips = false;
        self.executed = false;
        self.moved = false;
        self.fresh.clear();
        let mut state = self.shared.lock();
        state.skips = false;
        state.expect(Expected::Sync);
        drop(state);
        self.out.extend_from_slice(whole);
    }

    /// One text, admitted as a whole, and then sent as it came.
    async fn query(&mut self, text: &str, whole: &Bytes) -> Result<(), End> {
        // What is known of the transaction, and of names, is what the server said last.
        self.settled(|state| state.expected.is_empty()).await?;
        self.send_parses();
        self.fresh.clear();
        let parsed = self.judge.parse(text);
        if parsed.statements.is_empty() {
            self.answer_query(nothing_asked());
            return Ok(());
        }
        let text: Arc<str> = text.into();
        let definitions: Vec<_> = (0..parsed.statements.len())
            .map(|at| Definition::new(text.clone(), parsed.clone(), at, Arc::new([])))
            .collect();
        let none: Arc<[Parameter]> = Arc::new([]);
        let was_open = self.shared.lock().status != b'I';
        let mut is_open = was_open;
        // What an earlier statement of the text prepares is what a later one executes.
        let mut made: HashMap<String, Definition> = HashMap::new();
        let mut questions = Vec::new();
        let mut meant = Vec::new();
        for definition in &definitions {
            meant.push(self.meant(definition, &made));
            if let Some(Control::Prepare { name, .. } | Control::DeclareCursor { name, .. }) =
                definition.statement().map(|it| &it.control)
            {
                made.insert(name.clone(), definition.clone());
            }
        }
        for (definition, meant) in definitions.iter().zip(&meant) {
            let Some(statement) = definition.statement() else {
                continue;
            };
            match statement.control {
                Control::Begin => is_open = true,
                Control::Commit { chain } | Control::Rollback { chain } => is_open = chain,
                _ => {}
            }
            questions.push(question(definition, statement, meant, &none, is_open));
        }
        match self.admit(&questions, was_open).await? {
            Ok(admitted) => {
                drop(questions);
                let mut run = Run::new(definitions, admitted);
                self.forgets(&run);
                run.sending();
                self.send(whole, Expected::Query(run));
                Ok(())
            }
            Err(refusal) => {
                let too_long = was_open && refusal.kind == Kind::Pending;
                let told = server_messages::refused(&refusal, &self.session, too_long);
                if too_long {
                    let mut poison = BytesMut::new();
                    put(&mut poison, b'Q', |body| put_text(body, POISON));
                    self.send(&poison, Expected::Poison { told, query: true });
                } else {
                    self.answer_query(told);
                }
                Ok(())
            }
        }
    }

    /// What a statement that names another one runs: by `EXECUTE`, by `FETCH`.
    fn meant(&self, definition: &Definition, made: &HashMap<String, Definition>) -> Meant {
        let Some(statement) = definition.statement() else {
            return Meant::Itself;
        };
        let state = self.shared.lock();
        let named = match &statement.control {
            Control::Execute { name } => made
                .get(name)
                .or_else(|| self.fresh.get(name))
                .or_else(|| state.names.prepared(name)),
            Control::Fetch { name, .. } => made.get(name).or_else(|| state.names.cursor(name)),
            _ => return Meant::Itself,
        };
        named.cloned().map_or(Meant::Unknown, Meant::Named)
    }

    async fn bind(
        &mut self,
        portal: &str,
        name: &str,
        parameters: &[(i16, Option<&[u8]>)],
        whole: &Bytes,
    ) -> Result<(), End> {
        if !self.fresh.contains_key(name) {
            self.settled(|state| state.unconfirmed == 0).await?;
        }
        let known = self.fresh.get(name).cloned();
        let known = known.or_else(|| self.shared.lock().names.prepared(name).cloned());
        let definition = match known {
            Some(definition) => definition,
            // Whatever it is: the text that stands for it is read as what nobody understands.
            None => {
                let text =
                    format!("(the prepared statement \"{name}\", which Holdpoint does not know)");
                let parsed = self.judge.parse(&text);
                Definition::new(text.into(), parsed, 0, Arc::new([]))
            }
        };
        // Prepared by SQL, it is what that prepared.
        let by_sql = !self.fresh.contains_key(name) && definition.by_prepare;
        let statement = definition.statement().map(|it| match &it.control {
            Control::Prepare { inner, .. } if by_sql => &**inner,
            _ => it,
        });
        let is_open = self.is_open();
        let admitted = match statement {
            None => Admitted::default(),
            Some(statement) => {
                if !matches!(statement.control, Control::None) {
                    self.settled(|state| state.unconfirmed == 0).await?;
                }
                let bound: Arc<[Parameter]> = parameters
                    .iter()
                    .enumerate()
                    .map(|(at, (format, value))| Parameter {
                        type_oid: definition.types.get(at).copied().unwrap_or(0),
                        format: *format,
                        value: value.map(<[u8]>::to_vec),
                    })
                    .collect();
                let meant = self.meant(&definition, &HashMap::new());
                let asked = question(&definition, statement, &meant, &bound, is_open);
                match self.admit(std::slice::from_ref(&asked), is_open).await? {
                    Ok(admitted) => admitted,
                    Err(refusal) => {
                        let too_long = is_open && refusal.kind == Kind::Pending;
                        let told = server_messages::refused(&refusal, &self.session, too_long);
                        self.refuse(told, too_long);
                        return Ok(());
                    }
                }
            }
        };
        self.send_parses();
        let run = Run::new(vec![definition], admitted);
        self.forgets(&run);
        let before = {
            let mut state = self.shared.lock();
            let bound = Portal {
                run: Some(run),
                bound_after: state.asked,
            };
            state.portals.insert(portal.to_owned(), bound)
        };
        before.into_iter().for_each(Portal::given_up);
        self.send(whole, Expected::Bind);
        Ok(())
    }

    async fn execute(&mut self, portal: &str, whole: &Bytes) -> Result<(), End> {
        self.send_parses();
        let known = self.shared.lock().portals.contains_key(portal);
        if known {
            // One that is still giving rows has to come to its pause first.
            let named = portal.to_owned();
            self.settled(move |state| {
                let is_there = |it: &Portal| it.run.is_some();
                state.portals.get(&named).is_none_or(is_there)
                    || !state.expected.iter().any(
                        |it| matches!(it, Expected::Execute { portal, .. } if *portal == named),
                    )
            })
            .await?;
        }
        let run = {
            let mut state = self.shared.lock();
            if state.skips {
                return Ok(());
            }
            state.portals.get_mut(portal).and_then(|it| it.run.take())
        };
        let Some(mut run) = run else {
            let told = self.complaint(
                "34000",
                &format!("portal \"{portal}\" does not exist, or has given all of its rows (Holdpoint passes on portals that were bound on this connection)"),
                "Bind it anew. Cursors made by DECLARE are read by FETCH.",
            );
            self.refuse(told, false);
            return Ok(());
        };
        run.sending();
        self.executed = true;
        let moves = |it: &Definition| {
            let control = it.statement().map(|it| &it.control);
            matches!(
                control,
                Some(Control::Begin | Control::Commit { .. } | Control::Rollback { .. })
            )
        };
        self.moved |= run.definitions.iter().any(moves);
        if run.reads_rows() {
            let mut describe = BytesMut::new();
            put(&mut describe, b'D', |body| {
                body.extend_from_slice(b"P");
                put_text(body, portal);
            });
            self.send(&describe, Expected::Describe { hidden: true });
        }
        let portal = portal.to_owned();
        self.send(whole, Expected::Execute { portal, run });
        Ok(())
    }

    /// Whether a transaction is, or may be, open by now.
    fn is_open(&self) -> bool {
        self.moved || self.shared.lock().status != b'I'
    }

    /// What may do anything may also have prepared other statements under names that are known.
    fn forgets(&mut self, run: &Run) {
        if run.admitted.is_opaque {
            self.fresh.clear();
            self.shared.lock().names.forget();
        }
    }

    /// Refuses one of a pipeline: nothing of it counts up to its end. `fails`: nor does what its transaction has done so far.
    fn refuse(&mut self, told: Bytes, fails: bool) {
        self.waiting.clear();
        self.skips = true;
        // Without a transaction block, what was executed since the last Sync is undone when one of it fails.
        let implicit = self.executed && (self.moved || self.shared.lock().status == b'I');
        if fails || implicit {
            let mut poison = BytesMut::new();
            put(&mut poison, b'P', |body| {
                put_text(body, "");
                put_text(body, POISON);
                body.extend_from_slice(&[0, 0]);
            });
            self.send(&poison, Expected::Poison { told, query: false });
        } else {
            self.shared.lock().expect(Expected::Local(told));
        }
        self.shared.for_client.notify_one();
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

    /// Data of a COPY goes on as it comes; other data the server would not look at.
    async fn data(&mut self, length: usize) -> Result<(), End> {
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
    fn piece(&mut self, piece: &[u8]) {
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
    async fn takes_data(&mut self) -> Result<bool, End> {
        if self.skips {
            return Ok(false);
        }
        self.settled(|state| state.copies_in || !state.may_copy())
            .await?;
        Ok(self.shared.lock().copies_in)
    }

    /// Waits until the server has said enough. It is asked to say what it has to.
    async fn settled(&mut self, is: impl Fn(&super::state::State) -> bool) -> Result<(), End> {
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
    async fn admit(
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
        let (told, mut waiting) = mpsc::unbounded_channel();
        let shared = self.shared;
        let attended = Attended {
            told,
            called_off: shared.called_off.clone(),
            at_most: is_open.then_some(IN_TRANSACTION),
        };
        // Of no named type: what is behind it is deep.
        let mut admitting: Pin<Box<dyn Future<Output = _> + Send + '_>> =
            Box::pin(self.judge.admit(questions, attended));
        let _held = Held(shared);
        loop {
            let reads = self.inbox.bytes().len() < WHILE_HELD;
            tokio::select! {
                biased;
                admitted = &mut admitting => return Ok(admitted),
                Some(held) = waiting.recv() => {
                    let told = server_messages::held(&held.message, &held.approval, &self.session);
                    let mut state = shared.lock();
                    state.aside.extend_from_slice(&told);
                    drop(state);
                    shared.holds.store(true, std::sync::atomic::Ordering::Release);
                    shared.for_client.notify_one();
                }
                read = self.inbox.fill(), if reads => match read {
                    Ok(0) | Err(_) => return Err(End::ClientGone),
                    Ok(_) => {}
                },
            }
        }
    }
}

/// Something may be held while this lives.
struct Held<'a>(&'a Shared);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0
            .holds
            .store(false, std::sync::atomic::Ordering::Release);
    }
}

/// What a statement stands for.
enum Meant {
    Itself,
    Named(Definition),
    Unknown,
}

/// The question that one statement is; with what it names, where it names something.
fn question<'a>(
    definition: &'a Definition,
    statement: &'a Statement,
    meant: &Meant,
    parameters: &Arc<[Parameter]>,
    in_transaction: bool,
) -> Question<'a> {
    let own = definition.own_text();
    let (text, mut statement) = match meant {
        Meant::Itself => (Cow::Borrowed(&*definition.text), Cow::Borrowed(statement)),
        Meant::Named(named) => {
            let text = format!("{own}\n-- which is:\n{}", named.own_text());
            let executed = named.statement().map(|it| match &it.control {
                Control::Prepare { inner, .. } => statement.executing(inner),
                _ => statement.executing(it),
            });
            let statement = executed.unwrap_or_else(|| statement.clone());
            (Cow::Owned(text), Cow::Owned(statement))
        }
        Meant::Unknown => {
            let text = format!("{own}\n-- which names something that Holdpoint does not know");
            let mut statement = statement.clone();
            let why = "it runs what was prepared or declared where Holdpoint could not see it";
            for effect in &mut statement.effects {
                effect.opaque = Some(why.to_owned());
            }
            (Cow::Owned(text), Cow::Owned(statement))
        }
    };
    if let (Cow::Owned(text), Cow::Owned(statement)) = (&text, &mut statement) {
        statement.span = 0..text.len();
    }
    Question {
        text,
        statement,
        parameters: parameters.clone(),
        in_transaction,
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
