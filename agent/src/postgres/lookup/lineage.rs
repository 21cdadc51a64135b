//! What the columns of a result are made of: a view's are those of what it reads, a partition's those of its table.

mod tree;

use std::collections::{BTreeSet, HashMap};

use anyhow::bail;
use holdpoint_core::mask::Origin;
use serde::Deserialize;

/// How often views are followed to what they read.
const DEEPEST: usize = 32;
/// How many columns one result may be made of.
const MOST: usize = 20_000;

/// A column by the oid of its table and its number.
type Column = (u32, i16);

/// A column, as `columns.sql` tells of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Described {
    schema: String,
    relation: String,
    column: String,
    /// `pg_class.relkind`.
    kind: char,
    builtin: bool,
    parents: Vec<Column>,
}

impl Described {
    /// What it shows is a query's.
    fn is_of_a_view(&self) -> bool {
        matches!(self.kind, 'v' | 'm') && !self.builtin
    }
}

/// The views among what was told.
pub(super) fn views(asked: &[Column], told: &[Option<Described>]) -> BTreeSet<u32> {
    let views = asked.iter().zip(told);
    views
        .filter(|(_, it)| it.as_ref().is_some_and(Described::is_of_a_view))
        .map(|((view, _), _)| *view)
        .collect()
}

/// Columns on their way to what they are made of.
pub(super) struct Lineage {
    known: HashMap<Column, Option<Known>>,
    wanted: BTreeSet<Column>,
    steps: usize,
}

struct Known {
    /// Without its sources.
    origin: Origin,
    sources: Vec<Column>,
}

impl Lineage {
    pub(super) fn of(asked: &[Column]) -> Self {
        Self {
            known: HashMap::new(),
            wanted: asked.iter().copied().collect(),
            steps: 0,
        }
    }

    /// What has to be asked for; nothing once all is known.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Vec<Column>>> {
        if self.wanted.is_empty() {
            return Ok(None);
        }
        self.steps += 1;
        if self.steps > DEEPEST || self.known.len() + self.wanted.len() > MOST {
            bail!("its columns come through more views than are followed");
        }
        Ok(Some(std::mem::take(&mut self.wanted).into_iter().collect()))
    }

    /// Takes in what was told, and the queries of the views in it.
    pub(super) fn told(
        &mut self,
        asked: &[Column],
        told: Vec<Option<Described>>,
        trees: &HashMap<u32, String>,
    ) {
        let read = |(view, text): (&u32, &String)| (*view, tree::targets(text));
        let trees: HashMap<_, _> = trees.iter().map(read).collect();
        for (column, described) in asked.iter().zip(told) {
            let known = described.map(|it| Known::of(*column, it, &trees));
            let sources = known.iter().flat_map(|it| &it.sources);
            let unknown = sources.filter(|it| !self.known.contains_key(it) && !asked.contains(it));
            self.wanted.extend(unknown.copied());
            self.known.insert(*column, known);
        }
    }

    /// What was asked for.
    pub(super) fn origins(&self, asked: &[Column]) -> Vec<Option<Origin>> {
        asked.iter().map(|it| self.origin(*it)).collect()
    }

    /// With all of its sources, and theirs, in one row.
    fn origin(&self, column: Column) -> Option<Origin> {
        let known = self.known.get(&column)?.as_ref()?;
        let mut origin = known.origin.clone();
        let mut seen = BTreeSet::from([column]);
        let mut next = known.sources.clone();
        while let Some(column) = next.pop() {
            if !seen.insert(column) {
                continue;
            }
            // What a view is made of is there, or it is not what it was.
            let Some(known) = self.known.get(&column).and_then(Option::as_ref) else {
                origin.is_computed = true;
                continue;
            };
            origin.is_computed |= known.origin.is_computed;
            origin.sources.push(known.origin.clone());
            next.extend(&known.sources);
        }
        Some(origin)
    }
}

impl Known {
    fn of(
        (relation, number): Column,
        described: Described,
        trees: &HashMap<u32, Option<Vec<tree::Target>>>,
    ) -> Self {
        let mut sources = described.parents.clone();
        let mut is_computed = false;
        if described.is_of_a_view() {
            let targets = trees.get(&relation).and_then(Option::as_ref);
            let target = targets.and_then(|it| it.iter().find(|it| it.number == number));
            match target.and_then(|it| it.column) {
                Some(column) => sources.push(column),
                None => is_computed = true,
            }
        }
        Self {
            origin: Origin {
                schema: Some(described.schema),
                relation: described.relation,
                attribute: described.column,
                sources: Vec::new(),
                is_computed,
            },
            sources,
        }
    }
}
