//! Every reason an operation can be stopped.

mod outcome;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use holdpoint_core::{
    operation::Operation,
    policy::{Decision, Denial, Hold, Policies, Terms},
    refusal::{Kind, Refusal, describe},
};
use http::HeaderMap;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    approvals::{
        Approvals, GrantTicket, GrantUse, GrantUseError, HoldAsk, RequestView, Spent, Ticket,
        Verdict,
    },
    config::HoldSettings,
    interim::{Interims, MOST_PER_REQUEST},
    metrics::metrics,
    record::{DecisionRecord, Event, OperationId, OperationRecord, Record, RecordError},
    session::Session,
};

pub use outcome::Outcome;

/// Judges operations. Nothing goes upstream without a [`Permit`], and only [`Gate::admit`] makes one.
pub struct Gate {
    policies: ArcSwap<Policies>,
    record: Record,
    approvals: Approvals,
    settings: HoldSettings,
}

/// Who asks, on which connection, with what request, and how that client can be kept waiting.
pub struct Asker<'a> {
    /// The session.
    pub session: Arc<Session>,
    /// The connection's number in the record.
    pub connection: u64,
    /// How the client is kept waiting.
    pub patience: Patience,
    /// The headers of the request, for reviewers.
    pub headers: &'a HeaderMap,
    /// As much of its body as was read, for reviewers.
    pub body: &'a [u8],
}

/// How a client is kept waiting.
pub enum Patience {
    /// HTTP/1.1: interim responses restart its read time-out; `left` of them may still be sent.
    Interims {
        /// The way to send them.
        interims: Interims,
        /// How many may be sent for this request.
        left: u32,
    },
    /// Nothing keeps it waiting: it is told "pending" after this time.
    AtMost(Duration),
}

impl Patience {
    /// For an HTTP/1.1 request; `Expect: 100-continue` has used up one interim response.
    #[must_use]
    pub fn http1(interims: Interims, expects_continue: bool) -> Self {
        Self::Interims {
            interims,
            left: MOST_PER_REQUEST - u32::from(expects_continue),
        }
    }
}

/// The right to carry out one operation, once.
pub struct Permit {
    terms: Terms,
    consent: Consent,
}

/// Why nobody needs to be asked any more.
enum Consent {
    /// Policy allows it outright.
    Policy,
    /// People have approved it.
    Approval { _spent: Spent },
    /// A grant covers it.
    Grant(GrantUse),
}

/// What waiting for people has led to, for one operation.
enum Answered {
    /// They were not asked.
    NotAsked,
    /// They approved it.
    Approved(Spent),
    /// They need not be asked, if the grant is still in force.
    Granted(GrantTicket),
}

/// Permits for everything one request asks for. Whoever sends the request has to give these up.
pub struct Permits {
    permits: Vec<Permit>,
    outcome: Outcome,
}

impl Permits {
    /// Gives the permits up for the right to send the request, once; the outcome is recorded whatever happens next.
    #[must_use]
    pub fn spend(self) -> Outcome {
        let mut outcome = self.outcome;
        for permit in self.permits {
            if let Consent::Grant(used) = permit.consent {
                outcome.lives_by(used);
            }
        }
        outcome
    }

    /// On which terms each operation may happen.
    pub fn terms(&self) -> impl Iterator<Item = &Terms> {
        self.permits.iter().map(|permit| &permit.terms)
    }
}

/// An operation, named and judged.
struct Judged<'a> {
    id: OperationId,
    operation: &'a Operation,
    decision: Decision,
}

impl Judged<'_> {
    /// Before anything goes on: the intent to change something, and what people are asked about.
    fn must_be_on_disk(&self) -> bool {
        self.operation.action.mutates() || matches!(self.decision, Decision::Hold(_))
    }
}

impl Gate {
    /// A gate with these policies.
    #[must_use]
    pub fn new(
        policies: Policies,
        record: Record,
        approvals: Approvals,
        settings: HoldSettings,
    ) -> Self {
        Self {
            policies: ArcSwap::from_pointee(policies),
            record,
            approvals,
            settings,
        }
    }

    /// Puts other policies in force, for every operation from now on. Grants that they would not allow end.
    pub async fn replace_policies(&self, policies: Policies) {
        let rules = policies.hold_rules().collect();
        self.policies.store(Arc::new(policies));
        self.approvals.policies_changed(rules).await;
    }

    /// Lets pass what one request asks for, all of it or nothing.
    ///
    /// In this order: decide, record the intent and the decision (on disk before anything that can change something
    /// goes on), refuse what is denied, wait for people where they are asked, and see that policy is still of the same
    /// opinion after that.
    ///
    /// # Errors
    /// What the client is to be told when it may not pass.
    pub async fn admit(
        &self,
        asker: &mut Asker<'_>,
        operations: &[Operation],
    ) -> Result<Permits, Refusal> {
        if operations.is_empty() {
            return Err(Refusal::malformed("it asks for nothing at all"));
        }
        let judged: Vec<_> = operations.iter().map(|op| self.judge(asker, op)).collect();
        let outcome = self.record_intents(asker, &judged).await?;
        match self.pass(asker, &judged).await {
            Ok(permits) => Ok(Permits { permits, outcome }),
            Err(refusal) => {
                outcome.refused();
                Err(refusal)
            }
        }
    }

    async fn pass(
        &self,
        asker: &mut Asker<'_>,
        judged: &[Judged<'_>],
    ) -> Result<Vec<Permit>, Refusal> {
        refuse_denied(judged)?;
        let answers = self.wait_for_people(asker, judged).await?;
        self.refuse_overtaken(asker, judged)?;
        self.permit(judged, answers).await
    }

    async fn permit(
        &self,
        judged: &[Judged<'_>],
        answers: Vec<Answered>,
    ) -> Result<Vec<Permit>, Refusal> {
        let mut permits = Vec::with_capacity(judged.len());
        for (judged, answered) in judged.iter().zip(answers) {
            let (terms, consent) = match (&judged.decision, answered) {
                (Decision::Allow(terms), Answered::NotAsked) => (terms, Consent::Policy),
                (Decision::Hold(hold), Answered::Approved(spent)) => {
                    (&hold.terms, Consent::Approval { _spent: spent })
                }
                (Decision::Hold(hold), Answered::Granted(ticket)) => {
                    let used = self.use_grant(judged.operation, ticket).await?;
                    (&hold.terms, Consent::Grant(used))
                }
                // Cannot be: the denied are refused before, and whoever is held was asked about.
                _ => return Err(Refusal::malformed("no decision was made about it")),
            };
            let terms = terms.clone();
            permits.push(Permit { terms, consent });
        }
        Ok(permits)
    }

    /// Grants may have been revoked while people thought about other operations of the request.
    async fn use_grant(
        &self,
        operation: &Operation,
        ticket: GrantTicket,
    ) -> Result<GrantUse, Refusal> {
        let grant = ticket.grant().as_str().to_owned();
        let used = self.approvals.use_grant(ticket).await;
        used.map_err(|error| match error {
            GrantUseError::Over => Refusal::grant_over(operation, &grant),
            GrantUseError::Record(error) => not_recorded(&error),
        })
    }

    /// Whether people would be asked about one of these, so that all of its content is needed.
    #[must_use]
    pub fn would_hold(&self, session: &Session, operations: &[Operation]) -> bool {
        let policies = self.policies.load();
        operations.iter().any(|operation| {
            matches!(
                policies.decide_at(&session.principal, operation, Some(Timestamp::now())),
                Decision::Hold(_)
            )
        })
    }

    /// Whether policy allows this outright: for names to resolve, which nobody can wait for.
    #[must_use]
    pub fn allows(&self, session: &Session, operation: &Operation) -> bool {
        matches!(self.decide(session, operation), Decision::Allow(_))
    }

    fn judge<'a>(&self, asker: &Asker<'_>, operation: &'a Operation) -> Judged<'a> {
        let decision = self.decide(&asker.session, operation);
        metrics().judged(operation, &decision);
        Judged {
            id: OperationId::random(),
            operation,
            decision,
        }
    }

    fn decide(&self, session: &Session, operation: &Operation) -> Decision {
        let deny = |why: &str| {
            let reason = format!("{} {why}", describe(operation));
            Decision::Deny(Denial {
                reason,
                policies: Vec::new(),
            })
        };
        if let Some(objection) = session.standing.objection(operation) {
            return deny(&objection);
        }
        let now = Some(Timestamp::now());
        match self
            .policies
            .load()
            .decide_at(&session.principal, operation, now)
        {
            Decision::Hold(_) if !operation.is_complete() => {
                deny("needs the approval of a reviewer, and is too large to be shown to one")
            }
            Decision::Allow(terms) | Decision::Hold(Hold { terms, .. })
                if !terms.masks.is_empty() =>
            {
                deny("has a reply that policy wants masked (@mask), which this version cannot do")
            }
            decision => decision,
        }
    }

    /// The record is synced in the order it is written, so the last intent that has to be on disk takes the others along.
    async fn record_intents(
        &self,
        asker: &Asker<'_>,
        judged: &[Judged<'_>],
    ) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::new(self.record.clone(), asker.session.id.clone());
        let last_to_sync = judged.iter().rposition(Judged::must_be_on_disk);
        for (
            place,
            Judged {
                id,
                operation,
                decision,
            },
        ) in judged.iter().enumerate()
        {
            let event = Event::Intent {
                session: asker.session.id.clone(),
                connection: asker.connection,
                operation: OperationRecord::new(id.clone(), operation),
                decision: DecisionRecord::from(decision),
            };
            let written = if Some(place) == last_to_sync {
                self.record.append(event).await
            } else {
                self.record.append_unsynced(event).await
            };
            written.map_err(|error| not_recorded(&error))?;
            outcome.add(id.clone());
        }
        Ok(outcome)
    }

    /// Policies may have been replaced while people thought.
    fn refuse_overtaken(&self, asker: &Asker<'_>, judged: &[Judged<'_>]) -> Result<(), Refusal> {
        for Judged {
            operation,
            decision,
            ..
        } in judged
        {
            if matches!(decision, Decision::Hold(_))
                && self.decide(&asker.session, operation) != *decision
            {
                return Err(Refusal::overtaken(operation));
            }
        }
        Ok(())
    }

    async fn wait_for_people(
        &self,
        asker: &mut Asker<'_>,
        judged: &[Judged<'_>],
    ) -> Result<Vec<Answered>, Refusal> {
        // All of them are asked about first, so that a reviewer sees everything the request asks for.
        let mut tickets = Vec::with_capacity(judged.len());
        for Judged {
            id,
            operation,
            decision,
        } in judged
        {
            tickets.push(match decision {
                Decision::Hold(hold) => Some(self.ask(asker, id, operation, hold).await?),
                Decision::Allow(_) | Decision::Deny(_) => None,
            });
        }
        let deadline = asker.patience.deadline();
        let mut answers = Vec::with_capacity(judged.len());
        for (judged, ticket) in judged.iter().zip(tickets) {
            answers.push(match (&judged.decision, ticket) {
                (Decision::Hold(hold), Some(ticket)) => {
                    self.wait(asker, judged.operation, hold, ticket, deadline)
                        .await?
                }
                _ => Answered::NotAsked,
            });
        }
        Ok(answers)
    }

    async fn ask(
        &self,
        asker: &Asker<'_>,
        id: &OperationId,
        operation: &Operation,
        hold: &Hold,
    ) -> Result<Ticket, Refusal> {
        let ask = HoldAsk {
            session: asker.session.clone(),
            operation: id.clone(),
            request: RequestView::new(operation, asker.headers, asker.body),
            digest: operation.digest,
            project: operation.resource.project.clone(),
            hold: hold.clone(),
        };
        self.approvals.hold(ask).await.map_err(|error| {
            Refusal::new(
                Kind::NotReady,
                format!("Holdpoint could not ask for the approval this needs, so nothing was sent: {error}"),
            )
        })
    }

    /// Waits for a verdict for as long as this client can be kept waiting.
    async fn wait(
        &self,
        asker: &mut Asker<'_>,
        operation: &Operation,
        hold: &Hold,
        mut ticket: Ticket,
        deadline: Option<Instant>,
    ) -> Result<Answered, Refusal> {
        let approval = ticket.id().as_str().to_owned();
        let verdict = loop {
            tokio::select! {
                biased;
                verdict = ticket.verdict() => break verdict,
                () = sleep_until(deadline) => {
                    return Err(Refusal::pending(operation, &approval, &hold.rules));
                }
                () = tokio::time::sleep(self.settings.interim()) => asker.patience.keep_waiting(),
            }
        };
        match verdict {
            Verdict::Approved(spent) => Ok(Answered::Approved(spent)),
            Verdict::Granted(ticket) => Ok(Answered::Granted(ticket)),
            Verdict::Denied { by, comment } => Err(Refusal::reviewer_denied(
                operation,
                &approval,
                &by,
                comment.as_deref(),
            )),
            Verdict::Expired => Err(Refusal::expired(operation, &approval, &hold.rules)),
            Verdict::UsedByResend => Err(Refusal::used_by_resend(operation, &approval)),
            Verdict::Interrupted => Err(Refusal::interrupted(operation, &approval)),
            Verdict::Unrecorded(error) => Err(not_recorded(&error)),
        }
    }
}

impl Patience {
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Interims { .. } => None,
            Self::AtMost(time) => Some(Instant::now() + *time),
        }
    }

    fn keep_waiting(&mut self) {
        if let Self::Interims { interims, left } = self
            && *left > 0
        {
            *left -= 1;
            interims.send();
        }
    }
}

fn refuse_denied(judged: &[Judged<'_>]) -> Result<(), Refusal> {
    for Judged {
        operation,
        decision,
        ..
    } in judged
    {
        if let Decision::Deny(denial) = decision {
            return Err(Refusal::denied(operation, denial));
        }
    }
    Ok(())
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn not_recorded(error: &RecordError) -> Refusal {
    tracing::error!(%error, "operations are refused: they cannot be recorded");
    Refusal::new(
        Kind::NotReady,
        format!(
            "Holdpoint cannot record this operation, so it was not sent: {error}. The operator of this runner has to mend that."
        ),
    )
}
