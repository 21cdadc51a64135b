//! What a computed column may be made of, told by the words of its statement.

use super::{
    super::{MaskSet, Whole, columns::Words, names},
    plan::whole,
};

/// A statement, its words told apart once, when a column asks.
pub(super) struct Computed<'a> {
    statement: Option<&'a str>,
    rule: Option<Option<Whole>>,
}

impl<'a> Computed<'a> {
    pub(super) fn in_statement(statement: Option<&'a str>) -> Self {
        Self {
            statement,
            rule: None,
        }
    }

    /// As what text is masked that the statement computes; `None` where it names nothing that is.
    pub(super) fn rule(&mut self, set: &MaskSet) -> Option<Whole> {
        *self.rule.get_or_insert_with(|| {
            let columns = &set.base.columns;
            let Some(statement) = self.statement else {
                return columns.first().map(|(_, detector)| whole(*detector, false));
            };
            if columns.is_empty() && set.base.fields.by_name.is_none() {
                return None;
            }
            let words = Words::of(statement);
            let of_column = columns
                .iter()
                .find(|(column, _)| column.may_be_computed_in(&words));
            of_column
                .map(|(_, detector)| whole(*detector, false))
                .or_else(|| by_name(set, &words))
        })
    }
}

fn by_name(set: &MaskSet, words: &Words<'_>) -> Option<Whole> {
    let detector = set.base.fields.by_name?;
    let mut plain = Vec::new();
    let names_one = words.names().any(|name| {
        plain.clear();
        names::normalise(name.as_bytes(), &mut plain);
        names::is_secret_field(&plain)
    });
    names_one.then(|| whole(detector, true))
}
