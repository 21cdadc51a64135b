//! Held operations and the people who answer them: the async shell around [`holdpoint_core::approval`].

mod desk;
mod held;
mod request;
mod view;

use std::{fmt, sync::Arc};

use holdpoint_core::{
    approval::{Answer, Refused, Reviewer},
    digest::Digest,
    policy::Hold,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

pub use request::{BodyView, RequestView};
pub use view::{AnswerView, ApprovalDetail, ApprovalView, RuleView};

use crate::{
    record::{OperationId, Record, RecordError},
    session::{Session, random_id},
};
use desk::{Call, Desk, Opinion};

/// Calls that wait for their turn at most; beyond, callers wait for a place.
const QUEUE: usize = 256;

/// The name of an approval: `ap-` and 10 characters. Unique on this host for ever, not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApprovalId(Arc<str>);

impl ApprovalId {
    /// As a caller names it; there need not be one of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

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
    /// A limit is reached; the text says which.
    #[error("too many {0} already; let some of them be answered first")]
    TooMany(&'static str),
    /// The hold could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The daemon is ending.
    #[error("Holdpoint is shutting down")]
    Closed,
}

/// Why an answer was not taken.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// There is no such approval, or it was over long ago.
    #[error("there is no approval of this id; `holdpoint approvals list` shows those that wait")]
    Unknown,
    /// It does not count.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The answer could not be recorded, so it does not count.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The daemon is ending.
    #[error("Holdpoint is shutting down")]
    Closed,
}

/// Proof that one approval was given, was good, and was used up, on disk, by the one who has this.
#[derive(Debug)]
#[must_use = "the approval is used up: run the operation, or record that it was not run"]
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
    /// The question is void: the daemon is ending.
    Withdrawn,
    /// Approved, but the use could not be recorded. A re-send may try again.
    Unrecorded(RecordError),
}

/// A place in the queue for one approval. Dropping it means that this client stopped waiting; the hold stays.
#[derive(Debug)]
pub struct Ticket {
    id: ApprovalId,
    verdict: Option<oneshot::Receiver<Verdict>>,
}

impl Ticket {
    /// The approval's id, for messages.
    #[must_use]
    pub fn id(&self) -> &ApprovalId {
        &self.id
    }

    /// Waits for the end. Cancel-safe: nothing is lost when the future is dropped and the ticket kept. There is one
    /// verdict; a second call says [`Verdict::Withdrawn`].
    pub async fn verdict(&mut self) -> Verdict {
        let Some(receiver) = &mut self.verdict else {
            return Verdict::Withdrawn;
        };
        let verdict = receiver.await.unwrap_or(Verdict::Withdrawn);
        self.verdict = None;
        verdict
    }
}

/// All held operations of this host. Cheap to clone.
#[derive(Clone)]
pub struct Approvals {
    calls: mpsc::Sender<Call>,
    revision: watch::Receiver<u64>,
}

impl Approvals {
    /// Starts with none.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(record: Record) -> Self {
        let (calls, received) = mpsc::channel(QUEUE);
        // Another number than any daemon before gave out.
        let start = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        let (changes, revision) = watch::channel(start);
        tokio::spawn(Desk::new(record, changes).run(received));
        Self { calls, revision }
    }

    /// Counts up whenever [`Self::list`] changes.
    #[must_use]
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Returns as soon as the revision is another than `since`.
    pub async fn changed(&self, since: u64) {
        let mut revision = self.revision.clone();
        // An error means that the daemon is ending: nothing changes any more.
        let _ = revision.wait_for(|now| *now != since).await;
    }

    /// Holds an operation: joins the pending or approved hold of the same principal, user, content and rules, or
    /// opens one. Recorded and synced before it returns.
    ///
    /// # Errors
    /// The operation must be denied.
    pub async fn hold(&self, ask: HoldAsk) -> Result<Ticket, HoldError> {
        let ask = Box::new(ask);
        let place = self.call(|reply| Call::Hold(ask, reply)).await;
        let (id, verdict) = place.unwrap_or(Err(HoldError::Closed))?;
        Ok(Ticket {
            id,
            verdict: Some(verdict),
        })
    }

    /// A person answers. Recorded and synced before it counts.
    ///
    /// # Errors
    /// The answer does not count.
    pub async fn answer(
        &self,
        id: &ApprovalId,
        reviewer: Reviewer,
        answer: Answer,
        comment: Option<String>,
    ) -> Result<ApprovalView, AnswerError> {
        let opinion = Opinion {
            reviewer,
            answer,
            comment,
        };
        let answered = self.call(|reply| Call::Answer(id.clone(), opinion, reply));
        answered.await.unwrap_or(Err(AnswerError::Closed))
    }

    /// Every approval that is open, and the latest that are over, newest first, without headers and bodies.
    pub async fn list(&self) -> Vec<ApprovalView> {
        self.call(Call::List).await.unwrap_or_default()
    }

    /// One approval with the whole request.
    pub async fn show(&self, id: &ApprovalId) -> Option<ApprovalDetail> {
        let view = self.call(|reply| Call::Show(id.clone(), reply));
        view.await.flatten()
    }

    /// The daemon ends: whatever still waits for an answer is withdrawn. A session's end withdraws nothing, because the same
    /// command run again, in a session of its own, may use the approval.
    pub async fn withdraw_pending(&self) {
        self.call(Call::Withdraw).await;
    }

    /// `None` when the daemon is ending.
    async fn call<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(call(reply)).await.ok()?;
        answer.await.ok()
    }
}

#[cfg(test)]
mod tests;
