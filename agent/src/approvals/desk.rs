//! The one task that owns all held operations. Everything happens here one after the other, and runs to its end
//! whether or not the caller still listens; so nothing is ever half recorded.

use std::collections::{BTreeMap, VecDeque};

use holdpoint_core::approval::{Answer, Refused, Reviewer, State, Vote};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    AnswerError, ApprovalId, HoldAsk, HoldError, Spent, Verdict,
    held::{Held, Waiter},
    view::{ApprovalDetail, ApprovalView},
};
use crate::{
    metrics::metrics,
    record::{Event, Record, Text},
    session::SessionId,
};

/// Holds that may be open on a host.
pub(super) const MOST_HOLDS: usize = 1000;
/// Holds that one session may have opened.
pub(super) const MOST_HOLDS_OF_A_SESSION: usize = 100;
/// Holds that are over and still shown.
const KEPT: usize = 256;

/// A place in the queue: the approval's id and where the verdict will be.
pub(super) type Place = (ApprovalId, oneshot::Receiver<Verdict>);

pub(super) enum Call {
    Hold(Box<HoldAsk>, oneshot::Sender<Result<Place, HoldError>>),
    Answer(
        ApprovalId,
        Opinion,
        oneshot::Sender<Result<ApprovalView, AnswerError>>,
    ),
    List(oneshot::Sender<Vec<ApprovalView>>),
    Show(ApprovalId, oneshot::Sender<Option<ApprovalDetail>>),
    Withdraw(oneshot::Sender<()>),
}

pub(super) struct Opinion {
    pub(super) reviewer: Reviewer,
    pub(super) answer: Answer,
    pub(super) comment: Option<String>,
}

pub(super) struct Desk {
    record: Record,
    /// Counts what changed, for those who watch.
    revision: watch::Sender<u64>,
    live: BTreeMap<ApprovalId, Held>,
    /// The newest last.
    over: VecDeque<ApprovalDetail>,
}

impl Desk {
    pub(super) fn new(record: Record, revision: watch::Sender<u64>) -> Self {
        Self {
            record,
            revision,
            live: BTreeMap::new(),
            over: VecDeque::new(),
        }
    }

    /// Ends when nobody can call any more.
    pub(super) async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        loop {
            let deadline = self.live.values().filter_map(Held::deadline).min();
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
            Call::Hold(ask, reply) => {
                self.hold(*ask, reply).await;
                self.changed();
            }
            Call::Answer(id, opinion, reply) => {
                let answered = self.answer(&id, opinion).await;
                self.changed();
                let _ = reply.send(answered);
            }
            Call::List(reply) => {
                let live = self.live.values().map(Held::view);
                let over = self.over.iter().map(|detail| detail.approval.clone());
                let mut all: Vec<_> = live.chain(over).collect();
                all.sort_by_key(|view| std::cmp::Reverse(view.opened_at));
                let _ = reply.send(all);
            }
            Call::Show(id, reply) => {
                let live = self.live.get(&id).map(Held::detail);
                let _ = reply.send(live.or_else(|| self.put_away(&id).cloned()));
            }
            Call::Withdraw(reply) => {
                self.withdraw().await;
                self.changed();
                let _ = reply.send(());
            }
        }
    }

    async fn hold(&mut self, ask: HoldAsk, reply: oneshot::Sender<Result<Place, HoldError>>) {
        let session = ask.session.id.clone();
        let operation = ask.operation.clone();
        let id = match self.join_or_open(ask).await {
            Ok(id) => id,
            Err(error) => {
                let _ = reply.send(Err(error));
                return;
            }
        };
        let (verdict, place) = oneshot::channel();
        if let Some(held) = self.live.get_mut(&id) {
            held.join(Waiter {
                session,
                operation,
                verdict,
            });
        }
        // The reply goes first: whoever cannot take it does not wait, and gets no approval either.
        let _ = reply.send(Ok((id.clone(), place)));
        self.settle(&id).await;
    }

    async fn join_or_open(&mut self, ask: HoldAsk) -> Result<ApprovalId, HoldError> {
        let same = self.live.values_mut().find(|held| held.answers(&ask));
        if let Some(held) = same {
            if !held.has_room() {
                return Err(HoldError::TooMany(
                    "connections wait for this very approval",
                ));
            }
            let event = hold_event(held, &ask.session.id, &ask, true);
            self.record.append(event).await?;
            return Ok(held.id.clone());
        }
        let session = &ask.session.id;
        let of_session = self
            .live
            .values()
            .filter(|held| held.ask.session.id == *session);
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
        let held = Held::open(ask).ok_or(HoldError::NoRules)?;
        let event = hold_event(&held, &held.ask.session.id, &held.ask, false);
        self.record.append(event).await?;
        let id = held.id.clone();
        self.live.insert(id.clone(), held);
        Ok(id)
    }

    async fn answer(
        &mut self,
        id: &ApprovalId,
        opinion: Opinion,
    ) -> Result<ApprovalView, AnswerError> {
        let Some(held) = self.live.get_mut(id) else {
            return Err(match self.put_away(id) {
                Some(detail) => Refused::Over(detail.approval.state).into(),
                None => AnswerError::Unknown,
            });
        };
        let Opinion {
            reviewer,
            answer,
            comment,
        } = opinion;
        let comment = comment.map(Text::from);
        let at = held.now();
        let session = held.ask.session.id.clone();
        let approval = id.clone();
        let name = Text::short(&reviewer.name);
        if let Err(refused) = held.approval().check(&reviewer, answer, at) {
            let event = Event::ApprovalRefused {
                session,
                approval,
                reviewer: name,
                uid: reviewer.uid,
                verdict: answer,
                reason: Text::from(refused.to_string()),
            };
            self.record.append_unsynced(event).await?;
            return Err(refused.into());
        }
        let event = Event::ApprovalDecided {
            session,
            approval,
            reviewer: name,
            uid: reviewer.uid,
            verdict: answer,
            comment: comment.clone(),
        };
        self.record.append(event).await?;
        let vote = Vote {
            reviewer,
            answer,
            comment: comment.map(|text| text.to_string()),
            at,
        };
        held.step(|approval| approval.answer(vote).0);
        self.settle(id).await;
        self.view(id).ok_or(AnswerError::Unknown)
    }

    async fn withdraw(&mut self) {
        let pending = |held: &&mut Held| held.state() == State::Pending;
        let mut withdrawn = Vec::new();
        for held in self.live.values_mut().filter(pending) {
            let at = held.now();
            held.step(|approval| approval.withdraw(at));
            withdrawn.push(held.id.clone());
        }
        for id in withdrawn {
            self.settle(&id).await;
        }
    }

    async fn pass_time(&mut self) {
        let now = Instant::now();
        let due = |held: &&mut Held| held.deadline().is_some_and(|deadline| deadline <= now);
        let mut passed = Vec::new();
        for held in self.live.values_mut().filter(due) {
            let at = held.now();
            held.step(|approval| approval.pass(at));
            passed.push(held.id.clone());
        }
        for id in passed {
            self.settle(&id).await;
        }
    }

    /// Does what the state asks for: hands out an approval, tells the end to those who wait, puts away what is over.
    async fn settle(&mut self, id: &ApprovalId) {
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
            State::Withdrawn => held.tell_all(|| Verdict::Withdrawn),
        }
        if held.approval().ended_at().is_none() {
            return;
        }
        metrics().approval_ended(held.state());
        if let Some(event) = end_event(held) {
            // It is over whether or not that can be written down: a refusal needs no record to be safe.
            if let Err(error) = self.record.append(event).await {
                tracing::error!(approval = %id, %error, "the end of an approval is not recorded");
            }
        }
        if let Some(held) = self.live.remove(id) {
            self.over.push_back(held.detail());
        }
        if self.over.len() > KEPT {
            self.over.pop_front();
        }
    }

    fn view(&self, id: &ApprovalId) -> Option<ApprovalView> {
        let over = || self.put_away(id).map(|detail| detail.approval.clone());
        self.live.get(id).map(Held::view).or_else(over)
    }

    fn put_away(&self, id: &ApprovalId) -> Option<&ApprovalDetail> {
        self.over.iter().find(|detail| detail.approval.id == *id)
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

fn hold_event(held: &Held, session: &SessionId, ask: &HoldAsk, joined: bool) -> Event {
    Event::Hold {
        session: session.clone(),
        operation: ask.operation.clone(),
        approval: held.id.clone(),
        groups: held.groups(),
        joined,
    }
}

/// What is recorded about the end. A denial and a use are recorded before they happen.
fn end_event(held: &Held) -> Option<Event> {
    let session = held.ask.session.id.clone();
    let approval = held.id.clone();
    match held.state() {
        State::Expired => Some(Event::ApprovalExpired { session, approval }),
        State::Lapsed => Some(Event::ApprovalLapsed { session, approval }),
        State::Withdrawn => Some(Event::ApprovalWithdrawn {
            session,
            approval,
            reason: "no session that asked for it is open any more".into(),
        }),
        State::Pending | State::Approved | State::Denied | State::Used => None,
    }
}
