//! The judge of a connection in the house: names are looked up on the server, and the gate decides.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use holdpoint_core::{
    mask::{Bound, MaskSet},
    operation::Operation,
    policy::Terms,
    recognise::{Head, Payload},
    refusal::Refusal,
    sql::{Control, Copy, Database, Effect, Name, Parsed, Resolved, facts::LocalNames, operations},
};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use tokio::time::Instant;

use super::{
    Cancelling, Shared,
    judge::{Admitted, Judge, Question},
    rows::Columns,
    state::Expected,
};
use crate::{
    approvals::RowsView,
    binding::Room,
    daemon::House,
    gate::{Asker, Attended, Patience},
    masking,
    postgres::{
        Conversation, Entry,
        cancel::Cancelled,
        lookup::{DEADLINE, Planned},
        masking::Keeping,
        server::ServerCancel,
    },
    record::OperationId,
};

/// Characters of one parameter that reviewers see.
const SHOWN: usize = 4096;
/// Bytes of a statement that the record's intent tells in any case.
const TOLD_BY_INTENT: usize = 1024;

pub(super) struct Judging {
    house: Arc<House>,
    room: Arc<Room>,
    connection: u64,
    entry: Arc<Entry>,
    at: Database,
    /// What this connection has changed and not committed.
    local: Mutex<LocalNames>,
    /// Its open transaction may have changed what names mean.
    changes: AtomicBool,
}

pub(super) struct Cancels {
    cancelled: Cancelled,
    server: ServerCancel,
}

impl Cancelling for Cancels {
    async fn next(&mut self) -> Box<dyn Send> {
        Box::new(self.cancelled.next().await)
    }

    async fn pass_on(&self) {
        if let Err(error) = self.server.send().await {
            tracing::warn!("a request to cancel could not be passed on: {error}");
        }
    }
}

impl Judging {
    /// The conversation, taken apart.
    pub(super) fn new<C, S>(conversation: Conversation<C, S>) -> (Self, C, S, Cancels) {
        let Conversation {
            house,
            room,
            connection,
            entry,
            at,
            client,
            server,
            cancelled,
            server_cancel,
            ..
        } = conversation;
        let judging = Self {
            house,
            room,
            connection,
            entry,
            at,
            local: Mutex::default(),
            changes: AtomicBool::new(false),
        };
        let cancels = Cancels {
            cancelled,
            server: server_cancel,
        };
        (judging, client, server, cancels)
    }

    pub(super) fn house(&self) -> &Arc<House> {
        &self.house
    }

    pub(super) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Returns, with the reason, once something that is under way may no longer go on.
    pub(super) async fn no_longer_allowed(&self, shared: &Shared) -> String {
        let mut changes = self.house.gate.changes();
        loop {
            // The sender lives as long as the house.
            let _ = changes.changed().await;
            let under_way: Vec<Operation> = {
                let state = shared.lock();
                let running = state.expected.iter().filter_map(|it| match it {
                    Expected::Query(run) | Expected::Execute { run, .. } => Some(run.operations()),
                    _ => None,
                });
                running.flatten().cloned().collect()
            };
            if let Some(reason) = self.house.gate.objection_to(&self.room.session, &under_way) {
                return reason;
            }
        }
    }

    /// What the statements do, one after the other, as if each had run before the next; and what is then known of names.
    async fn resolve(&self, questions: &[Question<'_>]) -> (Vec<Resolved>, LocalNames) {
        let mut local = self.lock().clone();
        let mut all = Vec::with_capacity(questions.len());
        for question in questions {
            let lookups = &self.house.databases.lookups;
            let resolved = lookups
                .resolve(&self.entry, &self.at.database, &question.statement, &local)
                .await;
            local.note(&question.statement, &resolved);
            all.push(resolved);
        }
        (all, local)
    }

    fn lock(&self) -> MutexGuard<'_, LocalNames> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names_change(&self) {
        let lookups = &self.house.databases.lookups;
        lookups.changed(&self.entry, &self.at.database);
    }

    /// What the statement and its parameters contain, where policy asks.
    fn look_into(&self, headers: &HeaderMap, shown: &str, operations: &mut [Operation]) {
        let asks = |it: &Operation| {
            self.house
                .gate
                .asks_what_it_contains(&self.room.session, it)
        };
        if !operations.iter().any(asks) {
            return;
        }
        let head = Head {
            method: "",
            authority: &self.at.host,
            path: "",
            query: "",
            headers,
        };
        let payload = Payload::Whole(shown.as_bytes());
        let found = tokio::task::block_in_place(|| self.house.masking.contained(&head, payload));
        for operation in operations {
            operation.contains = Some(found.clone());
        }
    }

    fn masks(
        &self,
        operations: &[Operation],
        terms: &[Terms],
    ) -> Result<Option<Arc<MaskSet>>, Refusal> {
        self.house.masking.rows(operations, terms)
    }
}

impl Columns for Judging {
    async fn origins(&self, asked: &[(u32, i16)]) -> Vec<Option<(Name, String)>> {
        let lookups = &self.house.databases.lookups;
        lookups.columns(&self.entry, &self.at.database, asked).await
    }

    fn transaction_ended(&self) {
        self.lock().ended();
        if self.changes.swap(false, Ordering::AcqRel) {
            self.names_change();
        }
    }
}

impl Judge for Judging {
    fn parse(&self, text: &str) -> Arc<Parsed> {
        self.house.databases.parse(text)
    }

    async fn admit(
        &self,
        questions: &[Question<'_>],
        attended: Attended,
    ) -> Result<Admitted, Refusal> {
        let place = self.room.allowance.request()?;
        for question in questions {
            masking::refuse_returned_in("the statement", [question.text.as_bytes()])?;
            let values = question
                .parameters
                .iter()
                .filter_map(|it| it.value.as_deref());
            masking::refuse_returned_in("a parameter", values)?;
        }
        let mut asked = Vec::new();
        let mut is_opaque = false;
        let (resolved, local) = self.resolve(questions).await;
        let changes = resolved.iter().any(defines);
        for (question, resolved) in questions.iter().zip(&resolved) {
            is_opaque |= resolved.effects.iter().any(|it| it.opaque.is_some());
            asked.extend(operations(
                &self.at,
                &question.text,
                &question.statement,
                resolved,
                &question.parameters,
                question.in_transaction,
            ));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let session = &self.room.session;
        let is_shown = asked.iter().any(|it| it.action.mutates())
            || self.house.gate.asks_for_people(session, &asked);
        let shown = match is_shown {
            true => self.shown(questions, &resolved),
            false => String::new(),
        };
        self.look_into(&headers, &shown, &mut asked);
        let gate = &self.house.gate;
        let is_asked_about =
            gate.asks_for_people(session, &asked) && gate.objection_to(session, &asked).is_none();
        let rows = match is_asked_about {
            true => self.estimates(questions, &resolved).await,
            false => Vec::new(),
        };
        let mut asker = Asker {
            session: self.room.session.clone(),
            connection: self.connection,
            patience: Patience::Attended(attended),
            headers: &headers,
            body: shown.as_bytes(),
            rows: &rows,
        };
        let permits = self.house.gate.admit(&mut asker, &asked).await?;
        let terms: Vec<_> = permits.terms().cloned().collect();
        let masks = self.masks(&asked, &terms)?;
        let is_changed = changes || self.changes.load(Ordering::Acquire);
        *self.lock() = local;
        if changes {
            self.names_change();
            self.changes.store(true, Ordering::Release);
        }
        let (outcome, _lease) = permits.spend_lasting();
        let all = (&*asked, &*terms, outcome.operations());
        let keeping = self.keeping(questions, &resolved, all);
        let reads = masks.is_some() || !keeping.is_empty();
        let copying = match reads && !is_changed {
            true => self.copying(questions).await,
            false => Vec::new(),
        };
        Ok(Admitted {
            outcome: Some(outcome),
            _place: Some(place),
            operations: asked,
            masks,
            keeping,
            copying,
            is_opaque,
        })
    }
}

/// Whether it may change what names mean: all but what is known to touch rows alone.
fn defines(resolved: &Resolved) -> bool {
    const ROWS: [&str; 6] = [
        "postgres.insert",
        "postgres.update",
        "postgres.delete",
        "postgres.merge",
        "postgres.copy_from",
        "postgres.copy_to",
    ];
    let touches_rows = |it: &Effect| it.only_reads() || ROWS.contains(&it.action);
    resolved.defines || !resolved.effects.iter().all(touches_rows)
}

impl Judging {
    /// What each operation's statement would touch, as its server plans it: for people, who wait for it no longer than for other look-ups.
    async fn estimates(
        &self,
        questions: &[Question<'_>],
        resolved: &[Resolved],
    ) -> Vec<Option<RowsView>> {
        let lookups = &self.house.databases.lookups;
        let database = &self.at.database;
        let is_changed = self.changes.load(Ordering::Acquire);
        let until = Instant::now() + DEADLINE;
        let mut rows = Vec::new();
        for (question, resolved) in questions.iter().zip(resolved) {
            let (text, statement) = (&question.text, &question.statement);
            let told = match Planned::of(text, statement, resolved, &question.parameters) {
                None => None,
                Some(Err(why)) => Some(RowsView::Unknown { why }),
                Some(Ok(_)) if is_changed => Some(RowsView::Unknown {
                    why: "its transaction has changed names, which only it sees yet".to_owned(),
                }),
                Some(Ok(planned)) => Some(
                    lookups
                        .estimate(&self.entry, database, &planned, until)
                        .await,
                ),
            };
            rows.extend(std::iter::repeat_n(told, resolved.effects.len()));
        }
        rows
    }

    /// Where what each statement brings is kept; nothing where none is. What is bound to them is kept at once. `all` are the operations of
    /// all statements, the terms on which they may happen, and their names.
    fn keeping(
        &self,
        questions: &[Question<'_>],
        resolved: &[Resolved],
        all: (&[Operation], &[Terms], &[OperationId]),
    ) -> Vec<Option<Keeping>> {
        let masking = &self.house.masking;
        let (operations, terms, ids) = all;
        let mut at = 0;
        let mut keeping = Vec::new();
        for (place, (question, it)) in questions.iter().zip(resolved).enumerate() {
            let own = at..at + it.effects.len();
            at = own.end;
            let kept = match (operations.get(own.clone()), terms.get(own.clone())) {
                (Some(operations), Some(terms)) => masking.kept(operations, terms),
                _ => None,
            };
            let (Some(set), Some(id)) = (kept, ids.get(own.start)) else {
                continue;
            };
            let kept = Keeping {
                record: self.house.record.clone(),
                session: self.room.session.id.clone(),
                operation: id.clone(),
                set,
            };
            // A COPY has nothing bound to it, and its data is what it brings.
            let is_copy = matches!(question.statement.control, Control::CopyIn(_));
            let is_long = question.text.len() > TOLD_BY_INTENT;
            if !is_copy && (is_long || !question.parameters.is_empty()) {
                let own = (std::slice::from_ref(question), std::slice::from_ref(it));
                kept.statement(&self.shown(own.0, own.1));
            }
            keeping.resize(questions.len(), None);
            keeping[place] = Some(kept);
        }
        keeping
    }

    /// The COPYs that name no columns, with those that the server knows.
    async fn copying(&self, questions: &[Question<'_>]) -> Vec<Option<Box<Copy>>> {
        let lookups = &self.house.databases.lookups;
        let mut copying = Vec::new();
        for (place, question) in questions.iter().enumerate() {
            let (Control::CopyIn(copy) | Control::CopyOut(copy)) = &question.statement.control
            else {
                continue;
            };
            let Some(relation) = copy.relation.as_ref().filter(|_| copy.columns.is_empty()) else {
                continue;
            };
            let database = &self.at.database;
            let columns = lookups.table(&self.entry, database, relation).await;
            copying.resize_with(questions.len(), || None);
            copying[place] = columns.map(|columns| {
                let named = copy.as_ref().clone();
                Box::new(Copy { columns, ..named })
            });
        }
        copying
    }

    /// What reviewers see: the statements, and what was bound, without what is secret.
    fn shown(&self, questions: &[Question<'_>], resolved: &[Resolved]) -> String {
        let mut shown = String::new();
        for (question, resolved) in questions.iter().zip(resolved) {
            let objections: BTreeSet<_> = resolved
                .effects
                .iter()
                .filter_map(|it| it.opaque.as_deref())
                .collect();
            for why in objections {
                shown.push_str(&format!(
                    "-- Holdpoint cannot see through it: {}\n",
                    on_one_line(why)
                ));
            }
            if question.in_transaction {
                shown.push_str("-- in an open transaction, which waits 60 s at most\n");
            }
            let own = question.text.get(question.statement.span.clone());
            let own = own.unwrap_or(&question.text).trim();
            let bound: Vec<_> = question
                .parameters
                .iter()
                .map(|it| Bound {
                    type_oid: it.type_oid,
                    format: it.format,
                    value: it.value.as_deref(),
                })
                .collect();
            let (statement, parameters) = self.house.masking.shown_query(own, &bound);
            shown.push_str(&statement);
            shown.push_str(";\n");
            for (at, value) in parameters.iter().enumerate() {
                let value = match value {
                    None => "NULL".to_owned(),
                    Some(value) => value.chars().take(SHOWN).collect(),
                };
                shown.push_str(&format!("-- ${} = {value}\n", at + 1));
            }
        }
        shown
    }
}

/// What goes into a comment, and may have names of the server's in it.
fn on_one_line(why: &str) -> String {
    why.replace(char::is_control, " ")
}
