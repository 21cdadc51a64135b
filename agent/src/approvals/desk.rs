//! The one task that owns all held operations and grants. Everything happens here one after the other, and runs to its
//! end whether or not the caller still listens; so nothing is ever half recorded.

mod answers;
mod granting;

use std::collections::{BTreeMap, VecDeque};

use holdpoint_core::{
    approval::{Reviewer, State},
    digest::Digest,
    grant::Asked,
    policy::HoldRule,
};
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    AnswerError, ApprovalId, GrantAsk, GrantId, GrantTicket, GrantUse, GrantUseError, GrantView,
    HoldAsk, HoldError, Opinion, Settings, Spent, Verdict,
    clock::Clock,
    grants::Grants,
    held::{Held, Waiter},
    kept::{self, Kept, Question},
    restore::Restored,
    view::ApprovalView,
};
use crate::{
    metrics::metrics,
    notifications::News,
    record::{Event, OperationId, Record, Way},
    session::SessionId,
};

/// Holds that may be open on a host.
pub(super) const MOST_HOLDS: usize = 2000;
/// Holds that one session may have opened.
pub(super) const MOST_HOLDS_OF_A_SESSION: usize = 250;
/// Holds that are over and still shown.
const KEPT: usize = 256;

/// A place in the queue: the approval's id and where the verdict will be.
pub(super) type Place = (ApprovalId, oneshot::Receiver<Verdict>);

type Reply<T, E> = oneshot::Sender<Result<T, E>>;

pub(super) enum Call {
    Hold(Box<HoldAsk>, Reply<Place, HoldError>),
    Answer(ApprovalId, Opinion, Reply<ApprovalView, AnswerError>),
    List(oneshot::Sender<Vec<ApprovalView>>),
    Show(ApprovalId, oneshot::Sender<Option<(ApprovalView, Digest)>>),
    Grant(ApprovalId, GrantAsk, Reply<GrantView, AnswerError>),
    Grants(oneshot::Sender<Vec<GrantView>>),
    Revoke(
        GrantId,
        Reviewer,
        Option<String>,
        Reply<GrantView, AnswerError>,
    ),
    UseGrant(GrantTicket, Reply<GrantUse, GrantUseError>),
    PoliciesChanged(Vec<HoldRule>, oneshot::Sender<()>),
    Withdraw(ApprovalId, oneshot::Sender<()>),
    Interrupt(oneshot::Sender<()>),
}

pub(super) struct Desk {
    record: Record,
    kept: Kept,
    settings: Settings,
    /// Counts what changed, for those who watch.
    revision: watch::Sender<u64>,
    live: BTreeMap<ApprovalId, Held>,
    grants: Grants,
    /// The newest last, each with the digest of its file.
    over: VecDeque<(ApprovalView, Digest)>,
}

impl Desk {
    pub(super) fn new(
        record: Record,
        kept: Kept,
        settings: Settings,
        revision: watch::Sender<u64>,
        restored: Restored,
    ) -> Self {
        Self {
            record,
            kept,
            settings,
            revision,
            live: restored.live,
            grants: restored.grants,
            over: VecDeque::new(),
        }
    }

    /// Ends when nobody can call any more.
    pub(super) async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        for held in self.live.values().filter(|it| it.state() == State::Pending) {
            self.settings
                .notifier
                .tell(|| News::StillHeld(Box::new(held.view())));
        }
        loop {
            let holds = self.live.values().filter_map(Held::deadline).min();
            let deadline = holds.into_iter().chain(self.grants.deadline()).min();
            tokio::select! {
                call = calls.recv() => match call {
                    Some(call) => self.serve(call).await,
                    None => return,
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.pass_time().await;
                    self.changed();
                }
            }
        }
    }

    fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// A caller that has gone away does not want the reply.
    async fn serve(&mut self, call: Call) {
        match call {
            Call::Hold(ask, reply) => self.hold(*ask, reply).await,
            Call::Answer(id, opinion, reply) => {
                let _ = reply.send(self.answer(&id, opinion).await);
            }
            Call::Grant(id, ask, reply) => {
                let _ = reply.send(self.grant(&id, ask).await);
            }
            Call::Revoke(id, by, reason, reply) => {
                let _ = reply.send(self.revoke(&id, &by, reason).await);
            }
            Call::PoliciesChanged(rules, reply) => {
                self.end_unfounded_grants(&rules).await;
                let _ = reply.send(());
            }
            Call::Withdraw(id, reply) => {
                self.call_off(&id).await;
                let _ = reply.send(());
            }
            Call::Interrupt(reply) => {
                let interrupted = |held: &mut Held| held.tell_all(|| Verdict::Interrupted);
                self.live.values_mut().for_each(interrupted);
                let _ = reply.send(());
            }
            Call::UseGrant(ticket, reply) => {
                let _ = reply.send(self.use_grant(ticket).await);
                return;
            }
            Call::List(reply) => return drop(reply.send(self.list())),
            Call::Show(id, reply) => return drop(reply.send(self.find(&id))),
            Call::Grants(reply) => return drop(reply.send(self.grants.views())),
        }
        self.changed();
    }

    fn list(&self) -> Vec<ApprovalView> {
        let live = self.live.values().map(Held::view);
        let over = self.over.iter().map(|(view, _)| view.clone());
        let mut all: Vec<_> = live.chain(over).collect();
        all.sort_by_key(|view| std::cmp::Reverse(view.opened_at));
        all
    }

    async fn hold(&mut self, ask: HoldAsk, reply: Reply<Place, HoldError>) {
        let (verdict, place) = oneshot::channel();
        if let Some(ticket) = self.granted(&ask) {
            let id = ApprovalId::named(ticket.grant().as_str());
            let _ = verdict.send(Verdict::Granted(ticket));
            let _ = reply.send(Ok((id, place)));
            return;
        }
        let session = ask.session.id.clone();
        let operation = ask.operation.clone();
        let id = match self.join_or_open(ask).await {
            Ok(id) => id,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        if let Some(held) = self.live.get_mut(&id) {
            held.join(Waiter {
                session,
                operation,
                verdict,
            });
        }
        // The reply goes first: whoever cannot take it does not wait, and gets no approval either.
        let _ = reply.send(Ok((id.clone(), place)));
        self.settle(&id, None).await;
    }

    fn granted(&self, ask: &HoldAsk) -> Option<GrantTicket> {
        let principal = ask.session.principal.name();
        let asked = Asked {
            principal: &principal,
            uid: ask.session.user.uid,
            action: &ask.request.action,
            resource: &ask.request.resource,
            project: ask.project.as_deref(),
            rules: &ask.hold.rules,
        };
        let live = self.grants.covering(&asked)?;
        Some(GrantTicket {
            grant: live.record.id.clone(),
            session: ask.session.id.clone(),
            operation: ask.operation.clone(),
        })
    }

    async fn join_or_open(&mut self, ask: HoldAsk) -> Result<ApprovalId, HoldError> {
        let same = self.live.values_mut().find(|held| held.answers(&ask));
        if let Some(held) = same {
            if !held.has_room() {
                return Err(HoldError::TooMany(
                    "connections wait for this very approval",
                ));
            }
            let event = hold_event(held, &ask.session.id, ask.operation, true);
            self.record.append(event).await?;
            return Ok(held.id.clone());
        }
        self.check_room(&ask.session.id)?;
        self.open(ask).await
    }

    fn check_room(&self, session: &SessionId) -> Result<(), HoldError> {
        let of_session = self
            .live
            .values()
            .filter(|held| held.session.id == *session);
        if of_session.count() >= MOST_HOLDS_OF_A_SESSION {
            return Err(HoldError::TooMany(
                "operations of this session wait for approval",
            ));
        }
        if self.live.len() >= MOST_HOLDS {
            return Err(HoldError::TooMany(
                "operations on this host wait for approval",
            ));
        }
        Ok(())
    }

    /// The file goes first: the record must not tell of one that is not there.
    async fn open(&mut self, ask: HoldAsk) -> Result<ApprovalId, HoldError> {
        let (id, operation) = (ApprovalId::random(), ask.operation);
        let clock = Clock::not_before(Timestamp::MIN);
        let question = Question {
            salt: kept::salt(),
            session: (*ask.session).clone(),
            digest: ask.digest,
            project: ask.project,
            rules: ask.hold.rules,
            opened_at: clock.now(),
            request: ask.request,
        };
        let (kept, named) = (self.kept.clone(), id.clone());
        let write = move || Ok((kept.put(&named, &question)?, question));
        let written = tokio::task::spawn_blocking(write).await;
        let ((digest, asked), question) =
            written.unwrap_or_else(|panic| Err(std::io::Error::other(panic)))?;
        let held = Held::open(id.clone(), question, digest, clock, &self.settings);
        let (session, named) = (ask.session.id.clone(), operation.clone());
        let recorded = match held {
            None => Err(HoldError::NoRules),
            Some(held) => {
                let event = hold_event(&held, &held.session.id, operation, false);
                let recorded = self.record.append(event).await;
                recorded.map(|_| held).map_err(HoldError::from)
            }
        };
        match recorded {
            Ok(held) => {
                self.keep_for_auditors(&session, &named, &asked);
                self.settings
                    .notifier
                    .tell(|| News::Held(Box::new(held.view())));
                self.live.insert(id.clone(), held);
                Ok(id)
            }
            Err(error) => {
                self.kept.remove(&id);
                Err(error)
            }
        }
    }

    /// The file goes soon after the answer. What is in it, masked as it is, stays as long as bodies do, so that whoever asks what was
    /// approved is shown exactly that.
    fn keep_for_auditors(&self, session: &SessionId, operation: &OperationId, asked: &[u8]) {
        if !self.settings.keeps_questions {
            return;
        }
        let json = Some("application/json");
        let mut capture = self.record.capture(session, operation, Way::Asked, json);
        capture.push(asked);
        capture.finish();
    }

    async fn call_off(&mut self, id: &ApprovalId) {
        let Some(held) = self.live.get_mut(id) else {
            return;
        };
        if held.is_awaited() || held.state() != State::Pending {
            return;
        }
        let at = held.now();
        held.step(|approval| approval.withdraw(at));
        self.settle(id, Some("the client that asked called it off"))
            .await;
    }

    async fn pass_time(&mut self) {
        for id in self.grants.ended() {
            // Logged; time is up for a daemon that is started anew, too.
            let _ = self.end_grant(&id, None, "its time was up").await;
        }
        let now = Instant::now();
        let due = |held: &&mut Held| held.deadline().is_some_and(|deadline| deadline <= now);
        let mut passed = Vec::new();
        for held in self.live.values_mut().filter(due) {
            let at = held.now();
            held.step(|approval| approval.pass(at));
            passed.push(held.id.clone());
        }
        for id in passed {
            self.settle(&id, None).await;
        }
    }

    /// Does what the state asks for: hands out an approval, tells the end to those who wait, puts away what is over; `void`
    /// is why it was withdrawn.
    async fn settle(&mut self, id: &ApprovalId, void: Option<&str>) {
        let Some(held) = self.live.get_mut(id) else {
            return;
        };
        match held.state() {
            State::Pending | State::Used => {}
            State::Approved => hand_out(&self.record, held).await,
            State::Denied => {
                let vote = held.approval().votes().last().cloned();
                held.tell_all(|| Verdict::Denied {
                    by: vote
                        .as_ref()
                        .map_or_else(String::new, |vote| vote.reviewer.name.clone()),
                    comment: vote.as_ref().and_then(|vote| vote.comment.clone()),
                });
            }
            State::Expired | State::Lapsed => held.tell_all(|| Verdict::Expired),
            State::Withdrawn => held.tell_all(|| Verdict::UsedByResend),
        }
        if held.approval().ended_at().is_none() {
            return;
        }
        metrics().approval_ended(held.state());
        if let Some(event) = end_event(held, void) {
            // It is over whether or not that can be written down: a refusal needs no record to be safe.
            if let Err(error) = self.record.append(event).await {
                tracing::error!(approval = %id, %error, "the end of an approval is not recorded");
            }
        }
        if let Some(held) = self.live.remove(id) {
            self.settings
                .notifier
                .tell(|| News::Over(Box::new(held.view())));
            self.over.push_back((held.view(), held.kept));
        }
        if self.over.len() > KEPT
            && let Some((oldest, _)) = self.over.pop_front()
        {
            self.kept.remove(&oldest.id);
        }
    }

    /// It, and the digest of the file with the rest of it.
    fn find(&self, id: &ApprovalId) -> Option<(ApprovalView, Digest)> {
        let live = self.live.get(id).map(|held| (held.view(), held.kept));
        live.or_else(|| self.over.iter().find(|(view, _)| view.id == *id).cloned())
    }
}

/// Gives a good approval to one waiter, if there is one; the others learn that it is gone.
async fn hand_out(record: &Record, held: &mut Held) {
    let at = held.now();
    if !held.approval().is_good(at) {
        held.step(|approval| approval.pass(at));
        return held.tell_all(|| Verdict::Expired);
    }
    let Some(waiter) = held.newest_waiter() else {
        return;
    };
    let event = Event::ApprovalUsed {
        session: waiter.session.clone(),
        approval: held.id.clone(),
        operation: waiter.operation.clone(),
    };
    if let Err(error) = record.append(event).await {
        let _ = waiter.verdict.send(Verdict::Unrecorded(error.clone()));
        return held.tell_all(|| Verdict::Unrecorded(error.clone()));
    }
    let mut used = false;
    held.step(|approval| {
        let (approval, now_used) = approval.use_up(at);
        used = now_used;
        approval
    });
    if used {
        let spent = Spent {
            approval: held.id.clone(),
            operation: waiter.operation,
        };
        // A client that went away in this very moment has used it up all the same.
        let _ = waiter.verdict.send(Verdict::Approved(spent));
    }
    held.tell_all(|| Verdict::UsedByResend);
}

fn hold_event(held: &Held, session: &SessionId, operation: OperationId, joined: bool) -> Event {
    Event::Hold {
        session: session.clone(),
        operation,
        approval: held.id.clone(),
        groups: held.groups(),
        joined,
        kept: (!joined).then_some(held.kept),
    }
}

/// What is recorded about the end. A denial and a use are recorded before they happen.
fn end_event(held: &Held, void: Option<&str>) -> Option<Event> {
    let session = held.session.id.clone();
    let approval = held.id.clone();
    match held.state() {
        State::Expired => Some(Event::ApprovalExpired { session, approval }),
        State::Lapsed => Some(Event::ApprovalLapsed { session, approval }),
        State::Withdrawn => Some(Event::ApprovalWithdrawn {
            session,
            approval,
            reason: void.unwrap_or("nobody needs an answer any more").into(),
        }),
        State::Pending | State::Approved | State::Denied | State::Used => None,
    }
}
