//! One statement, by what it does.

use std::ops::ControlFlow;

use sqlparser::{
    ast::{
        AlterTableOperation, CreateTable, CreateView, Delete, Expr, FromTable, Merge, ObjectName,
        ObjectNamePart, ObjectType, Query, Select, SetExpr, Statement, TableFactor, TableObject,
        TableWithJoins, Update, Visit as _, Visitor,
    },
    dialect::BigQueryDialect,
    parser::Parser,
    tokenizer::Tokenizer,
};

use super::{Effect, MAX_TOKENS, actions, functions};

/// What one statement does, and what it calls.
pub(super) struct Read {
    pub(super) effects: Vec<Effect>,
    pub(super) functions: Vec<String>,
}

/// Reads a statement that [`super::lexical`] has cut out.
pub(super) fn read(text: &str) -> Read {
    let opaque = |why: String| Read {
        effects: vec![Effect::opaque(actions::by_first_words(text), why)],
        functions: Vec::new(),
    };
    let statement = match parse(text) {
        Ok(statement) => statement,
        Err(why) => return opaque(why),
    };
    let mut found = Found::default();
    let _ = statement.visit(&mut found);
    let mut effects = match of(&statement) {
        Some(effects) => effects,
        None => return opaque("Holdpoint does not know what this statement does".to_owned()),
    };
    // What it writes to was found once more.
    for effect in &effects {
        if let Some(at) = found.relations.iter().position(|it| *it == effect.relation) {
            found.relations.swap_remove(at);
        }
    }
    let reads = found
        .relations
        .into_iter()
        .map(|relation| Effect::new("select", relation));
    effects.extend(reads);
    if effects.is_empty() {
        effects.push(Effect::new("select", Vec::new()));
    }
    for effect in &mut effects {
        effect.opaque = found.opaque.clone();
    }
    let functions = found.functions.iter().map(|name| name.join(".")).collect();
    Read { effects, functions }
}

fn parse(text: &str) -> Result<Statement, String> {
    let unread = |error: &dyn std::fmt::Display| format!("it cannot be read: {error}");
    let dialect = BigQueryDialect {};
    let tokens = Tokenizer::new(&dialect, text)
        .tokenize_with_location()
        .map_err(|error| unread(&error))?;
    if tokens.len() > MAX_TOKENS {
        return Err(format!("it has more than {MAX_TOKENS} words and signs"));
    }
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let mut statements = parser.parse_statements().map_err(|error| unread(&error))?;
    match (statements.pop(), statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err("it is not one statement".to_owned()),
    }
}

/// What is done to what a statement names as its object; `None` where that is not known. Reads are found elsewhere.
fn of(statement: &Statement) -> Option<Vec<Effect>> {
    Some(match statement {
        Statement::Query(_) => Vec::new(),
        Statement::Insert(insert) if !insert.overwrite && !insert.replace_into => {
            match &insert.table {
                TableObject::TableName(table) => vec![effect("insert", table)?],
                _ => return None,
            }
        }
        Statement::Update(update) => vec![of_update(update)?],
        Statement::Delete(delete) => vec![of_delete(delete)?],
        Statement::Merge(merge) => vec![of_merge(merge)?],
        Statement::Truncate(truncate) => {
            let names = truncate.table_names.iter();
            names
                .map(|target| effect("truncate", &target.name))
                .collect::<Option<_>>()?
        }
        Statement::CreateTable(create) => of_create_table(create)?,
        Statement::CreateView(create) => of_create_view(create)?,
        Statement::CreateSchema {
            schema_name: sqlparser::ast::SchemaName::Simple(name),
            ..
        } => vec![effect("create_schema", name)?],
        Statement::Drop {
            object_type, names, ..
        } => {
            let verb = match object_type {
                ObjectType::Table => "drop_table",
                ObjectType::View | ObjectType::MaterializedView => "drop_view",
                ObjectType::Schema => "drop_schema",
                _ => return None,
            };
            names
                .iter()
                .map(|name| effect(verb, name))
                .collect::<Option<_>>()?
        }
        Statement::DropFunction(drop) => {
            let names = drop.func_desc.iter();
            names
                .map(|it| effect("drop_function", &it.name))
                .collect::<Option<_>>()?
        }
        Statement::AlterTable(alter) => {
            let mut effects = vec![effect("alter_table", &alter.name)?];
            for operation in &alter.operations {
                match operation {
                    AlterTableOperation::AddColumn { .. }
                    | AlterTableOperation::RenameColumn { .. }
                    | AlterTableOperation::RenameTable { .. } => {}
                    AlterTableOperation::DropColumn { .. } => {
                        effects.push(effect("drop_column", &alter.name)?)
                    }
                    _ => return None,
                }
            }
            effects
        }
        _ => return None,
    })
}

fn of_update(update: &Update) -> Option<Effect> {
    Some(Effect {
        without_where: is_no_condition(update.selection.as_ref()),
        ..effect("update", only_table(&update.table)?)?
    })
}

fn of_delete(delete: &Delete) -> Option<Effect> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [table] = &from[..] else { return None };
    if !delete.tables.is_empty() || delete.using.is_some() {
        return None;
    }
    Some(Effect {
        without_where: is_no_condition(delete.selection.as_ref()),
        ..effect("delete", only_table(table)?)?
    })
}

/// BigQuery wants a WHERE, and takes `WHERE true` for none.
fn is_no_condition(selection: Option<&Expr>) -> bool {
    match selection {
        None => true,
        Some(Expr::Nested(inner)) => is_no_condition(Some(inner)),
        Some(condition) => {
            let mut names = Names(false);
            let _ = condition.visit(&mut names);
            !names.0
        }
    }
}

/// Whether a condition has any name in it. One without is the same for all rows.
struct Names(bool);

impl Visitor for Names {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.0 |= matches!(
            expr,
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::CompoundFieldAccess { .. }
        );
        ControlFlow::Continue(())
    }
}

/// A merge may delete, too.
fn of_merge(merge: &Merge) -> Option<Effect> {
    let TableFactor::Table {
        name, args: None, ..
    } = &merge.table
    else {
        return None;
    };
    effect("merge", name)
}

fn of_create_table(create: &CreateTable) -> Option<Vec<Effect>> {
    if create.external || create.with_connection.is_some() {
        return None;
    }
    let mut effects = vec![effect("create_table", &create.name)?];
    if create.or_replace {
        effects.push(effect("drop_table", &create.name)?);
    }
    if let Some(source) = &create.clone {
        effects.push(effect("select", source)?);
    }
    Some(effects)
}

fn of_create_view(create: &CreateView) -> Option<Vec<Effect>> {
    let mut effects = vec![effect("create_view", &create.name)?];
    if create.or_replace {
        effects.push(effect("drop_view", &create.name)?);
    }
    Some(effects)
}

fn only_table(table: &TableWithJoins) -> Option<&ObjectName> {
    match (&table.relation, &table.joins[..]) {
        (
            TableFactor::Table {
                name, args: None, ..
            },
            [],
        ) => Some(name),
        _ => None,
    }
}

fn effect(verb: &'static str, name: &ObjectName) -> Option<Effect> {
    Some(Effect::new(verb, parts(name)?))
}

/// A name part by part: `` `p.d.t` `` is the same as `p.d.t`.
fn parts(name: &ObjectName) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for part in &name.0 {
        let ObjectNamePart::Identifier(ident) = part else {
            return None;
        };
        parts.extend(ident.value.split('.').map(str::to_owned));
    }
    parts.iter().all(|part| !part.is_empty()).then_some(parts)
}

/// What lies anywhere in a statement.
#[derive(Default)]
struct Found {
    relations: Vec<Vec<String>>,
    functions: Vec<Vec<String>>,
    statements: usize,
    opaque: Option<String>,
}

impl Found {
    fn doubt(&mut self, why: impl Into<String>) -> ControlFlow<()> {
        self.opaque.get_or_insert_with(|| why.into());
        ControlFlow::Continue(())
    }

    fn calls(&mut self, name: &ObjectName) -> ControlFlow<()> {
        let Some(name) = parts(name) else {
            return self.doubt("it calls a function by no name");
        };
        let name: Vec<String> = name.iter().map(|part| part.to_ascii_lowercase()).collect();
        if !functions::is_harmless(&name) {
            let _ = self.doubt(format!(
                "it calls {}, which is not known to change nothing",
                name.join(".")
            ));
        }
        self.functions.push(name);
        ControlFlow::Continue(())
    }
}

impl Visitor for Found {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        match parts(relation) {
            Some(name) => self.relations.push(name),
            None => return self.doubt("it names a table in a way that Holdpoint does not know"),
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<()> {
        self.statements += 1;
        match self.statements {
            1 => ControlFlow::Continue(()),
            _ => self.doubt("there is a statement in it"),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        match &*query.body {
            SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Table(_) => self.doubt("there is a statement in its query"),
            _ if query.pipe_operators.is_empty() => ControlFlow::Continue(()),
            _ => self.doubt("it is in pipe syntax, which Holdpoint does not follow"),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        match select.into {
            None => ControlFlow::Continue(()),
            Some(_) => self.doubt("its SELECT has an INTO"),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { args: None, .. }
            | TableFactor::Derived { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. } => ControlFlow::Continue(()),
            _ => self.doubt("it calls a function that makes a table"),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => self.calls(&function.name),
            _ => ControlFlow::Continue(()),
        }
    }
}
