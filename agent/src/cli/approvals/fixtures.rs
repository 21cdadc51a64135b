//! What tests show and answer.

use std::collections::BTreeSet;

use holdpoint_core::{approval::State, digest::Digest};
use jiff::Timestamp;

use crate::{
    approvals::{ApprovalId, ApprovalView, RuleView},
    session::{SessionId, User},
};

/// So many seconds after the epoch.
pub(in crate::cli) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("a time")
}

/// One that waits, from the epoch on, for ten minutes.
pub(in crate::cli) fn hold(id: &str, session: &str) -> ApprovalView {
    ApprovalView {
        id: ApprovalId::named(id),
        state: State::Pending,
        session: SessionId::from_cgroup(session),
        principal: "https://issuer#repo:a/b".into(),
        user: User {
            uid: 1000,
            gid: 1000,
            name: "ci".into(),
        },
        action: "sql.instances.delete".into(),
        resource: format!("//sqladmin.googleapis.com/projects/p/instances/db-{id}"),
        method: "DELETE".into(),
        url: format!("https://sqladmin.googleapis.com/v1/projects/p/instances/db-{id}"),
        traits: BTreeSet::new(),
        digest: Digest::of(&[]),
        groups: BTreeSet::from(["dba".to_owned()]),
        policies: vec![RuleView {
            id: "deletes".into(),
            file: "deletes.cedar".into(),
            line: 3,
            reason: Some("deletes are for people".into()),
            group: "dba".into(),
            min_approvals: 1,
            grantable: BTreeSet::new(),
        }],
        waiting: 1,
        opened_at: at(0),
        opened_at_ms: 0,
        expires_at: at(600),
        expires_at_ms: 600_000,
        decided_at: None,
        decided_at_ms: None,
        break_glass: false,
        decisions: Vec::new(),
    }
}
