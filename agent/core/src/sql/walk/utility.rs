//! Statements that are not planned, by kind.

use pg_query::{
    NodeEnum,
    protobuf::{CallStmt, CopyStmt, CreateTableAsStmt, Node, ObjectType, VacuumStmt},
};

use super::{Walk, name_of, session::constant};
use crate::sql::{Control, Copy, Effect, Name};

impl Walk {
    pub(super) fn utility(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::VariableSetStmt(it) => self.set(it),
            NodeEnum::VariableShowStmt(it) => {
                self.does("postgres.show", Some(Name::plain(&it.name)));
            }
            NodeEnum::TransactionStmt(it) => self.transaction(it),
            NodeEnum::PrepareStmt(it) => self.prepare(it),
            NodeEnum::ExecuteStmt(it) => self.execute(it),
            NodeEnum::DeallocateStmt(it) => {
                self.does("postgres.deallocate", None);
                let name = (!it.isall).then(|| it.name.clone());
                self.control = Control::Deallocate { name };
            }
            NodeEnum::ExplainStmt(it) => self.explain(it),
            NodeEnum::DeclareCursorStmt(it) => self.declare_cursor(it),
            NodeEnum::FetchStmt(it) if it.ismove => self.does("postgres.move", None),
            NodeEnum::FetchStmt(it) => {
                self.does("postgres.fetch", None);
                self.control = Control::Fetch {
                    name: it.portalname.clone(),
                };
            }
            NodeEnum::ClosePortalStmt(it) => {
                self.does("postgres.close", None);
                let name = Some(it.portalname.clone()).filter(|name| !name.is_empty());
                self.control = Control::CloseCursor { name };
            }
            NodeEnum::DiscardStmt(it) => self.discard(it),
            NodeEnum::ConstraintsSetStmt(_) => self.does("postgres.set_constraints", None),
            NodeEnum::ListenStmt(_) => self.does("postgres.listen", None),
            NodeEnum::UnlistenStmt(_) => self.does("postgres.unlisten", None),
            NodeEnum::NotifyStmt(_) => self.does("postgres.notify", None),
            NodeEnum::CopyStmt(it) => self.copy(it),
            NodeEnum::DoStmt(_) => self.add(Effect::opaque(
                "postgres.do",
                "DO runs code that Holdpoint does not read",
            )),
            NodeEnum::CallStmt(it) => self.calls(it),
            NodeEnum::LoadStmt(_) => self.add(Effect::opaque(
                "postgres.load",
                "LOAD runs a library on the server",
            )),
            NodeEnum::TruncateStmt(it) => self.each("postgres.truncate", &it.relations),
            NodeEnum::LockStmt(it) => self.each("postgres.lock", &it.relations),
            NodeEnum::VacuumStmt(it) => self.vacuum(it),
            NodeEnum::ClusterStmt(it) => self.does_to("postgres.cluster", it.relation.as_ref()),
            NodeEnum::ReindexStmt(it) => self.does_to("postgres.reindex", it.relation.as_ref()),
            NodeEnum::RefreshMatViewStmt(it) => {
                self.does_to("postgres.refresh_materialized_view", it.relation.as_ref());
            }
            NodeEnum::CheckPointStmt(_) => self.does("postgres.checkpoint", None),
            NodeEnum::CreateTableAsStmt(it) => self.create_table_as(it),
            other => self.on_object(other),
        }
    }

    /// The same for each of some relations.
    pub(super) fn each(&mut self, action: &'static str, relations: &[Node]) {
        for relation in relations {
            match relation.node.as_ref() {
                Some(NodeEnum::RangeVar(it)) => self.does_to(action, Some(it)),
                _ => self.unknown("a list of relations"),
            }
        }
        if relations.is_empty() {
            self.does(action, None);
        }
    }

    fn copy(&mut self, it: &CopyStmt) {
        let CopyStmt {
            relation,
            query,
            attlist,
            is_from,
            is_program,
            filename,
            options,
            where_clause,
        } = it;
        let (way, data) = match is_from {
            true => ("postgres.copy_from", "postgres.insert"),
            false => ("postgres.copy_to", super::SELECT),
        };
        let over_connection = filename.is_empty() && !is_program;
        let action = match (is_program, over_connection) {
            (true, _) => "postgres.copy_program",
            (_, true) => way,
            _ => "postgres.copy_file",
        };
        self.does_to(action, relation.as_ref());
        if relation.is_some() {
            self.does_to(data, relation.as_ref());
        }
        if let Some(query) = query.as_deref().and_then(|it| it.node.as_ref())
            && !self.planned(query)
        {
            self.unknown("what COPY copies");
        }
        self.maybe(where_clause.as_deref());
        if over_connection {
            let copy = Box::new(Copy {
                relation: relation.as_ref().map(name_of),
                columns: attlist
                    .iter()
                    .filter_map(super::text)
                    .map(str::to_owned)
                    .collect(),
                origins: Vec::new(),
                options: options.iter().filter_map(option).collect(),
            });
            self.control = match is_from {
                true => Control::CopyIn(copy),
                false => Control::CopyOut(copy),
            };
        }
    }

    fn calls(&mut self, it: &CallStmt) {
        let name = it
            .funccall
            .as_ref()
            .and_then(|it| super::last_two(&it.funcname));
        self.add(Effect {
            opaque: Some("CALL runs code that Holdpoint does not read".into()),
            ..Effect::on("postgres.call", name)
        });
        if let Some(call) = &it.funccall {
            self.call(call);
        }
    }

    fn vacuum(&mut self, it: &VacuumStmt) {
        let action = match it.is_vacuumcmd {
            true => "postgres.vacuum",
            false => "postgres.analyze",
        };
        for relation in &it.rels {
            match relation.node.as_ref() {
                Some(NodeEnum::VacuumRelation(it)) => self.does_to(action, it.relation.as_ref()),
                _ => self.unknown("a relation to vacuum"),
            }
        }
        if it.rels.is_empty() {
            self.does(action, None);
        }
    }

    fn create_table_as(&mut self, it: &CreateTableAsStmt) {
        let action = match ObjectType::try_from(it.objtype) {
            Ok(ObjectType::ObjectMatview) => "postgres.create_materialized_view",
            _ if it.is_select_into => "postgres.select_into",
            _ => "postgres.create_table_as",
        };
        let made = it.into.as_ref().and_then(|it| it.rel.as_ref());
        self.does(action, made.map(name_of));
        match it.query.as_deref().and_then(|it| it.node.as_ref()) {
            Some(NodeEnum::ExecuteStmt(it)) => self.execute(it),
            Some(query) if self.planned(query) => {}
            _ => self.unknown("what the table is made of"),
        }
    }
}

fn option(node: &Node) -> Option<(String, Option<String>)> {
    match node.node.as_ref()? {
        NodeEnum::DefElem(it) => {
            let value = it.arg.as_deref().and_then(constant);
            Some((it.defname.to_ascii_lowercase(), value))
        }
        _ => None,
    }
}
