//! The judge of a connection in the house: names are looked up on the server, and the gate decides.

mod seen;

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use holdpoint_core::{
    mask::{MaskSet, Origin},
    operation::Operation,
    policy::Terms,
    recognise::{Head, Payload},
    refusal::{Kind, Refusal},
    sql::{Database, Effect, Parsed, Resolved, Statement, facts::LocalNames, operations},
};
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use tokio::{runtime::Handle, sync::Notify};

use super::{
    Cancelling, Shared,
    judge::{Admitted, Judge, Question, Watched},
    rows::Columns,
    run::Run,
    state::Expected,
};
use crate::{
    allowance::Charge,
    binding::Room,
    daemon::House,
    gate::{Asker, Attended, Patience},
    masking,
    postgres::{Conversation, Entry, cancel::Cancelled, server::ServerCancel},
};

/// What a statement comes with, for reviewers.
static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))])
});
/// Bytes from which on the memory that a statement takes up while it is judged is accounted for by itself.
const ACCOUNTED: usize = 4 << 10;

pub(super) struct Judging {
    house: Arc<House>,
    room: Arc<Room>,
    connection: u64,
    entry: Arc<Entry>,
    at: Database,
    /// What this connection has changed and not committed.
    local: Mutex<Uncommitted>,
    /// A grant is over that something runs by.
    grants_over: Arc<Notify>,
}

/// What an open transaction has made.
#[derive(Default)]
struct Uncommitted {
    names: LocalNames,
    /// It may have changed what names mean.
    changes: bool,
    /// [`Question::asked`] of the last statement that is in it.
    asked: u64,
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
        pass_on(&self.server).await;
    }

    fn pass_on_later(&self) {
        // None where the daemon's own end drops this.
        if let Ok(runtime) = Handle::try_current() {
            let server = self.server.clone();
            runtime.spawn(async move { pass_on(&server).await });
        }
    }
}

async fn pass_on(server: &ServerCancel) {
    if let Err(error) = server.send().await {
        tracing::warn!("a request to cancel could not be passed on: {error}");
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
            grants_over: Arc::default(),
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
            tokio::select! {
                // The sender lives as long as the house.
                _ = changes.changed() => {}
                () = self.grants_over.notified() => {
                    return "the grant it ran by is over".to_owned();
                }
            }
            let under_way: Vec<Operation> = {
                let state = shared.lock();
                let running = state.expected.iter().filter_map(|it| match it {
                    Expected::Query(run) | Expected::Execute { run, .. } => Some(run),
                    _ => None,
                });
                // What was bound is admitted, though it does not run yet, or not on.
                let bound = state.portals.values().filter_map(|it| it.run.as_ref());
                running
                    .chain(bound)
                    .flat_map(Run::operations)
                    .cloned()
                    .collect()
            };
            if let Some(reason) = self.house.gate.objection_to(&self.room.session, &under_way) {
                return reason;
            }
        }
    }

    /// What the statements do, one after the other, as if each had run before the next; and what is then known of names.
    async fn resolve(&self, questions: &[Question<'_>]) -> (Vec<Resolved>, LocalNames) {
        let mut local = self.lock().names.clone();
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

    fn lock(&self) -> MutexGuard<'_, Uncommitted> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn names_change(&self) {
        let lookups = &self.house.databases.lookups;
        lookups.changed();
    }

    /// What the statement and its parameters contain, where policy asks; false where it does not.
    fn look_into(&self, shown: &str, operations: &mut [Operation]) -> bool {
        let asks = |it: &Operation| {
            self.house
                .gate
                .asks_what_it_contains(&self.room.session, it)
        };
        if !operations.iter().any(asks) {
            return false;
        }
        let head = Head {
            method: "",
            authority: &self.at.host,
            path: "",
            query: "",
            headers: &HEADERS,
        };
        let payload = Payload::Whole(shown.as_bytes());
        let found = tokio::task::block_in_place(|| self.house.masking.contained(&head, payload));
        for operation in operations {
            operation.contains = Some(found.clone());
        }
        true
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
    async fn origins(&self, asked: &[(u32, i16)]) -> Option<Vec<Option<Origin>>> {
        let lookups = &self.house.databases.lookups;
        lookups.columns(&self.entry, &self.at.database, asked).await
    }

    fn transaction_ended(&self, answered: u64) {
        let mut local = self.lock();
        if local.asked >= answered {
            return;
        }
        let changes = std::mem::take(&mut *local).changes;
        drop(local);
        if changes {
            self.names_change();
        }
    }
}

impl Judge for Judging {
    fn charge(&self) -> Charge {
        self.room.allowance.charge()
    }

    fn parse(&self, text: &str) -> Arc<Parsed> {
        self.house.databases.parse(text)
    }

    async fn runs_when_read(&self, statement: &Statement) -> bool {
        let local = self.lock().names.clone();
        let lookups = &self.house.databases.lookups;
        let resolved = lookups
            .resolve(&self.entry, &self.at.database, statement, &local)
            .await;
        resolved.runs_when_read
    }

    fn objection(&self, admitted: &Admitted) -> Option<Refusal> {
        let lease = admitted.lease.as_ref()?;
        let (gate, session) = (&self.house.gate, &self.room.session);
        gate.overtaken(session, &admitted.operations, lease)
    }

    async fn admit(
        &self,
        questions: &[Question<'_>],
        attended: Attended<'_>,
    ) -> Result<Admitted, Refusal> {
        // Only while it is judged: what runs waits for the server, and a connection has a bounded number of those.
        let _place = self.room.allowance.request()?;
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
        let charge = self.account_for(questions, &resolved)?;
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
        let (gate, session) = (&self.house.gate, &self.room.session);
        let mut asks_for_people = gate.asks_for_people(session, &asked);
        let is_shown = asks_for_people || asked.iter().any(|it| it.action.mutates());
        let shown = match is_shown {
            true => self.shown(questions, &resolved),
            false => String::new(),
        };
        if self.look_into(&shown, &mut asked) {
            asks_for_people = gate.asks_for_people(session, &asked);
        }
        let is_asked_about = asks_for_people && gate.objection_to(session, &asked).is_none();
        let rows = match is_asked_about {
            true => Box::pin(self.estimates(questions, &resolved)).await,
            false => Vec::new(),
        };
        let mut asker = Asker {
            session: self.room.session.clone(),
            connection: self.connection,
            patience: Patience::Attended(attended),
            headers: &HEADERS,
            body: shown.as_bytes(),
            rows: &rows,
        };
        let permits = self.house.gate.admit(&mut asker, &asked).await?;
        let terms: Vec<_> = permits.terms().cloned().collect();
        let masks = self.masks(&asked, &terms)?;
        let is_changed = {
            let mut uncommitted = self.lock();
            uncommitted.names = local;
            uncommitted.changes |= changes;
            uncommitted.asked = questions.iter().map(|it| it.asked).max().unwrap_or(0);
            uncommitted.changes
        };
        if changes {
            self.names_change();
        }
        let (mut outcome, lease) = permits.spend_lasting();
        let watched = outcome.lives_by_grants().then(|| {
            let (over, told) = (outcome.grants_over(), self.grants_over.clone());
            let watching = tokio::spawn(async move {
                over.await;
                told.notify_one();
            });
            Watched(watching.abort_handle())
        });
        let all = (&*asked, &*terms, outcome.operations());
        let keeping = self.keeping(questions, &resolved, all);
        let reads = masks.is_some() || !keeping.is_empty();
        let views = match reads {
            true => resolved
                .iter()
                .flat_map(|it| it.views.iter().cloned())
                .collect(),
            false => BTreeSet::new(),
        };
        let copying = match reads && !is_changed {
            true => Box::pin(self.copying(questions)).await,
            false => Vec::new(),
        };
        Ok(Admitted {
            outcome: Some(outcome),
            lease: Some(lease),
            _charge: charge,
            _watched: watched,
            operations: asked,
            masks,
            keeping,
            copying,
            views,
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
    /// The memory for what is judged: each effect has the text and the parameters with it, and one at a time is shown.
    fn account_for(
        &self,
        questions: &[Question<'_>],
        resolved: &[Resolved],
    ) -> Result<Option<Charge>, Refusal> {
        let of = |(question, resolved): (&Question<'_>, &Resolved)| {
            let bound = question
                .parameters
                .iter()
                .filter_map(|it| it.value.as_ref());
            let bound: usize = bound.map(Vec::len).sum();
            (question.statement.span.len() + bound) * (resolved.effects.len() + 1)
        };
        let bytes: usize = questions.iter().zip(resolved).map(of).sum();
        if bytes < ACCOUNTED {
            return Ok(None);
        }
        let mut charge = self.charge();
        match charge.cover(bytes) {
            Ok(()) => Ok(Some(charge)),
            Err(_) => Err(Refusal::new(
                Kind::NotReady,
                format!(
                    "Holdpoint did not send this statement: to judge it takes {} MiB, and what this session may take up has no room for that; send it in \
                     parts, or run fewer at once",
                    bytes.div_ceil(1 << 20)
                ),
            )),
        }
    }
}
