//! Every reason an operation can be stopped.

mod asker;
mod outcome;
mod people;
mod ruling;

use std::{borrow::Cow, sync::Arc};

use arc_swap::ArcSwap;
use holdpoint_core::{
    digest::Digest,
    operation::Operation,
    policy::{Decision, Denial, Hold, Terms},
    refusal::{Kind, Refusal, describe},
    target::Target,
};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::{
    approvals::{Approvals, GrantUse, Spent},
    config::{HoldSettings, Mode},
    lookup::{Asking, Lookups},
    masking::Shown,
    metrics::metrics,
    record::{Event, OperationId, OperationRecord, Record, RecordError},
    session::Session,
};
use people::Answered;
use ruling::{Demand, Ruling};

pub use asker::{Asker, Attended, Patience, Waiting};
pub use outcome::Outcome;
pub use ruling::{InForce, Lease};

/// Judges operations. Nothing goes upstream without a [`Permit`], and only [`Gate::admit`] makes one.
pub struct Gate {
    in_force: ArcSwap<InForce>,
    /// Tells of every change of what may pass.
    changes: watch::Sender<()>,
    record: Record,
    approvals: Approvals,
    lookups: Lookups,
    shown: Shown,
    settings: HoldSettings,
}

/// The right to carry out one operation, once.
pub struct Permit {
    ruling: Ruling,
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

/// Permits for everything one request asks for. Whoever sends the request has to give these up.
pub struct Permits {
    permits: Vec<Permit>,
    outcome: Outcome,
    changes: watch::Receiver<()>,
    /// Where something that is permitted may change something: from when it is sent on, nothing that was read before counts.
    makes_stale: Option<Lookups>,
}

impl Permits {
    /// Gives the permits up for the right to send the request, once; the outcome is recorded whatever happens next.
    #[must_use]
    pub fn spend(self) -> Outcome {
        self.spend_lasting().0
    }

    /// As [`Self::spend`], for what goes on after it was sent: until the lease is up.
    #[must_use]
    pub fn spend_lasting(self) -> (Outcome, Lease) {
        let mut outcome = self.outcome;
        let mut rulings = Vec::with_capacity(self.permits.len());
        for permit in self.permits {
            rulings.push(permit.ruling);
            if let Consent::Grant(used) = permit.consent {
                outcome.lives_by(used);
            }
        }
        outcome.changes(self.makes_stale.map(|lookups| lookups.changing()));
        let changes = self.changes;
        (outcome, Lease { rulings, changes })
    }

    /// On which terms each operation may happen.
    pub fn terms(&self) -> impl Iterator<Item = &Terms> {
        let demands = self.permits.iter().map(|permit| permit.ruling.demand());
        demands.filter_map(|demand| match demand {
            Demand::Pass(terms) | Demand::Ask(Hold { terms, .. }) => Some(terms),
            Demand::Refuse(_) => None,
        })
    }
}

/// An operation, named and judged.
struct Judged<'a> {
    id: OperationId,
    /// With its target, where that was looked up.
    operation: Cow<'a, Operation>,
    /// What an approval is bound to: the operation's digest under the host's key.
    digest: Digest,
    ruling: Ruling,
}

impl Judged<'_> {
    /// Before anything goes on: the intent to change something, and what people are asked about.
    fn must_be_on_disk(&self) -> bool {
        self.operation.action.mutates() || self.is_held()
    }

    fn is_held(&self) -> bool {
        matches!(self.ruling.demand(), Demand::Ask(_))
    }
}

impl Gate {
    /// A gate with these policies.
    #[must_use]
    pub fn new(
        in_force: InForce,
        record: Record,
        approvals: Approvals,
        lookups: Lookups,
        shown: Shown,
        settings: HoldSettings,
    ) -> Self {
        Self {
            in_force: ArcSwap::from_pointee(in_force),
            changes: watch::Sender::new(()),
            record,
            approvals,
            lookups,
            shown,
            settings,
        }
    }

    /// Puts other policies in force, for every operation from now on and for what lasts. Grants that they would not allow end.
    pub async fn replace_policies(&self, in_force: InForce) {
        let rules = in_force.policies.hold_rules().collect();
        self.in_force.store(Arc::new(in_force));
        self.approvals.policies_changed(rules).await;
        self.reconsider();
    }

    /// Has everything that lasts judged again: what let it pass may be gone.
    pub fn reconsider(&self) {
        self.changes.send_replace(());
    }

    /// The policies in force.
    #[must_use]
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// Lets pass what one request asks for, all of it or nothing.
    ///
    /// In this order: look up what policy asks about, decide, record the intent and the decision (on disk before anything that can
    /// change something goes on), refuse what is denied, wait for people where they are asked, and see that policy is still of the same
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
        let changes = self.changes.subscribe();
        let judged = self.judge(asker, operations).await;
        let outcome = self.record_intents(asker, &judged).await?;
        match self.pass(asker, &judged, &changes).await {
            Ok(permits) => Ok(Permits {
                permits,
                outcome,
                changes,
                makes_stale: operations
                    .iter()
                    .any(|operation| operation.action.mutates())
                    .then(|| self.lookups.clone()),
            }),
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
        changes: &watch::Receiver<()>,
    ) -> Result<Vec<Permit>, Refusal> {
        refuse_denied(judged)?;
        let is_held = judged.iter().any(Judged::is_held);
        let answers = match is_held {
            // On the heap: it is rare, and what waits for nobody need not have the room for it.
            true => Box::pin(self.ask_people(asker, judged)).await?,
            false => judged.iter().map(|_| Answered::NotAsked).collect(),
        };
        let rulings = judged.iter().map(|it| (&*it.operation, &it.ruling));
        if let Some(refusal) = self.objection_since(&asker.session, changes, rulings) {
            return Err(refusal);
        }
        self.permit(judged, answers).await
    }

    async fn ask_people(
        &self,
        asker: &mut Asker<'_>,
        judged: &[Judged<'_>],
    ) -> Result<Vec<Answered>, Refusal> {
        let answers = self.wait_for_people(asker, judged).await?;
        self.refuse_overtaken(asker, judged).await?;
        Ok(answers)
    }

    async fn permit(
        &self,
        judged: &[Judged<'_>],
        answers: Vec<Answered>,
    ) -> Result<Vec<Permit>, Refusal> {
        let mut permits = Vec::with_capacity(judged.len());
        for (judged, answered) in judged.iter().zip(answers) {
            let consent = match (judged.ruling.demand(), answered) {
                (Demand::Pass(_), Answered::NotAsked) => Consent::Policy,
                (Demand::Ask(_), Answered::Approved(spent)) => Consent::Approval { _spent: spent },
                (Demand::Ask(_), Answered::Granted(ticket)) => {
                    Consent::Grant(Box::pin(self.use_grant(&judged.operation, ticket)).await?)
                }
                // Cannot be: the denied are refused before, and whoever is held was asked about.
                _ => return Err(Refusal::malformed("no decision was made about it")),
            };
            let ruling = judged.ruling.clone();
            permits.push(Permit { ruling, consent });
        }
        Ok(permits)
    }

    /// Whether people would be asked about one of these, so that all of its content is needed.
    pub async fn would_hold(
        &self,
        session: &Session,
        asking: &Asking,
        operations: &[Operation],
    ) -> bool {
        let known = self.look_up(session, asking, operations).await;
        let InForce { policies, mode, .. } = &*self.in_force();
        let now = Some(Timestamp::now());
        // Not by `rule`, which denies what is not complete yet.
        let is_held = |operation: &Cow<'_, Operation>| {
            let decision = policies.decide_at(&session.principal, operation, now);
            matches!(decision, Decision::Hold(_))
        };
        *mode == Mode::Enforce && known.iter().any(is_held)
    }

    /// Whether policy may ask what the request contains, so that it has to be looked into.
    #[must_use]
    pub fn asks_what_it_contains(&self, session: &Session, operation: &Operation) -> bool {
        let now = Some(Timestamp::now());
        let policies = &self.in_force.load().policies;
        policies.asks_what_it_contains(&session.principal, operation, now)
    }

    /// Whether this passes outright: for names to resolve, which nobody can wait for.
    #[must_use]
    pub fn allows(&self, session: &Session, operation: &Operation) -> bool {
        matches!(self.rule(session, operation).demand(), Demand::Pass(_))
    }

    /// Tells of every change of what may pass.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Whether people would be asked about one of these, as far as that is known without looking up anything.
    #[must_use]
    pub fn asks_for_people(&self, session: &Session, operations: &[Operation]) -> bool {
        operations
            .iter()
            .any(|it| matches!(self.rule(session, it).demand(), Demand::Ask(_)))
    }

    /// Why one of these, which were admitted and are under way, may not go on by what policy says now. What people approved is approved.
    #[must_use]
    pub fn objection_to(&self, session: &Session, operations: &[Operation]) -> Option<String> {
        operations
            .iter()
            .find_map(|operation| match self.rule(session, operation).demand() {
                Demand::Pass(_) | Demand::Ask(_) => None,
                Demand::Refuse(denial) => Some(denial.reason.clone()),
            })
    }

    /// Returns once an operation that was admitted and lasts would no longer be, with what policy says now.
    pub async fn no_longer_allows(
        &self,
        session: &Session,
        asking: &Asking,
        operation: &Operation,
        mut lease: Lease,
    ) -> String {
        loop {
            // The sender lives as long as `self`.
            let _ = lease.changes.changed().await;
            let known = self
                .look_up(session, asking, std::slice::from_ref(operation))
                .await;
            let now = self.rule(session, &known[0]);
            match now.demand() {
                Demand::Pass(_) => {}
                // People have approved just this.
                Demand::Ask(_) if lease.rulings.contains(&now) => {}
                Demand::Ask(_) => {
                    return format!("{} now needs an approval", describe(operation));
                }
                Demand::Refuse(denial) => return denial.reason.clone(),
            }
        }
    }

    /// Why what was admitted, and waits to be sent, may not be sent any more: other policies came, by which it would not pass as it did.
    #[must_use]
    pub fn overtaken(
        &self,
        session: &Session,
        operations: &[Operation],
        lease: &Lease,
    ) -> Option<Refusal> {
        let rulings = operations.iter().zip(&lease.rulings);
        self.objection_since(session, &lease.changes, rulings)
    }

    fn objection_since<'a>(
        &self,
        session: &Session,
        changes: &watch::Receiver<()>,
        mut rulings: impl Iterator<Item = (&'a Operation, &'a Ruling)>,
    ) -> Option<Refusal> {
        if !changes.has_changed().unwrap_or(true) {
            return None;
        }
        rulings.find_map(|(operation, then)| {
            let now = self.rule(session, operation);
            match (now.demand(), then.demand()) {
                (Demand::Refuse(denial), _) => Some(Refusal::denied(operation, denial)),
                (Demand::Pass(now), Demand::Pass(then)) if now.are_the_same(then) => None,
                (Demand::Ask(_), Demand::Ask(_)) if now == *then => None,
                _ => Some(Refusal::overtaken(operation)),
            }
        })
    }

    async fn judge<'a>(&self, asker: &Asker<'_>, operations: &'a [Operation]) -> Vec<Judged<'a>> {
        let asking = asker.asking();
        let session = &asker.session;
        let rulings: Vec<_> = operations.iter().map(|it| self.rule(session, it)).collect();
        // What has to be looked up first is denied before.
        let known = match rulings.iter().any(Ruling::denies) {
            true => Box::pin(self.look_up(session, &asking, operations)).await,
            false => operations.iter().map(Cow::Borrowed).collect(),
        };
        let judge = |(operation, before): (Cow<'a, Operation>, Ruling)| {
            let ruling = match operation {
                Cow::Borrowed(_) => before,
                Cow::Owned(_) => self.rule(session, &operation),
            };
            metrics().judged(&operation, &ruling.decision, ruling.mode);
            Judged {
                id: OperationId::random(),
                digest: self.shown.sealed(&operation.digest),
                operation,
                ruling,
            }
        };
        known.into_iter().zip(rulings).map(judge).collect()
    }

    /// The operations, with their targets where policy asks for them.
    async fn look_up<'a>(
        &self,
        session: &Session,
        asking: &Asking,
        operations: &'a [Operation],
    ) -> Vec<Cow<'a, Operation>> {
        let policies = &self.in_force().policies;
        let now = Some(Timestamp::now());
        let asked: Vec<&Operation> = operations
            .iter()
            .filter(|operation| policies.needs_target(&session.principal, operation, now))
            .collect();
        if asked.is_empty() {
            return operations.iter().map(Cow::Borrowed).collect();
        }
        let targets = Box::pin(self.lookups.targets(asking, &asked)).await;
        let mut found = asked.into_iter().zip(targets).peekable();
        let with_target = |operation: &'a Operation| match found
            .next_if(|(asked, _)| std::ptr::eq(*asked, operation))
        {
            None => Cow::Borrowed(operation),
            Some((_, target)) => Cow::Owned(Operation {
                target,
                ..operation.clone()
            }),
        };
        operations.iter().map(with_target).collect()
    }

    fn rule(&self, session: &Session, operation: &Operation) -> Ruling {
        let deny = |why: &str| {
            let reason = format!("{} {why}", describe(operation));
            Decision::Deny(Denial {
                reason,
                policies: Vec::new(),
            })
        };
        if let Some(objection) = session.standing.objection(operation) {
            return Ruling::beyond_policy(deny(&objection));
        }
        let in_force = self.in_force.load();
        let now = Some(Timestamp::now());
        let decision = match in_force
            .policies
            .decide_at(&session.principal, operation, now)
        {
            Decision::Hold(_) if !operation.is_complete() => {
                deny("needs the approval of a reviewer, and is too large to be shown to one")
            }
            decision => decision,
        };
        Ruling {
            decision,
            mode: in_force.mode,
        }
    }

    /// The record is synced in the order it is written, so the last intent that has to be on disk takes the others along.
    async fn record_intents(
        &self,
        asker: &Asker<'_>,
        judged: &[Judged<'_>],
    ) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::new(self.record.clone(), asker.session.id.clone());
        let in_force = self.in_force.load().digest;
        let last_to_sync = judged.iter().rposition(Judged::must_be_on_disk);
        for (
            place,
            Judged {
                id,
                operation,
                digest,
                ruling,
            },
        ) in judged.iter().enumerate()
        {
            let event = Event::Intent {
                session: asker.session.id.clone(),
                connection: asker.connection,
                operation: OperationRecord {
                    digest: *digest,
                    ..OperationRecord::new(id.clone(), &self.shown.operation(operation))
                },
                decision: ruling.record(in_force),
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

    /// Policies may have been replaced while people thought, and what the operations are about may have become something else.
    async fn refuse_overtaken(
        &self,
        asker: &Asker<'_>,
        judged: &[Judged<'_>],
    ) -> Result<(), Refusal> {
        let held = judged.iter().filter(|judged| judged.is_held());
        let (anew, rulings): (Vec<_>, Vec<_>) = held
            .map(|judged| {
                let mut operation = judged.operation.clone().into_owned();
                operation.target = Target::NotLookedUp;
                (operation, &judged.ruling)
            })
            .unzip();
        let now = self.look_up(&asker.session, &asker.asking(), &anew).await;
        for (operation, ruling) in now.iter().zip(rulings) {
            if self.rule(&asker.session, operation) != *ruling {
                return Err(Refusal::overtaken(operation));
            }
        }
        Ok(())
    }
}

fn refuse_denied(judged: &[Judged<'_>]) -> Result<(), Refusal> {
    for Judged {
        operation, ruling, ..
    } in judged
    {
        if let Demand::Refuse(denial) = ruling.demand() {
            return Err(Refusal::denied(operation, denial));
        }
    }
    Ok(())
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
