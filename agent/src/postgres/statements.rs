//! What the names of a connection stand for: prepared statements, portals and cursors. The server's own account is followed by its
//! answers: a name means what the server has confirmed, and nothing while that is not known.

use std::{collections::HashMap, sync::Arc};

use holdpoint_core::sql::{Control, Parsed, Statement};

use crate::allowance::Charge;

/// Names of each kind that are remembered; what is beyond is not known, and so opaque.
pub const MOST: usize = 4096;

/// One statement of a text that was judged, or will be when it runs.
#[derive(Clone)]
pub struct Definition {
    /// All of the text.
    pub text: Arc<str>,
    parsed: Arc<Parsed>,
    at: usize,
    /// What the client said of its parameters' types.
    pub types: Arc<[u32]>,
    /// Whether it is known by its name because `PREPARE` said so, not `Parse`.
    pub by_prepare: bool,
    /// The memory it takes up, shared with others of its text.
    _charge: Option<Arc<Charge>>,
}

impl Definition {
    /// The statement at this place of a text.
    #[must_use]
    pub fn new(text: Arc<str>, parsed: Arc<Parsed>, at: usize, types: Arc<[u32]>) -> Self {
        Self {
            text,
            parsed,
            at,
            types,
            by_prepare: false,
            _charge: None,
        }
    }

    /// The same, with the memory accounted for that it takes up for as long as it is known.
    #[must_use]
    pub fn charged(self, charge: Arc<Charge>) -> Self {
        Self {
            _charge: Some(charge),
            ..self
        }
    }

    /// What it says; nothing where the text is empty.
    #[must_use]
    pub fn statement(&self) -> Option<&Statement> {
        self.parsed.statements.get(self.at)
    }

    /// The statement's own text.
    #[must_use]
    pub fn own_text(&self) -> &str {
        let own = self.statement().map(|it| it.span.clone());
        own.and_then(|span| self.text.get(span))
            .unwrap_or(&self.text)
    }
}

/// What names stand for, as far as the server has confirmed it.
#[derive(Default)]
pub struct Names {
    prepared: HashMap<String, Definition>,
    cursors: HashMap<String, Definition>,
}

impl Names {
    /// The prepared statement of this name, made by `Parse` or `PREPARE`.
    #[must_use]
    pub fn prepared(&self, name: &str) -> Option<&Definition> {
        self.prepared.get(name)
    }

    /// The cursor of this name, made by `DECLARE`.
    #[must_use]
    pub fn cursor(&self, name: &str) -> Option<&Definition> {
        self.cursors.get(name)
    }

    /// The server has taken a `Parse`.
    pub fn parsed(&mut self, name: &str, definition: Definition) {
        remember(&mut self.prepared, name, definition);
    }

    /// The server has forgotten a statement.
    pub fn closed(&mut self, name: &str) {
        self.prepared.remove(name);
    }

    /// A portal was bound, or closed: a cursor of its name is that.
    pub fn portal(&mut self, name: &str) {
        self.cursors.remove(name);
    }

    /// A statement has completed.
    pub fn completed(&mut self, definition: &Definition) {
        let Some(statement) = definition.statement() else {
            return;
        };
        match &statement.control {
            Control::Prepare { name, .. } => {
                let by_prepare = true;
                let definition = Definition {
                    by_prepare,
                    ..definition.clone()
                };
                remember(&mut self.prepared, name, definition);
            }
            Control::DeclareCursor { name, .. } => {
                remember(&mut self.cursors, name, definition.clone());
            }
            Control::Deallocate { name: Some(name) } => drop(self.prepared.remove(name)),
            Control::Deallocate { name: None } => self.prepared.clear(),
            Control::CloseCursor { name: Some(name) } => drop(self.cursors.remove(name)),
            Control::CloseCursor { name: None } => self.cursors.clear(),
            Control::Discard => self.forget(),
            _ => {}
        }
        // Whatever it was, it may have prepared something else under a name that is known.
        if statement.effects.iter().any(|it| it.opaque.is_some()) {
            self.forget();
        }
    }

    /// Nothing is known any more.
    pub fn forget(&mut self) {
        self.prepared.clear();
        self.cursors.clear();
    }
}

fn remember(names: &mut HashMap<String, Definition>, name: &str, definition: Definition) {
    if names.len() < MOST || names.contains_key(name) {
        names.insert(name.to_owned(), definition);
    } else {
        names.remove(name);
    }
}
