//! Finding sessions by what happened in them. It goes through their events, newest session first, for so long only; then it
//! says where to go on.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    DecisionVerdict, Event, RawEvent, Record, SessionSummary, needle::Needle, pattern::Pattern,
};

/// Events that are looked at at a time.
const BATCH: usize = 500;
/// Sessions that are taken from the index at a time.
const CANDIDATES: usize = 100;

/// What to look for. A session is found when all of it is true of it.
#[derive(Debug, Default)]
pub struct Search {
    /// Of its principal, `issuer#subject`.
    pub principal: Option<Pattern>,
    /// It was not over before.
    pub since: Option<Timestamp>,
    /// It was opened then or before.
    pub until: Option<Timestamp>,
    /// It asked for an operation like this.
    pub asked: Asked,
    /// It sent or received this: in a body that was kept, or in what its events tell.
    pub seen: Option<Needle>,
}

/// What one operation has to be, all of it.
#[derive(Debug, Default)]
pub struct Asked {
    /// Of its action.
    pub action: Option<Pattern>,
    /// Of its resource.
    pub resource: Option<Pattern>,
    /// What policy said.
    pub decision: Option<DecisionVerdict>,
}

/// Where to go on: below the session that the event `before` opened, or within the session that is next, after the event `after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    before: u64,
    within: Within,
}

/// How far one session has been looked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Within {
    after: u64,
    asked: bool,
    seen: bool,
}

/// What was found, and where to go on when that was not all.
#[derive(Debug, Default)]
pub struct Found {
    /// Newest first.
    pub sessions: Vec<SessionSummary>,
    /// Where to go on.
    pub next: Option<Cursor>,
}

impl Default for Cursor {
    fn default() -> Self {
        Self {
            before: u64::MAX,
            within: Within::default(),
        }
    }
}

impl Record {
    /// Sessions that `may` be seen and that the search finds, `limit` at most, from the cursor on, looking for `lasting` or a little longer.
    ///
    /// # Errors
    /// When events cannot be read.
    ///
    /// # Panics
    /// When the writer panicked.
    pub async fn search(
        &self,
        search: &Search,
        may: impl Fn(&SessionSummary) -> bool,
        from: Cursor,
        (limit, lasting): (usize, Duration),
    ) -> anyhow::Result<Found> {
        let until = Instant::now() + lasting;
        let mut found = Found::default();
        let mut at = from;
        let listing = self.listing();
        loop {
            let keep = |summary: &SessionSummary| may(summary) && search.may_find(summary);
            let candidates = listing.opened_before(at.before, CANDIDATES, keep);
            if candidates.is_empty() {
                return Ok(found);
            }
            for (summary, opened) in candidates {
                if found.sessions.len() == limit {
                    found.next = Some(at);
                    return Ok(found);
                }
                let within = std::mem::take(&mut at.within);
                match self.look(search, &summary, within, until).await? {
                    Looked::Through(true) => found.sessions.push(summary),
                    Looked::Through(false) => {}
                    Looked::SoFar(within) => {
                        found.next = Some(Cursor { within, ..at });
                        return Ok(found);
                    }
                }
                at.before = opened;
            }
        }
    }

    async fn look(
        &self,
        search: &Search,
        summary: &SessionSummary,
        mut within: Within,
        until: Instant,
    ) -> anyhow::Result<Looked> {
        within.asked |= search.asked.is_anything();
        within.seen |= search.seen.is_none();
        while !(within.asked && within.seen) {
            if Instant::now() >= until {
                return Ok(Looked::SoFar(within));
            }
            let events = self.stored(Some(&summary.id), within.after, BATCH).await?;
            if events.is_empty() {
                return Ok(Looked::Through(false));
            }
            for event in &events {
                within.asked = within.asked || search.asked.is_in(event)?;
                within.seen = within.seen || self.shows(search.seen.as_ref(), event).await?;
                within.after = event.seq;
                if Instant::now() >= until {
                    break;
                }
            }
        }
        Ok(Looked::Through(true))
    }

    async fn shows(&self, needle: Option<&Needle>, event: &RawEvent) -> anyhow::Result<bool> {
        let Some(needle) = needle else {
            return Ok(true);
        };
        if needle.is_in_event(&event.bytes) {
            return Ok(true);
        }
        if !event.is("body") {
            return Ok(false);
        }
        let Event::Body { body, .. } = event.read()?.event else {
            return Ok(false);
        };
        let kept = match body.kept {
            Some(id) => self.body(&id).await?,
            None => None,
        };
        let Some(kept) = kept else {
            return Ok(false);
        };
        let needle = needle.clone();
        let looked = tokio::task::spawn_blocking(move || needle.is_in(&kept));
        looked.await.context("the reader panicked")
    }
}

enum Looked {
    Through(bool),
    SoFar(Within),
}

impl Search {
    fn may_find(&self, summary: &SessionSummary) -> bool {
        let principal = self.principal.as_ref();
        let is_over = |since| summary.closed_at.is_some_and(|closed| closed < since);
        let decided = match self.asked.decision {
            Some(DecisionVerdict::Hold) => summary.held > 0,
            Some(DecisionVerdict::Deny) => summary.denied > 0,
            Some(DecisionVerdict::Allow) => summary.operations > summary.held + summary.denied,
            None => true,
        };
        decided
            && principal.is_none_or(|it| it.is_part_of(&summary.principal))
            && !self.since.is_some_and(is_over)
            && self.until.is_none_or(|until| summary.opened_at <= until)
    }
}

impl Asked {
    /// Whether the index knows the answer already, or nothing is asked.
    fn is_anything(&self) -> bool {
        self.action.is_none() && self.resource.is_none()
    }

    fn is_in(&self, event: &RawEvent) -> anyhow::Result<bool> {
        if !event.is("intent") {
            return Ok(false);
        }
        let Event::Intent {
            operation,
            decision,
            ..
        } = event.read()?.event
        else {
            return Ok(false);
        };
        let action = self.action.as_ref();
        let resource = self.resource.as_ref();
        Ok(action.is_none_or(|it| it.is(operation.action.as_str()))
            && resource.is_none_or(|it| it.is_part_of(operation.resource.as_str()))
            && self.decision.is_none_or(|it| it == decision.verdict))
    }
}

impl RawEvent {
    /// Whether it may be of this kind: cheaper than reading it.
    fn is(&self, kind: &str) -> bool {
        let tag = format!("\"event\":\"{kind}\"");
        memchr::memmem::find(&self.bytes, tag.as_bytes()).is_some()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Within { after, asked, seen } = self.within;
        let found = u8::from(asked) + 2 * u8::from(seen);
        write!(f, "{}.{after}.{found}", self.before)
    }
}

/// It is not one of ours.
#[derive(Debug, thiserror::Error)]
#[error("this is no cursor: it is what the page before gave as `next`")]
pub struct NoCursor;

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let numbers: Result<Vec<u64>, _> = text.split('.').map(str::parse).collect();
        match numbers.map_err(|_| NoCursor)?[..] {
            [before, after, found @ 0..4] => Ok(Self {
                before,
                within: Within {
                    after,
                    asked: found & 1 != 0,
                    seen: found & 2 != 0,
                },
            }),
            _ => Err(NoCursor),
        }
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
