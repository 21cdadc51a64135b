//! What a stock PostgreSQL comes with, and which of it a read may use.
//!
//! `stock.txt` says what there is (PostgreSQL 15; `stock.sql` makes it); which of that is harmless is judged here.
//! The lists allow: a function that is in none of them is not harmless.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

static TABLE: LazyLock<Table> = LazyLock::new(|| Table::of(include_str!("stock.txt")));

/// PostgreSQL's own table.
struct Table {
    /// Function to the volatilities of its overloads.
    functions: HashMap<&'static str, &'static str>,
    operators: HashSet<&'static str>,
    types: HashSet<&'static str>,
    relations: HashSet<&'static str>,
}

impl Table {
    fn of(text: &'static str) -> Self {
        let mut table = Self {
            functions: LATER_FUNCTIONS.iter().map(|name| (*name, "s")).collect(),
            operators: HashSet::new(),
            types: HashSet::new(),
            relations: LATER_RELATIONS.iter().copied().collect(),
        };
        for line in text.lines() {
            let (kind, name) = line.split_once(' ').unwrap_or((line, ""));
            match kind {
                "f" => {
                    let (name, volatilities) = name.split_once(' ').unwrap_or((name, "v"));
                    table.functions.insert(name, volatilities);
                }
                "o" => drop(table.operators.insert(name)),
                "t" => drop(table.types.insert(name)),
                _ => drop(table.relations.insert(name)),
            }
        }
        table
    }
}

/// What PostgreSQL's own function of this name may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// Nothing but give a value.
    Harmless,
    /// Something that lasts, or that reaches beyond the database; but it defines nothing.
    Acts,
    /// What a call of it does is told by the grammar, as an effect of its own.
    Told,
    /// Runs SQL that the text of the statement does not show.
    Runs,
    /// There is none in the table.
    Unknown,
}

/// PostgreSQL's own function of this name.
pub(super) fn function(name: &str) -> Own {
    match TABLE.functions.get(name) {
        None => Own::Unknown,
        Some(_) if RUNS.contains(&name) => Own::Runs,
        Some(volatilities) if !volatilities.contains('v') => Own::Harmless,
        Some(_) if name == "set_config" || called(name).is_some() => Own::Told,
        Some(_) if VOLATILE_YET_HARMLESS.contains(&name) => Own::Harmless,
        Some(_) => Own::Acts,
    }
}

/// The action of a call of PostgreSQL's own function of this name, where a command does the same.
pub(in crate::sql) fn called(name: &str) -> Option<&'static str> {
    let mut commands = COMMANDS.iter();
    commands
        .find(|(function, _)| *function == name)
        .map(|(_, action)| *action)
}

/// PostgreSQL has an operator of this name.
pub(super) fn operator(name: &str) -> bool {
    TABLE.operators.contains(name)
}

/// PostgreSQL has a type of this name.
pub(super) fn type_(name: &str) -> bool {
    TABLE.types.contains(name)
}

/// The system relation of this name, if there is one: whether it may be read like any table, or why not.
pub(super) fn relation(schema: &str, name: &str) -> Option<Result<(), &'static str>> {
    TABLE
        .relations
        .contains(format!("{schema}.{name}").as_str())
        .then(|| {
            GUARDED
                .iter()
                .find(|(guarded, _)| *guarded == name)
                .map_or(Ok(()), |(_, why)| Err(*why))
        })
}

/// An extension whose types, operators and functions (those that are not volatile) only compute values.
pub(super) fn computes(extension: &str) -> bool {
    EXTENSIONS.contains(&extension)
}

/// A volatile function of an extension that does nothing all the same.
pub(super) fn extension_function(extension: &str, name: &str) -> bool {
    EXTENSION_FUNCTIONS.contains(&(extension, name))
}

/// Of PostgreSQL's functions that are not declared volatile, or look like it, those that run SQL which the statement
/// does not show: text given to them, tables named by text, or input functions of types named by oid or text.
const RUNS: &[&str] = &[
    "array_in",
    "array_recv",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "database_to_xmlschema",
    "domain_in",
    "domain_recv",
    "fmgr_c_validator",
    "fmgr_internal_validator",
    "fmgr_sql_validator",
    "multirange_in",
    "multirange_recv",
    "plpgsql_validator",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "range_in",
    "range_recv",
    "record_in",
    "record_recv",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "schema_to_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "table_to_xmlschema",
    "ts_rewrite",
    "ts_stat",
];

/// Volatile only because their value changes from call to call: each was looked up in the documentation. What takes a
/// lock, moves a sequence, reads files, WAL or large objects, or tells other sessions something is not here.
/// `pg_sleep` is: it changes nothing, and a statement can take its time in many other ways.
const VOLATILE_YET_HARMLESS: &[&str] = &[
    // Methods of TABLESAMPLE, which are functions in the catalog.
    "bernoulli",
    "clock_timestamp",
    "current_query",
    "currval",
    "gen_random_uuid",
    "lastval",
    "pg_blocking_pids",
    "pg_collation_actual_version",
    "pg_control_checkpoint",
    "pg_control_init",
    "pg_control_recovery",
    "pg_control_system",
    "pg_current_wal_flush_lsn",
    "pg_current_wal_insert_lsn",
    "pg_current_wal_lsn",
    "pg_database_collation_actual_version",
    "pg_database_size",
    // Only names a snapshot for `pg_dump -j`; it ends with its transaction.
    "pg_export_snapshot",
    "pg_get_multixact_members",
    "pg_get_wal_replay_pause_state",
    "pg_get_wal_resource_managers",
    "pg_indexes_size",
    "pg_is_in_recovery",
    "pg_is_wal_replay_paused",
    "pg_jit_available",
    "pg_last_committed_xact",
    "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn",
    "pg_last_xact_replay_timestamp",
    "pg_lock_status",
    "pg_notification_queue_usage",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_prepared_xact",
    "pg_relation_size",
    "pg_safe_snapshot_blocking_pids",
    "pg_sequence_last_value",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_stat_get_recovery_prefetch",
    "pg_stat_get_xact_blocks_fetched",
    "pg_stat_get_xact_blocks_hit",
    "pg_stat_get_xact_function_calls",
    "pg_stat_get_xact_function_self_time",
    "pg_stat_get_xact_function_total_time",
    "pg_stat_get_xact_numscans",
    "pg_stat_get_xact_tuples_deleted",
    "pg_stat_get_xact_tuples_fetched",
    "pg_stat_get_xact_tuples_hot_updated",
    "pg_stat_get_xact_tuples_inserted",
    "pg_stat_get_xact_tuples_returned",
    "pg_stat_get_xact_tuples_updated",
    "pg_stat_have_stats",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "pg_xact_commit_timestamp",
    "pg_xact_commit_timestamp_origin",
    "pg_xact_status",
    "random",
    "setseed",
    "system",
    "timeofday",
    "txid_status",
];

/// Functions that do what a command does, and the action of that.
const COMMANDS: &[(&str, &str)] = &[
    ("nextval", "postgres.nextval"),
    ("pg_advisory_lock", "postgres.lock"),
    ("pg_advisory_lock_shared", "postgres.lock"),
    ("pg_advisory_unlock", "postgres.lock"),
    ("pg_advisory_unlock_all", "postgres.lock"),
    ("pg_advisory_unlock_shared", "postgres.lock"),
    ("pg_advisory_xact_lock", "postgres.lock"),
    ("pg_advisory_xact_lock_shared", "postgres.lock"),
    ("pg_notify", "postgres.notify"),
    ("pg_try_advisory_lock", "postgres.lock"),
    ("pg_try_advisory_lock_shared", "postgres.lock"),
    ("pg_try_advisory_xact_lock", "postgres.lock"),
    ("pg_try_advisory_xact_lock_shared", "postgres.lock"),
    ("setval", "postgres.alter_sequence"),
];

/// Functions that 16, 17 and 18 added, harmless by their documentation; all others of theirs are unknown. Not here:
/// `pg_input_is_valid` and `pg_input_error_info` (they run a domain's constraints), `pg_stat_io`'s resets.
const LATER_FUNCTIONS: &[&str] = &[
    // 16
    "any_value",
    "array_sample",
    "array_shuffle",
    "date_add",
    "date_subtract",
    "erf",
    "erfc",
    "pg_split_walfile_name",
    "pg_stat_get_io",
    "random_normal",
    "system_user",
    // 17
    "json_array",
    "json_arrayagg",
    "json_exists",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_table",
    "json_value",
    "merge_action",
    "pg_basetype",
    "pg_column_toast_chunk_id",
    "pg_get_wait_events",
    "to_bin",
    "to_oct",
    "unicode_assigned",
    "unicode_version",
    "uuid_extract_timestamp",
    "uuid_extract_version",
    "xmltext",
    // 18
    "array_reverse",
    "array_sort",
    "casefold",
    "crc32",
    "crc32c",
    "gamma",
    "json_strip_nulls",
    "jsonb_strip_nulls",
    "lgamma",
    "pg_get_acl",
    "pg_numa_available",
    "uuidv4",
    "uuidv7",
];

/// System views that 16, 17 and 18 added.
const LATER_RELATIONS: &[&str] = &[
    "pg_catalog.pg_aios",
    "pg_catalog.pg_shmem_allocations_numa",
    "pg_catalog.pg_stat_checkpointer",
    "pg_catalog.pg_stat_io",
    "pg_catalog.pg_wait_events",
];

/// System relations that show what a read of them should not pass for.
const GUARDED: &[(&str, &str)] = &[
    ("_pg_user_mappings", "it holds passwords for other servers"),
    ("pg_authid", "it holds password verifiers"),
    (
        "pg_file_settings",
        "it reads the server's configuration files",
    ),
    (
        "pg_hba_file_rules",
        "it reads the server's configuration files",
    ),
    (
        "pg_ident_file_mappings",
        "it reads the server's configuration files",
    ),
    (
        "pg_largeobject",
        "it holds the content of all large objects",
    ),
    ("pg_shadow", "it holds password verifiers"),
    (
        "pg_statistic",
        "it holds samples of other tables' values, which no mask covers",
    ),
    (
        "pg_statistic_ext_data",
        "it holds samples of other tables' values, which no mask covers",
    ),
    (
        "pg_stats",
        "it holds samples of other tables' values, which no mask covers",
    ),
    (
        "pg_stats_ext",
        "it holds samples of other tables' values, which no mask covers",
    ),
    (
        "pg_stats_ext_exprs",
        "it holds samples of other tables' values, which no mask covers",
    ),
    ("pg_user_mapping", "it holds passwords for other servers"),
    ("pg_user_mappings", "it holds passwords for other servers"),
    (
        "user_mapping_options",
        "it holds passwords for other servers",
    ),
];

/// Extensions that only compute values. `dblink`, the foreign-data wrappers, `adminpack`, `file_fdw`, `lo`, `xml2`
/// (it reads documents and tables named by text) and `tablefunc` (it runs text) are not here.
const EXTENSIONS: &[&str] = &[
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "ltree",
    "pg_trgm",
    "pgcrypto",
    "prefix",
    "seg",
    "semver",
    "unaccent",
    "uuid-ossp",
    "vector",
];

/// Volatile functions of extensions that only give a value.
const EXTENSION_FUNCTIONS: &[(&str, &str)] = &[
    ("pg_stat_statements", "pg_stat_statements"),
    ("pg_stat_statements", "pg_stat_statements_info"),
    ("pg_trgm", "show_limit"),
    ("pgcrypto", "gen_random_bytes"),
    ("pgcrypto", "gen_random_uuid"),
    ("pgcrypto", "gen_salt"),
    ("pgcrypto", "pgp_pub_encrypt"),
    ("pgcrypto", "pgp_pub_encrypt_bytea"),
    ("pgcrypto", "pgp_sym_encrypt"),
    ("pgcrypto", "pgp_sym_encrypt_bytea"),
    ("uuid-ossp", "uuid_generate_v1"),
    ("uuid-ossp", "uuid_generate_v1mc"),
    ("uuid-ossp", "uuid_generate_v4"),
];
