//! Whether what a name means is harmless, and if not, why.

use super::{
    known::{Facts, Objects},
    observed::{Relation, Routine, Type},
    stock::{self, Own},
};
use crate::sql::Name;

/// What speaks against taking a statement for a read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Objection {
    /// For people: a clause that begins with a name.
    pub(super) why: String,
    /// It could make or change objects of the database.
    pub(super) defines: bool,
}

impl Objection {
    /// To what may do anything.
    pub(super) fn anything(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            defines: true,
        }
    }

    /// To what does something, but nothing to what names mean.
    fn known(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            defines: false,
        }
    }
}

/// Against calling what is named so.
pub(super) fn function(name: &Name, objects: &Objects<Routine>) -> Option<Objection> {
    if objects.builtin
        && let Some(objection) = own_call(&name.name)
    {
        return Some(objection);
    }
    let others = objects.found.iter();
    others
        .filter(|it| !(it.builtin && is_own(it)))
        .find_map(routine)
}

/// Against calling PostgreSQL's own function of this name, where the statement says so.
pub(super) fn own_call(name: &str) -> Option<Objection> {
    match stock::function(name) {
        Own::Told => None,
        _ => own_function(name),
    }
}

/// The same where it is called without saying so, and where the name may be anything else.
pub(super) fn own_if_any(name: &str) -> Option<Objection> {
    match stock::function(name) {
        Own::Unknown => None,
        _ => own_function(name),
    }
}

/// Against running PostgreSQL's own function of this name, whoever calls it.
fn own_function(name: &str) -> Option<Objection> {
    match stock::function(name) {
        Own::Harmless => None,
        Own::Acts | Own::Told => Some(Objection::known(format!("{name}() has effects"))),
        Own::Runs => Some(Objection::anything(format!(
            "{name}() runs SQL or types that are given to it as text"
        ))),
        Own::Unknown => Some(Objection::anything(format!(
            "{name}() is not known to be harmless"
        ))),
    }
}

/// Against using what is behind an operator.
pub(super) fn operator(name: &Name, objects: &Objects<Routine>) -> Option<Objection> {
    let objection = objects.found.iter().find_map(routine)?;
    Some(Objection {
        why: format!("operator {name} runs a function: {}", objection.why),
        ..objection
    })
}

/// Against running this very function.
pub(super) fn routine(routine: &Routine) -> Option<Objection> {
    let Routine { schema, name, .. } = routine;
    if routine.builtin {
        if is_own(routine) {
            return own_function(name);
        }
        return Some(Objection::anything(format!(
            "{schema}.{name}() is now written in {}",
            routine.language
        )));
    }
    let Some(extension) = &routine.extension else {
        return Some(Objection::anything(format!(
            "{schema}.{name}() is user-defined"
        )));
    };
    // Who owns an extension can add functions of their own to it, but not in C, and not owned by a superuser.
    let genuine = match routine.language.as_str() {
        "c" | "internal" => true,
        "sql" => routine.superuser,
        _ => false,
    };
    let harmless = if routine.volatile {
        stock::extension_function(extension, name)
    } else {
        stock::computes(extension) || stock::extension_function(extension, name)
    };
    (!(genuine && harmless)).then(|| {
        Objection::anything(format!(
            "{schema}.{name}() of extension {extension} is not known to be harmless"
        ))
    })
}

/// Whether it is still written as PostgreSQL wrote it.
fn is_own(routine: &Routine) -> bool {
    matches!(routine.language.as_str(), "internal" | "c" | "sql")
}

/// Against values of this type, but for its domain's constraints, which are SQL to be followed.
pub(super) fn type_(found: &Type, facts: &Facts) -> Option<Objection> {
    let Type { schema, name, .. } = found;
    let why = match found.kind {
        'c' | 'd' | 'e' => None,
        'r' if !found.own_order => None,
        'b' if found.array => None,
        _ if found.extension.as_deref().is_some_and(stock::computes) => None,
        'r' => Some("is a range type with functions of its own"),
        'm' => Some("is a multirange type of a user's"),
        _ => Some("is a user-defined type"),
    };
    if let Some(why) = why {
        return Some(Objection::anything(format!("type {schema}.{name} {why}")));
    }
    facts
        .casts()
        .iter()
        .filter(|cast| cast.source == found.oid || cast.target == found.oid)
        .find_map(|cast| {
            let objection = routine(&cast.routine)?;
            Some(Objection {
                why: format!("the cast {} runs a function: {}", cast.named, objection.why),
                ..objection
            })
        })
}

/// Against reading or writing this relation, but for what its view's query and its expressions do, which are to be followed.
pub(super) fn relation(found: &Relation, facts: &Facts) -> Vec<Objection> {
    let Relation { schema, name, .. } = found;
    if found.builtin {
        return system(schema, name, found.kind).into_iter().collect();
    }
    let mut objections = Vec::new();
    if !matches!(found.kind, 'r' | 'p' | 'v' | 'm' | 'S' | 't' | 'i' | 'I') {
        objections.push(match found.kind {
            'f' => Objection::anything(format!("{schema}.{name} is a foreign table")),
            kind => Objection::anything(format!("{schema}.{name} is of an unknown kind ({kind})")),
        });
    }
    if found.kind == 'v' && found.definition.is_none() {
        objections.push(Objection::anything(format!(
            "the query of view {schema}.{name} cannot be seen"
        )));
    }
    if let Some(foreign) = &found.foreign {
        objections.push(Objection::anything(format!(
            "{schema}.{name} has a foreign table among its children: {foreign}"
        )));
    }
    for class in &found.operator_classes {
        if !class.extension.as_deref().is_some_and(stock::computes) {
            objections.push(Objection::anything(format!(
                "an index of {schema}.{name} uses operator class {}",
                class.name
            )));
        }
    }
    objections.extend(
        found
            .planned
            .iter()
            .filter_map(routine)
            .map(|objection| Objection {
                why: format!(
                    "an index or constraint of {schema}.{name} runs a function: {}",
                    objection.why
                ),
                ..objection
            }),
    );
    objections.extend(
        found
            .types
            .iter()
            .filter_map(|column| type_(column, facts))
            .map(|objection| Objection {
                why: format!("a column of {schema}.{name}: {}", objection.why),
                ..objection
            }),
    );
    objections
}

/// Against having a write of this relation planned, besides what speaks against reading it.
pub(super) fn planned_write(found: &Relation) -> Vec<Objection> {
    let Relation { schema, name, .. } = found;
    let rewrites = found.rewrites.iter();
    let rewrites = rewrites.map(|it| Objection::anything(format!("{it} is planned along with it")));
    let defaults = found.defaults.iter().filter_map(routine);
    let defaults = defaults.map(|objection| Objection {
        why: format!(
            "a default of {schema}.{name} is worked out: {}",
            objection.why
        ),
        ..objection
    });
    rewrites.chain(defaults).collect()
}

/// Against reading what PostgreSQL came with.
pub(super) fn system(schema: &str, name: &str, kind: char) -> Option<Objection> {
    match stock::relation(schema, name) {
        Some(Ok(())) => None,
        Some(Err(why)) => Some(Objection::known(format!("{schema}.{name}: {why}"))),
        None if kind == 'v' || kind == 'f' => Some(Objection::anything(format!(
            "{schema}.{name} is a system view that is not known to be harmless"
        ))),
        None => None,
    }
}
