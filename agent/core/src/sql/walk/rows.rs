//! Whether rows are used as values, or their columns go by other names: what a statement computes is then not told by its words.

use std::collections::BTreeSet;

use pg_query::{
    NodeEnum,
    protobuf::{Alias, Node, RangeVar},
};

use super::text;

/// Functions that take a row as their one argument, so that `t.to_jsonb` calls them (PostgreSQL 15's `pg_proc`, and hstore's), and give back
/// what is in it.
const OF_A_ROW: &[&str] = &[
    "any_value",
    "array_agg",
    "concat",
    "hstore",
    "json_agg",
    "json_agg_strict",
    "json_build_array",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_build_array",
    "max",
    "min",
    "quote_literal",
    "quote_nullable",
    "record_out",
    "record_send",
    "row_to_json",
    "to_json",
    "to_jsonb",
];

/// What is named of rows.
#[derive(Default)]
pub(super) struct Rows {
    /// Relations and subqueries, as they are called here.
    ranges: BTreeSet<String>,
    /// Names without a dot that stand as values.
    values: BTreeSet<String>,
    are_whole: bool,
}

impl Rows {
    pub(super) fn of_relation(&mut self, relation: Option<&RangeVar>) {
        let Some(relation) = relation else { return };
        self.ranges.insert(relation.relname.clone());
        self.called(relation.alias.as_ref());
    }

    pub(super) fn called(&mut self, alias: Option<&Alias>) {
        if let Some(alias) = alias {
            self.ranges.insert(alias.aliasname.clone());
            self.columns_called(&alias.colnames);
        }
    }

    pub(super) fn columns_called(&mut self, names: &[Node]) {
        self.are_whole |= !names.is_empty();
    }

    /// A name in an expression, by its parts.
    pub(super) fn named(&mut self, parts: &[Node]) {
        match parts {
            [] => {}
            [.., last] if matches!(last.node, Some(NodeEnum::AStar(_))) => self.are_whole = true,
            [one] => self.values.extend(text(one).map(str::to_owned)),
            [.., last] => {
                self.are_whole |= text(last).is_some_and(|name| OF_A_ROW.contains(&name));
            }
        }
    }

    pub(super) fn are_values(&self) -> bool {
        // What RETURNING and ON CONFLICT call rows.
        let is_row = |name: &String| {
            self.ranges.contains(name) || matches!(name.as_str(), "excluded" | "new" | "old")
        };
        self.are_whole || self.values.iter().any(is_row)
    }
}
