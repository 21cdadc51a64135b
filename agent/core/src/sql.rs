//! SQL as PostgreSQL itself reads it: text -> statements -> effects -> operations.
//!
//! The grammar is PostgreSQL's own (libpg_query), because a parser that differs from the server's is a hole. What the grammar
//! cannot tell (what a name means on the server) is left in [`Names`] for [`facts`] to find out. Whatever is not understood
//! is opaque, never a read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::Arc,
};

use crate::mask::Origin;

mod actions;
pub mod bigquery;
mod cache;
pub mod facts;
mod operations;
mod parse;
mod shape;
mod walk;

pub use actions::{ACTIONS, UNPARSED, groups, is_about_relation};
pub use cache::Cache;
pub use operations::{FIELDS, operations};
pub use parse::{MAX_TEXT, MOST_EFFECTS, parse};
pub use shape::Shapes;

/// What a text was found to say. Empty for `;` and for nothing but comments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// In the order in which the server runs them.
    pub statements: Vec<Statement>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Where it stands in the text, in bytes, without the semicolon.
    pub span: Range<usize>,
    /// What it does, the action of the statement itself first, then what it does besides; no action and relation twice. Never empty.
    pub effects: Vec<Effect>,
    /// What only the server can tell the meaning of.
    pub names: Names,
    /// What it means for the connection.
    pub control: Control,
    /// It alters or makes something after which no name means what could not be told before: a column, a constraint, an enumeration.
    pub keeps_meaning: bool,
    /// Columns in it need not go by their names: `*`, a row as a value (`t::text`, `t.to_jsonb`), `t(a, b)`. So what it computes may be made of
    /// any column of what it reads.
    pub whole_rows: bool,
}

/// One thing done to one relation, or to none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Effect {
    /// One of [`ACTIONS`].
    pub action: &'static str,
    /// What it is done to: a table, view, index, sequence or other relation; or the object, where the action is about another kind.
    pub relation: Option<Name>,
    /// Why it cannot be told what this does; nothing where it can.
    pub opaque: Option<String>,
    /// An UPDATE or DELETE (also by MERGE) of every row.
    pub without_where: bool,
}

impl Effect {
    /// What is understood, and is about `relation`.
    #[must_use]
    pub fn on(action: &'static str, relation: Option<Name>) -> Self {
        Self {
            action,
            relation,
            opaque: None,
            without_where: false,
        }
    }

    /// What may do anything; `why` says so to a person.
    #[must_use]
    pub fn opaque(action: &'static str, why: impl Into<String>) -> Self {
        Self {
            opaque: Some(why.into()),
            ..Self::on(action, None)
        }
    }

    /// Whether it is known to change nothing but the connection it runs on.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        self.opaque.is_none() && actions::is_read(self.action)
    }
}

/// A name as the server folds it: lower case unless quoted, escapes resolved, cut at 63 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Where it is said.
    pub schema: Option<String>,
    /// Without quotes.
    pub name: String,
}

impl Name {
    /// Without a schema.
    #[must_use]
    pub fn plain(name: impl Into<String>) -> Self {
        Self {
            schema: None,
            name: name.into(),
        }
    }

    /// In a schema.
    #[must_use]
    pub fn within(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            schema: Some(schema.into()),
            name: name.into(),
        }
    }
}

/// `schema.name`, without quotes: for people and for policies.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.name)
    }
}

/// What only the server can tell the meaning of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Read, written or altered; not those that the statement makes.
    pub relations: BTreeSet<Name>,
    /// Called, aggregates and procedures included.
    pub functions: BTreeSet<Name>,
    /// Applied, also by `BETWEEN`, `IN`, `LIKE`, `CASE x WHEN` and the like.
    pub operators: BTreeSet<Name>,
    /// Cast to, or read into.
    pub types: BTreeSet<Name>,
    /// What follows a dot: `t.f` is the column f, and where there is none, a call of the function f(t). Harmless unless a
    /// function of that name, in any schema, that takes one composite argument is not.
    pub attributes: BTreeSet<String>,
    /// What follows a value that may be of any type: `(x).f`, and `x.f` where `x` may be the result of a function in FROM. The server
    /// takes it for f(x) or for a cast to f, also where PostgreSQL came with f.
    pub methods: BTreeSet<String>,
    /// Of [`Self::relations`], those that something would write which is only planned (`EXPLAIN INSERT`): the planner follows their
    /// rules, and works out their defaults.
    pub planned: BTreeSet<Name>,
}

impl Names {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let named = [
            &self.relations,
            &self.functions,
            &self.operators,
            &self.types,
        ];
        named.iter().map(|it| it.len()).sum::<usize>() + self.attributes.len() + self.methods.len()
    }

    /// Adds those of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.relations.extend(other.relations.iter().cloned());
        self.functions.extend(other.functions.iter().cloned());
        self.operators.extend(other.operators.iter().cloned());
        self.types.extend(other.types.iter().cloned());
        self.attributes.extend(other.attributes.iter().cloned());
        self.methods.extend(other.methods.iter().cloned());
        self.planned.extend(other.planned.iter().cloned());
    }
}

/// What a statement means for the connection it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Control {
    /// Nothing.
    #[default]
    None,
    /// `BEGIN`, `START TRANSACTION`.
    Begin,
    /// `COMMIT`, `END`; `PREPARE TRANSACTION` also ends it for this connection.
    Commit {
        /// `AND CHAIN`: another one begins at once.
        chain: bool,
    },
    /// `ROLLBACK`, `ABORT`.
    Rollback {
        /// `AND CHAIN`.
        chain: bool,
    },
    /// `SAVEPOINT name`.
    Savepoint {
        /// Its name.
        name: String,
    },
    /// `RELEASE name`.
    Release {
        /// Its name.
        name: String,
    },
    /// `ROLLBACK TO name`.
    RollbackTo {
        /// Its name.
        name: String,
    },
    /// `SET`, or `SELECT set_config(...)` with constants.
    Set {
        /// In lower case: settings are not case-sensitive.
        name: String,
        /// As a list separated by `, `; nothing for `DEFAULT`.
        value: Option<String>,
        /// Until the end of the transaction.
        local: bool,
    },
    /// `RESET`.
    Reset {
        /// Nothing for `ALL`.
        name: Option<String>,
    },
    /// `PREPARE name AS ...`
    Prepare {
        /// Its name.
        name: String,
        /// What `EXECUTE` will do; see [`Statement::executing`].
        inner: Box<Statement>,
    },
    /// `EXECUTE name`, also within `EXPLAIN` and `CREATE TABLE AS`.
    Execute {
        /// Of the prepared statement, which may also be one of the extended protocol.
        name: String,
    },
    /// `DEALLOCATE`.
    Deallocate {
        /// Nothing for `ALL`.
        name: Option<String>,
    },
    /// `DISCARD ALL`: settings, prepared statements, cursors and temporary tables are gone.
    Discard,
    /// `COPY ... FROM STDIN`.
    CopyIn(Box<Copy>),
    /// `COPY ... TO STDOUT`.
    CopyOut(Box<Copy>),
    /// `DECLARE name CURSOR`. What it reads was decided here; `FETCH` brings the rows.
    DeclareCursor {
        /// Its name.
        name: String,
    },
    /// `FETCH`; `MOVE` brings no rows.
    Fetch {
        /// Of the cursor.
        name: String,
    },
    /// `CLOSE`.
    CloseCursor {
        /// Nothing for `ALL`.
        name: Option<String>,
    },
}

/// What a COPY moves over the connection, and in which form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copy {
    /// Nothing for `COPY (query)`.
    pub relation: Option<Name>,
    /// Those named; none: all of them, in the table's order.
    pub columns: Vec<String>,
    /// What those are made of, where that was looked up: none, or one for each.
    pub origins: Vec<Option<Origin>>,
    /// The options as written, names in lower case: `format`, `delimiter`, `null`, `header`, `quote`, `escape`, `encoding`, ...
    pub options: Vec<(String, Option<String>)>,
}

impl Statement {
    /// Whether every effect is known to change nothing but the connection it runs on. A look-up may still find that a name in
    /// it does more: ask [`Resolved`].
    #[must_use]
    pub fn only_reads(&self) -> bool {
        self.effects.iter().all(Effect::only_reads)
    }

    /// This `EXECUTE`, now that it is known what the name stands for: its own effects, those of `prepared`, and no longer opaque
    /// for being an EXECUTE.
    #[must_use]
    pub fn executing(&self, prepared: &Self) -> Self {
        let mut whole = self.clone();
        for effect in &mut whole.effects {
            if effect.action == "postgres.execute" {
                effect.opaque = None;
            }
        }
        for effect in &prepared.effects {
            if !whole.effects.contains(effect) {
                whole.effects.push(effect.clone());
            }
        }
        whole.names.extend(&prepared.names);
        whole
    }
}

/// A statement, its names looked up: what [`facts`] makes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// As in [`Statement::effects`], relations with their schemas, and what views and rules add.
    pub effects: Vec<Effect>,
    /// Not known yet: to be asked for, before it is resolved again.
    pub needs: Names,
    /// The queries of the views that it reads.
    pub views: BTreeSet<Arc<str>>,
    /// It may make or change what names mean without saying so: a function of a user's, a DO.
    pub defines: bool,
    /// It may do something as soon as the server reads it, before it is bound: literals of arrays, records and ranges are looked at
    /// then, by the constraints of domains in them.
    pub runs_when_read: bool,
}

impl Resolved {
    /// The effects as the grammar shows them, nothing looked up.
    #[must_use]
    pub fn as_parsed(statement: &Statement) -> Self {
        Self {
            effects: statement.effects.clone(),
            needs: Names::default(),
            views: BTreeSet::new(),
            defines: statement
                .effects
                .iter()
                .any(|effect| effect.opaque.is_some()),
            runs_when_read: true,
        }
    }
}

/// What can be said of a statement without its server: relations are plain tables, functions, operators and types those of a
/// stock PostgreSQL, and whatever else is opaque.
#[must_use]
pub fn offline(statement: &Statement) -> Resolved {
    facts::resolve(statement, facts::Facts::stock())
}

/// As [`offline`], for all of a text, one statement after the other: an `EXECUTE` of what the text prepares does that, and what an
/// earlier statement changes makes opaque what a later one names.
#[must_use]
pub fn offline_text(parsed: &Parsed) -> Vec<(Statement, Resolved)> {
    let mut prepared = BTreeMap::new();
    let mut local = facts::LocalNames::default();
    let mut all = Vec::with_capacity(parsed.statements.len());
    for statement in &parsed.statements {
        let known = match &statement.control {
            Control::Execute { name } => prepared.get(name),
            _ => None,
        };
        let whole = known.map_or_else(|| statement.clone(), |it| statement.executing(it));
        let mut resolved = offline(&whole);
        local.apply(&whole, &mut resolved);
        local.note(&whole, &resolved);
        all.push((whole, resolved));
        if let Control::Prepare { name, inner } = &statement.control {
            prepared.insert(name.clone(), (**inner).clone());
        }
    }
    all
}

/// Where a statement runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// The catalog entry's name.
    pub entry: Arc<str>,
    /// A Cloud SQL instance connection name, `project:region:instance`.
    pub instance: Option<String>,
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The database user that the server knows.
    pub user: String,
}

/// One bound parameter.
#[derive(Clone)]
pub struct Parameter {
    /// As `Parse` or the server's `ParameterDescription` says; 0 where neither does.
    pub type_oid: u32,
    /// 0 is text, 1 is binary.
    pub format: i16,
    /// Nothing is NULL.
    pub value: Option<Vec<u8>>,
}

/// Values may be secrets.
impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.value.as_ref().map(Vec::len);
        write!(
            f,
            "Parameter({}, {}, {length:?})",
            self.type_oid, self.format
        )
    }
}

#[cfg(test)]
mod tests;
