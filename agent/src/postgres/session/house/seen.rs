//! What reviewers see of statements, and the record of what they bring.

use std::collections::BTreeSet;

use holdpoint_core::{
    mask::{Bound, Origin},
    operation::Operation,
    policy::Terms,
    sql::{Control, Copy, Resolved},
};
use tokio::time::Instant;

use super::{Judging, Question};
use crate::{
    approvals::RowsView,
    postgres::{
        lookup::{DEADLINE, Planned},
        masking::Keeping,
    },
    record::OperationId,
};

/// Characters of one parameter that reviewers see.
const SHOWN: usize = 4096;
/// Bytes of a statement that the record's intent tells in any case.
const TOLD_BY_INTENT: usize = 1024;

impl Judging {
    /// What each operation's statement would touch, as its server plans it: for people, who wait for it no longer than for other look-ups.
    pub(super) async fn estimates(
        &self,
        questions: &[Question<'_>],
        resolved: &[Resolved],
    ) -> Vec<Option<RowsView>> {
        let lookups = &self.house.databases.lookups;
        let database = &self.at.database;
        let is_changed = self.lock().changes;
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
    pub(super) fn keeping(
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

    /// The COPYs with their columns, and what those are made of, as the server knows them; nothing of one whose columns cannot be looked up.
    pub(super) async fn copying(&self, questions: &[Question<'_>]) -> Vec<Option<Box<Copy>>> {
        let lookups = &self.house.databases.lookups;
        let mut copying = Vec::new();
        for (place, question) in questions.iter().enumerate() {
            let (Control::CopyIn(copy) | Control::CopyOut(copy)) = &question.statement.control
            else {
                continue;
            };
            let Some(relation) = &copy.relation else {
                continue;
            };
            let database = &self.at.database;
            let columns = lookups.table(&self.entry, database, relation).await;
            copying.resize_with(questions.len(), || None);
            copying[place] = columns.map(|columns| Box::new(with_columns(copy, columns)));
        }
        copying
    }

    /// What reviewers see: the statements, and what was bound, without what is secret.
    pub(super) fn shown(&self, questions: &[Question<'_>], resolved: &[Resolved]) -> String {
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

/// With those columns of the table that it moves.
fn with_columns(copy: &Copy, mut table: Vec<(String, Option<Origin>)>) -> Copy {
    if !copy.columns.is_empty() {
        let of = |name: &String| table.iter().find(|(it, _)| it == name).cloned();
        let named = copy.columns.iter();
        table = named
            .map(|name| of(name).unwrap_or_else(|| (name.clone(), None)))
            .collect();
    }
    let (columns, origins) = table.into_iter().unzip();
    Copy {
        columns,
        origins,
        ..copy.clone()
    }
}

/// What goes into a comment, and may have names of the server's in it.
fn on_one_line(why: &str) -> String {
    why.replace(char::is_control, " ")
}
