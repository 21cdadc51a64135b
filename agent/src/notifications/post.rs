//! Messages by HTTPS, sent again until somebody takes them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep},
};

use super::{
    Order, Outcome,
    backoff::{dice, pause},
    courier::{Attempt, Courier},
    message::Message,
    slack,
    tally::Tally,
};
use crate::approvals::ApprovalId;

/// Messages that are being sent, or wait to be sent again, at most.
const MOST_UNDER_WAY: usize = 256;
/// Requests at once to one destination.
const AT_ONCE: usize = 8;
/// For how long it is tried to tell what nobody has to answer.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How a message is written.
pub(super) enum Form {
    /// JSON, which the courier signs.
    Json,
    /// As [`slack`] says.
    Slack,
}

/// One destination.
pub(super) struct Post {
    courier: Courier,
    form: Form,
    places: Semaphore,
    tally: Arc<Tally>,
}

impl Post {
    pub(super) fn new(courier: Courier, form: Form, tally: Arc<Tally>) -> Arc<Self> {
        Arc::new(Self {
            courier,
            form,
            places: Semaphore::new(AT_ONCE),
            tally,
        })
    }

    /// Sends what is ordered until nobody can order any more.
    pub(super) async fn run(self: Arc<Self>, mut orders: mpsc::Receiver<Order>) {
        let mut under_way = JoinSet::new();
        let mut asking: HashMap<ApprovalId, AbortHandle> = HashMap::new();
        loop {
            tokio::select! {
                order = orders.recv(), if under_way.len() < MOST_UNDER_WAY => match order {
                    None => return,
                    Some(Order::Settled(id)) => {
                        // What has been sent is no longer in it.
                        if let Some(sending) = asking.remove(&id) {
                            sending.abort();
                        }
                    }
                    Some(Order::Tell(message)) => {
                        let asks_about = message.asks_about().cloned();
                        let sending = under_way.spawn(self.clone().deliver(message));
                        asking.extend(asks_about.map(|id| (id, sending)));
                    }
                },
                Some(ended) = under_way.join_next() => {
                    if ended.is_err_and(|error| error.is_cancelled()) {
                        self.tally.count(Outcome::Superseded);
                    }
                    asking.retain(|_, sending| !sending.is_finished());
                }
            }
        }
    }

    async fn deliver(self: Arc<Self>, message: Arc<Message>) {
        let id = message.id();
        let body = Bytes::from(match &self.form {
            Form::Json => message.json().to_string(),
            Form::Slack => slack::payload(&message).to_string(),
        });
        let give_up = Instant::now() + time_left(&message);
        for failures in 1.. {
            let (why, at_least) = match self.attempt(&id, body.clone()).await {
                Attempt::Taken => return self.tally.count(Outcome::Sent),
                Attempt::Refused(why) => (why, None),
                Attempt::Again(why, at_least) => (why, Some(at_least)),
            };
            let pause = at_least.map(|at_least| at_least.max(pause(failures, dice())));
            match pause {
                Some(pause) if Instant::now() + pause < give_up => {
                    tracing::debug!(to = self.tally.name(), id, why, ?pause, "tried again later");
                    sleep(pause).await;
                }
                _ => {
                    tracing::warn!(
                        to = self.tally.name(),
                        id,
                        why,
                        "a notification is given up"
                    );
                    return self.tally.count(Outcome::Failed);
                }
            }
        }
    }

    async fn attempt(&self, id: &str, body: Bytes) -> Attempt {
        let Ok(_place) = self.places.acquire().await else {
            return Attempt::Refused("the daemon is ending".to_owned());
        };
        self.courier.attempt(id, body).await
    }
}

fn time_left(message: &Message) -> Duration {
    let until = message.until();
    let left = until.map(|until| until.duration_since(Timestamp::now()));
    left.map_or(PATIENCE, |left| left.try_into().unwrap_or_default())
}
