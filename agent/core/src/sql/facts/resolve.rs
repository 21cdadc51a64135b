//! From a statement and what is known of its names to what it does.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    judge::{self, Objection},
    known::{self, Facts, Standing},
    observed::{Relation, Routine, Type},
    stock,
};
use crate::sql::{Effect, Name, Names, Resolved, Statement, actions};

/// How many queries of views and expressions are followed for one statement.
const MOST_FOLLOWED: usize = 256;
/// How deep views may lie in views.
const DEEPEST: usize = 32;
/// How many objections an effect names.
const MOST_TOLD: usize = 3;

/// What `statement` does, as far as `facts` tell. While there are [`Resolved::needs`] every effect is opaque.
#[must_use]
pub fn resolve(statement: &Statement, facts: &Facts) -> Resolved {
    let mut walk = Walk::new(facts);
    walk.follow(&statement.names, 0);
    walk.casts();
    for name in &statement.names.planned {
        walk.planned(name, 0);
    }
    for effect in &statement.effects {
        walk.about(effect);
    }
    let effects = statement
        .effects
        .iter()
        .flat_map(|effect| walk.qualified(effect))
        .collect();
    walk.finish(effects)
}

/// One statement on its way through everything that it reaches.
struct Walk<'a> {
    facts: &'a Facts,
    needs: Names,
    objections: BTreeSet<Objection>,
    hidden: BTreeSet<Effect>,
    views: BTreeSet<Arc<str>>,
    /// What has been followed: names as they were asked for.
    seen: Names,
    followed: usize,
}

impl<'a> Walk<'a> {
    fn new(facts: &'a Facts) -> Self {
        Self {
            facts,
            needs: Names::default(),
            objections: BTreeSet::new(),
            hidden: BTreeSet::new(),
            views: BTreeSet::new(),
            seen: Names::default(),
            followed: 0,
        }
    }

    fn follow(&mut self, names: &Names, depth: usize) {
        for name in &names.functions {
            if self.seen.functions.insert(name.clone()) {
                self.function(name, depth);
            }
        }
        for name in &names.operators {
            if self.seen.operators.insert(name.clone()) {
                self.operator(name);
            }
        }
        for name in &names.types {
            self.type_named(name, depth);
        }
        for name in &names.attributes {
            if self.seen.attributes.insert(name.clone()) {
                self.attribute(name);
            }
        }
        for name in &names.methods {
            if self.seen.methods.insert(name.clone()) {
                self.method(name);
            }
        }
        for name in &names.relations {
            if self.seen.relations.insert(name.clone()) {
                self.relation(name, depth);
            }
        }
    }

    /// What is dropped is looked up for its schema, and for nothing else: that is what policies know it by.
    fn about(&mut self, effect: &Effect) {
        let Some(name) = &effect.relation else {
            return;
        };
        let is_system = match self.facts.relation(name) {
            Standing::Missing if actions::is_known_by_relation(effect.action) => {
                self.needs.relations.insert(name.clone());
                return;
            }
            Standing::Stock => {
                let schema = name.schema.as_deref().unwrap_or("pg_catalog");
                stock::relation(schema, &name.name).is_some()
            }
            // People call tables of theirs `columns` or `triggers`: information_schema is on nobody's search path.
            Standing::Told(objects) => objects
                .found
                .iter()
                .any(|it| it.builtin && (name.schema.is_some() || it.schema == "pg_catalog")),
            Standing::Missing | Standing::TooMany => false,
        };
        if is_system && actions::changes_rows(effect.action) {
            self.object(Objection::anything(format!(
                "{name} is PostgreSQL's own: a change of its rows can change anything"
            )));
        }
    }

    fn function(&mut self, name: &Name, depth: usize) {
        match self.facts.function(name) {
            Standing::Missing => drop(self.needs.functions.insert(name.clone())),
            Standing::TooMany => self.object(Objection::anything(format!(
                "there are too many functions called {name}"
            ))),
            // `f(x)` is a cast where no function, but a type is called f.
            Standing::Stock if !known::is_stock_function(name) => self.type_named(name, depth),
            Standing::Stock => self.objections.extend(judge::own_call(&name.name)),
            Standing::Told(objects) if !objects.builtin && objects.found.is_empty() => {
                self.not_found(name);
                self.type_named(name, depth);
            }
            Standing::Told(objects) => {
                self.objections.extend(judge::function(name, objects));
                self.bodies(&objects.found, depth);
            }
        }
    }

    fn operator(&mut self, name: &Name) {
        match self.facts.operator(name) {
            Standing::Missing => drop(self.needs.operators.insert(name.clone())),
            Standing::TooMany => self.object(Objection::anything(format!(
                "there are too many operators {name}"
            ))),
            Standing::Stock if known::is_stock(name) && stock::operator(&name.name) => {}
            Standing::Stock => self.object(Objection::anything(format!(
                "operator {name} is not PostgreSQL's own"
            ))),
            Standing::Told(objects) => self.objections.extend(judge::operator(name, objects)),
        }
    }

    /// `t.f` calls the function f(t), or is a cast to f, where t has no column f.
    fn attribute(&mut self, name: &str) {
        match self.facts.attribute(name) {
            Standing::Missing => drop(self.needs.attributes.insert(name.to_owned())),
            standing => self.called_like_a_column(name, standing),
        }
        self.cast_like_a_column(name);
    }

    /// The same of a value that is no row.
    fn method(&mut self, name: &str) {
        match self.facts.method(name) {
            Standing::Missing => drop(self.needs.methods.insert(name.to_owned())),
            standing => self.called_like_a_column(name, standing),
        }
        self.cast_like_a_column(name);
    }

    fn called_like_a_column(&mut self, name: &str, standing: Standing<'_, Routine>) {
        self.objections.extend(judge::own_if_any(name));
        match standing {
            Standing::Missing | Standing::Stock => {}
            Standing::TooMany => self.object(Objection::anything(format!(
                "there are too many functions called {name}"
            ))),
            Standing::Told(objects) => {
                let objection = objects.found.iter().find_map(judge::routine);
                self.objections.extend(objection);
                self.bodies(&objects.found, 0);
            }
        }
    }

    /// What extensions' functions in SQL run: its names are looked up when they are called, on the search path that is in force then.
    fn bodies(&mut self, found: &[Routine], depth: usize) {
        for body in found.iter().filter_map(|it| it.body.as_deref()) {
            self.text_of(body, depth, Names::clone);
        }
    }

    fn cast_like_a_column(&mut self, name: &str) {
        let name = Name::plain(name);
        match self.facts.type_(&name) {
            Standing::Missing => drop(self.needs.types.insert(name)),
            Standing::Stock => {}
            Standing::TooMany => self.object(Objection::anything(format!(
                "there are too many types called {name}"
            ))),
            Standing::Told(objects) => objects.found.iter().for_each(|found| self.type_(found, 0)),
        }
    }

    fn type_named(&mut self, name: &Name, depth: usize) {
        if !self.seen.types.insert(name.clone()) {
            return;
        }
        match self.facts.type_(name) {
            Standing::Missing => drop(self.needs.types.insert(name.clone())),
            Standing::TooMany => self.object(Objection::anything(format!(
                "there are too many types called {name}"
            ))),
            Standing::Stock if known::is_stock(name) && stock::type_(&name.name) => {}
            Standing::Stock => self.object(Objection::anything(format!(
                "{name} is not a function or type of PostgreSQL's own"
            ))),
            Standing::Told(objects) => {
                if objects.found.is_empty() {
                    self.not_found(name);
                }
                objects
                    .found
                    .iter()
                    .for_each(|found| self.type_(found, depth));
            }
        }
    }

    /// What is not there fails, whatever it is. But in a database that is not in UTF-8 the server folds and cuts letters beyond
    /// ASCII in another way than the grammar here, so that it may be there under another name.
    fn not_found(&mut self, name: &Name) {
        if !name.to_string().is_ascii() {
            self.object(Objection::anything(format!(
                "there is no {name}, as far as its letters are read alike in every encoding"
            )));
        }
    }

    fn type_(&mut self, found: &Type, depth: usize) {
        self.objections.extend(judge::type_(found, self.facts));
        for check in &found.checks {
            self.text(check, depth);
        }
    }

    fn relation(&mut self, name: &Name, depth: usize) {
        match self.facts.relation(name) {
            Standing::Missing => drop(self.needs.relations.insert(name.clone())),
            Standing::TooMany => {
                self.object(Objection::anything(format!(
                    "there are too many relations called {name}: name the schema"
                )));
            }
            Standing::Stock => self.stock_relation(name),
            Standing::Told(objects) => {
                if objects.found.is_empty() {
                    self.not_found(name);
                }
                objects
                    .found
                    .iter()
                    .for_each(|found| self.found(found, depth));
            }
        }
    }

    fn stock_relation(&mut self, name: &Name) {
        let schemas: &[&str] = match name.schema.as_deref() {
            None => &["pg_catalog"],
            Some("pg_catalog") => &["pg_catalog"],
            Some("information_schema") => &["information_schema"],
            Some(_) => &[],
        };
        for schema in schemas {
            self.objections
                .extend(judge::system(schema, &name.name, 'r'));
        }
    }

    fn found(&mut self, found: &Relation, depth: usize) {
        self.objections.extend(judge::relation(found, self.facts));
        for expression in &found.expressions {
            self.text(expression, depth);
        }
        for column in &found.types {
            for check in &column.checks {
                self.text(check, depth);
            }
        }
        if let (false, Some(definition)) = (found.builtin, &found.definition) {
            self.views.insert(definition.as_str().into());
            self.text(definition, depth);
        }
    }

    /// Follows SQL that the server keeps. It was printed with nothing but pg_catalog on the search path, so that what is
    /// without a schema is there.
    fn text(&mut self, text: &str, depth: usize) {
        self.text_of(text, depth, all_in_catalog);
    }

    fn text_of(&mut self, text: &str, depth: usize, meant: fn(&Names) -> Names) {
        self.followed += 1;
        if depth >= DEEPEST || self.followed > MOST_FOLLOWED {
            return self.object(Objection::anything(
                "it reaches more views than are followed",
            ));
        }
        for statement in &self.facts.parsed(text).statements {
            for effect in &statement.effects {
                if !effect.only_reads() {
                    let why = effect
                        .opaque
                        .clone()
                        .unwrap_or_else(|| format!("a view or expression does {}", effect.action));
                    self.object(Objection::anything(why));
                }
                if let Some(relation) = &effect.relation {
                    self.hidden.insert(Effect {
                        relation: Some(in_catalog(relation)),
                        ..effect.clone()
                    });
                }
            }
            if statement
                .names
                .functions
                .iter()
                .any(|name| name.name == "set_config")
            {
                self.object(Objection::anything("a view or expression changes settings"));
            }
            self.follow(&meant(&statement.names), depth + 1);
        }
    }

    /// Casts between PostgreSQL's own types are applied without being named.
    fn casts(&mut self) {
        for cast in self.facts.casts() {
            if cast.source < FIRST_OWN && cast.target < FIRST_OWN {
                self.objections
                    .extend(judge::routine(&cast.routine).map(|objection| Objection {
                        why: format!("the cast {} runs a function: {}", cast.named, objection.why),
                        ..objection
                    }));
            }
        }
    }

    /// A write that is only planned: nothing is written, but what the planner works out.
    fn planned(&mut self, name: &Name, depth: usize) {
        let Standing::Told(objects) = self.facts.relation(name) else {
            return;
        };
        if depth >= DEEPEST {
            return self.object(Objection::anything(
                "it reaches more views than are followed",
            ));
        }
        for relation in &objects.found {
            self.objections.extend(judge::planned_write(relation));
            if let (false, Some(definition)) = (relation.builtin, &relation.definition) {
                let parsed = self.facts.parsed(definition);
                let behind = parsed.statements.iter().flat_map(|it| &it.names.relations);
                behind.for_each(|name| self.planned(&in_catalog(name), depth + 1));
            }
        }
    }

    /// The effect on each relation that the name may mean.
    fn qualified(&mut self, effect: &Effect) -> Vec<Effect> {
        let found = match effect
            .relation
            .as_ref()
            .map(|name| self.facts.relation(name))
        {
            Some(Standing::Told(objects)) if !objects.found.is_empty() => &objects.found,
            _ => return vec![effect.clone()],
        };
        let write = !effect.only_reads();
        found
            .iter()
            .map(|relation| {
                if write && actions::changes_rows(effect.action) {
                    self.rewritten(effect, relation);
                }
                Effect {
                    relation: Some(Name::within(&relation.schema, &relation.name)),
                    ..effect.clone()
                }
            })
            .collect()
    }

    /// What a write to a view or a table with rules does elsewhere.
    fn rewritten(&mut self, effect: &Effect, relation: &Relation) {
        for rewrite in &relation.rewrites {
            self.object(Objection::anything(format!(
                "{rewrite} does something else in its place"
            )));
        }
        // The server writes to the one table of the view's FROM; which of all that the view reads is not worth telling apart.
        if let (false, 'v', Some(definition)) =
            (relation.builtin, relation.kind, &relation.definition)
        {
            let behind: Vec<Effect> = self
                .facts
                .parsed(definition)
                .statements
                .iter()
                .flat_map(|it| &it.effects)
                .filter_map(|it| it.relation.as_ref())
                .map(|name| Effect {
                    relation: Some(in_catalog(name)),
                    ..effect.clone()
                })
                .collect();
            for effect in behind {
                if self.hidden.insert(effect.clone()) {
                    let deeper = self.qualified(&effect);
                    self.hidden.extend(deeper);
                }
            }
        }
    }

    fn object(&mut self, objection: Objection) {
        self.objections.insert(objection);
    }

    fn finish(self, mut effects: Vec<Effect>) -> Resolved {
        let mut unsure: Vec<String> = self
            .objections
            .iter()
            .take(MOST_TOLD)
            .map(|it| it.why.clone())
            .collect();
        if !self.needs.is_empty() {
            unsure.push("not all of its names could be looked up".to_owned());
        }
        for hidden in self.hidden {
            if !effects
                .iter()
                .any(|it| it.action == hidden.action && it.relation == hidden.relation)
            {
                effects.push(hidden);
            }
        }
        let defines = self.objections.iter().any(|it| it.defines)
            || effects.iter().any(|it| it.opaque.is_some());
        if !unsure.is_empty() {
            let why = unsure.join("; ");
            for effect in &mut effects {
                effect.opaque.get_or_insert_with(|| why.clone());
            }
        }
        let runs_when_read = effects.iter().any(|it| it.opaque.is_some())
            && (effects.iter().any(|it| it.action == actions::UNPARSED)
                || self
                    .facts
                    .inputs()
                    .iter()
                    .any(|it| judge::routine(it).is_some()));
        Resolved {
            effects,
            needs: self.needs,
            views: self.views,
            defines,
            runs_when_read,
        }
    }
}

/// FirstNormalObjectId (access/transam.h).
const FIRST_OWN: u32 = 16384;

fn all_in_catalog(names: &Names) -> Names {
    let all = |names: &BTreeSet<Name>| names.iter().map(in_catalog).collect();
    Names {
        relations: all(&names.relations),
        functions: all(&names.functions),
        operators: all(&names.operators),
        types: all(&names.types),
        attributes: names.attributes.clone(),
        methods: names.methods.clone(),
        planned: all(&names.planned),
    }
}

fn in_catalog(name: &Name) -> Name {
    Name {
        schema: Some(
            name.schema
                .clone()
                .unwrap_or_else(|| "pg_catalog".to_owned()),
        ),
        name: name.name.clone(),
    }
}
