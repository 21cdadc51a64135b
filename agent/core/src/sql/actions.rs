//! The actions of SQL statements, and the groups that policies know them by.

use std::{collections::BTreeMap, sync::LazyLock};

use pg_query::protobuf::ObjectType;

use crate::groups::{Group, Groups};

/// What does not parse, is too long, or is nested too deep.
pub const UNPARSED: &str = "postgres.unparsed";

const READ: Groups = Groups::of(&[Group::Read]);
const WRITE: Groups = Groups::of(&[Group::Write]);
const DELETE: Groups = Groups::of(&[Group::Delete]);
const IAM: Groups = Groups::of(&[Group::Write, Group::Iam]);
const CODE: Groups = Groups::of(&[Group::Write, Group::RunsCode]);
const DROP_IAM: Groups = Groups::of(&[Group::Delete, Group::Iam]);

/// Every action and its groups. Ids begin with `postgres.`.
pub static ACTIONS: LazyLock<BTreeMap<&'static str, Groups>> = LazyLock::new(|| {
    let mut all = BTreeMap::new();
    let lists = [
        (READ, READS),
        (WRITE, WRITES),
        (DELETE, DELETES),
        (IAM, IAMS),
        (CODE, RUNS_CODE),
    ];
    for (groups, list) in lists {
        all.extend(list.iter().map(|id| (*id, groups)));
    }
    all.insert("postgres.drop_owned", DROP_IAM);
    all.insert("postgres.alter_system", CODE.with(Group::Iam));
    // Reads or writes a file of the server: its configuration, keys, code.
    all.insert("postgres.copy_file", CODE.with(Group::Secret));
    for kind in KINDS {
        all.insert(kind.create, kind.made);
        all.insert(kind.alter, kind.made);
        let drop = if kind.made.contains(Group::Iam) {
            DROP_IAM
        } else {
            DELETE
        };
        all.insert(kind.drop, drop);
    }
    all
});

const READS: &[&str] = &[
    "postgres.begin",
    "postgres.close",
    "postgres.commit",
    "postgres.copy_to",
    "postgres.deallocate",
    "postgres.declare_cursor",
    "postgres.discard",
    "postgres.execute",
    "postgres.explain",
    "postgres.fetch",
    "postgres.listen",
    "postgres.lock_rows",
    "postgres.move",
    "postgres.prepare",
    "postgres.release",
    "postgres.reset",
    "postgres.rollback",
    "postgres.savepoint",
    "postgres.select",
    "postgres.set",
    "postgres.set_constraints",
    "postgres.show",
    "postgres.unlisten",
];

const WRITES: &[&str] = &[
    "postgres.analyze",
    "postgres.checkpoint",
    "postgres.cluster",
    "postgres.comment",
    "postgres.commit_prepared",
    "postgres.copy_from",
    "postgres.create_table_as",
    "postgres.insert",
    "postgres.lock",
    "postgres.merge",
    "postgres.nextval",
    "postgres.notify",
    "postgres.prepare_transaction",
    "postgres.refresh_materialized_view",
    "postgres.reindex",
    "postgres.rollback_prepared",
    "postgres.select_into",
    "postgres.update",
    "postgres.vacuum",
];

const DELETES: &[&str] = &[
    "postgres.delete",
    "postgres.drop_column",
    "postgres.truncate",
];

const IAMS: &[&str] = &[
    "postgres.alter_default_privileges",
    "postgres.alter_owner",
    "postgres.grant",
    "postgres.grant_role",
    "postgres.reassign_owned",
    "postgres.revoke",
    "postgres.revoke_role",
    "postgres.security_label",
    "postgres.set_role",
];

const RUNS_CODE: &[&str] = &[
    "postgres.call",
    "postgres.copy_program",
    "postgres.do",
    "postgres.import_foreign_schema",
    "postgres.load",
    UNPARSED,
];

/// The groups of an action; those of what does not parse, where there is no such action.
#[must_use]
pub fn groups(action: &str) -> Groups {
    ACTIONS.get(action).copied().unwrap_or(CODE)
}

/// Whether the action changes nothing but the connection it runs on.
pub(super) fn is_read(action: &str) -> bool {
    groups(action) == READ
}

/// Whether it changes rows of its relation, so that rules and INSTEAD OF triggers may stand in its way, and defaults come in.
pub(super) fn changes_rows(action: &str) -> bool {
    const THOSE: [&str; 4] = [
        "postgres.insert",
        "postgres.update",
        "postgres.delete",
        "postgres.merge",
    ];
    THOSE.contains(&action)
}

/// Whether what the action is done to is a table or another relation, rather than a role, a function, a setting.
#[must_use]
pub fn is_about_relation(action: &str) -> bool {
    const ELSE: &[&str] = &[
        "postgres.alter_default_privileges",
        "postgres.alter_owner",
        "postgres.alter_system",
        "postgres.call",
        "postgres.comment",
        "postgres.grant",
        "postgres.reset",
        "postgres.revoke",
        "postgres.security_label",
        "postgres.set",
        "postgres.set_role",
        "postgres.show",
    ];
    let of = |kind: &&Kind| [kind.create, kind.alter, kind.drop].contains(&action);
    match KINDS.iter().find(of) {
        Some(kind) => OF_RELATIONS.contains(&kind.is),
        None => !ELSE.contains(&action),
    }
}

/// Whether its relation is to be looked up for the schema that it is in: not one that is only being made, and no alias.
pub(super) fn is_known_by_relation(action: &str) -> bool {
    is_about_relation(action)
        && !action.starts_with("postgres.create_")
        && !["postgres.lock_rows", "postgres.select_into"].contains(&action)
}

/// Relations, and what belongs to one and is known by it.
const OF_RELATIONS: &[ObjectType] = &[
    ObjectType::ObjectForeignTable,
    ObjectType::ObjectIndex,
    ObjectType::ObjectMatview,
    ObjectType::ObjectPolicy,
    ObjectType::ObjectRule,
    ObjectType::ObjectSequence,
    ObjectType::ObjectTable,
    ObjectType::ObjectTrigger,
    ObjectType::ObjectView,
];

/// The actions on one kind of object.
pub(super) struct Kind {
    is: ObjectType,
    made: Groups,
    pub(super) create: &'static str,
    pub(super) alter: &'static str,
    pub(super) drop: &'static str,
}

macro_rules! kinds {
    ($($is:ident $name:literal $made:ident,)*) => {
        &[$(Kind {
            is: ObjectType::$is,
            made: $made,
            create: concat!("postgres.create_", $name),
            alter: concat!("postgres.alter_", $name),
            drop: concat!("postgres.drop_", $name),
        }),*]
    };
}

/// By what making one of them means: `CODE` runs later in somebody else's statement, or elsewhere.
const KINDS: &[Kind] = kinds! {
    ObjectAccessMethod "access_method" CODE,
    ObjectAggregate "aggregate" CODE,
    ObjectCast "cast" CODE,
    ObjectCollation "collation" WRITE,
    ObjectConversion "conversion" CODE,
    ObjectDatabase "database" WRITE,
    ObjectDomain "domain" WRITE,
    ObjectEventTrigger "event_trigger" CODE,
    ObjectExtension "extension" CODE,
    ObjectFdw "foreign_data_wrapper" CODE,
    ObjectForeignServer "server" CODE,
    ObjectForeignTable "foreign_table" CODE,
    ObjectFunction "function" CODE,
    ObjectIndex "index" WRITE,
    ObjectLanguage "language" CODE,
    ObjectLargeobject "large_object" WRITE,
    ObjectMatview "materialized_view" WRITE,
    ObjectOpclass "operator_class" CODE,
    ObjectOperator "operator" CODE,
    ObjectOpfamily "operator_family" CODE,
    ObjectPolicy "policy" IAM,
    ObjectProcedure "procedure" CODE,
    ObjectPublication "publication" IAM,
    ObjectRole "role" IAM,
    ObjectRoutine "routine" CODE,
    ObjectRule "rule" CODE,
    ObjectSchema "schema" WRITE,
    ObjectSequence "sequence" WRITE,
    ObjectStatisticExt "statistics" WRITE,
    ObjectSubscription "subscription" CODE,
    ObjectTable "table" WRITE,
    ObjectTablespace "tablespace" WRITE,
    ObjectTransform "transform" CODE,
    ObjectTrigger "trigger" CODE,
    ObjectTsconfiguration "text_search_configuration" WRITE,
    ObjectTsdictionary "text_search_dictionary" WRITE,
    ObjectTsparser "text_search_parser" CODE,
    ObjectTstemplate "text_search_template" CODE,
    ObjectType "type" WRITE,
    ObjectUserMapping "user_mapping" IAM,
    ObjectView "view" WRITE,
};

/// The actions on objects of this kind. What is a part of something else counts as that.
pub(super) fn kind(object: i32) -> Option<&'static Kind> {
    use ObjectType as O;
    let whole = match O::try_from(object).ok()? {
        O::ObjectColumn | O::ObjectTabconstraint | O::ObjectDefault => O::ObjectTable,
        O::ObjectAttribute => O::ObjectType,
        O::ObjectDomconstraint => O::ObjectDomain,
        O::ObjectAmop | O::ObjectAmproc => O::ObjectOpfamily,
        O::ObjectPublicationNamespace | O::ObjectPublicationRel => O::ObjectPublication,
        other => other,
    };
    KINDS.iter().find(|kind| kind.is == whole)
}
