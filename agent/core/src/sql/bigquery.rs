//! GoogleSQL in BigQuery jobs: what a query job does to which table.
//!
//! The text is read twice. [`lexical`] finds strings, comments and statements by GoogleSQL's rules and leaves nothing in which another
//! reader could see other bounds; what is left goes to `sqlparser`. Whatever that does not understand is `opaque`, and so is what the text
//! alone does not tell: scripts, dynamic SQL, procedures, functions that are not BigQuery's own.

mod actions;
mod functions;
mod job;
mod lexical;
mod statement;
#[cfg(test)]
mod tests;

pub(crate) use self::actions::names;
pub use self::{actions::groups, job::of_request};

/// A longer text is not read. (BigQuery takes 1 MiB.)
const MAX_TEXT: usize = 1 << 20;
/// More words and signs in one statement are not read: a parsed statement may be as deep, and is dropped recursively.
const MAX_TOKENS: usize = 5_000;
/// More statements in one text are not read.
const MAX_STATEMENTS: usize = 200;

/// One thing that a text does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Effect {
    /// What stands behind `bigquery.sql.`.
    verb: &'static str,
    /// What it is done to, as written, part by part; empty where that does not show.
    relation: Vec<String>,
    /// Why it may do something else as well.
    opaque: Option<String>,
    /// Whether it changes or deletes all rows.
    without_where: bool,
}

impl Effect {
    fn new(verb: &'static str, relation: Vec<String>) -> Self {
        Self {
            verb,
            relation,
            opaque: None,
            without_where: false,
        }
    }

    fn opaque(verb: &'static str, why: impl Into<String>) -> Self {
        Self {
            opaque: Some(why.into()),
            ..Self::new(verb, Vec::new())
        }
    }
}

/// What a text in GoogleSQL does, and the functions it calls. Never empty.
fn effects(text: &str) -> (Vec<Effect>, Vec<String>) {
    let unparsed = |why: String| (vec![Effect::opaque("unparsed", why)], Vec::new());
    if text.len() > MAX_TEXT {
        return unparsed(format!("it is longer than {MAX_TEXT} bytes"));
    }
    let statements = match lexical::statements(text) {
        Ok(statements) => statements,
        Err(why) => return unparsed(why),
    };
    if statements.is_empty() {
        return unparsed("there is no statement in it".to_owned());
    }
    if statements.len() > MAX_STATEMENTS {
        return unparsed(format!("it has more than {MAX_STATEMENTS} statements"));
    }
    let (mut effects, mut functions) = (Vec::new(), Vec::new());
    for statement in &statements {
        let read = statement::read(statement);
        effects.extend(read.effects);
        functions.extend(read.functions);
    }
    effects.sort_unstable();
    effects.dedup();
    functions.sort_unstable();
    functions.dedup();
    (effects, functions)
}
