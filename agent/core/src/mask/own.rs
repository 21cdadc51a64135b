//! Sets of the configuration, read: what cannot be is refused here.

use std::{collections::BTreeSet, sync::Arc};

use regex::bytes::{Regex, RegexBuilder};
use zeroize::Zeroizing;

use super::{
    Builtin, MAX_OWN, Mode, SetProblem, SetSource,
    columns::Pattern,
    fields::{Fields, StandIn},
    token,
};

/// How large one compiled regular expression may be, in bytes.
const REGEX_SIZE: usize = 1 << 20;
/// One `[[mask]]`, read.
#[derive(Clone, Debug)]
pub(super) struct OwnSet {
    pub(super) mode: Mode,
    pub(super) builtins: BTreeSet<Builtin>,
    pub(super) fields: Vec<String>,
    pub(super) columns: Vec<Pattern>,
    pub(super) regexes: Vec<(Arc<str>, Regex)>,
    pub(super) literals: Vec<Zeroizing<Vec<u8>>>,
}

impl OwnSet {
    pub(super) fn read(source: &SetSource) -> Result<Self, SetProblem> {
        let named = |name: &str| {
            token::is_name(name.as_bytes())
                .then(|| Arc::from(name))
                .ok_or_else(|| SetProblem::Name {
                    set: source.name.clone(),
                    name: name.to_owned(),
                })
        };
        named(&source.name)?;
        if [
            source.fields.len(),
            source.columns.len(),
            source.regexes.len(),
            source.literals.len(),
        ]
        .into_iter()
        .any(|many| many > MAX_OWN)
        {
            return Err(SetProblem::TooMany(source.name.clone()));
        }
        let mut builtins = BTreeSet::new();
        for name in &source.detectors {
            let found: Vec<Builtin> = Builtin::ALL
                .into_iter()
                .filter(|builtin| builtin.name() == name || builtin.set() == name)
                .collect();
            if found.is_empty() {
                return Err(SetProblem::Detector {
                    set: source.name.clone(),
                    detector: name.clone(),
                });
            }
            builtins.extend(found);
        }
        for field in &source.fields {
            let added = Fields::default().add(field, 0, StandIn::Token);
            added.map_err(|_| SetProblem::Field {
                set: source.name.clone(),
                field: field.clone(),
            })?;
        }
        let column = |text: &String| {
            Pattern::read(text).map_err(|_| SetProblem::Column {
                set: source.name.clone(),
                column: text.clone(),
            })
        };
        let compile = |(name, pattern): (&String, &String)| {
            let built = RegexBuilder::new(pattern)
                .size_limit(REGEX_SIZE)
                .dfa_size_limit(REGEX_SIZE)
                .build();
            let regex = built.map_err(|problem| SetProblem::Regex {
                set: source.name.clone(),
                name: name.clone(),
                problem: problem.to_string(),
            })?;
            Ok((named(name)?, regex))
        };
        if source.literals.iter().any(|literal| literal.len() < 4) {
            return Err(SetProblem::Literal(source.name.clone()));
        }
        Ok(Self {
            mode: source.mode,
            builtins,
            fields: source.fields.clone(),
            columns: source
                .columns
                .iter()
                .map(column)
                .collect::<Result<_, _>>()?,
            regexes: source
                .regexes
                .iter()
                .map(compile)
                .collect::<Result<_, _>>()?,
            literals: source
                .literals
                .iter()
                .map(|literal| Zeroizing::new(literal.clone().into_bytes()))
                .collect(),
        })
    }
}
