//! How many rows a statement would touch, for the people who are asked about it: what the server's own planner expects.
//!
//! `EXPLAIN` runs nothing, but the planner works out what is declared immutable or stable: functions of constants, defaults, types' input. So it
//! is asked only about statements that were seen through, in a read-only connection of Holdpoint's own.

mod plan;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeSet};

use anyhow::Context as _;
use holdpoint_core::sql::{Control, Effect, Name, Parameter, Resolved, Statement, parse};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};

use self::plan::Write;
use super::{Client, Dial, client::Refused};
use crate::approvals::{RowsEstimate, RowsView};

/// Somebody may have locked what the statement is about; other look-ups need not wait for that.
const SETTINGS: &str = "SET lock_timeout = '500ms'; SET search_path = pg_catalog";
/// What no agent's statement begins with, so that the server's log tells Holdpoint's own.
const EXPLAIN: &str = "EXPLAIN (FORMAT JSON, VERBOSE)";
/// Relations that are told of one statement.
const MOST: usize = 8;
/// FirstNormalObjectId (access/transam.h): types that PostgreSQL came with are below.
const FIRST_OWN: u32 = 16384;
const WRITES: [&str; 4] = [
    "postgres.insert",
    "postgres.update",
    "postgres.delete",
    "postgres.merge",
];
const EMPTIES: [&str; 2] = ["postgres.truncate", "postgres.drop_table"];

/// What the planner is asked.
#[derive(Debug)]
pub struct Planned<'a> {
    /// Nothing where all rows go, so that only those have to be counted.
    explained: Option<String>,
    parameters: &'a [Parameter],
    written: BTreeSet<Name>,
    schemas: BTreeSet<&'a str>,
    emptied: BTreeSet<(&'static str, Name)>,
}

impl<'a> Planned<'a> {
    /// What to ask about a statement, the text that it stands in, and what is known of it; nothing where it touches no rows.
    ///
    /// # Errors
    /// Why the planner cannot be asked, for a person.
    #[must_use]
    pub fn of(
        text: &str,
        statement: &Statement,
        resolved: &'a Resolved,
        parameters: &'a [Parameter],
    ) -> Option<Result<Self, String>> {
        let touches = |it: &Effect| WRITES.contains(&it.action) || EMPTIES.contains(&it.action);
        let touched: Vec<_> = resolved.effects.iter().filter(|it| touches(it)).collect();
        if touched.is_empty() {
            return None;
        }
        if resolved.effects.iter().any(|it| it.opaque.is_some()) {
            return Some(Err(
                "Holdpoint cannot see through the statement, and planning it could run what is in it".into(),
            ));
        }
        Some(Self::asking(
            text, statement, resolved, parameters, &touched,
        ))
    }

    fn asking(
        text: &str,
        statement: &Statement,
        resolved: &'a Resolved,
        parameters: &'a [Parameter],
        touched: &[&'a Effect],
    ) -> Result<Self, String> {
        let main = statement.effects.first().map_or("", |it| it.action);
        let relations = || {
            resolved
                .effects
                .iter()
                .filter_map(|it| it.relation.as_ref())
        };
        for said in &statement.names.relations {
            let same: BTreeSet<_> = relations().filter(|it| it.name == said.name).collect();
            if said.schema.is_none() && same.len() > 1 {
                return Err(format!(
                    "more than one relation is called {}: the statement does not name the schema",
                    said.name
                ));
            }
        }
        let schemas: BTreeSet<_> = relations().filter_map(|it| it.schema.as_deref()).collect();
        if schemas.contains("pg_temp") {
            return Err("a temporary table is seen by its own connection only".into());
        }
        if parameters.iter().any(|it| it.type_oid >= FIRST_OWN) {
            return Err("a parameter is of a type that a user made".into());
        }
        let named = |it: &&&Effect| it.relation.as_ref().is_some_and(|it| it.schema.is_some());
        let of = |actions: &'static [&'static str]| {
            let those = touched
                .iter()
                .filter(move |it| actions.contains(&it.action));
            those.filter(named)
        };
        let emptied: BTreeSet<_> = of(&EMPTIES)
            .filter_map(|it| Some((verb(it.action), it.relation.clone()?)))
            .collect();
        let explained = match EMPTIES.contains(&main) {
            true => None,
            false => Some(explained(text, statement, main)?),
        };
        Ok(Self {
            explained,
            parameters,
            written: of(&WRITES).filter_map(|it| it.relation.clone()).collect(),
            schemas,
            emptied,
        })
    }
}

/// `EXPLAIN` of exactly the statement; that it is nothing else is read again, as the server reads it.
fn explained(text: &str, statement: &Statement, main: &str) -> Result<String, String> {
    if !matches!(statement.control, Control::None)
        || !(WRITES.contains(&main) || main == "postgres.select")
    {
        return Err(format!(
            "the planner tells it of statements that are sent as they are, not of {}",
            main.trim_start_matches("postgres.")
                .replace('_', " ")
                .to_uppercase()
        ));
    }
    let own = text.get(statement.span.clone()).unwrap_or(text);
    let explained = format!("{EXPLAIN} {own}");
    let parsed = parse(&explained);
    match parsed.statements.as_slice() {
        [one]
            if one
                .effects
                .iter()
                .all(|it| it.opaque.is_none() && it.action == "postgres.explain") =>
        {
            Ok(explained)
        }
        _ => Err("the statement cannot be explained".into()),
    }
}

fn verb(action: &'static str) -> &'static str {
    action.trim_start_matches("postgres.")
}

/// Asks the planner, until then. Nothing that the server says in words is passed on: it may quote values.
pub async fn estimate(dial: &impl Dial, planned: &Planned<'_>, until: Instant) -> RowsView {
    let unknown = |why: String| RowsView::Unknown { why };
    match timeout_at(until, asking(dial, planned)).await {
        Ok(Ok(view)) => view,
        Ok(Err(error)) => {
            let told = match error.downcast_ref::<Refused>() {
                Some(refused) => format!("the server did not plan it ({})", refused.sqlstate),
                None => "the server could not be asked".to_owned(),
            };
            tracing::warn!("a statement's rows cannot be estimated: {told}");
            unknown(told)
        }
        Err(_) => unknown("the server did not answer in time".to_owned()),
    }
}

async fn asking(dial: &impl Dial, planned: &Planned<'_>) -> anyhow::Result<RowsView> {
    let mut client = Client::plain(dial.dial().await?).await?;
    client.command(SETTINGS).await?;
    if let Some(column) = client.default_of_a_user(&planned.written).await? {
        return Ok(RowsView::Unknown {
            why: format!("planning it could run what a user wrote: the default of {column}"),
        });
    }
    client.command(&search_path(&planned.schemas)).await?;
    let mut writes = Vec::new();
    if let Some(explained) = &planned.explained {
        let plan = client.explain(explained, planned.parameters).await?;
        writes = plan::writes(&plan).context("the plan is in a form that is not known")?;
    }
    let mut changes = Vec::new();
    for Write {
        does,
        relation,
        rows,
    } in writes.into_iter().take(MOST)
    {
        let of = whole(&mut client, &relation).await?;
        changes.push(RowsEstimate {
            does: does.into(),
            relation: relation.to_string(),
            rows,
            of: Some(of),
        });
    }
    for (does, relation) in planned.emptied.iter().take(MOST) {
        let rows = whole(&mut client, relation).await?;
        changes.push(RowsEstimate {
            does: does.replace('_', " "),
            relation: relation.to_string(),
            rows,
            of: None,
        });
    }
    Ok(RowsView::Estimated { changes })
}

/// As the same planner sees it.
async fn whole<S: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<S>,
    relation: &Name,
) -> anyhow::Result<u64> {
    let schema = relation.schema.as_deref().unwrap_or("pg_catalog");
    let all = format!(
        "{EXPLAIN} SELECT FROM {}.{}",
        quoted(schema),
        quoted(&relation.name)
    );
    let plan = client.explain(&all, &[]).await?;
    plan::rows(&plan).context("the plan is in a form that is not known")
}

/// Each relation that the statement means is the only one of its name, so that their schemas' order is of no matter.
fn search_path(schemas: &BTreeSet<&str>) -> String {
    let all = ["public"]
        .into_iter()
        .chain(schemas.iter().copied().filter(|it| *it != "public"));
    let all: Vec<_> = all.map(quoted).collect();
    format!("SET search_path = {}", all.join(", "))
}

fn quoted(name: &str) -> Cow<'_, str> {
    format!("\"{}\"", name.replace('"', "\"\"")).into()
}
