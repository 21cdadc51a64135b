//! What concerns the connection: settings, transactions, prepared statements, cursors.

use pg_query::{
    NodeEnum,
    protobuf::{
        AExprKind, DeclareCursorStmt, DiscardMode, DiscardStmt, ExecuteStmt, ExplainStmt, Node,
        PrepareStmt, SelectStmt, TransactionStmt, TransactionStmtKind, VariableSetKind,
        VariableSetStmt, a_const::Val,
    },
};

use super::{Walk, text};
use crate::sql::{Control, Effect, Name, actions};

const SET: &str = "postgres.set";

/// Settings of the session that change neither what a statement means nor whose rights it runs with. What is not here may:
/// `session_replication_role` switches triggers off, and row security often asks for settings of the application's own.
const HARMLESS: &[&str] = &[
    "application_name",
    "array_nulls",
    "backend_flush_after",
    "bytea_output",
    "check_function_bodies",
    "client_connection_check_interval",
    "client_min_messages",
    "commit_delay",
    "commit_siblings",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "debug_parallel_query",
    "deadlock_timeout",
    "default_statistics_target",
    "default_table_access_method",
    "default_tablespace",
    "default_text_search_config",
    "default_toast_compression",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "effective_cache_size",
    "effective_io_concurrency",
    "escape_string_warning",
    "extra_float_digits",
    "force_parallel_mode",
    "from_collapse_limit",
    "geqo",
    "geqo_threshold",
    "gin_fuzzy_search_limit",
    "gin_pending_list_limit",
    "hash_mem_multiplier",
    "icu_validation_level",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "jit_above_cost",
    "join_collapse_limit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "logical_decoding_work_mem",
    "maintenance_io_concurrency",
    "maintenance_work_mem",
    "max_parallel_maintenance_workers",
    "max_parallel_workers",
    "max_parallel_workers_per_gather",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "password_encryption",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "recursive_worktable_factor",
    "restrict_nonsystem_relation_kind",
    "row_security",
    "search_path",
    "seed",
    "seq_page_cost",
    "statement_timeout",
    "stats_fetch_consistency",
    "synchronize_seqscans",
    "synchronous_commit",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_user_timeout",
    "temp_buffers",
    "timezone",
    "timezone_abbreviations",
    "track_activities",
    "track_counts",
    "track_functions",
    "track_io_timing",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
    "vacuum_cost_delay",
    "vacuum_cost_limit",
    "work_mem",
    "xmlbinary",
    "xmloption",
];

/// What setting `name` to `value` (nothing: its default) means.
fn setting(name: &str, value: Option<&str>) -> Effect {
    let is = |words: &[&str]| {
        value.is_none_or(|value| words.contains(&value.to_ascii_lowercase().as_str()))
    };
    let about = Some(Name::plain(name));
    let harmless = match name {
        "role" | "session_authorization" => return Effect::on("postgres.set_role", about),
        // Both change how the server reads SQL; Holdpoint reads it in one way.
        "standard_conforming_strings" => is(&["on", "true", "yes", "1"]),
        "client_encoding" | "names" => is(&["utf8", "utf-8", "unicode"]),
        "backslash_quote" => is(&["safe_encoding"]),
        _ => is_harmless(name),
    };
    let why = "it sets something that can change what later statements mean or may do";
    Effect {
        opaque: (!harmless).then(|| format!("{why}: {name}")),
        ..Effect::on(SET, about)
    }
}

fn is_harmless(name: &str) -> bool {
    HARMLESS.contains(&name) || name.starts_with("enable_") && !name.contains('.')
}

/// `$1`, also with a cast.
fn is_parameter(node: &Node) -> bool {
    match node.node.as_ref() {
        Some(NodeEnum::ParamRef(_)) => true,
        Some(NodeEnum::TypeCast(it)) => it.arg.as_deref().is_some_and(is_parameter),
        _ => false,
    }
}

impl Walk {
    pub(super) fn set(&mut self, it: &VariableSetStmt) {
        use VariableSetKind as K;
        let name = it.name.to_ascii_lowercase();
        match VariableSetKind::try_from(it.kind) {
            Ok(K::VarSetValue) => {
                let values: Option<Vec<String>> = it.args.iter().map(constant).collect();
                match values {
                    Some(values) => self.sets(name, Some(values.join(", ")), it.is_local),
                    None => self.add(Effect::opaque(SET, "its value is not a constant")),
                }
            }
            Ok(K::VarSetDefault) => self.sets(name, None, it.is_local),
            // Of the running transaction, or of those to come: isolation, read only, a snapshot.
            Ok(K::VarSetMulti) => self.does(SET, Some(Name::plain(name))),
            Ok(K::VarReset) => {
                let mut effect = setting(&name, None);
                if effect.action == SET {
                    effect = Effect::on("postgres.reset", Some(Name::plain(&name)));
                }
                self.add(effect);
                self.control = Control::Reset { name: Some(name) };
            }
            Ok(K::VarResetAll) => {
                self.does("postgres.reset", None);
                self.control = Control::Reset { name: None };
            }
            Ok(K::VarSetCurrent | K::Undefined) | Err(_) => {
                self.add(Effect::opaque(SET, "its value is not a constant"));
            }
        }
    }

    fn sets(&mut self, name: String, value: Option<String>, local: bool) {
        self.add(setting(&name, value.as_deref()));
        self.control = Control::Set { name, value, local };
    }

    /// `set_config(name, value, is_local)` is SET. With anything but constants it could set anything.
    pub(super) fn setting_by_function(&mut self, function: &[Node], args: &[Node]) {
        if function.last().and_then(text) != Some("set_config") {
            return;
        }
        let value = |at: usize, arg: &Node| match (constant(arg), at) {
            (None, 0) if is_column_name(arg) => self.setting.clone(),
            (value, _) => value,
        };
        // A parameter, to what means nothing whatever it is.
        if let [name, value, _] = args
            && let Some(name) = constant(name).map(|it| it.to_ascii_lowercase())
            && is_parameter(value)
            && is_harmless(&name)
            && name != "search_path"
        {
            return self.does(SET, Some(Name::plain(name)));
        }
        let constants = args.iter().enumerate();
        let constants: Option<Vec<String>> = constants.map(|(at, it)| value(at, it)).collect();
        match constants.as_deref() {
            Some([name, value, local]) if self.control == Control::None => {
                let local = local.starts_with(['t', 'T', '1']);
                self.sets(name.to_ascii_lowercase(), Some(value.clone()), local);
            }
            _ => self.add(Effect::opaque(
                SET,
                "set_config with what is not a constant, or twice",
            )),
        }
    }

    pub(super) fn transaction(&mut self, it: &TransactionStmt) {
        use TransactionStmtKind as K;
        let name = it.savepoint_name.clone();
        let chain = it.chain;
        let (action, control) = match TransactionStmtKind::try_from(it.kind) {
            Ok(K::TransStmtBegin | K::TransStmtStart) => ("postgres.begin", Control::Begin),
            Ok(K::TransStmtCommit) => ("postgres.commit", Control::Commit { chain }),
            Ok(K::TransStmtRollback) => ("postgres.rollback", Control::Rollback { chain }),
            Ok(K::TransStmtSavepoint) => ("postgres.savepoint", Control::Savepoint { name }),
            Ok(K::TransStmtRelease) => ("postgres.release", Control::Release { name }),
            Ok(K::TransStmtRollbackTo) => ("postgres.rollback", Control::RollbackTo { name }),
            Ok(K::TransStmtPrepare) => {
                let control = Control::Commit { chain: false };
                ("postgres.prepare_transaction", control)
            }
            Ok(K::TransStmtCommitPrepared) => ("postgres.commit_prepared", Control::None),
            Ok(K::TransStmtRollbackPrepared) => ("postgres.rollback_prepared", Control::None),
            Ok(K::Undefined) | Err(_) => return self.unknown("a kind of transaction statement"),
        };
        self.does(action, None);
        self.control = control;
    }

    pub(super) fn prepare(&mut self, it: &PrepareStmt) {
        let inner = super::statement(it.query.as_deref());
        self.does("postgres.prepare", None);
        inner.effects.iter().cloned().for_each(|it| self.add(it));
        self.names.extend(&inner.names);
        self.nodes(&it.argtypes);
        self.control = Control::Prepare {
            name: it.name.clone(),
            inner: Box::new(inner),
        };
    }

    pub(super) fn execute(&mut self, it: &ExecuteStmt) {
        self.add(Effect::opaque(
            "postgres.execute",
            "it runs a prepared statement that Holdpoint has not seen",
        ));
        self.nodes(&it.params);
        self.control = Control::Execute {
            name: it.name.clone(),
        };
    }

    /// With ANALYZE it does what is explained; without, it reads how the relations are made.
    pub(super) fn explain(&mut self, it: &ExplainStmt) {
        const EXPLAIN: &str = "postgres.explain";
        let inner = super::statement(it.query.as_deref());
        let runs = it.options.iter().any(is_analyze);
        self.does(EXPLAIN, None);
        for effect in inner.effects {
            let planned = effect.opaque.is_none() && !runs;
            if planned && actions::changes_rows(effect.action) {
                self.names.planned.extend(effect.relation.clone());
            }
            self.add(match planned {
                true => Effect::on(EXPLAIN, effect.relation),
                false => effect,
            });
        }
        self.names.extend(&inner.names);
        // It names what it explains, and sets what it runs; but it declares and copies nothing.
        if matches!(inner.control, Control::Execute { .. } | Control::Set { .. }) {
            self.control = inner.control;
        }
    }

    pub(super) fn declare_cursor(&mut self, it: &DeclareCursorStmt) {
        self.does("postgres.declare_cursor", None);
        self.maybe(it.query.as_deref());
        self.control = Control::DeclareCursor {
            name: it.portalname.clone(),
        };
    }

    pub(super) fn discard(&mut self, it: &DiscardStmt) {
        self.does("postgres.discard", None);
        if it.target != DiscardMode::DiscardPlans as i32 {
            self.control = Control::Discard;
        }
    }
}

/// The setting that `SELECT ... FROM pg_settings WHERE name = 'this'` is about: so pg_dump asks, for servers that lack it.
pub(super) fn only_setting(it: &SelectStmt) -> Option<String> {
    let [from] = it.from_clause.as_slice() else {
        return None;
    };
    let is_settings = matches!(
        from.node.as_ref(),
        Some(NodeEnum::RangeVar(it))
            if it.relname == "pg_settings" && ["", "pg_catalog"].contains(&it.schemaname.as_str())
    );
    let Some(NodeEnum::AExpr(condition)) = it.where_clause.as_deref()?.node.as_ref() else {
        return None;
    };
    let equals = condition.kind == AExprKind::AexprOp as i32
        && matches!(condition.name.as_slice(), [name] if text(name) == Some("="));
    let about = condition.lexpr.as_deref().is_some_and(is_column_name);
    (is_settings && equals && about)
        .then(|| constant(condition.rexpr.as_deref()?))
        .flatten()
}

fn is_column_name(node: &Node) -> bool {
    matches!(
        node.node.as_ref(),
        Some(NodeEnum::ColumnRef(it)) if matches!(it.fields.as_slice(), [field] if text(field) == Some("name"))
    )
}

/// What cannot be read as off is on.
fn is_analyze(option: &Node) -> bool {
    let Some(NodeEnum::DefElem(option)) = option.node.as_ref() else {
        return true;
    };
    let value = option.arg.as_deref().and_then(constant);
    let off =
        |value: &String| ["off", "false", "0", "no"].contains(&value.to_ascii_lowercase().as_str());
    option.defname == "analyze" && !value.as_ref().is_some_and(off)
}

/// The text of a constant, also of one that is cast.
pub(super) fn constant(node: &Node) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(it) => match it.val.as_ref()? {
            Val::Ival(it) => Some(it.ival.to_string()),
            Val::Fval(it) => Some(it.fval.clone()),
            Val::Boolval(it) => Some(it.boolval.to_string()),
            Val::Sval(it) => Some(it.sval.clone()),
            Val::Bsval(_) => None,
        },
        NodeEnum::String(it) => Some(it.sval.clone()),
        NodeEnum::Integer(it) => Some(it.ival.to_string()),
        NodeEnum::Float(it) => Some(it.fval.clone()),
        NodeEnum::Boolean(it) => Some(it.boolval.to_string()),
        // SET TIME ZONE INTERVAL '1' HOUR
        NodeEnum::TypeCast(it) => constant(it.arg.as_deref()?),
        _ => None,
    }
}
