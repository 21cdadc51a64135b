//! One held operation: its state, and the connections that wait for it.

use std::{collections::BTreeSet, sync::Arc};

use holdpoint_core::{
    approval::{Approval, Requester, State, known_as},
    digest::Digest,
    grant::Asked,
    policy::HoldRule,
};
use jiff::Timestamp;
use tokio::{sync::oneshot, time::Instant};

use super::{
    ApprovalId, HoldAsk, Settings, Verdict, clock::Clock, kept::Question, view::ApprovalView,
};
use crate::{
    record::OperationId,
    session::{Session, SessionId},
};

/// Connections that may wait for one approval.
const MOST_WAITERS: usize = 64;

pub(super) struct Held {
    pub(super) id: ApprovalId,
    pub(super) session: Arc<Session>,
    /// [`Session::principal`]'s name.
    principal: String,
    digest: Digest,
    project: Option<String>,
    rules: Vec<HoldRule>,
    brief: Brief,
    /// The digest of the file with all that reviewers see.
    pub(super) kept: Digest,
    /// `None` only within [`Self::step`].
    approval: Option<Approval>,
    /// In the order they joined.
    waiters: Vec<Waiter>,
    clock: Clock,
    opened_at: Timestamp,
    expires_at: Timestamp,
}

/// What a list shows of a request.
struct Brief {
    action: String,
    resource: String,
    method: String,
    url: String,
    traits: BTreeSet<String>,
}

pub(super) struct Waiter {
    pub(super) session: SessionId,
    pub(super) operation: OperationId,
    pub(super) verdict: oneshot::Sender<Verdict>,
}

impl Held {
    /// `None` when no rule says who is to be asked.
    pub(super) fn open(
        id: ApprovalId,
        question: Question,
        kept: Digest,
        clock: Clock,
        settings: &Settings,
    ) -> Option<Self> {
        let Question {
            session,
            digest,
            project,
            rules,
            opened_at,
            request,
            ..
        } = question;
        let requester = Requester {
            uid: session.user.uid,
            names: requester_names(&session, &settings.owner_claims),
        };
        let glass = settings.break_glass.as_deref();
        let approval = Approval::open(requester, &rules, glass, opened_at)?;
        Some(Self {
            id,
            expires_at: approval.deadline().unwrap_or(opened_at),
            approval: Some(approval),
            principal: session.principal.name(),
            session: Arc::new(session),
            digest,
            project,
            rules,
            brief: Brief {
                action: request.action,
                resource: request.resource,
                method: request.method,
                url: request.url,
                traits: request.traits,
            },
            kept,
            waiters: Vec::new(),
            clock,
            opened_at,
        })
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// When the state changes by itself.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Some(self.clock.instant(self.approval().deadline()?))
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
        let rules = &ask.hold.rules;
        let open = self.state() == State::Pending || self.approval().is_good(self.now());
        open && self.digest == ask.digest
            && self.session.user.uid == ask.session.user.uid
            && self.principal == ask.session.principal.name()
            && self.rules.len() == rules.len()
            && self.rules.iter().zip(rules).all(|(a, b)| a.is(b))
    }

    /// The operation as grants see it.
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            principal: &self.principal,
            uid: self.session.user.uid,
            action: &self.brief.action,
            resource: &self.brief.resource,
            project: self.project.as_deref(),
            rules: &self.rules,
        }
    }

    pub(super) fn has_room(&mut self) -> bool {
        self.waiters.retain(|waiter| !waiter.verdict.is_closed());
        self.waiters.len() < MOST_WAITERS
    }

    pub(super) fn is_awaited(&self) -> bool {
        self.waiters
            .iter()
            .any(|waiter| !waiter.verdict.is_closed())
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
        let (approval, brief) = (self.approval(), &self.brief);
        let waiting = self.waiters.iter().filter(|it| !it.verdict.is_closed());
        ApprovalView {
            id: self.id.clone(),
            state: approval.state(),
            session: self.session.id.clone(),
            principal: self.principal.clone(),
            user: self.session.user.clone(),
            action: brief.action.clone(),
            resource: brief.resource.clone(),
            method: brief.method.clone(),
            url: brief.url.clone(),
            traits: brief.traits.clone(),
            digest: self.digest,
            groups: self.groups(),
            policies: self.rules.iter().map(Into::into).collect(),
            waiting: waiting.count(),
            opened_at: self.opened_at,
            opened_at_ms: self.opened_at.as_millisecond(),
            expires_at: self.expires_at,
            expires_at_ms: self.expires_at.as_millisecond(),
            decided_at: approval.decided_at(),
            decided_at_ms: approval.decided_at().map(|at| at.as_millisecond()),
            break_glass: approval.votes().iter().any(|vote| vote.break_glass),
            decisions: approval.votes().iter().map(Into::into).collect(),
        }
    }

    pub(super) fn groups(&self) -> BTreeSet<String> {
        self.rules.iter().map(|rule| rule.group.clone()).collect()
    }
}

/// What the person may be called on whose behalf the session runs.
fn requester_names(session: &Session, owner_claims: &[String]) -> BTreeSet<String> {
    let principal = &session.principal;
    let claims = owner_claims
        .iter()
        .filter_map(|claim| principal.claims.get(claim).cloned());
    known_as(claims.chain([principal.name(), session.user.name.clone()]))
}
