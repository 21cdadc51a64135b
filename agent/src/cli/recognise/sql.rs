//! `holdpoint recognise --sql`: what Holdpoint makes of SQL, without a server.

use std::collections::BTreeSet;

use holdpoint_core::sql::{self, Database, Effect, Resolved, Statement};
use serde::{Deserialize, Serialize};

use super::{Judge, Verdict};

#[derive(Deserialize)]
struct Row {
    sql: String,
    #[serde(default = "unnamed")]
    database: String,
    #[serde(default = "unnamed")]
    user: String,
}

fn unnamed() -> String {
    "postgres".to_owned()
}

/// One line of the output: the text happens as its strictest effect may, all of it or nothing.
#[derive(Serialize)]
pub(super) struct Text {
    statements: Vec<Said>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// One statement. `action`, `relations`, `writes` and `opaque` are about the whole of it; `effects` tells them apart.
#[derive(Serialize)]
struct Said {
    /// Of the statement itself: that of its first effect.
    action: &'static str,
    relations: BTreeSet<String>,
    functions: BTreeSet<String>,
    writes: bool,
    opaque: bool,
    without_where: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    effects: Vec<Did>,
}

#[derive(Serialize)]
struct Did {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    relation: Option<String>,
    writes: bool,
    without_where: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    opaque: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Judge {
    pub(super) fn statements(&self, line: &[u8]) -> Result<Text, String> {
        let row: Row = serde_json::from_slice(line)
            .map_err(|error| format!("it is not {{\"sql\": \"...\"}}: {error}"))?;
        let parsed = sql::parse(&row.sql);
        let statements: Vec<Said> = sql::offline_text(&parsed)
            .iter()
            .map(|(statement, resolved)| self.said(&row, statement, resolved))
            .collect();
        let all = statements.iter().map(|it| (it.decision, &it.reason));
        let (mut decision, mut reason) = strictest(all);
        if statements.is_empty() && self.policies.is_some() {
            decision = Some("allow");
            reason = Some("it says nothing: Holdpoint answers it itself".to_owned());
        }
        Ok(Text {
            decision,
            reason,
            statements,
        })
    }

    fn said(&self, row: &Row, statement: &Statement, resolved: &Resolved) -> Said {
        let at = Database {
            entry: "sample".into(),
            instance: None,
            host: "sample".into(),
            port: 5432,
            database: row.database.clone(),
            user: row.user.clone(),
        };
        let operations = sql::operations(&at, &row.sql, statement, resolved, &[], false);
        let effects: Vec<Did> = operations
            .iter()
            .zip(&resolved.effects)
            .map(|(operation, effect)| {
                let Verdict {
                    decision, reason, ..
                } = self.decide(operation);
                did(effect, decision, reason)
            })
            .collect();
        let (decision, reason) = strictest(effects.iter().map(|it| (it.decision, &it.reason)));
        let text = |it: &sql::Name| it.to_string();
        let named = resolved
            .effects
            .iter()
            .filter(|it| names_relation(it.action))
            .filter_map(|it| it.relation.as_ref());
        Said {
            action: effects.first().map_or(sql::UNPARSED, |it| it.action),
            relations: named.map(text).collect(),
            functions: statement.names.functions.iter().map(text).collect(),
            writes: effects.iter().any(|it| it.writes),
            opaque: effects.iter().any(|it| it.opaque.is_some()),
            without_where: effects.iter().any(|it| it.without_where),
            decision,
            reason,
            effects,
        }
    }
}

/// Rights and comments may be about anything; what is theirs is told as a relation, because it mostly is one.
fn names_relation(action: &str) -> bool {
    const MOSTLY: [&str; 4] = [
        "postgres.comment",
        "postgres.grant",
        "postgres.revoke",
        "postgres.security_label",
    ];
    sql::is_about_relation(action) || MOSTLY.contains(&action)
}

fn did(effect: &Effect, decision: Option<&'static str>, reason: Option<String>) -> Did {
    Did {
        action: effect.action,
        relation: effect.relation.as_ref().map(ToString::to_string),
        // What is opaque may write.
        writes: !effect.only_reads(),
        without_where: effect.without_where,
        opaque: effect.opaque.clone(),
        decision,
        reason,
    }
}

fn strictest<'a>(
    all: impl Iterator<Item = (Option<&'static str>, &'a Option<String>)>,
) -> (Option<&'static str>, Option<String>) {
    let all: Vec<_> = all.collect();
    let of = |wanted: &str| {
        let mut found = all.iter().filter(|(decision, _)| *decision == Some(wanted));
        found.next().copied()
    };
    match ["deny", "hold", "allow"].into_iter().find_map(of) {
        Some((decision, reason)) => (decision, reason.clone()),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests;
