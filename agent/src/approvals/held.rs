//! One held operation: its state, and the connections that wait for it.

use std::collections::BTreeSet;

use holdpoint_core::approval::{Approval, State};
use jiff::Timestamp;
use tokio::{sync::oneshot, time::Instant};

use super::{
    ApprovalId, HoldAsk, Verdict,
    view::{ApprovalDetail, ApprovalView},
};
use crate::{record::OperationId, session::SessionId};

/// Connections that may wait for one approval.
const MOST_WAITERS: usize = 64;

pub(super) struct Held {
    pub(super) id: ApprovalId,
    pub(super) ask: HoldAsk,
    /// `None` only within [`Self::step`].
    approval: Option<Approval>,
    /// In the order they joined.
    waiters: Vec<Waiter>,
    opened: Instant,
    opened_at: Timestamp,
    expires_at: Timestamp,
}

pub(super) struct Waiter {
    pub(super) session: SessionId,
    pub(super) operation: OperationId,
    pub(super) verdict: oneshot::Sender<Verdict>,
}

impl Held {
    /// `None` when no rule says who is to be asked.
    pub(super) fn open(ask: HoldAsk) -> Option<Self> {
        let opened_at = Timestamp::now();
        let approval = Approval::open(ask.session.user.uid, &ask.hold, opened_at)?;
        Some(Self {
            id: ApprovalId::random(),
            expires_at: approval.deadline().unwrap_or(opened_at),
            approval: Some(approval),
            waiters: Vec::new(),
            opened: Instant::now(),
            opened_at,
            ask,
        })
    }

    /// The wall clock as it was at the opening, driven on by the monotonic one: setting the host's clock neither
    /// prolongs a hold nor ends it.
    pub(super) fn now(&self) -> Timestamp {
        self.opened_at
            .checked_add(self.opened.elapsed())
            .unwrap_or(Timestamp::MAX)
    }

    /// When the state changes by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadline = self.approval().deadline()?;
        let after_opening = deadline.duration_since(self.opened_at).unsigned_abs();
        Some(self.opened + after_opening)
    }

    pub(super) fn approval(&self) -> &Approval {
        self.approval.as_ref().expect("there is one between steps")
    }

    pub(super) fn state(&self) -> State {
        self.approval().state()
    }

    pub(super) fn step(&mut self, step: impl FnOnce(Approval) -> Approval) {
        self.approval = self.approval.take().map(step);
        self.expires_at = self.approval().deadline().unwrap_or(self.expires_at);
    }

    /// Whether `ask` asks for the very same, and an answer to this one would be an answer to it.
    pub(super) fn answers(&self, ask: &HoldAsk) -> bool {
        let (mine, theirs) = (&self.ask.session, &ask.session);
        let open = self.state() == State::Pending || self.approval().is_good(self.now());
        open && self.ask.digest == ask.digest
            && mine.user.uid == theirs.user.uid
            && mine.principal.name() == theirs.principal.name()
            && self.ask.hold.rules == ask.hold.rules
    }

    pub(super) fn has_room(&mut self) -> bool {
        self.waiters.retain(|waiter| !waiter.verdict.is_closed());
        self.waiters.len() < MOST_WAITERS
    }

    pub(super) fn join(&mut self, waiter: Waiter) {
        self.waiters.push(waiter);
    }

    /// The waiter who joined last and still waits: earlier connections are usually given up by the client.
    pub(super) fn newest_waiter(&mut self) -> Option<Waiter> {
        std::iter::from_fn(|| self.waiters.pop()).find(|waiter| !waiter.verdict.is_closed())
    }

    /// Tells everybody who waits; those who went away do not want to know.
    pub(super) fn tell_all(&mut self, verdict: impl Fn() -> Verdict) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.verdict.send(verdict());
        }
    }

    pub(super) fn view(&self) -> ApprovalView {
        let (approval, ask) = (self.approval(), &self.ask);
        let request = &ask.request;
        let waiting = self.waiters.iter().filter(|it| !it.verdict.is_closed());
        ApprovalView {
            id: self.id.clone(),
            state: approval.state(),
            session: ask.session.id.clone(),
            principal: ask.session.principal.name(),
            user: ask.session.user.clone(),
            action: request.action.clone(),
            resource: request.resource.clone(),
            method: request.method.clone(),
            url: request.url.clone(),
            traits: request.traits.clone(),
            digest: ask.digest,
            groups: self.groups(),
            policies: ask.hold.rules.iter().map(Into::into).collect(),
            waiting: waiting.count(),
            opened_at: self.opened_at,
            opened_at_ms: self.opened_at.as_millisecond(),
            expires_at: self.expires_at,
            expires_at_ms: self.expires_at.as_millisecond(),
            decided_at: approval.decided_at(),
            decided_at_ms: approval.decided_at().map(|at| at.as_millisecond()),
            decisions: approval.votes().iter().map(Into::into).collect(),
        }
    }

    pub(super) fn detail(&self) -> ApprovalDetail {
        ApprovalDetail {
            approval: self.view(),
            headers: self.ask.request.headers.clone(),
            body: self.ask.request.body.clone(),
            change: self.ask.request.change.clone(),
        }
    }

    pub(super) fn groups(&self) -> BTreeSet<String> {
        let rules = self.ask.hold.rules.iter();
        rules.map(|rule| rule.group.clone()).collect()
    }
}
