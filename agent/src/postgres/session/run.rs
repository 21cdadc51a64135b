//! One simple query or one portal on its way: what was admitted, and how it ended.

use holdpoint_core::{
    operation::Operation,
    sql::{Control, Copy, Statement, UNPARSED},
};

use super::judge::Admitted;
use crate::{
    postgres::{
        masking::{Keeping, Kept},
        statements::{Definition, Names},
    },
    record::{StatementAnswer, Way},
};

pub(super) struct Run {
    /// In the order in which they run.
    pub(super) definitions: Vec<Definition>,
    /// How many have completed.
    completed: usize,
    pub(super) admitted: Admitted,
    answer: StatementAnswer,
    was_sent: bool,
    /// What is kept of its rows, while it gives no more of them until it is executed again.
    pub(super) kept: Option<Kept>,
}

impl Run {
    pub(super) fn new(definitions: Vec<Definition>, admitted: Admitted) -> Self {
        Self {
            definitions,
            completed: 0,
            admitted,
            answer: StatementAnswer::default(),
            was_sent: false,
            kept: None,
        }
    }

    /// From now on its bytes may be with the server.
    pub(super) fn sending(&mut self) {
        if std::mem::replace(&mut self.was_sent, true) {
            return;
        }
        if let Some(outcome) = &mut self.admitted.outcome {
            outcome.sending();
        }
    }

    pub(super) fn changes_names(&self) -> bool {
        let changes = |it: &Definition| it.statement().is_some_and(changes_names);
        self.admitted.is_opaque || self.definitions.iter().any(changes)
    }

    /// Whether a COPY in it may come to ask for data. What does not parse may be one.
    pub(super) fn may_copy(&self) -> bool {
        let copies = |it: &Definition| {
            it.statement().is_some_and(|it| {
                matches!(it.control, Control::CopyIn(_))
                    || it.effects.iter().any(|it| it.action == UNPARSED)
            })
        };
        self.definitions.iter().any(copies)
    }

    /// What it runs goes by a name, which may come to mean something else.
    pub(super) fn goes_by_name(&self) -> bool {
        let by_name = |it: &Definition| {
            let control = it.statement().map(|it| &it.control);
            matches!(
                control,
                Some(Control::Execute { .. } | Control::Fetch { .. })
            )
        };
        self.definitions.iter().any(by_name)
    }

    /// One command of it has completed.
    pub(super) fn command_completed(&mut self, tag: &str, names: &mut Names) {
        self.answer.tag = Some(tag.into());
        if let Some(definition) = self.definitions.get(self.completed) {
            names.completed(definition);
        }
        self.completed += 1;
        if self.admitted.is_opaque {
            names.forget();
        }
    }

    pub(super) fn failed(&mut self, sqlstate: Option<String>, names: &mut Names) {
        self.answer.sqlstate = sqlstate.map(Into::into);
        if self.admitted.is_opaque {
            names.forget();
        }
    }

    /// Rows and bytes that were passed on.
    pub(super) fn passed(&mut self, rows: u64, bytes: u64) {
        self.answer.rows += rows;
        if let Some(outcome) = &mut self.admitted.outcome {
            outcome.response_bytes += bytes;
        }
    }

    pub(super) fn taken_in(&mut self, bytes: u64) {
        if let Some(outcome) = &mut self.admitted.outcome {
            outcome.request_bytes += bytes;
        }
    }

    /// The server has said how it ended.
    pub(super) fn ended(self) {
        if let Some(mut outcome) = self.admitted.outcome {
            outcome.statement = Some(self.answer);
            outcome.closed();
        }
    }

    /// The rest of its rows is not wanted, or none of them ever were.
    pub(super) fn given_up(self) {
        if self.was_sent {
            self.ended();
        }
    }

    /// What is running or runs next, and the queries of the views that it reads, as masks want to know it; nothing where that names something else.
    pub(super) fn text(&self) -> Option<String> {
        let definition = self.definitions.get(self.completed)?;
        match definition.statement()?.control {
            Control::Execute { .. } | Control::Fetch { .. } => None,
            _ => {
                let mut text = definition.own_text().to_owned();
                for view in &self.admitted.views {
                    text.push_str(";\n");
                    text.push_str(view.trim_end_matches(';'));
                }
                Some(text)
            }
        }
    }

    /// The same where its rows come: what nobody can see through may make them of anything.
    pub(super) fn text_of_rows(&self) -> Option<String> {
        (!self.admitted.is_opaque).then(|| self.text()).flatten()
    }

    /// The COPY that is running.
    pub(super) fn copying(&self) -> Option<&Copy> {
        if let Some(Some(copy)) = self.admitted.copying.get(self.completed) {
            return Some(copy);
        }
        match &self.definitions.get(self.completed)?.statement()?.control {
            Control::CopyOut(copy) | Control::CopyIn(copy) => Some(copy),
            _ => None,
        }
    }

    /// Where what the running statement brings is kept.
    pub(super) fn keeping(&self) -> Option<&Keeping> {
        self.admitted.keeping.get(self.completed)?.as_ref()
    }

    /// The data that the running statement takes is about to come: what keeps it, once.
    pub(super) fn keeps_copy(&mut self) -> Option<Kept> {
        let keeping = self.admitted.keeping.get_mut(self.completed)?.take()?;
        keeping.copy(Way::Request, self.copying(), self.text().as_deref())
    }

    /// Whether the columns of its rows have to be known.
    pub(super) fn reads_rows(&self) -> bool {
        self.admitted.masks.is_some() || (self.keeping().is_some() && self.may_give_rows())
    }

    /// Most writes give none, and need not be asked about.
    fn may_give_rows(&self) -> bool {
        const WRITES: [&str; 4] = [
            "postgres.insert",
            "postgres.update",
            "postgres.delete",
            "postgres.merge",
        ];
        let Some(definition) = self.definitions.get(self.completed) else {
            return false;
        };
        let main = definition.statement().and_then(|it| it.effects.first());
        let writes = main.is_some_and(|it| WRITES.contains(&it.action));
        let says = |word: &str| {
            let text = definition.own_text().as_bytes();
            text.windows(word.len())
                .any(|it| it.eq_ignore_ascii_case(word.as_bytes()))
        };
        !writes || says("returning")
    }

    /// The server never began it.
    pub(super) fn skipped(self) {
        if let Some(mut outcome) = self.admitted.outcome {
            outcome.not_sent();
        }
    }

    /// It may go on no longer.
    pub(super) fn cut(self) {
        if let Some(mut outcome) = self.admitted.outcome {
            outcome.statement = Some(self.answer);
            outcome.cut();
        }
    }

    pub(super) fn operations(&self) -> &[Operation] {
        &self.admitted.operations
    }
}

fn changes_names(statement: &Statement) -> bool {
    matches!(
        statement.control,
        Control::Prepare { .. }
            | Control::Deallocate { .. }
            | Control::Discard
            | Control::DeclareCursor { .. }
            | Control::CloseCursor { .. }
    )
}
