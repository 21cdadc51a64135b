//! Queries, what they read from, and SQL/JSON.

use std::collections::BTreeSet;

use pg_query::{
    NodeEnum,
    protobuf::{
        CommonTableExpr, JoinExpr, JoinType, JsonAggConstructor, JsonBehavior, JsonExprOp,
        JsonFuncExpr, JsonOutput, JsonTable, JsonTableColumn, JsonValueExpr, LockingClause,
        RangeVar, SelectStmt, WithClause,
    },
};

use super::{SELECT, Walk, name_of, session::only_setting};
use crate::sql::Name;

impl Walk {
    /// What is no plain expression: a query within, what a query reads from, SQL/JSON, a definition.
    pub(super) fn query_part(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::RangeVar(it) => self.reads(it),
            NodeEnum::JoinExpr(it) => self.join(it),
            NodeEnum::RangeSubselect(it) => {
                self.rows.called(it.alias.as_ref());
                self.maybe(it.subquery.as_deref());
            }
            NodeEnum::RangeFunction(it) => {
                self.calls_in_from = true;
                self.nodes(&it.functions);
                self.nodes(&it.coldeflist);
            }
            NodeEnum::RangeTableSample(it) => {
                self.maybe(it.relation.as_deref());
                self.function(&it.method);
                self.nodes(&it.args);
                self.maybe(it.repeatable.as_deref());
            }
            NodeEnum::RangeTableFunc(it) => {
                self.maybe(it.docexpr.as_deref());
                self.maybe(it.rowexpr.as_deref());
                self.nodes(&it.namespaces);
                self.nodes(&it.columns);
            }
            NodeEnum::RangeTableFuncCol(it) => {
                self.types(it.type_name.as_ref());
                self.maybe(it.colexpr.as_deref());
                self.maybe(it.coldefexpr.as_deref());
            }
            NodeEnum::LockingClause(it) => self.locks(it),
            NodeEnum::SelectStmt(it) => self.select(it),
            json => self.json(json),
        }
    }

    pub(super) fn reads(&mut self, relation: &RangeVar) {
        self.rows.of_relation(Some(relation));
        if !self.hidden_by_with(relation) {
            self.does_to(SELECT, Some(relation));
        }
    }

    fn join(&mut self, it: &JoinExpr) {
        let JoinExpr {
            jointype,
            is_natural,
            larg,
            rarg,
            using_clause,
            join_using_alias: _,
            quals,
            alias,
            rtindex: _,
        } = it;
        self.rows.called(alias.as_ref());
        if JoinType::try_from(*jointype).is_err() {
            self.unknown("a kind of join");
        }
        if *is_natural || !using_clause.is_empty() {
            self.operators(&["="]);
        }
        self.maybe(larg.as_deref());
        self.maybe(rarg.as_deref());
        self.maybe(quals.as_deref());
    }

    /// A read that locks: it is refused in a read-only transaction, and changes no row.
    fn locks(&mut self, it: &LockingClause) {
        let named = it
            .locked_rels
            .iter()
            .filter_map(|it| match it.node.as_ref() {
                Some(NodeEnum::RangeVar(it)) => Some(name_of(it)),
                _ => None,
            });
        let named: Vec<_> = named.collect();
        if named.is_empty() {
            self.does("postgres.lock_rows", None);
        }
        for name in named {
            self.does("postgres.lock_rows", Some(name));
        }
    }

    /// The names of WITH hide relations: each in what follows it, all of them everywhere with RECURSIVE. Returns whether there
    /// are any; if so, [`Walk::leave_with`] ends it.
    pub(super) fn enter_with(&mut self, with: Option<&WithClause>) {
        let Some(WithClause {
            ctes,
            recursive,
            location: _,
        }) = with
        else {
            return self.with.push(BTreeSet::new());
        };
        let found = |node: &pg_query::Node| match node.node.as_ref() {
            Some(NodeEnum::CommonTableExpr(it)) => Some(it.ctename.clone()),
            _ => None,
        };
        self.with.push(match recursive {
            true => ctes.iter().filter_map(found).collect(),
            false => BTreeSet::new(),
        });
        for cte in ctes {
            let Some(NodeEnum::CommonTableExpr(it)) = cte.node.as_ref() else {
                self.unknown("a part of WITH");
                continue;
            };
            self.common(it);
            if let Some(innermost) = self.with.last_mut() {
                innermost.insert(it.ctename.clone());
            }
        }
    }

    pub(super) fn leave_with(&mut self) {
        self.with.pop();
    }

    fn common(&mut self, it: &CommonTableExpr) {
        let inner = it.ctequery.as_deref().and_then(|it| it.node.as_ref());
        if !inner.is_some_and(|it| self.planned(it)) {
            self.unknown("a statement in WITH");
        }
        self.rows.columns_called(&it.aliascolnames);
        if let Some(cycle) = &it.cycle_clause {
            self.operators(&["="]);
            self.maybe(cycle.cycle_mark_value.as_deref());
            self.maybe(cycle.cycle_mark_default.as_deref());
        }
    }

    pub(super) fn select(&mut self, it: &SelectStmt) {
        let SelectStmt {
            distinct_clause,
            into_clause,
            target_list,
            from_clause,
            where_clause,
            group_clause,
            group_distinct: _,
            having_clause,
            window_clause,
            values_lists,
            sort_clause,
            limit_offset,
            limit_count,
            limit_option: _,
            locking_clause,
            with_clause,
            op: _,
            all: _,
            larg,
            rarg,
        } = it;
        if let Some(into) = into_clause {
            let made = into.rel.as_ref().map(name_of);
            self.does("postgres.select_into", made);
        }
        if self.effects.is_empty() {
            self.does(SELECT, None);
        }
        self.enter_with(with_clause.as_ref());
        let outer = std::mem::replace(&mut self.setting, only_setting(it));
        for lists in [
            distinct_clause,
            target_list,
            from_clause,
            group_clause,
            window_clause,
            values_lists,
            sort_clause,
            locking_clause,
        ] {
            self.nodes(lists);
        }
        for one in [where_clause, having_clause, limit_offset, limit_count] {
            self.maybe(one.as_deref());
        }
        for side in [larg, rarg].into_iter().flatten() {
            self.select(side);
        }
        self.setting = outer;
        self.leave_with();
    }

    /// What an older server has no syntax for is a function to it, maybe a user's.
    pub(super) fn called(&mut self, name: &str) {
        self.names.functions.insert(Name::plain(name));
    }

    fn json(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::JsonFuncExpr(it) => self.json_function(it),
            NodeEnum::JsonTable(it) => self.json_table(it),
            NodeEnum::JsonTableColumn(it) => self.json_column(it),
            NodeEnum::JsonTablePathSpec(it) => self.maybe(it.string.as_deref()),
            NodeEnum::JsonValueExpr(it) => self.json_value(Some(it)),
            NodeEnum::JsonArgument(it) => self.json_value(it.val.as_deref()),
            NodeEnum::JsonKeyValue(it) => {
                self.maybe(it.key.as_deref());
                self.json_value(it.value.as_deref());
            }
            NodeEnum::JsonIsPredicate(it) => self.maybe(it.expr.as_deref()),
            NodeEnum::JsonBehavior(it) => self.json_behaviour(Some(it)),
            NodeEnum::JsonOutput(it) => self.json_output(Some(it)),
            NodeEnum::JsonParseExpr(it) => {
                self.called("json");
                self.json_value(it.expr.as_deref());
                self.json_output(it.output.as_ref());
            }
            NodeEnum::JsonScalarExpr(it) => {
                self.called("json_scalar");
                self.maybe(it.expr.as_deref());
                self.json_output(it.output.as_ref());
            }
            NodeEnum::JsonSerializeExpr(it) => {
                self.called("json_serialize");
                self.json_value(it.expr.as_deref());
                self.json_output(it.output.as_ref());
            }
            NodeEnum::JsonObjectConstructor(it) => {
                self.called("json_object");
                self.nodes(&it.exprs);
                self.json_output(it.output.as_ref());
            }
            NodeEnum::JsonArrayConstructor(it) => {
                self.called("json_array");
                self.nodes(&it.exprs);
                self.json_output(it.output.as_ref());
            }
            NodeEnum::JsonArrayQueryConstructor(it) => {
                self.called("json_array");
                self.maybe(it.query.as_deref());
                self.json_output(it.output.as_ref());
            }
            NodeEnum::JsonObjectAgg(it) => {
                self.called("json_objectagg");
                self.json_aggregate(it.constructor.as_deref());
                if let Some(it) = it.arg.as_deref() {
                    self.maybe(it.key.as_deref());
                    self.json_value(it.value.as_deref());
                }
            }
            NodeEnum::JsonArrayAgg(it) => {
                self.called("json_arrayagg");
                self.json_aggregate(it.constructor.as_deref());
                self.json_value(it.arg.as_deref());
            }
            other => self.part_of_definition(other),
        }
    }

    fn json_function(&mut self, it: &JsonFuncExpr) {
        match JsonExprOp::try_from(it.op) {
            Ok(JsonExprOp::JsonExistsOp) => self.called("json_exists"),
            Ok(JsonExprOp::JsonQueryOp) => self.called("json_query"),
            Ok(JsonExprOp::JsonValueOp) => self.called("json_value"),
            Ok(JsonExprOp::JsonTableOp) => self.called("json_table"),
            Ok(JsonExprOp::Undefined) | Err(_) => self.unknown("a kind of SQL/JSON"),
        }
        self.json_value(it.context_item.as_deref());
        self.maybe(it.pathspec.as_deref());
        self.nodes(&it.passing);
        self.json_output(it.output.as_ref());
        self.json_behaviour(it.on_empty.as_deref());
        self.json_behaviour(it.on_error.as_deref());
    }

    fn json_table(&mut self, it: &JsonTable) {
        self.called("json_table");
        self.json_value(it.context_item.as_deref());
        self.maybe(it.pathspec.as_deref().and_then(|it| it.string.as_deref()));
        self.nodes(&it.passing);
        self.nodes(&it.columns);
        self.json_behaviour(it.on_error.as_deref());
    }

    fn json_column(&mut self, it: &JsonTableColumn) {
        self.types(it.type_name.as_ref());
        self.maybe(it.pathspec.as_deref().and_then(|it| it.string.as_deref()));
        self.nodes(&it.columns);
        self.json_behaviour(it.on_empty.as_deref());
        self.json_behaviour(it.on_error.as_deref());
    }

    fn json_value(&mut self, it: Option<&JsonValueExpr>) {
        if let Some(it) = it {
            self.maybe(it.raw_expr.as_deref());
            self.maybe(it.formatted_expr.as_deref());
        }
    }

    fn json_behaviour(&mut self, it: Option<&JsonBehavior>) {
        self.maybe(it.and_then(|it| it.expr.as_deref()));
    }

    fn json_output(&mut self, it: Option<&JsonOutput>) {
        self.types(it.and_then(|it| it.type_name.as_ref()));
    }

    fn json_aggregate(&mut self, it: Option<&JsonAggConstructor>) {
        if let Some(it) = it {
            self.json_output(it.output.as_ref());
            self.maybe(it.agg_filter.as_deref());
            self.nodes(&it.agg_order);
            if let Some(over) = &it.over {
                self.window(over);
            }
        }
    }
}
