//! People grant, and take back.

use holdpoint_core::{
    approval::{Answer, Channel, Reviewer, State, Vote},
    grant::Grant,
    policy::HoldRule,
};

use super::Desk;
use crate::{
    approvals::{
        AnswerError, ApprovalId, GrantAsk, GrantId, GrantTicket, GrantUse, GrantUseError,
        GrantView, Verdict,
        clock::Clock,
        grants::{GrantRecord, Live, MOST_GRANTS},
    },
    notifications::News,
    record::{Event, RecordError, Text},
};

impl Desk {
    /// The grant, and with it the approval of what it was made from.
    pub(super) async fn grant(
        &mut self,
        id: &ApprovalId,
        ask: GrantAsk,
    ) -> Result<GrantView, AnswerError> {
        let held = self.open_hold(id)?;
        let at = held.now();
        let comment = ask.comment.map(Text::from);
        let vote = Vote {
            reviewer: ask.reviewer,
            answer: Answer::Approve,
            comment: comment.as_ref().map(ToString::to_string),
            at,
            break_glass: false,
            channel: Channel::Host,
        };
        let checked = held.approval().check_alone(&vote);
        self.refuse(id, &vote, checked).await?;
        if self.grants.is_full() {
            return Err(AnswerError::TooManyGrants(MOST_GRANTS));
        }
        let held = self.open_hold(id)?;
        let longest = self.settings.longest_grant;
        let record = GrantRecord {
            id: GrantId::random(),
            approval: id.clone(),
            grant: Grant::make(&held.asked(), ask.scope, ask.lasting, longest, at)?,
            by: Text::short(&vote.reviewer.name),
            by_uid: vote.reviewer.uid,
            comment,
            made_at: at,
        };
        let session = held.session.id.clone();
        let event = Event::GrantMade {
            session: session.clone(),
            made: record.clone(),
        };
        self.record.append(event).await?;
        let view = GrantView::from(&record);
        self.settings
            .notifier
            .tell(|| News::Granted(Box::new(view.clone())));
        self.grants
            .insert(Live::new(session, record, Clock::not_before(at)));
        if let Err(error) = self.take(id, vote).await {
            tracing::warn!(approval = %id, %error, "granted, and not approved by itself");
        }
        self.release_covered(&view.id).await;
        Ok(view)
    }

    /// What waits and is covered by a new grant need not wait: of each, one request may go on.
    async fn release_covered(&mut self, grant: &GrantId) {
        let Some(live) = self.grants.named(grant) else {
            return;
        };
        let mut released = Vec::new();
        for held in self.live.values_mut() {
            let at = held.now();
            let pending = held.state() == State::Pending;
            if !pending || !live.record.grant.covers(&held.asked(), at) {
                continue;
            }
            if let Some(waiter) = held.newest_waiter() {
                let _ = waiter.verdict.send(Verdict::Granted(GrantTicket {
                    grant: grant.clone(),
                    session: waiter.session,
                    operation: waiter.operation,
                }));
            }
            held.step(|approval| approval.withdraw(at));
            released.push(held.id.clone());
        }
        let why = format!("grant {grant} covers it");
        for id in released {
            self.settle(&id, Some(&why)).await;
        }
    }

    pub(super) async fn use_grant(&self, ticket: GrantTicket) -> Result<GrantUse, GrantUseError> {
        let live = self.grants.named(&ticket.grant).filter(|it| it.is_good());
        let live = live.ok_or(GrantUseError::Over)?;
        let event = Event::GrantUsed {
            session: ticket.session,
            grant: ticket.grant,
            operation: ticket.operation,
        };
        self.record.append(event).await?;
        Ok(GrantUse(live.watched()))
    }

    pub(super) async fn revoke(
        &mut self,
        id: &GrantId,
        by: &Reviewer,
        reason: Option<String>,
    ) -> Result<GrantView, AnswerError> {
        let live = self.grants.named(id).ok_or(AnswerError::UnknownGrant)?;
        let (view, grant) = (live.view(), &live.record.grant);
        let asked = |rule: &HoldRule| by.groups.contains(&rule.group);
        let is_user = |uid| by.uid == Some(uid);
        if !is_user(0) && !is_user(grant.uid()) && !grant.rules().iter().any(asked) {
            return Err(AnswerError::MayNotRevoke);
        }
        let reason = reason.unwrap_or_else(|| "revoked".to_owned());
        self.end_grant(id, Some(by), &reason).await?;
        Ok(view)
    }

    pub(super) async fn end_unfounded_grants(&mut self, rules: &[HoldRule]) {
        for id in self.grants.unfounded(rules) {
            let reason = "policy no longer has a rule it was made under";
            // Logged; and a daemon that is started anew compares again.
            let _ = self.end_grant(&id, None, reason).await;
        }
    }

    /// It is over here and now whether or not that can be written down; but a daemon that is started anew would find it again.
    pub(super) async fn end_grant(
        &mut self,
        id: &GrantId,
        by: Option<&Reviewer>,
        reason: &str,
    ) -> Result<(), RecordError> {
        let Some(live) = self.grants.remove(id) else {
            return Ok(());
        };
        self.settings
            .notifier
            .tell(|| News::GrantOver(Box::new(live.view())));
        let event = Event::GrantEnded {
            session: live.session.clone(),
            grant: id.clone(),
            by: by.map(|by| Text::short(&by.name)),
            reason: reason.into(),
        };
        let recorded = self.record.append(event).await;
        if let Err(error) = &recorded {
            tracing::error!(grant = %id, %error, "the end of a grant is not recorded");
        }
        recorded.map(drop)
    }
}
