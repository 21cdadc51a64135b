//! The actions of SQL in BigQuery: `bigquery.sql.` and what is done.

use crate::groups::{Group, Groups};

/// What stands before every one.
pub(super) const PREFIX: &str = "bigquery.sql.";

const READ: Groups = Groups::of(&[Group::Read]);
const WRITE: Groups = Groups::of(&[Group::Write]);
const DELETE: Groups = Groups::of(&[Group::Delete]);
const RUNS_CODE: Groups = Groups::of(&[Group::Write, Group::RunsCode]);

/// Statements (<https://cloud.google.com/bigquery/docs/reference/standard-sql/introduction>) by what they do.
#[rustfmt::skip]
const ACTIONS: [(&str, Groups); 35] = [
    ("bigquery.sql.alter_schema", WRITE),
    ("bigquery.sql.alter_table", WRITE),
    ("bigquery.sql.alter_view", WRITE),
    ("bigquery.sql.assert", READ),
    ("bigquery.sql.call", RUNS_CODE),
    ("bigquery.sql.create_function", WRITE),
    ("bigquery.sql.create_model", WRITE),
    ("bigquery.sql.create_procedure", RUNS_CODE),
    ("bigquery.sql.create_remote_function", RUNS_CODE),
    ("bigquery.sql.create_schema", WRITE),
    ("bigquery.sql.create_table", WRITE),
    ("bigquery.sql.create_view", WRITE),
    ("bigquery.sql.delete", DELETE),
    ("bigquery.sql.drop", DELETE),
    ("bigquery.sql.drop_column", DELETE),
    ("bigquery.sql.drop_function", DELETE),
    ("bigquery.sql.drop_procedure", DELETE),
    ("bigquery.sql.drop_schema", DELETE),
    ("bigquery.sql.drop_table", DELETE),
    ("bigquery.sql.drop_view", DELETE),
    ("bigquery.sql.dry_run", READ),
    ("bigquery.sql.execute_immediate", WRITE),
    ("bigquery.sql.export_data", WRITE),
    ("bigquery.sql.grant", Groups::of(&[Group::Write, Group::Iam])),
    ("bigquery.sql.insert", WRITE),
    // The dialect of before 2016, which only reads; Holdpoint does not.
    ("bigquery.sql.legacy", WRITE),
    ("bigquery.sql.load_data", WRITE),
    ("bigquery.sql.merge", WRITE),
    ("bigquery.sql.revoke", Groups::of(&[Group::Write, Group::Iam])),
    ("bigquery.sql.script", WRITE),
    ("bigquery.sql.select", READ),
    ("bigquery.sql.truncate", DELETE),
    ("bigquery.sql.undrop_schema", WRITE),
    ("bigquery.sql.unparsed", WRITE),
    ("bigquery.sql.update", WRITE),
];

/// The groups of the action of this name, if there is one.
#[must_use]
pub fn groups(action: &str) -> Option<Groups> {
    if !action.starts_with(PREFIX) {
        return None;
    }
    let found = ACTIONS.iter().find(|(known, _)| *known == action);
    found.map(|(_, groups)| *groups)
}

/// The names of all actions.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(name, _)| *name)
}

/// What a statement that is not understood most likely does, by the words it begins with.
pub(super) fn by_first_words(statement: &str) -> &'static str {
    let mut words = statement
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase);
    let first = words.next().unwrap_or_default();
    let kind = words.find(|word| {
        !matches!(
            word.as_str(),
            "or" | "replace"
                | "temp"
                | "temporary"
                | "external"
                | "materialized"
                | "snapshot"
                | "if"
                | "not"
                | "exists"
                | "aggregate"
                | "all"
                | "row"
                | "search"
                | "vector"
        )
    });
    match (first.as_str(), kind.as_deref().unwrap_or_default()) {
        ("alter", "schema") => "alter_schema",
        ("alter", "view") => "alter_view",
        ("alter", _) => "alter_table",
        ("call", _) => "call",
        ("create", "function") => "create_function",
        ("create", "model") => "create_model",
        ("create", "procedure") => "create_procedure",
        ("create", "schema") => "create_schema",
        ("create", "table") => "create_table",
        ("create", "view") => "create_view",
        ("delete", _) => "delete",
        ("drop", "function") => "drop_function",
        ("drop", "procedure") => "drop_procedure",
        ("drop", "schema") => "drop_schema",
        ("drop", "table") => "drop_table",
        ("drop", "view") => "drop_view",
        ("drop", _) => "drop",
        ("execute", _) => "execute_immediate",
        ("export", _) => "export_data",
        ("grant", _) => "grant",
        ("insert", _) => "insert",
        ("load", _) => "load_data",
        ("merge", _) => "merge",
        ("revoke", _) => "revoke",
        ("truncate", _) => "truncate",
        ("undrop", _) => "undrop_schema",
        ("update", _) => "update",
        (
            "begin" | "break" | "case" | "commit" | "continue" | "declare" | "end" | "for" | "if"
            | "iterate" | "leave" | "loop" | "raise" | "repeat" | "return" | "rollback" | "set"
            | "while",
            _,
        ) => "script",
        _ => "unparsed",
    }
}
