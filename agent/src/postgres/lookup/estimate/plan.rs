//! What `EXPLAIN (FORMAT JSON, VERBOSE)` says of rows.

use holdpoint_core::sql::Name;
use serde::Deserialize;

/// How deep plans are followed; `serde_json` reads none that is deeper than 128.
const DEEPEST: usize = 128;

/// Rows that a node of the plan writes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) does: &'static str,
    pub(super) relation: Name,
    pub(super) rows: u64,
}

#[derive(Deserialize)]
struct Explained {
    #[serde(rename = "Plan")]
    plan: Node,
}

/// Some of what is said of a node (`src/backend/commands/explain.c`, `ExplainNode`).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "Node Type")]
    kind: String,
    operation: Option<String>,
    schema: Option<String>,
    #[serde(rename = "Relation Name")]
    relation: Option<String>,
    #[serde(rename = "Plan Rows")]
    rows: f64,
    #[serde(rename = "Parent Relationship")]
    relationship: Option<String>,
    #[serde(default)]
    plans: Vec<Node>,
}

/// What it writes, the outermost first; nothing where this is no plan.
pub(super) fn writes(json: &[u8]) -> Option<Vec<Write>> {
    let mut writes = Vec::new();
    gather(&read(json)?, 0, &mut writes);
    Some(writes)
}

/// The rows that it gives.
pub(super) fn rows(json: &[u8]) -> Option<u64> {
    read(json).map(|plan| whole(plan.rows))
}

fn read(json: &[u8]) -> Option<Node> {
    let [Explained { plan }] = serde_json::from_slice::<[Explained; 1]>(json).ok()?;
    Some(plan)
}

fn gather(node: &Node, depth: usize, writes: &mut Vec<Write>) {
    if depth > DEEPEST {
        return;
    }
    if node.kind == "ModifyTable"
        && let Some(relation) = &node.relation
    {
        writes.push(Write {
            does: does(node.operation.as_deref()),
            relation: Name {
                schema: node.schema.clone(),
                name: relation.clone(),
            },
            rows: whole(
                node.plans
                    .iter()
                    .filter(|it| it.feeds())
                    .map(|it| it.rows)
                    .sum(),
            ),
        });
    }
    for inner in &node.plans {
        gather(inner, depth + 1, writes);
    }
}

impl Node {
    /// Its rows are those of its parent: it is no sub-query on the side. "Member" is what servers before 14 say.
    fn feeds(&self) -> bool {
        matches!(self.relationship.as_deref(), Some("Outer" | "Member"))
    }
}

fn does(operation: Option<&str>) -> &'static str {
    match operation {
        Some("Insert") => "insert",
        Some("Update") => "update",
        Some("Delete") => "delete",
        Some("Merge") => "merge",
        _ => "change",
    }
}

/// The planner expects no row less than one; it has no numbers beyond these.
fn whole(rows: f64) -> u64 {
    rows.round().clamp(0.0, 1e15) as u64
}
