//! From text to statements.

use std::sync::Arc;

use pg_query::protobuf::RawStmt;

use super::{Control, Effect, Names, Parsed, Statement, actions::UNPARSED, walk};

/// How long a text may be, in bytes. A longer one is opaque.
pub const MAX_TEXT: usize = 1024 * 1024;

/// How many effects the statements of a text may have together. Each becomes an operation.
pub const MOST_EFFECTS: usize = 1000;
/// Each effect carries its statement, and is bound to its text: how many bytes of text all of them may take together.
const MOST_CARRIED: usize = 128 * 1024 * 1024;
/// How many names the statements of a text may have together.
const MOST_NAMES: usize = 10_000;

/// Reads SQL as the server would, with `standard_conforming_strings` on and UTF-8. Never fails: what does not parse is one
/// opaque statement, [`UNPARSED`].
#[must_use]
pub fn parse(text: &str) -> Arc<Parsed> {
    let statements = statements(text).unwrap_or_else(|why| vec![unparsed(text, why)]);
    Arc::new(Parsed { statements })
}

fn statements(text: &str) -> Result<Vec<Statement>, String> {
    if text.len() > MAX_TEXT {
        return Err(format!("it is longer than {MAX_TEXT} bytes"));
    }
    if takes_long(text) {
        return Err("comments begin too often without a letter between them".into());
    }
    // libpg_query bounds its own stack; prost refuses to decode what is nested more than 100 deep.
    let result = pg_query::parse(text, 0).map_err(|error| error.to_string())?;
    let mut statements = Vec::new();
    let (mut effects, mut names) = (0, 0);
    for raw in &result.protobuf.stmts {
        let statement = statement(text, raw);
        effects += statement.effects.len();
        names += statement.names.len();
        if effects > MOST_EFFECTS || effects * text.len() > MOST_CARRIED || names > MOST_NAMES {
            return Err("it does more at once than is judged as one text; send it in parts".into());
        }
        statements.push(statement);
    }
    Ok(statements)
}

/// PostgreSQL's scanner reads all operator characters that follow a `/*` before it finds the next one (`xcstart` in scan.l):
/// 250,000 of them take minutes.
fn takes_long(text: &str) -> bool {
    const LONG: usize = 1024;
    const MOST_COMMENTS: usize = 16;
    let is_operator = |byte: &u8| b"~!@#^&|`?+-*/%<>=".contains(byte);
    let mut runs = text.as_bytes().split(|byte| !is_operator(byte));
    runs.any(|run| {
        run.len() > LONG && run.windows(2).filter(|pair| pair == b"/*").count() > MOST_COMMENTS
    })
}

fn statement(text: &str, raw: &RawStmt) -> Statement {
    let place = |at: i32| usize::try_from(at).unwrap_or(0).min(text.len());
    let start = place(raw.stmt_location);
    let end = match raw.stmt_len {
        0 => text.len(),
        length => place(raw.stmt_location.saturating_add(length)),
    };
    let mut statement = walk::statement(raw.stmt.as_deref());
    statement.span = start..end;
    statement
}

fn unparsed(text: &str, why: String) -> Statement {
    Statement {
        span: 0..text.len(),
        effects: vec![Effect::opaque(
            UNPARSED,
            format!("it could not be read: {why}"),
        )],
        names: Names::default(),
        control: Control::None,
        keeps_meaning: false,
        whole_rows: true,
    }
}
