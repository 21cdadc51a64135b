//! INSERT, UPDATE, DELETE and MERGE: what is planned besides SELECT.

use pg_query::{
    NodeEnum,
    protobuf::{
        CmdType, DeleteStmt, InsertStmt, MergeMatchKind, MergeStmt, MergeWhenClause,
        OnConflictAction, OnConflictClause, RangeVar, ReturningClause, UpdateStmt,
    },
};

use super::{Effect, Walk, name_of, whole::every_row};

impl Walk {
    /// Whether it is a statement that is planned; if so, it is in.
    pub(super) fn planned(&mut self, node: &NodeEnum) -> bool {
        match node {
            NodeEnum::SelectStmt(it) => self.select(it),
            NodeEnum::InsertStmt(it) => self.insert(it),
            NodeEnum::UpdateStmt(it) => self.update(it),
            NodeEnum::DeleteStmt(it) => self.delete(it),
            NodeEnum::MergeStmt(it) => self.merge(it),
            _ => return false,
        }
        true
    }

    fn insert(&mut self, it: &InsertStmt) {
        let InsertStmt {
            relation,
            cols,
            select_stmt,
            on_conflict_clause,
            returning_clause,
            with_clause,
            r#override: _,
        } = it;
        self.does_to("postgres.insert", relation.as_ref());
        self.enter_with(with_clause.as_ref());
        self.nodes(cols);
        if let Some(values) = select_stmt.as_deref().and_then(|it| it.node.as_ref()) {
            self.source(values);
        }
        if let Some(conflict) = on_conflict_clause {
            self.on_conflict(it, conflict);
        }
        self.returning(relation.as_ref(), returning_clause.as_ref());
        self.leave_with();
    }

    /// Plain VALUES read nothing.
    fn source(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::SelectStmt(it) if !it.values_lists.is_empty() && it.with_clause.is_none() => {
                self.nodes(&it.values_lists);
                self.nodes(&it.sort_clause);
                self.maybe(it.limit_offset.as_deref());
                self.maybe(it.limit_count.as_deref());
                self.nodes(&it.locking_clause);
            }
            other => {
                if !self.planned(other) {
                    self.unknown("a source of rows");
                }
            }
        }
    }

    fn on_conflict(&mut self, insert: &InsertStmt, it: &OnConflictClause) {
        match OnConflictAction::try_from(it.action) {
            Ok(OnConflictAction::OnconflictNothing | OnConflictAction::OnconflictNone) => {}
            Ok(OnConflictAction::OnconflictUpdate) => {
                self.does("postgres.update", insert.relation.as_ref().map(name_of));
            }
            Ok(OnConflictAction::Undefined) | Err(_) => self.unknown("a kind of ON CONFLICT"),
        }
        if let Some(infer) = &it.infer {
            self.nodes(&infer.index_elems);
            self.maybe(infer.where_clause.as_deref());
        }
        self.nodes(&it.target_list);
        self.maybe(it.where_clause.as_deref());
    }

    /// Gives rows of what is written, as SELECT would: PostgreSQL asks for the same right.
    fn returning(&mut self, relation: Option<&RangeVar>, clause: Option<&ReturningClause>) {
        if let Some(ReturningClause { options: _, exprs }) = clause {
            self.does(super::SELECT, relation.map(name_of));
            self.nodes(exprs);
        }
    }

    fn update(&mut self, it: &UpdateStmt) {
        let UpdateStmt {
            relation,
            target_list,
            where_clause,
            from_clause,
            returning_clause,
            with_clause,
        } = it;
        self.does_to("postgres.update", relation.as_ref());
        self.on_rows(
            every_row(where_clause.as_deref()),
            "postgres.update",
            it.relation.as_ref(),
        );
        self.enter_with(with_clause.as_ref());
        self.nodes(target_list);
        self.nodes(from_clause);
        self.maybe(where_clause.as_deref());
        self.returning(relation.as_ref(), returning_clause.as_ref());
        self.leave_with();
    }

    fn delete(&mut self, it: &DeleteStmt) {
        let DeleteStmt {
            relation,
            using_clause,
            where_clause,
            returning_clause,
            with_clause,
        } = it;
        self.does_to("postgres.delete", relation.as_ref());
        self.on_rows(
            every_row(where_clause.as_deref()),
            "postgres.delete",
            it.relation.as_ref(),
        );
        self.enter_with(with_clause.as_ref());
        self.nodes(using_clause);
        self.maybe(where_clause.as_deref());
        self.returning(relation.as_ref(), returning_clause.as_ref());
        self.leave_with();
    }

    fn on_rows(&mut self, every: bool, action: &'static str, relation: Option<&RangeVar>) {
        self.add(Effect {
            without_where: every,
            ..Effect::on(action, relation.map(name_of))
        });
    }

    fn merge(&mut self, it: &MergeStmt) {
        let MergeStmt {
            relation,
            source_relation,
            join_condition,
            merge_when_clauses,
            returning_clause,
            with_clause,
        } = it;
        self.does_to("postgres.merge", relation.as_ref());
        self.enter_with(with_clause.as_ref());
        self.maybe(source_relation.as_deref());
        self.maybe(join_condition.as_deref());
        for clause in merge_when_clauses {
            match clause.node.as_ref() {
                Some(NodeEnum::MergeWhenClause(clause)) => self.merge_when(it, clause),
                _ => self.unknown("a part of MERGE"),
            }
        }
        self.returning(relation.as_ref(), returning_clause.as_ref());
        self.leave_with();
    }

    fn merge_when(&mut self, merge: &MergeStmt, it: &MergeWhenClause) {
        let MergeWhenClause {
            match_kind,
            command_type,
            r#override: _,
            condition,
            target_list,
            values,
        } = it;
        let unmatched = MergeMatchKind::try_from(*match_kind)
            == Ok(MergeMatchKind::MergeWhenNotMatchedBySource);
        let joined = every_row(merge.join_condition.as_deref());
        let every = every_row(condition.as_deref()) && (joined || unmatched);
        let relation = merge.relation.as_ref();
        match CmdType::try_from(*command_type) {
            Ok(CmdType::CmdNothing) => {}
            Ok(CmdType::CmdInsert) => self.on_rows(false, "postgres.insert", relation),
            Ok(CmdType::CmdUpdate) => self.on_rows(every, "postgres.update", relation),
            Ok(CmdType::CmdDelete) => self.on_rows(every, "postgres.delete", relation),
            _ => self.unknown("a kind of MERGE"),
        }
        self.maybe(condition.as_deref());
        self.nodes(target_list);
        self.nodes(values);
    }
}
