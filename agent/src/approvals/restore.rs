//! After a restart: what is open is made anew from the record, by the same machine that it went through before.

use std::collections::BTreeMap;

use anyhow::Context as _;
use holdpoint_core::{
    approval::{Reviewer, Vote},
    digest::Digest,
};
use jiff::Timestamp;

use super::{
    ApprovalId, Settings,
    clock::Clock,
    grants::{Grants, Live},
    held::Held,
    kept::Kept,
};
use crate::record::{Event, Record, StoredEvent, VoteRecord};

/// What a desk begins with.
#[derive(Default)]
pub(super) struct Restored {
    pub(super) live: BTreeMap<ApprovalId, Held>,
    pub(super) grants: Grants,
}

/// Time goes on from the last of the events, wherever the host's clock is.
pub(super) async fn restore(
    record: &Record,
    kept: &Kept,
    settings: &Settings,
) -> anyhow::Result<Restored> {
    let events = record.standing().await?;
    let latest = events.last().map_or(Timestamp::MIN, |event| event.time);
    let clock = Clock::not_before(latest);
    let mut restored = Restored::default();
    for event in events {
        if let Some(void) = restored.add(event, kept, clock, settings) {
            record.append(void).await?;
        }
    }
    kept.sweep(|name| restored.live.contains_key(&ApprovalId::named(name)))?;
    if !restored.live.is_empty() {
        tracing::info!(
            count = restored.live.len(),
            "held operations are taken over"
        );
    }
    Ok(restored)
}

fn reopened(
    id: &ApprovalId,
    digest: Option<Digest>,
    kept: &Kept,
    clock: Clock,
    settings: &Settings,
) -> anyhow::Result<Held> {
    let digest = digest.context("a daemon of an older version held it")?;
    let question = kept.read(id, digest)?;
    Held::open(id.clone(), question, digest, clock, settings)
        .context("no rule says who is to be asked")
}

impl Restored {
    /// Returns what is to be recorded when it cannot be taken over.
    fn add(
        &mut self,
        stored: StoredEvent,
        kept: &Kept,
        clock: Clock,
        settings: &Settings,
    ) -> Option<Event> {
        match stored.event {
            Event::Hold {
                session,
                approval,
                kept: digest,
                ..
            } => match reopened(&approval, digest, kept, clock, settings) {
                Ok(held) => drop(self.live.insert(approval, held)),
                Err(error) => {
                    tracing::warn!(%approval, "void after the restart: {error:#}");
                    let reason = format!("the daemon was started anew, and {error:#}").into();
                    return Some(Event::ApprovalWithdrawn {
                        session,
                        approval,
                        reason,
                    });
                }
            },
            Event::ApprovalDecided { approval, vote, .. } => {
                self.vote(&approval, vote, false, stored.time);
            }
            Event::BreakGlass { approval, vote, .. } => {
                self.vote(&approval, vote, true, stored.time);
            }
            Event::GrantMade { session, made } => {
                self.grants.insert(Live::new(session, made, clock));
            }
            _ => {}
        }
        None
    }

    fn vote(&mut self, id: &ApprovalId, vote: VoteRecord, break_glass: bool, time: Timestamp) {
        let Some(held) = self.live.get_mut(id) else {
            return;
        };
        let vote = Vote {
            reviewer: Reviewer {
                uid: vote.uid,
                name: vote.reviewer.to_string(),
                groups: vote.groups,
                names: vote.names,
            },
            answer: vote.verdict,
            comment: vote.comment.map(|comment| comment.to_string()),
            at: vote.at.unwrap_or(time),
            break_glass,
            channel: vote.channel,
        };
        held.step(|approval| approval.replay([vote]));
    }
}
