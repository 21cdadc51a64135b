//! Who asks, and how a client is kept waiting.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;
use tokio::{sync::Notify, time::Instant};

use crate::{
    approvals::RowsView,
    interim::{Interims, MOST_PER_REQUEST},
    lookup::Asking,
    session::Session,
};

/// Who asks, on which connection, with what request, and how that client can be kept waiting.
pub struct Asker<'a> {
    /// The session.
    pub session: Arc<Session>,
    /// The connection's number in the record.
    pub connection: u64,
    /// How the client is kept waiting.
    pub patience: Patience<'a>,
    /// The headers of the request, for reviewers.
    pub headers: &'a HeaderMap,
    /// As much of its body as was read, for reviewers.
    pub body: &'a [u8],
    /// How many rows each of the operations touches, in their order, where somebody has asked their database.
    pub rows: &'a [Option<RowsView>],
}

impl Asker<'_> {
    /// The same, for what Holdpoint reads by itself.
    #[must_use]
    pub fn asking(&self) -> Asking {
        Asking {
            session: self.session.id.clone(),
            connection: self.connection,
        }
    }
}

/// How a client is kept waiting.
pub enum Patience<'a> {
    /// HTTP/1.1: interim responses restart its read time-out; `left` of them may still be sent.
    Interims {
        /// The way to send them.
        interims: Interims,
        /// How many may be sent for this request.
        left: u32,
    },
    /// Nothing keeps it waiting: it is told "pending" after this time.
    AtMost(Duration),
    /// A database's client: it is told at once what it waits for, and may call it off.
    Attended(Attended<'a>),
}

/// A client that can be talked to while it waits.
pub struct Attended<'a> {
    /// Tells it what it waits for, once for each operation.
    pub tell: &'a (dyn Fn(&Waiting) + Send + Sync),
    /// Rung when it no longer wants what it asked for.
    pub called_off: Arc<Notify>,
    /// How long it may wait, where others may wait for what it has locked; else for as long as the question is open.
    pub at_most: Option<Duration>,
}

/// What a client waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The approval's id.
    pub approval: String,
    /// In words: what is held, why, and for whom.
    pub message: String,
}

impl Patience<'_> {
    /// For an HTTP/1.1 request; `Expect: 100-continue` has used up one interim response.
    #[must_use]
    pub fn http1(interims: Interims, expects_continue: bool) -> Self {
        Self::Interims {
            interims,
            left: MOST_PER_REQUEST - u32::from(expects_continue),
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Interims { .. } => None,
            Self::AtMost(time) => Some(Instant::now() + *time),
            Self::Attended(attended) => attended.at_most.map(|time| Instant::now() + time),
        }
    }

    pub(super) fn keep_waiting(&mut self) {
        if let Self::Interims { interims, left } = self
            && *left > 0
        {
            *left -= 1;
            interims.send();
        }
    }

    /// Tells whoever can be told what it waits for.
    pub(super) fn tell(&self, waiting: impl FnOnce() -> Waiting) {
        if let Self::Attended(attended) = self {
            (attended.tell)(&waiting());
        }
    }

    /// Returns when the client no longer wants it; never where it cannot say so.
    pub(super) async fn called_off(&self) {
        match self {
            Self::Attended(attended) => attended.called_off.notified().await,
            Self::Interims { .. } | Self::AtMost(_) => std::future::pending().await,
        }
    }
}

pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
