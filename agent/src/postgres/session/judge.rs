//! Who decides of statements: for a connection in the house, the gate; for tests, whoever they like.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use holdpoint_core::{
    mask::MaskSet,
    operation::Operation,
    refusal::Refusal,
    sql::{Copy, Parameter, Parsed, Statement},
};
use tokio::task::AbortHandle;

use crate::{
    allowance::Charge,
    gate::{Attended, Lease, Outcome},
    postgres::masking::Keeping,
};

/// A statement that shall run.
pub(super) struct Question<'a> {
    /// Its text; of one that was prepared, that and what runs it.
    pub(super) text: Cow<'a, str>,
    pub(super) statement: Cow<'a, Statement>,
    pub(super) parameters: Arc<[Parameter]>,
    pub(super) in_transaction: bool,
    /// How many ReadyForQuery were asked for when it is judged.
    pub(super) asked: u64,
}

/// What may run.
#[derive(Default)]
pub(super) struct Admitted {
    pub(super) outcome: Option<Outcome>,
    /// What policy said of its operations, and whether it may say something else by now.
    pub(super) lease: Option<Lease>,
    /// The memory its operations take up.
    pub(super) _charge: Option<Charge>,
    /// Watches the grants it runs by.
    pub(super) _watched: Option<Watched>,
    pub(super) operations: Vec<Operation>,
    /// What its rows are masked by.
    pub(super) masks: Option<Arc<MaskSet>>,
    /// Where what its statements bring is kept, for each of them; none at all where nothing is.
    pub(super) keeping: Vec<Option<Keeping>>,
    /// The COPY that each of its statements is, with all of its columns where they were looked up.
    pub(super) copying: Vec<Option<Box<Copy>>>,
    /// The queries of the views that it reads, where its rows are looked at.
    pub(super) views: BTreeSet<Arc<str>>,
    /// Whether it may do what nobody can tell.
    pub(super) is_opaque: bool,
}

/// A task that ends when this is dropped.
pub(super) struct Watched(pub(super) AbortHandle);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) trait Judge: Send + Sync {
    /// An account of memory that the connection takes up, empty at first.
    fn charge(&self) -> Charge;

    /// What a text says.
    fn parse(&self, text: &str) -> Arc<Parsed>;

    /// Whether a statement may do something as soon as the server reads it.
    fn runs_when_read(&self, statement: &Statement) -> impl Future<Output = bool> + Send;

    /// Why what was admitted, and is not sent yet, may not be sent any more.
    fn objection(&self, admitted: &Admitted) -> Option<Refusal>;

    /// Lets pass what one message asks for, all of it or nothing. Waits for people where that is needed.
    fn admit(
        &self,
        questions: &[Question<'_>],
        attended: Attended<'_>,
    ) -> impl Future<Output = Result<Admitted, Refusal>> + Send;
}
