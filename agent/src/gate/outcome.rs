//! How admitted operations end: recorded whatever happens to the code in between.

use std::{future::poll_fn, task::Poll, time::Instant};

use crate::{
    approvals::GrantUse,
    lookup::Changing,
    record::{Event, OperationId, OutcomeResult, Pairs, Record, StatementAnswer},
    session::SessionId,
};

/// The open end of one request's operations, and the right to send it: only [`Permits::spend`](super::Permits::spend) gives
/// one out, and [`Upstream`](crate::upstream::Upstream) sends nothing of an agent's without. Dropped before anything was sent, they are recorded as not sent; dropped
/// after that without a response, their outcome is unknown, and nobody tries again.
pub struct Outcome {
    record: Record,
    session: SessionId,
    operations: Vec<OperationId>,
    result: OutcomeResult,
    status: Option<u16>,
    sent_at: Option<Instant>,
    changing: Option<Changing>,
    /// The grants that let them through.
    grants: Vec<GrantUse>,
    /// What the database said, where they are of a statement.
    pub statement: Option<StatementAnswer>,
    /// Bytes of the request's body that were sent.
    pub request_bytes: u64,
    /// Bytes of the response's body that were passed on.
    pub response_bytes: u64,
}

impl Outcome {
    pub(super) fn new(record: Record, session: SessionId) -> Self {
        Self {
            record,
            session,
            operations: Vec::new(),
            result: OutcomeResult::NotSent,
            status: None,
            sent_at: None,
            changing: None,
            grants: Vec::new(),
            statement: None,
            request_bytes: 0,
            response_bytes: 0,
        }
    }

    pub(super) fn add(&mut self, operation: OperationId) {
        self.operations.push(operation);
    }

    /// What is sent may change something, from now until it has ended.
    pub(super) fn changes(&mut self, changing: Option<Changing>) {
        self.changing = changing;
    }

    pub(super) fn lives_by(&mut self, grant: GrantUse) {
        self.grants.push(grant);
    }

    /// Whether a grant let this through.
    #[must_use]
    pub fn lives_by_grants(&self) -> bool {
        !self.grants.is_empty()
    }

    /// Returns when a grant that let this through is revoked or ends; never where there was none. For what goes on long after it was
    /// judged; once.
    pub fn grants_over(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let grants = std::mem::take(&mut self.grants);
        let mut ends: Vec<_> = grants
            .into_iter()
            .map(|mut used| Box::pin(async move { used.over().await }))
            .collect();
        poll_fn(move |context| {
            let is_over = ends
                .iter_mut()
                .any(|end| end.as_mut().poll(context).is_ready());
            if is_over {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
    }

    /// What is to be sent.
    #[must_use]
    pub fn operations(&self) -> &[OperationId] {
        &self.operations
    }

    /// From now on bytes may have left.
    pub fn sending(&mut self) {
        self.result = OutcomeResult::Unknown;
        self.sent_at = Some(Instant::now());
        for operation in &self.operations {
            self.record.note(Event::Forwarded {
                session: self.session.clone(),
                operation: operation.clone(),
            });
        }
    }

    /// Tells the record of the head of the response, with these headers.
    pub fn note_answer(&self, headers: &Pairs) {
        let (Some(status), Some(sent_at)) = (self.status, self.sent_at) else {
            return;
        };
        let after = sent_at.elapsed().as_micros();
        for operation in &self.operations {
            self.record.note(Event::Answered {
                session: self.session.clone(),
                operation: operation.clone(),
                status,
                headers: headers.clone(),
                after_us: u64::try_from(after).unwrap_or(u64::MAX),
            });
        }
    }

    /// It is certain that no byte has left.
    pub fn not_sent(&mut self) {
        self.result = OutcomeResult::NotSent;
    }

    /// The head of a response has come.
    pub fn answered(&mut self, status: u16) {
        self.result = OutcomeResult::Completed;
        self.status = Some(status);
    }

    /// A connection that was passed through has ended in good order.
    pub fn closed(&mut self) {
        self.result = OutcomeResult::Completed;
    }

    /// Broken off, because it may go on no longer.
    pub fn cut(&mut self) {
        if self.result == OutcomeResult::Unknown {
            self.result = OutcomeResult::Cut;
        }
    }

    /// They were refused.
    pub(super) fn refused(mut self) {
        self.result = OutcomeResult::Refused;
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        for operation in std::mem::take(&mut self.operations) {
            self.record.note(Event::Outcome {
                session: self.session.clone(),
                operation,
                status: self.status,
                result: self.result,
                request_bytes: self.request_bytes,
                response_bytes: self.response_bytes,
                statement: self.statement.clone(),
            });
        }
    }
}
