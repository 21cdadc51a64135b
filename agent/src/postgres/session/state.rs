//! What both directions of a connection know: what the server still has to say, in its order, and what it has confirmed.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use holdpoint_core::sql::Control;

use super::run::Run;
use crate::postgres::statements::{Definition, Names};

/// What the server will answer next, or what Holdpoint will in that place.
pub(super) enum Expected {
    /// Not from the server: this.
    Local(Bytes),
    /// Not from the server: ReadyForQuery, as things are then.
    LocalReady,
    Parse(String, Definition),
    Bind,
    /// Of a statement or portal. Where Holdpoint asked, the client sees nothing of it.
    Describe {
        hidden: bool,
    },
    Execute {
        portal: String,
        run: Run,
    },
    /// The name of a statement, or none for a portal.
    Close(Option<String>),
    Sync,
    Query(Run),
    /// An error that was provoked, and what the client is told in its place. `query`: ReadyForQuery follows, unasked.
    Poison {
        told: Bytes,
        query: bool,
    },
}

impl Expected {
    /// Whether a name may mean something else once this is answered.
    fn changes_names(&self) -> bool {
        match self {
            Self::Parse(name, _) => !name.is_empty(),
            Self::Close(Some(_)) => true,
            Self::Execute { run, .. } | Self::Query(run) => run.changes_names(),
            _ => false,
        }
    }
}

/// A portal that was admitted: it may be executed, with all of its rows, once.
pub(super) struct Portal {
    /// None while it runs.
    pub(super) run: Option<Run>,
}

impl Portal {
    /// It will not be executed any more.
    pub(super) fn given_up(self) {
        self.run.into_iter().for_each(Run::given_up);
    }
}

pub(super) struct State {
    pub(super) expected: VecDeque<Expected>,
    /// What the last ReadyForQuery said of the transaction: `I`, `T` or `E`.
    pub(super) status: u8,
    /// The server ignores everything up to the next Sync, after an error.
    pub(super) skips: bool,
    /// The server takes data.
    pub(super) copies_in: bool,
    /// What may change the meaning of names, and is not answered.
    pub(super) unconfirmed: usize,
    pub(super) names: Names,
    pub(super) portals: HashMap<String, Portal>,
    /// For the client, at the next end of a message.
    pub(super) aside: BytesMut,
    /// Why it has to end.
    pub(super) over: Option<String>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            expected: VecDeque::new(),
            status: b'I',
            skips: false,
            copies_in: false,
            unconfirmed: 0,
            names: Names::default(),
            portals: HashMap::new(),
            aside: BytesMut::new(),
            over: None,
        }
    }

    pub(super) fn expect(&mut self, expected: Expected) {
        self.unconfirmed += usize::from(expected.changes_names());
        self.expected.push_back(expected);
    }

    pub(super) fn next(&mut self) -> Option<Expected> {
        let next = self.expected.pop_front()?;
        self.unconfirmed -= usize::from(next.changes_names());
        Some(next)
    }

    /// After an error of the extended protocol: nothing up to the next Sync is done, nor answered.
    pub(super) fn skip(&mut self) {
        self.skips = true;
        while let Some(next) = self.expected.front() {
            if matches!(next, Expected::Sync) {
                self.skips = false;
                return;
            }
            if let Some(Expected::Execute { run, .. } | Expected::Query(run)) = self.next() {
                run.skipped();
            }
        }
    }

    /// A COPY takes data: the server ignores what came before that data (`CopyGetData`).
    pub(super) fn begins_copy(&mut self) {
        self.copies_in = true;
        let running = self.next();
        self.expected.retain(|it| !matches!(it, Expected::Sync));
        if let Some(running) = running {
            self.unconfirmed += usize::from(running.changes_names());
            self.expected.push_front(running);
        }
    }

    /// Whether a COPY was begun whose data the server has not asked for yet.
    pub(super) fn may_copy(&self) -> bool {
        let copies = |definition: &Definition| {
            let statement = definition.statement();
            statement.is_some_and(|it| matches!(it.control, Control::CopyIn(_)))
        };
        self.expected.iter().any(|it| match it {
            Expected::Query(run) | Expected::Execute { run, .. } => {
                run.definitions.iter().any(copies)
            }
            _ => false,
        })
    }
}
