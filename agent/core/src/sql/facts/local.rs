//! What a connection has changed and not committed: no other connection sees it yet, so a look-up would miss it.

use std::collections::BTreeMap;

use crate::sql::{Effect, Name, Resolved, Statement};

/// Names that uncommitted statements of one connection made or changed.
///
/// Of a multi-statement text each statement is noted before the next one is resolved, as if it had run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalNames {
    /// Relations whose meaning changed, and by what.
    relations: BTreeMap<Name, &'static str>,
    /// After this, anything may mean anything.
    everything: Option<&'static str>,
}

impl LocalNames {
    /// A statement goes to the server.
    pub fn note(&mut self, statement: &Statement, resolved: &Resolved) {
        if resolved.defines {
            self.everything = statement.effects.first().map(|effect| effect.action);
        } else if statement.keeps_meaning {
            return;
        }
        for effect in &resolved.effects {
            match change(effect) {
                Change::Nothing => {}
                Change::Relation(name) => drop(self.relations.insert(name, effect.action)),
                Change::Everything => self.everything = Some(effect.action),
            }
        }
        if resolved
            .effects
            .iter()
            .any(|effect| !matches!(change(effect), Change::Nothing))
        {
            // A new partition, rule or constraint changes what it is attached to, too.
            let touched = statement.names.relations.iter().cloned();
            let action = statement.effects.first().map_or("", |effect| effect.action);
            self.relations.extend(touched.map(|name| (name, action)));
        }
    }

    /// The transaction is over: what it did is there for everybody, or gone.
    pub fn ended(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes opaque what `resolved` says of names that were changed.
    pub fn apply(&self, statement: &Statement, resolved: &mut Resolved) {
        let Some(why) = self.objection(statement, resolved) else {
            return;
        };
        resolved.defines = true;
        resolved.runs_when_read = true;
        for effect in &mut resolved.effects {
            effect.opaque.get_or_insert_with(|| why.clone());
        }
    }

    fn objection(&self, statement: &Statement, resolved: &Resolved) -> Option<String> {
        if let Some(action) = self.everything
            && !statement.names.is_empty()
        {
            return Some(format!(
                "{action} earlier in this transaction may have changed what its names mean"
            ));
        }
        if self.relations.is_empty() {
            return None;
        }
        let reached = resolved
            .effects
            .iter()
            .filter_map(|effect| effect.relation.as_ref());
        let touched = |name: &Name| {
            self.relations
                .iter()
                .find(|(local, _)| may_be_same(local, name))
        };
        let (name, action) = statement
            .names
            .relations
            .iter()
            .chain(reached)
            .find_map(touched)?;
        Some(format!(
            "{action} earlier in this transaction changed {name}"
        ))
    }
}

fn may_be_same(a: &Name, b: &Name) -> bool {
    a.name == b.name && (a.schema.is_none() || b.schema.is_none() || a.schema == b.schema)
}

enum Change {
    Nothing,
    Relation(Name),
    Everything,
}

/// What a statement that is understood changes of what names mean. Only what is known to change nothing is let pass.
fn change(effect: &Effect) -> Change {
    if effect.only_reads() || QUIET.contains(&effect.action) {
        return Change::Nothing;
    }
    match &effect.relation {
        Some(name) if TOUCHING.contains(&effect.action) => Change::Relation(name.clone()),
        _ => Change::Everything,
    }
}

/// Changes data, or makes what a look-up finds missing and a plain table, or takes away.
const QUIET: &[&str] = &[
    "postgres.alter_role",
    "postgres.alter_sequence",
    "postgres.analyze",
    "postgres.checkpoint",
    "postgres.comment",
    "postgres.copy_from",
    "postgres.copy_to",
    "postgres.create_index",
    "postgres.create_schema",
    "postgres.create_sequence",
    "postgres.create_table",
    "postgres.create_table_as",
    "postgres.delete",
    "postgres.drop_function",
    "postgres.drop_index",
    "postgres.drop_materialized_view",
    "postgres.drop_sequence",
    "postgres.drop_table",
    "postgres.drop_trigger",
    "postgres.drop_view",
    "postgres.grant",
    "postgres.insert",
    "postgres.lock",
    "postgres.merge",
    "postgres.nextval",
    "postgres.notify",
    "postgres.refresh_materialized_view",
    "postgres.revoke",
    "postgres.select",
    "postgres.select_into",
    "postgres.set_role",
    "postgres.truncate",
    "postgres.update",
];

/// Changes what a relation does when it is read or written.
const TOUCHING: &[&str] = &[
    "postgres.alter_table",
    "postgres.alter_view",
    "postgres.create_materialized_view",
    "postgres.create_policy",
    "postgres.create_rule",
    "postgres.create_trigger",
    "postgres.create_view",
];
