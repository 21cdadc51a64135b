//! The extended protocol: statements are parsed, bound and executed, in pipelines that end in a Sync.

use std::{collections::HashMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use holdpoint_core::{
    refusal::Kind,
    sql::{Control, Parameter},
};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{POISON, Up, meaning::question};
use crate::postgres::{
    client_messages::Target,
    frame::{put, put_text},
    server_messages,
    session::{
        End,
        judge::{Admitted, Judge},
        run::Run,
        state::{Expected, Portal},
    },
    statements::{Definition, MOST},
};

/// Bytes of `Parse` messages that wait until they are needed.
const MOST_UNSENT: usize = 4 << 20;

impl<R, W, J> Up<'_, R, W, J>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
    J: Judge,
{
    pub(super) async fn parse(
        &mut self,
        name: &str,
        text: &str,
        types: Vec<u32>,
        whole: Bytes,
    ) -> Result<(), End> {
        let charge = match self.account_for(text) {
            Ok(charge) => charge,
            Err(told) => {
                self.refuse(told, false);
                return Ok(());
            }
        };
        let parsed = match self.is_read_alike(text).await? {
            true => self.judge.parse(text),
            // No server takes this character, so nothing is understood of it.
            false => self.judge.parse(&format!("\u{1}{text}")),
        };
        let definition = Definition::new(text.into(), parsed, 0, types.into()).charged(charge);
        self.fresh.insert(name.to_owned(), definition.clone());
        self.unsent += whole.len();
        self.waiting.push((name.to_owned(), definition, whole));
        if self.unsent > MOST_UNSENT && !self.send_parses(None).await? {
            return Ok(());
        }
        match self.fresh.len() > MOST {
            true => Err(End::Broken(
                "more is prepared in one pipeline than Holdpoint keeps in mind; end it with a Sync"
                    .into(),
            )),
            false => Ok(()),
        }
    }

    /// Whether the server reads a text as Holdpoint does. What ran before it in a pipeline, and may have done anything, may have changed
    /// `standard_conforming_strings` or `client_encoding`, which the server says with its next ReadyForQuery: then the connection ends.
    async fn is_read_alike(&mut self, text: &str) -> Result<bool, End> {
        let Some(until) = self.unsure_until else {
            return Ok(true);
        };
        if text.is_ascii() && !text.contains('\\') {
            return Ok(true);
        }
        if self.shared.lock().asked < until {
            return Ok(false);
        }
        self.settled(|state| state.answered >= until).await?;
        self.unsure_until = None;
        Ok(true)
    }

    pub(super) async fn bind(
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
                let before = self.shared.lock().asked;
                let asked = question(&definition, statement, &meant, &bound, is_open, before);
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
        if !self.send_parses(Some(name)).await? {
            return Ok(());
        }
        let run = Run::new(vec![definition], admitted);
        self.forgets(&run);
        self.send(whole, Expected::Bind(portal.to_owned()));
        let before = {
            let mut state = self.shared.lock();
            state.bound += 1;
            let bound = Portal {
                number: state.bound,
                names_as_of: run.goes_by_name().then_some(state.renamed),
                bound_after: state.asked,
                run: Some(run),
            };
            state.portals.insert(portal.to_owned(), bound)
        };
        before.into_iter().for_each(Portal::given_up);
        Ok(())
    }

    pub(super) async fn execute(&mut self, portal: &str, whole: &Bytes) -> Result<(), End> {
        if !self.send_parses(None).await? {
            return Ok(());
        }
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
            let renamed = state.renamed;
            let there = state.portals.get_mut(portal);
            let there = there.filter(|it| it.names_as_of.is_none_or(|then| then == renamed));
            there.and_then(|it| Some((it.number, it.run.take()?)))
        };
        let Some((number, mut run)) = run else {
            let told = self.complaint(
                "34000",
                &format!("portal \"{portal}\" does not exist, has given all of its rows, or names what has changed since (Holdpoint passes on portals that were bound on this connection)"),
                "Bind it anew. Cursors made by DECLARE are read by FETCH.",
            );
            self.refuse(told, false);
            return Ok(());
        };
        if let Some(refusal) = self.judge.objection(&run.admitted) {
            run.given_up();
            let told = server_messages::refused(&refusal, &self.session, false);
            self.refuse(told, false);
            return Ok(());
        }
        run.sending();
        self.shared.lock().retake_portals(&run);
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
        self.send(
            whole,
            Expected::Execute {
                portal,
                number,
                run,
            },
        );
        Ok(())
    }

    pub(super) async fn close(
        &mut self,
        target: Target,
        name: &str,
        whole: &Bytes,
    ) -> Result<(), End> {
        if !self.send_parses(None).await? {
            return Ok(());
        }
        match target {
            Target::Statement => {
                self.fresh.remove(name);
            }
            Target::Portal => {
                let closed = self.shared.lock().portals.remove(name);
                closed.into_iter().for_each(Portal::given_up);
            }
        }
        self.send(whole, Expected::Close(target, name.to_owned()));
        Ok(())
    }

    pub(super) async fn sync(&mut self, whole: &Bytes) -> Result<(), End> {
        if self.skips {
            self.waiting.clear();
        }
        self.send_parses(None).await?;
        self.skips = false;
        self.executed = false;
        self.moved = false;
        self.fresh.clear();
        let mut state = self.shared.lock();
        state.skips = false;
        state.expect(Expected::Sync);
        drop(state);
        self.out.extend_from_slice(whole);
        Ok(())
    }

    /// The server is to read them now; `judged` was admitted already. False where one of them is refused: it would do something by that.
    pub(super) async fn send_parses(&mut self, judged: Option<&str>) -> Result<bool, End> {
        self.unsent = 0;
        // One that takes its name before it is bound was nobody's question.
        let judged = self.waiting.iter().rposition(|it| judged == Some(&*it.0));
        for (at, (name, definition, whole)) in
            std::mem::take(&mut self.waiting).into_iter().enumerate()
        {
            if judged != Some(at) && !self.may_be_read(&definition).await? {
                return Ok(false);
            }
            self.send(&whole, Expected::Parse(name, definition));
        }
        Ok(true)
    }

    /// Whether the server may read a statement that nobody has bound.
    async fn may_be_read(&mut self, definition: &Definition) -> Result<bool, End> {
        let judge = self.judge;
        let Some(statement) = definition.statement() else {
            return Ok(true);
        };
        if !judge.runs_when_read(statement).await {
            return Ok(true);
        }
        let is_open = self.is_open();
        let meant = self.meant(definition, &HashMap::new());
        let asked = self.shared.lock().asked;
        let none = Arc::new([]) as Arc<[Parameter]>;
        let question = question(definition, statement, &meant, &none, is_open, asked);
        let Err(refusal) = self.admit(std::slice::from_ref(&question), is_open).await? else {
            return Ok(true);
        };
        let too_long = is_open && refusal.kind == Kind::Pending;
        let told = server_messages::refused(&refusal, &self.session, too_long);
        self.refuse(told, too_long);
        Ok(false)
    }

    /// Refuses one of a pipeline: nothing of it counts up to its end. `fails`: nor does what its transaction has done so far.
    pub(super) fn refuse(&mut self, told: Bytes, fails: bool) {
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
}
