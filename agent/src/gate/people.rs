//! Asking people, and waiting for what they say.

use holdpoint_core::{
    operation::Operation,
    policy::Hold,
    refusal::{self, Kind, Refusal},
};
use jiff::Timestamp;
use tokio::time::Instant;

use super::{Asker, Gate, Judged, Waiting, asker::sleep_until, not_recorded, ruling::Demand};
use crate::approvals::{
    ApprovalId, ChangeView, GrantTicket, GrantUse, GrantUseError, HoldAsk, LookedUp, RequestView,
    RowsView, Spent, Ticket, Verdict,
};

/// What waiting for people has led to, for one operation.
pub(super) enum Answered {
    /// They were not asked.
    NotAsked,
    /// They approved it.
    Approved(Spent),
    /// They need not be asked, if the grant is still in force.
    Granted(GrantTicket),
}

impl Gate {
    /// What those are about, and change, that people are asked about; in the order of all of them.
    async fn looked_up(&self, asker: &Asker<'_>, judged: &[Judged<'_>]) -> Vec<Option<LookedUp>> {
        let held = judged.iter().filter(|judged| judged.is_held());
        let held: Vec<&Operation> = held.map(|judged| judged.operation.as_ref()).collect();
        let asking = asker.asking();
        let mut seen = self.lookups.for_people(&asking, &held).await.into_iter();
        let rows = asker.rows.iter().cloned().chain(std::iter::repeat(None));
        judged
            .iter()
            .zip(rows)
            .map(|(judged, rows)| {
                let found = judged.is_held().then(|| seen.next()).flatten()?;
                with_rows(found, rows)
            })
            .collect()
    }

    pub(super) async fn wait_for_people(
        &self,
        asker: &mut Asker<'_>,
        judged: &[Judged<'_>],
    ) -> Result<Vec<Answered>, Refusal> {
        // All of them are asked about first, so that a reviewer sees everything the request asks for.
        let looked_up = self.looked_up(asker, judged).await;
        let mut tickets = Vec::with_capacity(judged.len());
        for (judged, looked_up) in judged.iter().zip(looked_up) {
            tickets.push(match judged.ruling.demand() {
                Demand::Ask(hold) => Some(self.ask(asker, judged, hold, looked_up).await?),
                Demand::Pass(_) | Demand::Refuse(_) => None,
            });
        }
        for (judged, ticket) in judged.iter().zip(&tickets) {
            if let (Demand::Ask(hold), Some(ticket)) = (judged.ruling.demand(), ticket) {
                asker.patience.tell(|| Waiting {
                    approval: ticket.id().to_string(),
                    message: refusal::waiting(&judged.operation, ticket.id().as_str(), &hold.rules),
                });
            }
        }
        let asked_about: Vec<ApprovalId> = tickets
            .iter()
            .flatten()
            .map(|ticket| ticket.id().clone())
            .collect();
        let answered = self.wait_for_all(asker, judged, tickets).await;
        if matches!(&answered, Err(refusal) if refusal.kind == Kind::CalledOff) {
            // Nobody needs to answer, unless others wait for the same.
            for approval in &asked_about {
                self.approvals.call_off(approval).await;
            }
        }
        answered
    }

    async fn wait_for_all(
        &self,
        asker: &mut Asker<'_>,
        judged: &[Judged<'_>],
        tickets: Vec<Option<Ticket>>,
    ) -> Result<Vec<Answered>, Refusal> {
        let deadline = asker.patience.deadline();
        let mut answers = Vec::with_capacity(judged.len());
        for (judged, ticket) in judged.iter().zip(tickets) {
            answers.push(match (judged.ruling.demand(), ticket) {
                (Demand::Ask(hold), Some(ticket)) => {
                    self.wait(asker, &judged.operation, hold, ticket, deadline)
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
        judged: &Judged<'_>,
        hold: &Hold,
        looked_up: Option<LookedUp>,
    ) -> Result<Ticket, Refusal> {
        let operation = &judged.operation;
        let ask = HoldAsk {
            session: asker.session.clone(),
            operation: judged.id.clone(),
            request: RequestView {
                looked_up: looked_up.map(|looked_up| self.shown_of(looked_up)),
                ..RequestView::new(&self.shown, operation, asker.headers, asker.body)
            },
            digest: judged.digest,
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

    /// What reviewers may see of it.
    fn shown_of(&self, looked_up: LookedUp) -> LookedUp {
        self.shown.data(&looked_up).unwrap_or_else(|| LookedUp {
            read_at: looked_up.read_at,
            target: None,
            rows: None,
            change: Some(ChangeView::Unknown {
                why: "what it changes cannot be shown without secrets".into(),
            }),
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
                () = asker.patience.called_off() => {
                    return Err(Refusal::called_off(operation, &approval));
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

    /// Grants may have been revoked while people thought about other operations of the request.
    pub(super) async fn use_grant(
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
}

fn with_rows(found: Option<LookedUp>, rows: Option<RowsView>) -> Option<LookedUp> {
    match (found, rows) {
        (found, None) => found,
        (Some(found), rows) => Some(LookedUp { rows, ..found }),
        (None, rows) => Some(LookedUp {
            read_at: Timestamp::now(),
            target: None,
            change: None,
            rows,
        }),
    }
}
