//! What a statement stands for that names another one, and the question it is to the gate.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use holdpoint_core::sql::{Control, Parameter, Statement};

use super::Up;
use crate::postgres::{session::judge::Question, statements::Definition};

/// What a statement stands for.
pub(super) enum Meant {
    Itself,
    Named(Definition),
    Unknown,
}

impl<R, W, J> Up<'_, R, W, J> {
    /// What a statement that names another one runs: by `EXECUTE`, by `FETCH`.
    pub(super) fn meant(
        &self,
        definition: &Definition,
        made: &HashMap<String, Definition>,
    ) -> Meant {
        let Some(statement) = definition.statement() else {
            return Meant::Itself;
        };
        let state = self.shared.lock();
        let named = match &statement.control {
            Control::Execute { name } => made
                .get(name)
                .or_else(|| self.fresh.get(name))
                .or_else(|| state.names.prepared(name)),
            Control::Fetch { name, .. } => made.get(name).or_else(|| state.names.cursor(name)),
            _ => return Meant::Itself,
        };
        named.cloned().map_or(Meant::Unknown, Meant::Named)
    }
}

/// The question that one statement is; with what it names, where it names something.
pub(super) fn question<'a>(
    definition: &'a Definition,
    statement: &'a Statement,
    meant: &Meant,
    parameters: &Arc<[Parameter]>,
    in_transaction: bool,
) -> Question<'a> {
    let own = definition.own_text();
    let (text, mut statement) = match meant {
        Meant::Itself => (Cow::Borrowed(&*definition.text), Cow::Borrowed(statement)),
        Meant::Named(named) => {
            let text = format!("{own}\n-- which is:\n{}", named.own_text());
            let executed = named.statement().map(|it| match &it.control {
                Control::Prepare { inner, .. } => statement.executing(inner),
                _ => statement.executing(it),
            });
            let statement = executed.unwrap_or_else(|| statement.clone());
            (Cow::Owned(text), Cow::Owned(statement))
        }
        Meant::Unknown => {
            let text = format!("{own}\n-- which names something that Holdpoint does not know");
            let mut statement = statement.clone();
            let why = "it runs what was prepared or declared where Holdpoint could not see it";
            for effect in &mut statement.effects {
                effect.opaque = Some(why.to_owned());
            }
            (Cow::Owned(text), Cow::Owned(statement))
        }
    };
    if let (Cow::Owned(text), Cow::Owned(statement)) = (&text, &mut statement) {
        statement.span = 0..text.len();
    }
    Question {
        text,
        statement,
        parameters: parameters.clone(),
        in_transaction,
    }
}
