//! The grants that are in force.

use std::collections::BTreeMap;

use holdpoint_core::{
    grant::{Asked, Grant},
    policy::HoldRule,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::Instant};

use super::{ApprovalId, GrantId, GrantView, clock::Clock};
use crate::{record::Text, session::SessionId};

/// Grants that may be in force on a host.
pub(super) const MOST_GRANTS: usize = 256;

/// A grant, and how it came about: as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrantRecord {
    /// Its name.
    pub id: GrantId,
    /// The held operation it was made from.
    pub approval: ApprovalId,
    /// What may be done, by whom, until when.
    pub grant: Grant,
    /// The person who made it.
    pub by: Text,
    /// The person's user id, where the person has one here.
    pub by_uid: Option<u32>,
    /// What the person wrote.
    pub comment: Option<Text>,
    /// When.
    pub made_at: Timestamp,
}

pub(super) struct Live {
    /// The session that asked first.
    pub(super) session: SessionId,
    pub(super) record: GrantRecord,
    clock: Clock,
    /// Dropped with this: whoever uses the grant learns that it is over.
    over: watch::Sender<()>,
}

impl Live {
    pub(super) fn new(session: SessionId, record: GrantRecord, clock: Clock) -> Self {
        Self {
            session,
            record,
            clock,
            over: watch::Sender::default(),
        }
    }

    pub(super) fn is_good(&self) -> bool {
        self.clock.now() < self.record.grant.until()
    }

    pub(super) fn watched(&self) -> watch::Receiver<()> {
        self.over.subscribe()
    }

    pub(super) fn view(&self) -> GrantView {
        GrantView::from(&self.record)
    }
}

#[derive(Default)]
pub(super) struct Grants(BTreeMap<GrantId, Live>);

impl Grants {
    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= MOST_GRANTS
    }

    pub(super) fn insert(&mut self, live: Live) {
        self.0.insert(live.record.id.clone(), live);
    }

    pub(super) fn remove(&mut self, id: &GrantId) -> Option<Live> {
        self.0.remove(id)
    }

    pub(super) fn named(&self, id: &GrantId) -> Option<&Live> {
        self.0.get(id)
    }

    /// One that covers it now.
    pub(super) fn covering(&self, asked: &Asked<'_>) -> Option<&Live> {
        let covers = |live: &&Live| live.record.grant.covers(asked, live.clock.now());
        self.0.values().find(covers)
    }

    /// When the first of them ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let ends = |live: &Live| live.clock.instant(live.record.grant.until());
        self.0.values().map(ends).min()
    }

    pub(super) fn ended(&self) -> Vec<GrantId> {
        let ended = self.0.iter().filter(|(_, live)| !live.is_good());
        ended.map(|(id, _)| id.clone()).collect()
    }

    /// Those that policy with these rules would not let be made.
    pub(super) fn unfounded(&self, rules: &[HoldRule]) -> Vec<GrantId> {
        let unfounded = |live: &Live| !live.record.grant.stands_under(rules);
        let all = self.0.iter().filter(|(_, live)| unfounded(live));
        all.map(|(id, _)| id.clone()).collect()
    }

    /// Newest first.
    pub(super) fn views(&self) -> Vec<GrantView> {
        let mut views: Vec<_> = self.0.values().map(Live::view).collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.made_at));
        views
    }
}
