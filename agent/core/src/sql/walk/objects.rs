//! Making, altering and dropping objects.

use pg_query::{
    NodeEnum,
    protobuf::{
        AlterTableCmd, AlterTableStmt, AlterTableType, ColumnDef, Constraint, CreateStmt, DropStmt,
        IndexStmt, Node, ObjectType, PartitionBoundSpec, RenameStmt, TypeName,
    },
};

use super::{Walk, last_two, name_of};
use crate::sql::{Name, actions};

impl Walk {
    pub(super) fn on_object(&mut self, node: &NodeEnum) {
        use ObjectType as O;
        match node {
            NodeEnum::CreateStmt(it) => self.create_table("postgres.create_table", it),
            NodeEnum::CreateForeignTableStmt(it) => match &it.base_stmt {
                Some(table) => self.create_table("postgres.create_foreign_table", table),
                None => self.unknown("a foreign table"),
            },
            NodeEnum::IndexStmt(it) => self.index(it),
            NodeEnum::AlterTableStmt(it) => self.alter_table(it),
            NodeEnum::DropStmt(it) => self.drops(it),
            NodeEnum::ViewStmt(it) => {
                self.does("postgres.create_view", it.view.as_ref().map(name_of))
            }
            NodeEnum::CreateSeqStmt(it) => {
                self.does(
                    "postgres.create_sequence",
                    it.sequence.as_ref().map(name_of),
                );
            }
            NodeEnum::AlterSeqStmt(it) => {
                self.does_to("postgres.alter_sequence", it.sequence.as_ref())
            }
            NodeEnum::CreateTrigStmt(it) => {
                self.does_to("postgres.create_trigger", it.relation.as_ref())
            }
            NodeEnum::RuleStmt(it) => self.does_to("postgres.create_rule", it.relation.as_ref()),
            NodeEnum::CreatePolicyStmt(it) => {
                self.does_to("postgres.create_policy", it.table.as_ref())
            }
            NodeEnum::AlterPolicyStmt(it) => {
                self.does_to("postgres.alter_policy", it.table.as_ref())
            }
            NodeEnum::CreateFunctionStmt(it) => {
                let kind = if it.is_procedure {
                    O::ObjectProcedure
                } else {
                    O::ObjectFunction
                };
                self.creates(kind, last_two(&it.funcname));
            }
            NodeEnum::CreateSchemaStmt(it) => {
                self.creates(O::ObjectSchema, Some(Name::plain(&it.schemaname)));
                self.schema_elements(&it.schema_elts);
            }
            NodeEnum::CompositeTypeStmt(it) => {
                self.creates(O::ObjectType, it.typevar.as_ref().map(name_of));
            }
            NodeEnum::CreateEnumStmt(it) => {
                self.creates(O::ObjectType, last_two(&it.type_name));
                self.keeps_meaning = true;
            }
            NodeEnum::CreateRangeStmt(it) => self.creates(O::ObjectType, last_two(&it.type_name)),
            NodeEnum::AlterEnumStmt(it) => {
                self.alters(O::ObjectType as i32, last_two(&it.type_name));
                self.keeps_meaning = true;
            }
            NodeEnum::AlterTypeStmt(it) => {
                self.alters(O::ObjectType as i32, last_two(&it.type_name))
            }
            NodeEnum::CreateDomainStmt(it) => {
                self.creates(O::ObjectDomain, last_two(&it.domainname))
            }
            NodeEnum::AlterDomainStmt(it) => {
                self.alters(O::ObjectDomain as i32, last_two(&it.type_name))
            }
            NodeEnum::DefineStmt(it) => self.define(it.kind, last_two(&it.defnames)),
            NodeEnum::CreateStatsStmt(it) => {
                self.creates(O::ObjectStatisticExt, last_two(&it.defnames))
            }
            NodeEnum::AlterStatsStmt(it) => {
                self.alters(O::ObjectStatisticExt as i32, last_two(&it.defnames));
            }
            // Databases, schemas, roles and tablespaces have their name there.
            NodeEnum::RenameStmt(it) if it.relation.is_none() && it.object.is_none() => {
                self.alters(it.rename_type, Some(Name::plain(&it.subname)));
            }
            NodeEnum::RenameStmt(it) => {
                self.alter_part(
                    it.rename_type,
                    it.relation_type,
                    it.relation.as_ref(),
                    it.object.as_deref(),
                );
                self.keeps_meaning = is_part_of_a_table(it);
                if !self.keeps_meaning && it.relation.is_some() {
                    self.names.relations.insert(Name::plain(&it.newname));
                }
            }
            NodeEnum::AlterObjectSchemaStmt(it) => {
                self.alter_part(
                    it.object_type,
                    0,
                    it.relation.as_ref(),
                    it.object.as_deref(),
                );
                if let Some(relation) = &it.relation {
                    let moved = Name::within(&it.newschema, &relation.relname);
                    self.names.relations.insert(moved);
                }
            }
            NodeEnum::AlterObjectDependsStmt(it) => {
                self.alter_part(
                    it.object_type,
                    0,
                    it.relation.as_ref(),
                    it.object.as_deref(),
                );
            }
            NodeEnum::AlterOwnerStmt(it) => {
                let relation = it.relation.as_ref().map(name_of);
                let name = relation.or_else(|| it.object.as_deref().and_then(object_name));
                self.alters(it.object_type, name.clone());
                self.does("postgres.alter_owner", name);
            }
            NodeEnum::AlterFunctionStmt(it) => {
                let name = it.func.as_ref().and_then(|it| last_two(&it.objname));
                self.alters(it.objtype, name);
            }
            NodeEnum::CommentStmt(it) => {
                self.does(
                    "postgres.comment",
                    it.object.as_deref().and_then(object_name),
                );
            }
            NodeEnum::SecLabelStmt(it) => {
                self.does(
                    "postgres.security_label",
                    it.object.as_deref().and_then(object_name),
                );
            }
            other => self.on_rights(other),
        }
    }

    pub(super) fn creates(&mut self, kind: ObjectType, name: Option<Name>) {
        match actions::kind(kind as i32) {
            Some(kind) => self.does(kind.create, name),
            None => self.unknown("a kind of object"),
        }
    }

    fn define(&mut self, kind: i32, name: Option<Name>) {
        match actions::kind(kind) {
            // A base type is made of functions in C.
            Some(kind) => self.does(kind.create, name),
            None => self.unknown("a kind of object"),
        }
    }

    pub(super) fn alters(&mut self, kind: i32, name: Option<Name>) {
        match actions::kind(kind) {
            Some(kind) => self.does(kind.alter, name),
            None => self.unknown("a kind of object"),
        }
    }

    fn alter_part(
        &mut self,
        kind: i32,
        of: i32,
        relation: Option<&pg_query::protobuf::RangeVar>,
        object: Option<&Node>,
    ) {
        let name = relation.map(name_of);
        self.names.relations.extend(name.clone());
        let is_part = kind == ObjectType::ObjectColumn as i32 && of != 0;
        let name = name.or_else(|| object.and_then(object_name));
        self.alters(if is_part { of } else { kind }, name);
    }

    fn schema_elements(&mut self, elements: &[Node]) {
        for element in elements.iter().filter_map(|it| it.node.as_ref()) {
            self.utility(element);
        }
    }

    fn create_table(&mut self, action: &'static str, it: &CreateStmt) {
        self.does(action, it.relation.as_ref().map(name_of));
        for parent in &it.inh_relations {
            if let Some(NodeEnum::RangeVar(it)) = parent.node.as_ref() {
                self.names.relations.insert(name_of(it));
            }
        }
        self.nodes(&it.table_elts);
        self.nodes(&it.constraints);
        self.types(it.of_typename.as_ref());
        self.bound(it.partbound.as_ref());
        if let Some(spec) = &it.partspec {
            self.nodes(&spec.part_params);
        }
    }

    fn bound(&mut self, it: Option<&PartitionBoundSpec>) {
        if let Some(it) = it {
            self.nodes(&it.listdatums);
            self.nodes(&it.lowerdatums);
            self.nodes(&it.upperdatums);
        }
    }

    fn index(&mut self, it: &IndexStmt) {
        self.does_to("postgres.create_index", it.relation.as_ref());
        self.nodes(&it.index_params);
        self.nodes(&it.index_including_params);
        self.maybe(it.where_clause.as_deref());
    }

    fn alter_table(&mut self, it: &AlterTableStmt) {
        let AlterTableStmt {
            relation,
            cmds,
            objtype,
            missing_ok: _,
        } = it;
        let name = relation.as_ref().map(name_of);
        self.names.relations.extend(name.clone());
        self.alters(*objtype, name.clone());
        self.keeps_meaning = *objtype == ObjectType::ObjectTable as i32;
        for cmd in cmds {
            match cmd.node.as_ref() {
                Some(NodeEnum::AlterTableCmd(it)) => {
                    self.keeps_meaning &= keeps_meaning(it);
                    self.alter_table_cmd(it, name.as_ref());
                }
                _ => self.unknown("a part of ALTER"),
            }
        }
    }

    /// What changes who may do what, and what switches a protection off, stands out.
    fn alter_table_cmd(&mut self, it: &AlterTableCmd, relation: Option<&Name>) {
        use AlterTableType as T;
        let more = match AlterTableType::try_from(it.subtype) {
            Ok(T::Undefined) | Err(_) => return self.unknown("a kind of ALTER TABLE"),
            Ok(T::AtChangeOwner) => Some("postgres.alter_owner"),
            Ok(
                T::AtEnableRowSecurity
                | T::AtDisableRowSecurity
                | T::AtForceRowSecurity
                | T::AtNoForceRowSecurity,
            ) => Some("postgres.alter_policy"),
            Ok(
                T::AtEnableTrig
                | T::AtEnableAlwaysTrig
                | T::AtEnableReplicaTrig
                | T::AtDisableTrig
                | T::AtEnableTrigAll
                | T::AtDisableTrigAll
                | T::AtEnableTrigUser
                | T::AtDisableTrigUser,
            ) => Some("postgres.alter_trigger"),
            Ok(
                T::AtEnableRule | T::AtEnableAlwaysRule | T::AtEnableReplicaRule | T::AtDisableRule,
            ) => Some("postgres.alter_rule"),
            Ok(T::AtDropColumn) => Some("postgres.drop_column"),
            Ok(_) => None,
        };
        if let Some(action) = more {
            self.does(action, relation.cloned());
        }
        if AlterTableType::try_from(it.subtype) == Ok(T::AtColumnDefault) {
            self.kept(it.def.as_deref());
        } else {
            self.maybe(it.def.as_deref());
        }
    }

    fn drops(&mut self, it: &DropStmt) {
        let DropStmt {
            objects,
            remove_type,
            behavior: _,
            missing_ok: _,
            concurrent: _,
        } = it;
        let Some(kind) = actions::kind(*remove_type) else {
            return self.unknown("a kind of object");
        };
        for object in objects {
            // A trigger is known by its table, before which its own name stands last.
            let name = match (ObjectType::try_from(*remove_type), object.node.as_ref()) {
                (
                    Ok(
                        ObjectType::ObjectTrigger
                        | ObjectType::ObjectRule
                        | ObjectType::ObjectPolicy,
                    ),
                    Some(NodeEnum::List(it)),
                ) => it.items.split_last().and_then(|(_, of)| last_two(of)),
                _ => object_name(object),
            };
            self.does(kind.drop, name);
        }
    }

    /// What a definition is made of, as far as it is looked at or run when it is made.
    pub(super) fn part_of_definition(&mut self, node: &NodeEnum) {
        match node {
            NodeEnum::ColumnDef(it) => self.column_of_table(it),
            NodeEnum::Constraint(it) => self.constraint(it),
            NodeEnum::TableLikeClause(it) => {
                self.names
                    .relations
                    .extend(it.relation.as_ref().map(name_of));
            }
            NodeEnum::IndexElem(it) => self.maybe(it.expr.as_deref()),
            NodeEnum::PartitionElem(it) => self.maybe(it.expr.as_deref()),
            NodeEnum::PartitionBoundSpec(it) => self.bound(Some(it)),
            NodeEnum::PartitionRangeDatum(it) => self.maybe(it.value.as_deref()),
            NodeEnum::PartitionCmd(it) => {
                self.names.relations.extend(it.name.as_ref().map(name_of));
                self.bound(it.bound.as_ref());
            }
            NodeEnum::DefElem(_)
            | NodeEnum::RoleSpec(_)
            | NodeEnum::ReplicaIdentityStmt(_)
            | NodeEnum::AtalterConstraint(_) => {}
            _ => self.unknown("a part of the grammar"),
        }
    }

    fn column_of_table(&mut self, it: &ColumnDef) {
        if !it.type_name.as_ref().is_some_and(is_serial) {
            self.types(it.type_name.as_ref());
        }
        self.kept(it.raw_default.as_deref());
        self.nodes(&it.constraints);
    }

    fn constraint(&mut self, it: &Constraint) {
        self.kept(it.raw_expr.as_deref());
        self.maybe(it.where_clause.as_deref());
        self.nodes(&it.exclusions);
        self.names
            .relations
            .extend(it.pktable.as_ref().map(name_of));
    }
}

/// What a table has afterwards is what the statement says, and is looked up with it. Not here: owners, row security, triggers, rules, what
/// it inherits from and what is attached to it.
fn keeps_meaning(it: &AlterTableCmd) -> bool {
    use AlterTableType as T;
    matches!(
        AlterTableType::try_from(it.subtype),
        Ok(T::AtAddColumn
            | T::AtAddConstraint
            | T::AtAddIdentity
            | T::AtAlterColumnType
            | T::AtAlterConstraint
            | T::AtClusterOn
            | T::AtColumnDefault
            | T::AtDropCluster
            | T::AtDropColumn
            | T::AtDropConstraint
            | T::AtDropIdentity
            | T::AtDropNotNull
            | T::AtReplicaIdentity
            | T::AtResetOptions
            | T::AtResetRelOptions
            | T::AtSetCompression
            | T::AtSetIdentity
            | T::AtSetLogged
            | T::AtSetNotNull
            | T::AtSetOptions
            | T::AtSetRelOptions
            | T::AtSetStatistics
            | T::AtSetStorage
            | T::AtSetUnLogged
            | T::AtValidateConstraint)
    )
}

/// A column or a constraint of a table gets another name.
fn is_part_of_a_table(it: &RenameStmt) -> bool {
    let is = |kind: i32, of: ObjectType| kind == of as i32;
    is(it.rename_type, ObjectType::ObjectTabconstraint)
        || is(it.rename_type, ObjectType::ObjectColumn)
            && is(it.relation_type, ObjectType::ObjectTable)
}

/// No type, but a way to write one with a sequence (`transformColumnDefinition` in parse_utilcmd.c).
fn is_serial(it: &TypeName) -> bool {
    const SERIAL: [&str; 6] = [
        "bigserial",
        "serial",
        "serial2",
        "serial4",
        "serial8",
        "smallserial",
    ];
    last_two(&it.names)
        .is_some_and(|name| name.schema.is_none() && SERIAL.contains(&name.name.as_str()))
}

/// The name of an object of any kind, where it has one.
pub(super) fn object_name(node: &Node) -> Option<Name> {
    match node.node.as_ref()? {
        NodeEnum::RangeVar(it) => Some(name_of(it)),
        NodeEnum::String(it) => Some(Name::plain(&it.sval)),
        NodeEnum::List(it) => last_two(&it.items),
        NodeEnum::TypeName(it) => last_two(&it.names),
        NodeEnum::ObjectWithArgs(it) => last_two(&it.objname),
        _ => None,
    }
}
