//! Where reviewers answer without being on this host: a small HTTPS server, off by default.
//!
//! A link ([`super::Link`]) leads to one question and gives no rights. Whoever follows it says who they are, by signing in at a
//! `[[reviewer_issuer]]` or with an ID token of one, and from there on the same rules hold as on the host: groups, never one's own
//! operation, one denial ends it, distinct people.

mod form;
mod identity;
mod limits;
mod page;
mod routes;
mod server;
mod table;

use std::{collections::BTreeMap, sync::Arc};

use super::Links;
use crate::{
    approvals::Approvals,
    config::{Config, Reviewers},
    control::Logins,
    oidc::SignIn,
};
use identity::{Flows, Seats};
pub use server::Server;

/// What the routes work on.
struct Desk {
    approvals: Approvals,
    links: Arc<Links>,
    logins: Arc<Logins>,
    reviewers: BTreeMap<String, Reviewers>,
    break_glass: Option<String>,
    sign_in: SignIn,
    flows: Flows,
    seats: Seats,
}

impl Desk {
    fn new(
        config: &Config,
        approvals: Approvals,
        links: Arc<Links>,
        logins: Arc<Logins>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            approvals,
            links,
            logins,
            reviewers: config.reviewers.clone(),
            break_glass: config.approvals.break_glass.clone(),
            sign_in: SignIn::new(&config.reviewer_issuers, &config.upstream)?,
            flows: Flows::default(),
            seats: Seats::default(),
        })
    }

    /// Where issuers send browsers back to: what has to be registered there.
    fn redirect_uri(&self) -> String {
        format!("{}/callback", self.links.origin())
    }
}
