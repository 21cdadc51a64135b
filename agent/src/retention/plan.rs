//! What becomes of a segment: from its age and from what is in it. Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    config::record::{Age, Retention as Settings},
    record::{Claims, SegmentInfo},
    session::SessionId,
};

/// A segment that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The number of its first event.
    pub first: u64,
    /// The number of its last event.
    pub last: u64,
    /// When its first event was recorded.
    pub from: Timestamp,
    /// When its last event was recorded: that is how old it is.
    pub to: Timestamp,
    /// Whether an operation was denied in it.
    pub has_denials: bool,
    /// Bytes on disk of its events.
    pub bytes: u64,
    /// Bytes on disk of its bodies.
    pub body_bytes: u64,
    /// What becomes of its events, and with them of its bodies.
    pub events: Fate,
    /// What becomes of its bodies, if it has any.
    pub bodies: Option<Fate>,
}

/// What becomes of something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// Whether it goes now.
    pub due: bool,
    /// When it is old enough. Never if absent.
    pub until: Option<Timestamp>,
    /// What keeps it, however old it is.
    pub kept_by: Vec<KeptBy>,
}

/// What keeps something, however old it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum KeptBy {
    /// A session is held that has events in it.
    LegalHold {
        /// The session.
        session: SessionId,
    },
    /// A session was opened in it that is still open.
    OpenSession {
        /// The session.
        session: SessionId,
    },
    /// It says what a hold, a grant, a login or a legal hold is that is still in force.
    InForce,
    /// It is the last one that is complete: the daemon starts again from it.
    Newest,
    /// It was not shipped off this host yet, as `[record.ship]` wants.
    NotShipped,
    /// Nobody knows what is in it.
    Unreadable {
        /// Why.
        why: String,
    },
}

/// How much goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Segments of events.
    pub segments: u64,
    /// Segments of which only the bodies go.
    pub bodies: u64,
    /// Bytes on disk of all that.
    pub bytes: u64,
}

impl Sum {
    /// What of these is due.
    #[must_use]
    pub fn of(segments: &[Segment]) -> Self {
        segments.iter().fold(Self::default(), |sum, segment| {
            let bodies_go = segment.bodies.as_ref().is_some_and(|fate| fate.due);
            match (segment.events.due, bodies_go) {
                (true, _) => Self {
                    segments: sum.segments + 1,
                    bytes: sum.bytes + segment.bytes + segment.body_bytes,
                    ..sum
                },
                (false, true) => Self {
                    bodies: sum.bodies + 1,
                    bytes: sum.bytes + segment.body_bytes,
                    ..sum
                },
                (false, false) => sum,
            }
        })
    }
}

impl Segment {
    /// As far as its age goes; none if it is gone, or not in its place yet.
    pub(super) fn by_age(settings: Settings, info: &SegmentInfo, now: Timestamp) -> Option<Self> {
        let (from, to) = info.span.filter(|_| info.is_archived)?;
        let events = match info.has_denials {
            true => settings.denied,
            false => settings.metadata,
        };
        Some(Self {
            first: info.first,
            last: info.last,
            from,
            to,
            has_denials: info.has_denials,
            bytes: info.bytes,
            body_bytes: info.body_bytes.unwrap_or_default(),
            events: Fate::at(events, to, now),
            bodies: info.body_bytes.map(|_| Fate::at(settings.bodies, to, now)),
        })
    }

    pub(super) fn is_due(&self) -> bool {
        self.events.due || self.bodies.as_ref().is_some_and(|fate| fate.due)
    }

    /// What of it has to stay all the same.
    pub(super) fn keep(&mut self, claims: &Claims) {
        let held = || {
            let sessions = claims.held.iter().cloned();
            sessions.map(|session| KeptBy::LegalHold { session })
        };
        if let Some(bodies) = &mut self.bodies {
            bodies.keep(held());
        }
        let opened = claims.opened.iter().cloned();
        let opened = opened.map(|session| KeptBy::OpenSession { session });
        let in_force = claims.in_force.then_some(KeptBy::InForce);
        let newest = claims.is_newest.then_some(KeptBy::Newest);
        self.events
            .keep(held().chain(opened).chain(in_force).chain(newest));
    }

    /// It has to be elsewhere first, and its bodies, if they are shipped at all.
    pub(super) fn keep_unshipped(&mut self, events: u64, with_bodies: bool) {
        if self.last <= events {
            return;
        }
        self.events.keep([KeptBy::NotShipped]);
        if let Some(bodies) = self.bodies.as_mut().filter(|_| with_bodies) {
            bodies.keep([KeptBy::NotShipped]);
        }
    }

    /// Nobody knows whether it has to stay.
    pub(super) fn keep_unread(&mut self, why: &str) {
        let unread = || KeptBy::Unreadable { why: why.into() };
        self.events.keep([unread()]);
        if let Some(bodies) = &mut self.bodies {
            bodies.keep([unread()]);
        }
    }
}

impl Fate {
    fn at(age: Option<Age>, time: Timestamp, now: Timestamp) -> Self {
        let until = age.map(|age| age.after(time));
        Self {
            due: until.is_some_and(|until| until <= now),
            until,
            kept_by: Vec::new(),
        }
    }

    fn keep(&mut self, by: impl IntoIterator<Item = KeptBy>) {
        self.kept_by.extend(by);
        self.due &= self.kept_by.is_empty();
    }
}
