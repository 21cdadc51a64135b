//! What a server tells of names: the rows of Holdpoint's own look-up, before anything is concluded from them.
//!
//! They come as JSON, made by the server (`agent/src/postgres/lookup/catalog.sql`).

use serde::Deserialize;

/// An answer to a whole question: one [`Named`] for each name asked about.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answers {
    /// Of each relation asked about.
    pub relations: Vec<Named<Relation>>,
    /// Of each function.
    pub functions: Vec<Named<Routine>>,
    /// Of each operator.
    pub operators: Vec<Named<Routine>>,
    /// Of each type.
    pub types: Vec<Named<Type>>,
    /// Of each attribute: functions of that name that `t.f` could call.
    pub attributes: Vec<Named<Routine>>,
    /// Of each method: functions of that name that take one value of any type.
    pub methods: Vec<Named<Routine>>,
    /// Whatever the constraints of the database's domains run.
    pub inputs: Vec<Routine>,
    /// Every cast of the database that runs a function which PostgreSQL did not come with.
    pub casts: Vec<Cast>,
}

/// All objects that a name may mean.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named<T> {
    /// As it was asked: the schema, if one was named.
    pub schema: Option<String>,
    /// As it was asked.
    pub name: String,
    /// What is called so, in any schema; of functions, operators and types only what PostgreSQL did not come with.
    pub found: Vec<T>,
    /// PostgreSQL came with one of this name.
    #[serde(default)]
    pub builtin: bool,
}

/// A function, or what runs behind an operator, a cast, a type.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Routine {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// PostgreSQL came with it (oid below 16384, FirstNormalObjectId in access/transam.h).
    pub builtin: bool,
    /// `pg_language.lanname`.
    pub language: String,
    /// `pg_proc.provolatile = 'v'`.
    pub volatile: bool,
    /// The extension that it belongs to.
    pub extension: Option<String>,
    /// A superuser owns it: nobody else can have given it another body.
    pub superuser: bool,
    /// Of an extension's function in SQL: what it runs, by the search path of whoever calls it.
    #[serde(default)]
    pub body: Option<String>,
}

/// A table, view, ...
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_class.relkind`.
    pub kind: char,
    /// PostgreSQL came with it.
    pub builtin: bool,
    /// Of a view: the query behind it (`pg_get_viewdef`).
    pub definition: Option<String>,
    /// Expressions the server evaluates with each read: of row-level-security policies.
    pub expressions: Vec<String>,
    /// What its indexes, constraints, partition keys and statistics run; the planner may evaluate it.
    pub planned: Vec<Routine>,
    /// What its columns' defaults run, and those of their domains.
    pub defaults: Vec<Routine>,
    /// Operator classes of its indexes that are neither PostgreSQL's own nor a listed extension's: their names.
    pub operator_classes: Vec<ExtensionObject>,
    /// Types of its columns, and those they are made of, which PostgreSQL did not come with.
    pub types: Vec<Type>,
    /// A foreign table among its partitions and children.
    pub foreign: Option<String>,
    /// Rules and INSTEAD OF triggers, which run something else in a write's place.
    pub rewrites: Vec<String>,
}

/// Something that may belong to an extension.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExtensionObject {
    /// What it is called.
    pub name: String,
    /// The extension that it belongs to.
    pub extension: Option<String>,
}

/// A type that PostgreSQL did not come with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Type {
    /// `pg_type.oid`, by which casts refer to it.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// `pg_type.typtype`: b(ase), c(omposite), d(omain), e(num), m(ultirange), p(seudo), r(ange).
    pub kind: char,
    /// It is the array of another type, which is here as well.
    pub array: bool,
    /// The extension that it belongs to.
    pub extension: Option<String>,
    /// Of a domain: what its constraints evaluate.
    pub checks: Vec<String>,
    /// Of a range: functions or an order of its own.
    pub own_order: bool,
}

/// A cast that runs a function which PostgreSQL did not come with, or which somebody made of one that it did.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cast {
    /// Oid of the type it starts from.
    pub source: u32,
    /// Oid of the type it makes.
    pub target: u32,
    /// `text AS integer`, for people.
    pub named: String,
    /// What runs.
    pub routine: Routine,
}
