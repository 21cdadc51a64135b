//! What is known of names.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, LazyLock},
};

use super::{
    observed::{Answers, Cast, Named, Relation, Routine, Type},
    stock::{self, Own},
};
use crate::sql::{Name, Names, Parsed, parse};

static STOCK: LazyLock<Facts> = LazyLock::new(|| Facts {
    offline: true,
    ..Facts::default()
});

/// How many objects one name may mean. A server is asked for one more, so that it is seen when there are.
pub const MOST_FOUND: usize = 32;

/// What is known of names: from a server, or of a stock PostgreSQL.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Nothing will ever be added: what is not PostgreSQL's own is unknown, and relations are plain tables.
    offline: bool,
    relations: BTreeMap<Name, Objects<Relation>>,
    functions: BTreeMap<Name, Objects<Routine>>,
    operators: BTreeMap<Name, Objects<Routine>>,
    types: BTreeMap<Name, Objects<Type>>,
    attributes: BTreeMap<Name, Objects<Routine>>,
    methods: BTreeMap<Name, Objects<Routine>>,
    casts: Vec<Cast>,
    inputs: Vec<Routine>,
    /// The queries and expressions of all these, read once.
    texts: HashMap<String, Arc<Parsed>>,
}

/// What a name may mean.
#[derive(Debug, Clone)]
pub(super) struct Objects<T> {
    /// PostgreSQL came with one.
    pub(super) builtin: bool,
    /// All others.
    pub(super) found: Vec<T>,
}

/// How a name stands.
pub(super) enum Standing<'a, T> {
    /// To be asked for.
    Missing,
    /// Of a stock PostgreSQL, without a server: in its table or not.
    Stock,
    /// As a server tells.
    Told(&'a Objects<T>),
    /// It means more things than are looked at.
    TooMany,
}

impl Facts {
    /// Without a server: relations are plain tables; functions, operators and types are those of a stock PostgreSQL.
    #[must_use]
    pub fn stock() -> &'static Self {
        &STOCK
    }

    /// Which of `names` are not known yet.
    #[must_use]
    pub fn missing(&self, names: &Names) -> Names {
        fn of<T>(asked: &BTreeSet<Name>, known: &BTreeMap<Name, Objects<T>>) -> BTreeSet<Name> {
            asked
                .iter()
                .filter(|name| !known.contains_key(*name))
                .cloned()
                .collect()
        }
        fn plain(
            asked: &BTreeSet<String>,
            known: &BTreeMap<Name, Objects<Routine>>,
        ) -> BTreeSet<String> {
            let missing = asked
                .iter()
                .filter(|name| !known.contains_key(&Name::plain(*name)));
            missing.cloned().collect()
        }
        if self.offline {
            return Names::default();
        }
        Names {
            relations: of(&names.relations, &self.relations),
            functions: of(&names.functions, &self.functions),
            operators: of(&names.operators, &self.operators),
            types: of(&names.types, &self.types),
            attributes: plain(&names.attributes, &self.attributes),
            methods: plain(&names.methods, &self.methods),
            planned: BTreeSet::new(),
        }
    }

    /// Adds what a server answered.
    pub fn add(&mut self, mut answers: Answers) {
        for relation in answers
            .relations
            .iter_mut()
            .flat_map(|asked| &mut asked.found)
        {
            let checks = relation
                .types
                .iter_mut()
                .flat_map(|column| &mut column.checks);
            for expression in relation.expressions.iter_mut().chain(checks) {
                *expression = self.as_query(expression);
            }
            if let Some(definition) = &relation.definition {
                self.read(definition);
            }
        }
        let functions = answers.functions.iter().chain(&answers.methods);
        let bodies = functions.flat_map(|asked| &asked.found);
        for body in bodies.filter_map(|it| it.body.as_deref()) {
            self.read(body);
        }
        for check in answers
            .types
            .iter_mut()
            .flat_map(|asked| &mut asked.found)
            .flat_map(|found| &mut found.checks)
        {
            *check = self.as_query(check);
        }
        fn all<T>(known: &mut BTreeMap<Name, Objects<T>>, told: Vec<Named<T>>) {
            for Named {
                schema,
                name,
                found,
                builtin,
            } in told
            {
                known.insert(Name { schema, name }, Objects { builtin, found });
            }
        }
        all(&mut self.relations, answers.relations);
        all(&mut self.functions, answers.functions);
        all(&mut self.operators, answers.operators);
        all(&mut self.types, answers.types);
        all(&mut self.attributes, answers.attributes);
        all(&mut self.methods, answers.methods);
        self.casts = answers.casts;
        self.inputs = answers.inputs;
    }

    fn as_query(&mut self, expression: &str) -> String {
        let query = format!("SELECT ({expression})");
        self.read(&query);
        query
    }

    fn read(&mut self, text: &str) {
        if !self.texts.contains_key(text) {
            self.texts.insert(text.to_owned(), parse(text));
        }
    }

    /// What a text says that came with the facts.
    pub(super) fn parsed(&self, text: &str) -> Arc<Parsed> {
        self.texts.get(text).cloned().unwrap_or_else(|| parse(text))
    }

    /// How many names are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.relations.len()
            + self.functions.len()
            + self.operators.len()
            + self.types.len()
            + self.attributes.len()
            + self.methods.len()
    }

    /// Whether no name is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn relation(&self, name: &Name) -> Standing<'_, Relation> {
        self.standing(&self.relations, name)
    }

    pub(super) fn function(&self, name: &Name) -> Standing<'_, Routine> {
        self.standing(&self.functions, name)
    }

    pub(super) fn operator(&self, name: &Name) -> Standing<'_, Routine> {
        self.standing(&self.operators, name)
    }

    pub(super) fn type_(&self, name: &Name) -> Standing<'_, Type> {
        self.standing(&self.types, name)
    }

    pub(super) fn attribute(&self, name: &str) -> Standing<'_, Routine> {
        self.standing(&self.attributes, &Name::plain(name))
    }

    pub(super) fn method(&self, name: &str) -> Standing<'_, Routine> {
        self.standing(&self.methods, &Name::plain(name))
    }

    pub(super) fn casts(&self) -> &[Cast] {
        &self.casts
    }

    /// What may run as soon as a literal is read, of an array, a record or a range.
    pub(super) fn inputs(&self) -> &[Routine] {
        &self.inputs
    }

    fn standing<'a, T>(
        &self,
        known: &'a BTreeMap<Name, Objects<T>>,
        name: &Name,
    ) -> Standing<'a, T> {
        match known.get(name) {
            _ if self.offline => Standing::Stock,
            None => Standing::Missing,
            Some(objects) if objects.found.len() > MOST_FOUND => Standing::TooMany,
            Some(objects) => Standing::Told(objects),
        }
    }
}

/// A name of a stock PostgreSQL: no schema is named, or the one where its objects are.
pub(super) fn is_stock(name: &Name) -> bool {
    name.schema
        .as_deref()
        .is_none_or(|schema| matches!(schema, "pg_catalog" | "information_schema"))
}

/// Whether a stock PostgreSQL has a function of this name.
pub(super) fn is_stock_function(name: &Name) -> bool {
    is_stock(name) && stock::function(&name.name) != Own::Unknown
}
