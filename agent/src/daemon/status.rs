//! What people and monitors are told of a running daemon.

use std::{net::SocketAddr, sync::Arc};

use serde_json::json;

use super::House;
use crate::{
    config::Config,
    control::{self, ControlState, Logins},
    metrics::{self, Scrape},
    notifications::GroupsOf,
    retention::Retention,
    shipping::Shipping,
};

pub(super) fn control_state(
    house: &Arc<House>,
    config: &Config,
    logins: Arc<Logins>,
    retention: Arc<Retention>,
) -> ControlState {
    let status = {
        let house = house.clone();
        move || status(&house)
    };
    let masking = house.clone();
    ControlState {
        record: house.record.clone(),
        checkpoints: house.checkpoints.clone(),
        shipping: house.shipping.clone(),
        retention,
        approvals: house.approvals.clone(),
        sessions: house.sessions.clone(),
        refusals: house.refusals.clone(),
        reviewers: config.reviewers.clone(),
        logins,
        token_end: Arc::new(move |sha256| masking.masking.token_end(sha256)),
        agents_cgroup: house.site.agents_cgroup.clone(),
        status: Arc::new(status),
        metrics: scrape(house),
    }
}

pub(super) fn groups_of(config: &Config, logins: &Arc<Logins>) -> GroupsOf {
    let (reviewers, logins) = (config.reviewers.clone(), logins.clone());
    Arc::new(move |uid| control::groups_of(uid, &reviewers, &logins))
}

pub(super) fn scrape(house: &Arc<House>) -> Scrape {
    let kernel = house.clone();
    Scrape {
        sessions: house.sessions.clone(),
        approvals: house.approvals.clone(),
        kernel_refusals: Arc::new(move || {
            let counts = kernel.kernel.refusals().unwrap_or_default().into_iter();
            counts
                .map(|(reason, count)| (reason.name(), count))
                .collect()
        }),
    }
}

fn status(house: &House) -> serde_json::Value {
    let refusals = house.kernel.refusals().unwrap_or_default();
    let in_force = house.gate.in_force();
    let refusals: Vec<_> = refusals
        .iter()
        .map(|(reason, count)| json!({"reason": reason.name(), "count": count}))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "sessions": house.sessions.count(),
        "policy": {
            "mode": in_force.mode,
            "policies": in_force.policies.iter().count(),
        },
        "links": house.kernel.links(),
        "refusals": refusals,
        "notifications": house.notifier.told(),
        "shipping": house.shipping.as_ref().map(Shipping::status),
        "refusals_lost": house.kernel.lost_refusals().unwrap_or_default(),
    })
}

/// Nothing depends on being watched.
pub(super) async fn serve_metrics(address: SocketAddr, scrape: Scrape) {
    if let Err(error) = metrics::serve(address, scrape).await {
        tracing::error!("{error:#}");
    }
}
