//! Telling people that something is held, and what became of it.
//!
//! Nothing waits for a notification: the desk puts news into bounded queues, one for each `[[notification]]`, and what finds no room is
//! dropped, counted and logged. A receiver that is down, slow or hostile changes nothing about a hold.

pub(crate) mod backoff;
pub(crate) mod courier;
pub mod endpoint;
mod hook;
mod link;
mod message;
mod post;
pub(crate) mod secret;
mod slack;
mod tally;
mod terminals;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use holdpoint_core::approval::State;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use link::{Link, Links, NotALink};
pub use tally::{Outcome, Told};

use crate::{
    approvals::{ApprovalId, ApprovalView, GrantView},
    config::{Config, Destination, Notification},
    launch,
    upstream::Upstream,
};
use courier::Courier;
use message::{About, Message};
use tally::Tally;

/// News that wait for one destination at most.
const QUEUE: usize = 256;

/// What a destination can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// Something waits for an answer, or for another one.
    Held,
    /// It was approved, or denied.
    Decided,
    /// Time was up before it was answered, or before the approval was used; or nobody needs an answer any more.
    Expired,
    /// Somebody may do more of the same for a while.
    Granted,
    /// A grant is over.
    GrantOver,
}

impl Topic {
    /// The name in the configuration and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Decided => "decided",
            Self::Expired => "expired",
            Self::Granted => "granted",
            Self::GrantOver => "grant_over",
        }
    }
}

/// What has happened at the desk.
#[derive(Clone, Debug)]
pub enum News {
    /// An operation is held.
    Held(Box<ApprovalView>),
    /// It was held by the daemon before, and still is: some destinations may not have heard of it.
    StillHeld(Box<ApprovalView>),
    /// An answer counts.
    Answered(Box<ApprovalView>),
    /// It is over.
    Over(Box<ApprovalView>),
    /// A grant is in force.
    Granted(Box<GrantView>),
    /// A grant is over.
    GrantOver(Box<GrantView>),
}

/// Takes news and passes them on, without ever waiting. Cheap to clone; the default tells nobody.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    outlets: Arc<[Outlet]>,
    links: Option<Arc<Links>>,
}

/// A destination, as the desk sees it.
#[derive(Debug)]
struct Outlet {
    groups: BTreeSet<String>,
    topics: BTreeSet<Topic>,
    /// Whether it tells one message from the same one sent again.
    knows_repeats: bool,
    orders: mpsc::Sender<Order>,
    tally: Arc<Tally>,
}

/// What a destination is to do.
#[derive(Clone, Debug)]
enum Order {
    /// Pass this on.
    Tell(Arc<Message>),
    /// Nobody need be told any more that this is held.
    Settled(ApprovalId),
}

impl Notifier {
    /// Starts what the configuration asks for. `links` leads to where held operations may be answered from elsewhere. `launcher` starts
    /// programs, `groups_of` tells the reviewer groups of a user.
    ///
    /// # Errors
    /// When a secret, a certificate or a user that is named is not there.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        config: &Config,
        links: Option<Arc<Links>>,
        launcher: &Path,
        groups_of: GroupsOf,
    ) -> anyhow::Result<Self> {
        let shared = Shared {
            upstream: &config.upstream,
            launcher: launcher.to_owned(),
            groups_of,
        };
        let outlets = config.notifications.iter().enumerate();
        let outlets = outlets.map(|(index, it)| {
            open(it, &shared).with_context(|| format!("[[notification]] number {}", index + 1))
        });
        Ok(Self {
            outlets: outlets.collect::<anyhow::Result<_>>()?,
            links,
        })
    }

    /// Passes news on to whom they may concern. What is told is made only where somebody is told.
    pub fn tell(&self, news: impl FnOnce() -> News) {
        if self.outlets.is_empty() {
            return;
        }
        let (about, again) = match news() {
            News::StillHeld(view) => (Some(About::Held(view)), true),
            News::Held(view) => (Some(About::Held(view)), false),
            News::Answered(view) => {
                self.order(&|_| true, &Order::Settled(view.id.clone()));
                (about_answered(view), false)
            }
            News::Over(view) => {
                self.order(&|_| true, &Order::Settled(view.id.clone()));
                (about_over(view), false)
            }
            News::Granted(view) => (Some(About::Granted(view)), false),
            News::GrantOver(view) => (Some(About::GrantOver(view)), false),
        };
        let Some(about) = about else {
            return;
        };
        let message = Arc::new(Message::new(about, self.links.as_deref()));
        let concerns = |outlet: &Outlet| {
            let asked = outlet.groups.is_empty() || !outlet.groups.is_disjoint(message.groups());
            asked && outlet.topics.contains(&message.topic()) && (outlet.knows_repeats || !again)
        };
        self.order(&concerns, &Order::Tell(message.clone()));
    }

    fn order(&self, concerns: &dyn Fn(&Outlet) -> bool, order: &Order) {
        for outlet in self.outlets.iter().filter(|it| concerns(it)) {
            let full = outlet.orders.try_send(order.clone()).is_err();
            if full && matches!(order, Order::Tell(_)) {
                outlet.tally.count(Outcome::Dropped);
            }
        }
    }

    /// What each destination was told so far.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.outlets.iter().map(|it| it.tally.told()).collect()
    }
}

/// The reviewer groups of a user of this host. It may take a while: the user database may be on the network.
pub type GroupsOf = Arc<dyn Fn(u32) -> BTreeSet<String> + Send + Sync>;

struct Shared<'a> {
    upstream: &'a crate::config::Upstream,
    launcher: PathBuf,
    groups_of: GroupsOf,
}

fn open(settings: &Notification, shared: &Shared<'_>) -> anyhow::Result<Outlet> {
    let (orders, received) = mpsc::channel(QUEUE);
    let client = |ca_file: &Option<PathBuf>| match ca_file {
        Some(file) => Upstream::trusting_only(file, shared.upstream),
        None => Upstream::new(shared.upstream),
    };
    let mut knows_repeats = false;
    let tally = match &settings.to {
        Destination::Webhook {
            url,
            secret_file,
            ca_file,
        } => {
            knows_repeats = true;
            let secrets = secret::Secrets::read(secret_file)?;
            let url = secret::url(url)?;
            let tally = Tally::new("webhook", url.host());
            let courier = Courier::new(client(ca_file)?, url, Some(secrets));
            let post = post::Post::new(courier, post::Form::Json, tally.clone());
            tokio::spawn(post.run(received));
            tally
        }
        Destination::Slack { url, ca_file } => {
            let url = secret::url(url)?;
            let tally = Tally::new("slack", url.host());
            let courier = Courier::new(client(ca_file)?, url, None);
            let post = post::Post::new(courier, post::Form::Slack, tally.clone());
            tokio::spawn(post.run(received));
            tally
        }
        Destination::Command {
            command,
            user,
            limit,
            at_once,
        } => {
            let tally = Tally::new("command", command.first().map(String::as_str));
            let hook = launch::Hook::new(command, user, *limit)?;
            let launcher = shared.launcher.clone();
            tokio::spawn(hook::run(received, hook, launcher, *at_once, tally.clone()));
            tally
        }
        Destination::Terminals => {
            let tally = Tally::new("terminals", None);
            let groups_of = shared.groups_of.clone();
            let settings = settings.groups.clone();
            tokio::spawn(terminals::run(received, settings, groups_of, tally.clone()));
            tally
        }
    };
    Ok(Outlet {
        groups: settings.groups.clone(),
        topics: settings.events.clone(),
        knows_repeats,
        orders,
        tally,
    })
}

/// Where one answer was not enough, the next one is asked for: the link that was sent before is used up.
fn about_answered(view: Box<ApprovalView>) -> Option<About> {
    match view.state {
        State::Pending => Some(About::Held(view)),
        State::Approved => Some(About::Decided(view)),
        // What is over is told of when it is.
        _ => None,
    }
}

fn about_over(view: Box<ApprovalView>) -> Option<About> {
    match view.state {
        State::Denied => Some(About::Decided(view)),
        State::Expired | State::Lapsed | State::Withdrawn => Some(About::Expired(view)),
        State::Pending | State::Approved | State::Used => None,
    }
}
