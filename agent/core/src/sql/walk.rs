//! From PostgreSQL's parse tree to effects and names.
//!
//! Closed by default: a node that is not named here makes its statement opaque. Patterns name every field, so that a field that a
//! later grammar adds does not compile rather than pass unseen.

use std::collections::BTreeSet;

use pg_query::{
    NodeEnum,
    protobuf::{Node, RangeVar, TypeName},
};

use super::{Control, Effect, MOST_EFFECTS, Name, Names, Statement, actions};

mod acting;
mod data;
mod expression;
mod objects;
mod query;
mod rights;
mod rows;
mod session;
mod utility;
mod whole;

const SELECT: &str = "postgres.select";

/// What a statement does; its span is left empty.
pub(super) fn statement(node: Option<&Node>) -> Statement {
    let mut walk = Walk::default();
    match node.and_then(|node| node.node.as_ref()) {
        Some(node) => walk.top(node),
        None => walk.unknown("an empty statement"),
    }
    walk.finish()
}

#[derive(Default)]
struct Walk {
    effects: Vec<Effect>,
    names: Names,
    control: Control,
    /// The names of `WITH` that hide relations here, the innermost last.
    with: Vec<BTreeSet<String>>,
    unknown: Option<String>,
    /// A function stands in FROM: what is called like a relation may be any value.
    calls_in_from: bool,
    /// The one setting that the rows of the query are about: `FROM pg_settings WHERE name = 'this'`.
    setting: Option<String>,
    rows: rows::Rows,
    keeps_meaning: bool,
}

impl Walk {
    /// A statement of any kind: what is planned (SELECT, INSERT, ...), or else a utility statement.
    fn top(&mut self, node: &NodeEnum) {
        if !self.planned(node) {
            self.utility(node);
        }
    }

    fn finish(mut self) -> Statement {
        self.put_first_read_in_front();
        if self.calls_in_from {
            let attributes = std::mem::take(&mut self.names.attributes);
            self.names.methods.extend(attributes);
        }
        if self.effects.is_empty() {
            self.effects
                .push(Effect::opaque(actions::UNPARSED, "nothing in it is known"));
        }
        let whole_rows = self.unknown.is_some() || self.rows.are_values();
        if let Some(why) = self.unknown {
            self.effects[0].opaque.get_or_insert(why);
        }
        Statement {
            span: 0..0,
            effects: self.effects,
            names: self.names,
            control: self.control,
            keeps_meaning: self.keeps_meaning,
            whole_rows,
        }
    }

    /// A SELECT from relations is about them, and about nothing else.
    fn put_first_read_in_front(&mut self) {
        let is_select = |effect: &Effect| effect.action == SELECT && effect.opaque.is_none();
        let Some(bare) = self
            .effects
            .iter()
            .position(|it| is_select(it) && it.relation.is_none())
        else {
            return;
        };
        if let Some(about) = self
            .effects
            .iter()
            .position(|it| is_select(it) && it.relation.is_some())
        {
            let effect = self.effects[about].clone();
            self.effects[bare] = effect;
            self.effects.remove(about);
        }
    }

    /// The statement is opaque.
    fn unknown(&mut self, what: &str) {
        self.unknown
            .get_or_insert_with(|| format!("it has a part that Holdpoint does not know: {what}"));
    }

    /// One more effect; of the same action and relation there is one. Beyond [`MOST_EFFECTS`] the text is refused as a whole.
    fn add(&mut self, effect: Effect) {
        if self.effects.len() > MOST_EFFECTS {
            return;
        }
        let same = self
            .effects
            .iter_mut()
            .find(|it| it.action == effect.action && it.relation == effect.relation);
        match same {
            Some(it) => {
                it.opaque = it.opaque.take().or(effect.opaque);
                it.without_where |= effect.without_where;
            }
            None => self.effects.push(effect),
        }
    }

    fn does(&mut self, action: &'static str, relation: Option<Name>) {
        self.add(Effect::on(action, relation));
    }

    /// On a relation that is there already.
    fn does_to(&mut self, action: &'static str, relation: Option<&RangeVar>) {
        let name = relation.map(name_of);
        self.rows.of_relation(relation);
        self.names.relations.extend(name.clone());
        self.does(action, name);
    }

    fn hidden_by_with(&self, relation: &RangeVar) -> bool {
        relation.schemaname.is_empty()
            && self
                .with
                .iter()
                .any(|names| names.contains(&relation.relname))
    }

    fn types(&mut self, found: Option<&TypeName>) {
        let Some(TypeName {
            names,
            type_oid: _,
            setof: _,
            // `table.column%TYPE`: the names are those of a column.
            pct_type,
            typmods,
            typemod: _,
            array_bounds: _,
            location: _,
        }) = found
        else {
            return;
        };
        if *pct_type {
            return self.unknown("%TYPE");
        }
        let name = last_two(names);
        self.names.types.extend(name);
        self.nodes(typmods);
    }

    /// The name of what is called, applied or cast to.
    fn function(&mut self, parts: &[Node]) {
        match last_two(parts) {
            Some(name) => drop(self.names.functions.insert(name)),
            None => self.unknown("a function without a name"),
        }
    }

    fn operator(&mut self, parts: &[Node]) {
        match last_two(parts) {
            Some(name) => drop(self.names.operators.insert(name)),
            None => self.unknown("an operator without a name"),
        }
    }

    fn operators(&mut self, names: &[&str]) {
        let names = names.iter().map(|name| Name::plain(*name));
        self.names.operators.extend(names);
    }
}

fn name_of(relation: &RangeVar) -> Name {
    Name {
        schema: Some(relation.schemaname.clone()).filter(|it| !it.is_empty()),
        name: relation.relname.clone(),
    }
}

fn text(node: &Node) -> Option<&str> {
    match node.node.as_ref()? {
        NodeEnum::String(text) => Some(&text.sval),
        _ => None,
    }
}

/// A dotted name, its last two parts: what stands before them can only be this database.
fn last_two(parts: &[Node]) -> Option<Name> {
    let parts: Option<Vec<&str>> = parts.iter().map(text).collect();
    match parts?.as_slice() {
        [.., schema, name] => Some(Name::within(*schema, *name)),
        [name] => Some(Name::plain(*name)),
        [] => None,
    }
}
