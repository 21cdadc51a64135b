//! Held operations and the people who answer them: the async shell around [`holdpoint_core::approval`].

mod request;

use std::{fmt, sync::Arc};

use holdpoint_core::{digest::Digest, policy::Hold};
use serde::{Deserialize, Serialize};

pub use request::RequestView;

use crate::{
    record::{OperationId, Record, RecordError},
    session::{Session, SessionId, random_id},
};

/// The name of an approval: `ap-` and 10 characters. Unique on this host for ever, not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApprovalId(Arc<str>);

impl ApprovalId {
    fn random() -> Self {
        Self(random_id("ap-").into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An operation that policy holds, and who asks for it.
#[derive(Debug)]
pub struct HoldAsk {
    /// The session.
    pub session: Arc<Session>,
    /// The operation, under the id its intent was recorded with.
    pub operation: OperationId,
    /// What the reviewer sees.
    pub request: RequestView,
    /// The digest of the operation: what an approval is bound to.
    pub digest: Digest,
    /// The hold rules that matched.
    pub hold: Hold,
}

/// Why an operation cannot even be held. It is denied.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// No rule names a reviewer group.
    #[error("no hold rule says who is to be asked")]
    NoRules,
    /// Too many wait already.
    #[error("{0} operations wait for approval already; answer or let expire some of them first")]
    TooMany(usize),
    /// The hold could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The daemon is ending.
    #[error("Holdpoint is shutting down")]
    Closed,
}

/// Proof that one approval was given, was good, and was used up, on disk, by the one who has this.
#[derive(Debug)]
#[must_use = "the approval is used up; run the operation or record that it was not run"]
pub struct Spent {
    approval: ApprovalId,
    operation: OperationId,
}

impl Spent {
    /// The approval.
    #[must_use]
    pub fn approval(&self) -> &ApprovalId {
        &self.approval
    }

    /// The operation it was used up for: the one of the ticket's [`HoldAsk`].
    #[must_use]
    pub fn operation(&self) -> &OperationId {
        &self.operation
    }
}

/// How waiting ended.
#[derive(Debug)]
pub enum Verdict {
    /// Run it, now and once.
    Approved(Spent),
    /// A person denied it.
    Denied {
        /// Who.
        by: String,
        /// What they wrote.
        comment: Option<String>,
    },
    /// Nobody answered in time.
    Expired,
    /// Approved, and another connection with the same operation has used the approval.
    UsedByResend,
    /// The question is void: the session ended, policy changed, or the daemon ends.
    Withdrawn,
}

/// A place in the queue for one approval. Dropping it means that this client stopped waiting; the hold stays.
#[derive(Debug)]
pub struct Ticket {
    id: ApprovalId,
}

impl Ticket {
    /// The approval's id, for messages.
    #[must_use]
    pub fn id(&self) -> &ApprovalId {
        &self.id
    }

    /// Waits for the end. Cancel-safe: nothing is lost when the future is dropped and the ticket kept. A second call
    /// after an answer says [`Verdict::Withdrawn`].
    pub async fn verdict(&mut self) -> Verdict {
        Verdict::Withdrawn
    }
}

/// All held operations of this host.
#[derive(Clone)]
pub struct Approvals {
    _record: Record,
}

impl Approvals {
    /// Starts with none. Inside a tokio runtime.
    #[must_use]
    pub fn new(record: Record) -> Self {
        Self { _record: record }
    }

    /// Holds an operation: joins the pending or approved hold of the same principal, user, content and rules, or
    /// opens one. Recorded and synced before it returns.
    ///
    /// # Errors
    /// The operation must be denied.
    pub async fn hold(&self, _ask: HoldAsk) -> Result<Ticket, HoldError> {
        Err(HoldError::Closed)
    }

    /// A session has ended: what only it waits for is withdrawn.
    pub async fn end_session(&self, _session: &SessionId) {}
}
