//! What both directions of a connection know: what the server still has to say, in its order, and what it has confirmed.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use holdpoint_core::sql::Control;

use super::run::Run;
use crate::postgres::{
    client_messages::Target,
    statements::{Definition, Names},
};

/// What the server will answer next, or what Holdpoint will in that place.
pub(super) enum Expected {
    /// Not from the server: this.
    Local(Bytes),
    /// Not from the server: ReadyForQuery, as things are then.
    LocalReady,
    Parse(String, Definition),
    /// Of a portal of this name.
    Bind(String),
    /// Of a statement or portal. Where Holdpoint asked, the client sees nothing of it.
    Describe {
        hidden: bool,
    },
    Execute {
        portal: String,
        /// [`Portal::number`].
        number: u64,
        run: Run,
    },
    Close(Target, String),
    Sync,
    Query(Run),
    /// An error that was provoked, and what the client is told in its place. `query`: ReadyForQuery follows, unasked.
    Poison {
        told: Bytes,
        query: bool,
    },
}

impl Expected {
    /// Whether ReadyForQuery of the server is what ends it.
    fn ends_in_ready(&self) -> bool {
        matches!(
            self,
            Self::Sync | Self::Query(_) | Self::Poison { query: true, .. }
        )
    }

    /// Whether a name may mean something else once this is answered.
    fn changes_names(&self) -> bool {
        match self {
            // Portals are cursors: FETCH reads what was bound under its name.
            Self::Parse(name, _) | Self::Bind(name) | Self::Close(_, name) => !name.is_empty(),
            Self::Execute { run, .. } | Self::Query(run) => run.changes_names(),
            _ => false,
        }
    }

    /// Whether a COPY in it may come to ask for data.
    fn may_copy(&self) -> bool {
        match self {
            Self::Query(run) | Self::Execute { run, .. } => run.may_copy(),
            _ => false,
        }
    }
}

/// A portal that was admitted: it may be executed, with all of its rows, once.
pub(super) struct Portal {
    /// None while it runs.
    pub(super) run: Option<Run>,
    /// Which one of all that had its name.
    pub(super) number: u64,
    /// Where what it runs goes by a name: [`State::renamed`] when it was bound.
    pub(super) names_as_of: Option<u64>,
    /// [`State::asked`] when it was bound: it lives until that many and one more are answered outside of a transaction.
    pub(super) bound_after: u64,
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
    /// How often something was asked for that may change the meaning of names.
    pub(super) renamed: u64,
    /// Of what is not answered, how much may come to take data.
    copying: usize,
    /// How many portals were bound.
    pub(super) bound: u64,
    /// What ReadyForQuery answers: how many were asked so far, and how many of them are answered.
    pub(super) asked: u64,
    pub(super) answered: u64,
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
            renamed: 0,
            copying: 0,
            bound: 0,
            asked: 0,
            answered: 0,
            names: Names::default(),
            portals: HashMap::new(),
            aside: BytesMut::new(),
            over: None,
        }
    }

    pub(super) fn expect(&mut self, expected: Expected) {
        self.unconfirmed += usize::from(expected.changes_names());
        self.renamed += u64::from(expected.changes_names());
        self.copying += usize::from(expected.may_copy());
        self.asked += u64::from(expected.ends_in_ready());
        self.expected.push_back(expected);
    }

    pub(super) fn next(&mut self) -> Option<Expected> {
        let next = self.expected.pop_front()?;
        self.unconfirmed -= usize::from(next.changes_names());
        self.copying -= usize::from(next.may_copy());
        self.answered += u64::from(next.ends_in_ready());
        Some(next)
    }

    /// No transaction is open: portals that were bound before are gone.
    pub(super) fn drop_portals(&mut self) {
        let answered = self.answered;
        let gone = self.portals.extract_if(|_, it| it.bound_after < answered);
        gone.for_each(|(_, portal)| portal.given_up());
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
        let before = self.expected.len();
        self.expected.retain(|it| !matches!(it, Expected::Sync));
        self.answered += (before - self.expected.len()) as u64;
    }

    /// Whether a COPY was begun whose data the server has not asked for yet.
    pub(super) fn may_copy(&self) -> bool {
        self.copying > 0
    }

    /// `DECLARE` and `CLOSE` name what portals are: what was bound under such a name may be gone, or something else.
    pub(super) fn retake_portals(&mut self, run: &Run) {
        for definition in &run.definitions {
            match definition.statement().map(|it| &it.control) {
                Some(
                    Control::DeclareCursor { name } | Control::CloseCursor { name: Some(name) },
                ) => {
                    let gone = self.portals.remove(name);
                    gone.into_iter().for_each(Portal::given_up);
                }
                Some(Control::CloseCursor { name: None } | Control::Discard) => {
                    let gone = self.portals.drain();
                    gone.for_each(|(_, portal)| portal.given_up());
                }
                _ => {}
            }
        }
    }
}
