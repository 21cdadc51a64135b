//! Held operations and the people who answer them: the async shell around [`holdpoint_core::approval`].

mod clock;
mod desk;
mod grants;
mod held;
mod kept;
mod request;
mod restore;
mod view;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use holdpoint_core::{
    approval::{Answer, Channel, Refused, Reviewer},
    digest::Digest,
    grant::{NotGrantable, Scope},
    policy::{Hold, HoldRule},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};

pub use grants::GrantRecord;
pub use request::{
    BodyView, ChangeView, LookedUp, RequestView, RowsEstimate, RowsView, TargetView,
};
pub use view::{AnswerView, ApprovalDetail, ApprovalView, GrantView, RuleView};

use crate::{
    notifications::Notifier,
    record::{OperationId, Record, RecordError},
    session::{Session, SessionId, random_id},
};
use desk::{Call, Desk};
use kept::Kept;

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

/// The name of a grant: `gr-` and 10 characters. Unique on this host for ever, not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(Arc<str>);

impl GrantId {
    /// As a caller names it; there need not be one of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

    fn random() -> Self {
        Self(random_id("gr-").into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How people are asked on this host.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where what is asked is kept while it is asked. Made if it is not there.
    pub dir: PathBuf,
    /// The reviewer group that may approve alone.
    pub break_glass: Option<String>,
    /// The claims of a session's token that name its owner, who may not answer.
    pub owner_claims: Vec<String>,
    /// How long a grant may last.
    pub longest_grant: Duration,
    /// Whether the record keeps what people were shown.
    pub keeps_questions: bool,
    /// Who is told of it all.
    pub notifier: Notifier,
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
    /// The digest of the operation under the host's key: what an approval is bound to.
    pub digest: Digest,
    /// The Google project of its resource, where that is known.
    pub project: Option<String>,
    /// The hold rules that matched.
    pub hold: Hold,
}

/// What a person says about a held operation.
#[derive(Clone, Debug)]
pub struct Opinion {
    /// Who.
    pub reviewer: Reviewer,
    /// Yes or no.
    pub answer: Answer,
    /// What the person writes.
    pub comment: Option<String>,
    /// Whether it is to be enough alone.
    pub break_glass: bool,
    /// Where it is said.
    pub channel: Channel,
    /// It counts only as the next answer after so many: what a link is good for.
    pub after: Option<usize>,
}

/// What a person would have others do without being asked, for a while.
#[derive(Clone, Debug)]
pub struct GrantAsk {
    /// Who.
    pub reviewer: Reviewer,
    /// How much.
    pub scope: Scope,
    /// How long.
    pub lasting: Duration,
    /// What the person writes.
    pub comment: Option<String>,
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
    /// What is asked could not be written down.
    #[error("what is asked cannot be kept on disk: {0}")]
    Keep(#[from] std::io::Error),
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
    /// Somebody else has answered since the link was made.
    #[error(
        "this link is used up: somebody has answered since it was sent; a new one was sent if another answer is needed"
    )]
    LinkUsed,
    /// There is no such grant, or it is over.
    #[error("there is no grant of this id in force; `holdpoint grants list` shows those there are")]
    UnknownGrant,
    /// Policy does not let it be granted.
    #[error(transparent)]
    NotGrantable(#[from] NotGrantable),
    /// There are as many as there may be.
    #[error("{0} grants are in force; revoke one that is no longer needed")]
    TooManyGrants(usize),
    /// A grant is ended by those who could have made it, those who have it, and root.
    #[error("only reviewers of the grant's groups, the user who has it and root may revoke it")]
    MayNotRevoke,
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

/// One operation that a grant covers, and that has not used it yet.
#[derive(Debug)]
pub struct GrantTicket {
    grant: GrantId,
    session: SessionId,
    operation: OperationId,
}

impl GrantTicket {
    /// The grant.
    #[must_use]
    pub fn grant(&self) -> &GrantId {
        &self.grant
    }
}

/// Proof that a grant was in force, on record, when the operation was let through by it.
#[derive(Debug)]
pub struct GrantUse(watch::Receiver<()>);

impl GrantUse {
    /// Returns when the grant is revoked, or ends otherwise.
    pub async fn over(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

/// Why a grant could not be used.
#[derive(Debug, thiserror::Error)]
pub enum GrantUseError {
    /// It was revoked, or has ended.
    #[error("the grant is over")]
    Over,
    /// The use could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// How waiting ended.
#[derive(Debug)]
pub enum Verdict {
    /// Run it, now and once.
    Approved(Spent),
    /// A grant covers it: [`Approvals::use_grant`] lets it run.
    Granted(GrantTicket),
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
    /// The daemon is ending. The question stays.
    Interrupted,
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
    /// verdict; a second call says [`Verdict::Interrupted`].
    pub async fn verdict(&mut self) -> Verdict {
        let Some(receiver) = &mut self.verdict else {
            return Verdict::Interrupted;
        };
        let verdict = receiver.await.unwrap_or(Verdict::Interrupted);
        self.verdict = None;
        verdict
    }
}

/// All held operations of this host. Cheap to clone.
#[derive(Clone)]
pub struct Approvals {
    calls: mpsc::Sender<Call>,
    revision: watch::Receiver<u64>,
    kept: Kept,
}

impl Approvals {
    /// Starts with what the record says is open: what waits goes on waiting, what is approved may be used, and what was
    /// granted holds.
    ///
    /// # Errors
    /// When that cannot be read, or that something is void cannot be recorded.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open(record: Record, settings: Settings) -> anyhow::Result<Self> {
        let kept = Kept::open(settings.dir.clone())?;
        let restored = restore::restore(&record, &kept, &settings)
            .await
            .context("the approvals of the daemon before cannot be taken over")?;
        // Another number than any daemon before gave out.
        let start = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        let (changes, revision) = watch::channel(start);
        let (calls, received) = mpsc::channel(QUEUE);
        let desk = Desk::new(record, kept.clone(), settings, changes, restored);
        tokio::spawn(desk.run(received));
        Ok(Self {
            calls,
            revision,
            kept,
        })
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
        opinion: Opinion,
    ) -> Result<ApprovalView, AnswerError> {
        let answered = self.call(|reply| Call::Answer(id.clone(), opinion, reply));
        answered.await.unwrap_or(Err(AnswerError::Closed))
    }

    /// A person who could approve this operation alone does, and lets the same principal do the same for a while.
    ///
    /// # Errors
    /// There is no grant.
    pub async fn grant(&self, id: &ApprovalId, ask: GrantAsk) -> Result<GrantView, AnswerError> {
        let granted = self.call(|reply| Call::Grant(id.clone(), ask, reply));
        granted.await.unwrap_or(Err(AnswerError::Closed))
    }

    /// The grants that are in force, newest first.
    pub async fn grants(&self) -> Vec<GrantView> {
        self.call(Call::Grants).await.unwrap_or_default()
    }

    /// Ends a grant: for every operation that has not used it yet, and for connections that live by it.
    ///
    /// # Errors
    /// It is as it was.
    pub async fn revoke(
        &self,
        id: &GrantId,
        by: Reviewer,
        reason: Option<String>,
    ) -> Result<GrantView, AnswerError> {
        let revoked = self.call(|reply| Call::Revoke(id.clone(), by, reason, reply));
        revoked.await.unwrap_or(Err(AnswerError::Closed))
    }

    /// Lets an operation that a grant covers run, if the grant is still in force. Recorded and synced before it returns.
    ///
    /// # Errors
    /// It may not run.
    pub async fn use_grant(&self, ticket: GrantTicket) -> Result<GrantUse, GrantUseError> {
        let used = self.call(|reply| Call::UseGrant(ticket, reply));
        used.await.unwrap_or(Err(GrantUseError::Over))
    }

    /// Other policies are in force, with these hold rules: grants that they would not allow end.
    pub async fn policies_changed(&self, rules: Vec<HoldRule>) {
        self.call(|reply| Call::PoliciesChanged(rules, reply)).await;
    }

    /// Every approval that is open, and the latest that are over, newest first, without headers and bodies.
    pub async fn list(&self) -> Vec<ApprovalView> {
        self.call(Call::List).await.unwrap_or_default()
    }

    /// One approval with the whole request.
    pub async fn show(&self, id: &ApprovalId) -> Option<ApprovalDetail> {
        let found = self.call(|reply| Call::Show(id.clone(), reply));
        let (view, digest) = found.await.flatten()?;
        let kept = self.kept.clone();
        let read = move || match kept.read(&view.id, digest) {
            Ok(question) => Some(ApprovalDetail::new(view, question.request)),
            Err(error) => {
                tracing::warn!(approval = %view.id, "cannot be shown: {error:#}");
                None
            }
        };
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Who asked no longer wants it: the question is withdrawn, unless it is answered or another connection waits for the same.
    pub async fn call_off(&self, id: &ApprovalId) {
        self.call(|reply| Call::Withdraw(id.clone(), reply)).await;
    }

    /// The daemon ends: whoever waits is told to ask again. The questions stay, and so does what was answered.
    pub async fn interrupt(&self) {
        self.call(Call::Interrupt).await;
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
