//! What of the record goes when, as `[record.retention]` says, and what a legal hold keeps from that.
//!
//! Segments go as a whole: one stays as long as the class of the longest-lived thing in it, and while anything in it is still in force.

mod plan;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

pub use plan::{Fate, KeptBy, Segment, Sum};

use crate::{
    config::record::Retention as Settings,
    record::{Event, Record, RecordError, SegmentInfo, StoredEvent, Text},
    session::SessionId,
    shipping::Shipping,
};

/// Between two looks at the record.
const EVERY: Duration = Duration::from_secs(3600);

/// Takes away what is old enough.
pub struct Retention {
    record: Record,
    settings: Settings,
    /// What takes it elsewhere, which comes first.
    shipping: Option<Shipping>,
    /// A legal hold is in force when it is recorded: nothing is being taken away meanwhile.
    turn: Mutex<()>,
}

/// A session whose events and bodies stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegalHold {
    /// The session.
    pub session: SessionId,
    /// The number of the event that says so.
    pub event: u64,
    /// Since when.
    pub since: Timestamp,
    /// Who wants it.
    pub by: Text,
    /// Why.
    pub reason: Text,
}

/// What would go now, and when the rest does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What the configuration says.
    pub retention: Settings,
    /// The segments that are there, oldest first.
    pub segments: Vec<Segment>,
    /// What would go now.
    pub due: Sum,
    /// Oldest first.
    pub legal_holds: Vec<LegalHold>,
}

/// Why there is no legal hold, or why it goes on.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// Nothing is there that could be kept.
    #[error("the record has no session of this name: it was purged, or there never was one")]
    NoSession,
    /// It is not held.
    #[error("the session has no legal hold; `holdpoint audit retention` lists them")]
    NotHeld,
    /// It is not in force, then.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Nobody knows what is held.
    #[error("the record cannot be read: {0:#}")]
    Unreadable(anyhow::Error),
}

impl Retention {
    /// For this record.
    #[must_use]
    pub fn new(record: Record, settings: Settings, shipping: Option<Shipping>) -> Self {
        let turn = Mutex::default();
        Self {
            record,
            settings,
            shipping,
            turn,
        }
    }

    /// Takes away what is old enough, at once and every hour.
    pub async fn keep_running(self: Arc<Self>) {
        loop {
            if let Err(error) = self.run().await {
                tracing::error!("not everything that is old enough was purged: {error:#}");
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// What would go now, and when the rest does. Changes nothing.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub async fn report(&self) -> anyhow::Result<Report> {
        let legal_holds = self.legal_holds().await?;
        let held: BTreeSet<_> = legal_holds.iter().map(|it| it.session.clone()).collect();
        let (record, settings, now) = (self.record.clone(), self.settings, Timestamp::now());
        let segments = blocking(move || {
            let all = record.segments().into_iter();
            all.filter_map(|it| judged(&record, settings, it, &held, now))
                .collect::<Vec<_>>()
        });
        let mut segments = segments.await?;
        segments.iter_mut().for_each(|it| self.keep_unshipped(it));
        Ok(Report {
            retention: self.settings,
            due: Sum::of(&segments),
            segments,
            legal_holds,
        })
    }

    /// Takes away what is old enough; gives that.
    ///
    /// # Errors
    /// When some of it could not be taken away; the rest was.
    pub async fn run(&self) -> anyhow::Result<Sum> {
        if self.settings != Settings::default() {
            self.record.complete_aged_segment().await?;
        }
        let record = self.record.clone();
        let all = blocking(move || record.sweep().map(|()| record.segments())).await??;
        let (mut purged, mut failure) = (Vec::new(), Ok(()));
        for info in all {
            let first = info.first;
            match self.purge_if_due(info).await {
                Ok(gone) => purged.extend(gone),
                Err(error) => {
                    let error = error.context(format!("the segment of event {first}"));
                    failure = failure.and(Err(error));
                }
            }
        }
        failure.map(|()| Sum::of(&purged))
    }

    /// What was taken away.
    async fn purge_if_due(&self, info: SegmentInfo) -> anyhow::Result<Option<Segment>> {
        let _turn = self.turn.lock().await;
        let held = self.legal_holds().await?;
        let held: BTreeSet<_> = held.into_iter().map(|it| it.session).collect();
        let (record, settings, now) = (self.record.clone(), self.settings, Timestamp::now());
        let found = blocking(move || judged(&record, settings, info, &held, now)).await?;
        let Some(mut segment) = found else {
            return Ok(None);
        };
        self.keep_unshipped(&mut segment);
        let (first, last) = (segment.first, segment.last);
        if segment.events.due {
            let reason = self.reason(&segment);
            self.record.purge(first, &reason).await?;
            tracing::info!(first, last, "events were purged from the record: {reason}");
        } else if segment.bodies.as_ref().is_some_and(|fate| fate.due) {
            let reason = older_than(self.settings.bodies);
            self.record.purge_bodies(first, &reason).await?;
            tracing::info!(first, last, "bodies were purged from the record: {reason}");
        } else {
            return Ok(None);
        }
        Ok(Some(segment))
    }

    fn keep_unshipped(&self, segment: &mut Segment) {
        if let Some(shipping) = &self.shipping {
            let shipped = shipping.status();
            segment.keep_unshipped(shipped.events, shipped.bodies);
        }
    }

    fn reason(&self, segment: &Segment) -> String {
        older_than(match segment.has_denials {
            true => self.settings.denied,
            false => self.settings.metadata,
        })
    }

    /// Those in force, oldest first.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub async fn legal_holds(&self) -> anyhow::Result<Vec<LegalHold>> {
        let held = self.record.legal_holds().await?;
        Ok(held.into_iter().filter_map(LegalHold::of).collect())
    }

    /// From now on nothing of what this session did goes, nor of what else is in the same segments.
    ///
    /// # Errors
    /// When it is not in force.
    pub async fn hold(
        &self,
        session: &SessionId,
        by: &str,
        reason: &str,
    ) -> Result<LegalHold, HoldError> {
        let _turn = self.turn.lock().await;
        if self.record.session(session).is_none() {
            return Err(HoldError::NoSession);
        }
        let event = Event::LegalHold {
            session: session.clone(),
            by: Text::short(by),
            reason: reason.into(),
        };
        self.record.append(event).await?;
        let held = self.held(session).await?;
        held.ok_or(HoldError::NoSession)
    }

    /// Ends a legal hold; gives what it was.
    ///
    /// # Errors
    /// When it goes on, or there is none.
    pub async fn release(
        &self,
        session: &SessionId,
        by: &str,
        reason: &str,
    ) -> Result<LegalHold, HoldError> {
        let _turn = self.turn.lock().await;
        let held = self.held(session).await?.ok_or(HoldError::NotHeld)?;
        let event = Event::LegalHoldReleased {
            session: session.clone(),
            by: Text::short(by),
            reason: reason.into(),
        };
        self.record.append(event).await?;
        Ok(held)
    }

    async fn held(&self, session: &SessionId) -> Result<Option<LegalHold>, HoldError> {
        let held = self.legal_holds().await.map_err(HoldError::Unreadable)?;
        Ok(held.into_iter().find(|it| it.session == *session))
    }
}

impl LegalHold {
    fn of(stored: StoredEvent) -> Option<Self> {
        match stored.event {
            Event::LegalHold {
                session,
                by,
                reason,
            } => Some(Self {
                session,
                event: stored.seq,
                since: stored.time,
                by,
                reason,
            }),
            _ => None,
        }
    }
}

fn older_than(age: Option<crate::config::record::Age>) -> String {
    let age = age.map(|age| age.to_string()).unwrap_or_default();
    format!("older than {age}, as record.retention says")
}

/// What becomes of a segment, unless it is gone or not in its place yet. Its index is read where that can matter. Blocks.
fn judged(
    record: &Record,
    settings: Settings,
    info: SegmentInfo,
    held: &BTreeSet<SessionId>,
    now: Timestamp,
) -> Option<Segment> {
    let mut segment = Segment::by_age(settings, &info, now)?;
    if segment.is_due() || !held.is_empty() {
        match record.claims(&info, held) {
            Ok(claims) => segment.keep(&claims),
            Err(error) => segment.keep_unread(&format!("{error:#}")),
        }
    }
    Some(segment)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("reading the record panicked")
}

#[cfg(test)]
mod tests;
