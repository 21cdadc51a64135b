//! What is done with each column, decided once.

use super::{
    super::{Context, Hint, MaskSet, Origin, StandIn, Whole, columns, names},
    Column,
    computed::Computed,
    kind::Kind,
};

/// What is done with a column's values.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) oid: u32,
    pub(super) is_binary: bool,
    /// The value is masked as a whole.
    pub(super) rule: Option<Whole>,
    /// The (normalised) name that tells what the values may be.
    pub(super) name: Vec<u8>,
    pub(super) context: Context,
}

impl Plan {
    /// `None` for columns in which nothing can be found.
    pub(super) fn of(
        set: &MaskSet,
        columns: &[Column],
        statement: Option<&str>,
    ) -> Vec<Option<Self>> {
        let mut computed = Computed::in_statement(statement);
        let of = |column| Self::of_column(set, column, &mut computed);
        columns.iter().map(of).collect()
    }

    fn of_column(set: &MaskSet, column: &Column, computed: &mut Computed<'_>) -> Option<Self> {
        let kind = Kind::of(column.type_oid);
        let origin = column.origin.as_ref();
        let label = columns::normalised(&column.name);
        let attribute = origin.map(|origin| columns::normalised(&origin.attribute));
        let relation = origin.map(|origin| columns::normalised(&origin.relation));
        let is_computed = origin.is_none_or(|it| it.is_computed);
        let rule = by_column(set, column)
            .or_else(|| by_origin(set, origin?))
            .or_else(|| by_name(set, &label, relation.as_deref()))
            .or_else(|| {
                let may_be_made_of_one = is_computed && kind.carries_text();
                may_be_made_of_one.then(|| computed.rule(set)).flatten()
            });
        let rule = rule.filter(|what| !what.guessed || may_be_guessed(kind));
        let told = attribute.as_deref().unwrap_or(&label);
        let plan = Self {
            kind,
            oid: column.type_oid,
            is_binary: column.format == 1,
            context: Context {
                hint: match (Hint::of(told), origin) {
                    // Whoever asks names what is computed, and could call a card number an id.
                    (Hint::Identifier, None) => Hint::None,
                    (hint, _) => hint,
                },
                prose: true,
            },
            name: told.to_vec(),
            rule,
        };
        (plan.rule.is_some() || is_looked_at(set, kind)).then_some(plan)
    }
}

fn by_column(set: &MaskSet, column: &Column) -> Option<Whole> {
    let mut rules = set.base.columns.iter();
    let found = rules.find(|(pattern, _)| pattern.is(&column.name, column.origin.as_ref()));
    found.map(|(_, detector)| whole(*detector, false))
}

/// By the names that it has where it is from.
fn by_origin(set: &MaskSet, origin: &Origin) -> Option<Whole> {
    let attribute = columns::normalised(&origin.attribute);
    let relation = columns::normalised(&origin.relation);
    let mut sources = origin.sources.iter();
    by_name(set, &attribute, Some(&relation)).or_else(|| sources.find_map(|it| by_origin(set, it)))
}

/// By a rule for fields, or by a (normalised) name that says it.
pub(super) fn by_name(set: &MaskSet, name: &[u8], relation: Option<&[u8]>) -> Option<Whole> {
    let fields = &set.base.fields;
    fields.at(name, relation.into_iter()).or_else(|| {
        let detector = fields.by_name.filter(|_| names::is_secret_field(name))?;
        Some(whole(detector, true))
    })
}

pub(super) fn whole(detector: u16, guessed: bool) -> Whole {
    Whole {
        detector,
        stand_in: StandIn::Token,
        guessed,
    }
}

/// `password_set boolean` and `token date` hold none.
fn may_be_guessed(kind: Kind) -> bool {
    kind.carries_text() || matches!(kind, Kind::Int { .. } | Kind::Numeric | Kind::Uuid)
}

/// Whether something may be found in values of a type.
fn is_looked_at(set: &MaskSet, kind: Kind) -> bool {
    match kind {
        Kind::Text | Kind::Json { .. } | Kind::Bytea | Kind::Record | Kind::Unknown => {
            set.looks_at_text() || set.looks_at_fields()
        }
        Kind::Lexemes => set.looks_at_text(),
        Kind::Int { bytes } => bytes > 2 && set.looks_at_numbers(),
        Kind::Float { .. } | Kind::Numeric => set.looks_at_numbers(),
        Kind::Uuid | Kind::Inet { .. } => set.looks_for_own_texts(),
        Kind::Array { element } => is_looked_at(set, Kind::of(element)),
        Kind::Bool | Kind::Bits | Kind::Constant { .. } => false,
    }
}
