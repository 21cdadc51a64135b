//! People answer.

use holdpoint_core::approval::{Answer, Refused, Vote};
use jiff::Timestamp;

use super::Desk;
use crate::{
    approvals::{AnswerError, ApprovalId, ApprovalView, Opinion, held::Held},
    notifications::News,
    record::{Event, Text, VoteRecord},
};

impl Opinion {
    fn vote(self, at: Timestamp) -> Vote {
        Vote {
            reviewer: self.reviewer,
            answer: self.answer,
            // As it is recorded, so that a restart changes nothing.
            comment: self.comment.map(|comment| Text::from(comment).to_string()),
            at,
            break_glass: self.break_glass && self.answer == Answer::Approve,
            channel: self.channel,
        }
    }
}

impl Desk {
    pub(super) async fn answer(
        &mut self,
        id: &ApprovalId,
        opinion: Opinion,
    ) -> Result<ApprovalView, AnswerError> {
        let held = self.open_hold(id)?;
        if opinion
            .after
            .is_some_and(|after| after != held.approval().votes().len())
        {
            return Err(AnswerError::LinkUsed);
        }
        let vote = opinion.vote(held.now());
        let checked = held.approval().check(&vote);
        self.refuse(id, &vote, checked).await?;
        self.take(id, vote).await?;
        let (view, _) = self.find(id).ok_or(AnswerError::Unknown)?;
        Ok(view)
    }

    /// A hold that may still be answered, as far as is known without looking at the answer.
    pub(super) fn open_hold(&self, id: &ApprovalId) -> Result<&Held, AnswerError> {
        self.live.get(id).ok_or_else(|| match self.find(id) {
            Some((view, _)) => Refused::Over(view.state).into(),
            None => AnswerError::Unknown,
        })
    }

    /// Whoever meant to answer and may not is on record.
    pub(super) async fn refuse(
        &self,
        id: &ApprovalId,
        vote: &Vote,
        checked: Result<(), Refused>,
    ) -> Result<(), AnswerError> {
        let (Err(refused), Some(held)) = (checked, self.live.get(id)) else {
            return Ok(());
        };
        let event = Event::ApprovalRefused {
            session: held.session.id.clone(),
            approval: id.clone(),
            reviewer: Text::short(&vote.reviewer.name),
            uid: vote.reviewer.uid,
            verdict: vote.answer,
            reason: Text::from(refused.to_string()),
        };
        self.record.append_unsynced(event).await?;
        Err(refused.into())
    }

    /// Counts a vote that was checked, once it is on disk.
    pub(super) async fn take(&mut self, id: &ApprovalId, vote: Vote) -> Result<(), AnswerError> {
        let held = self.live.get_mut(id).ok_or(AnswerError::Unknown)?;
        let (session, approval) = (held.session.id.clone(), id.clone());
        let on_record = VoteRecord::from(&vote);
        let event = if vote.break_glass {
            tracing::warn!(
                approval = %id,
                reviewer = vote.reviewer.name,
                reason = vote.comment,
                "BREAK GLASS: one person approved alone"
            );
            Event::BreakGlass {
                session,
                approval,
                vote: on_record,
            }
        } else {
            Event::ApprovalDecided {
                session,
                approval,
                vote: on_record,
            }
        };
        self.record.append(event).await?;
        held.step(|approval| approval.answer(vote).0);
        self.settings
            .notifier
            .tell(|| News::Answered(Box::new(held.view())));
        self.settle(id, None).await;
        Ok(())
    }
}
