//! Messages by HTTPS, sent again until somebody takes them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use jiff::Timestamp;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep},
};

use super::{
    Order, Outcome,
    backoff::{pause, retry_after},
    message::Message,
    secret::{SecretUrl, Secrets},
    slack,
    tally::Tally,
};
use crate::{approvals::ApprovalId, upstream::Upstream};

/// Messages that are being sent, or wait to be sent again, at most.
const MOST_UNDER_WAY: usize = 256;
/// Requests at once to one destination.
const AT_ONCE: usize = 8;
/// For one attempt: connecting, sending, the whole answer.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Nobody reads the answer; more than this of it is a failure.
const LONGEST_ANSWER: usize = 256 * 1024;
/// For how long it is tried to tell what nobody has to answer.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How a message is written.
pub(super) enum Form {
    /// JSON with a signature (Standard Webhooks 1.0.0).
    Signed(Secrets),
    /// As [`slack`] says.
    Slack,
}

/// One destination.
pub(super) struct Post {
    client: Upstream,
    url: SecretUrl,
    form: Form,
    places: Semaphore,
    tally: Arc<Tally>,
}

/// What came of one attempt.
enum Attempt {
    Taken,
    /// Another may do better, after this time at the earliest.
    Again(String, Duration),
    /// No other will do better.
    Refused(String),
}

impl Post {
    pub(super) fn new(
        client: Upstream,
        url: SecretUrl,
        form: Form,
        tally: Arc<Tally>,
    ) -> Arc<Self> {
        Arc::new(Self {
            client,
            url,
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
            Form::Signed(_) => message.json().to_string(),
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
        let now = Timestamp::now();
        let mut request = Request::post(self.url.reveal())
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("holdpoint/", env!("CARGO_PKG_VERSION")),
            );
        if let Form::Signed(secrets) = &self.form {
            let timestamp = now.as_second();
            let signature = secrets.signature(id, timestamp, &body);
            request = request
                .header("webhook-id", id)
                .header("webhook-timestamp", timestamp)
                .header("webhook-signature", signature);
        }
        let Ok(request) = request.body(body) else {
            return Attempt::Refused("it cannot be written as a request".to_owned());
        };
        let answer = match self.client.fetch(request, LONGEST_ANSWER, ATTEMPT).await {
            Ok(answer) => answer,
            // The error names the URL, which may be a secret.
            Err(error) => return Attempt::Again(error.cause(), Duration::ZERO),
        };
        let why = format!("it answered {}", answer.status());
        match answer.status() {
            status if status.is_success() => Attempt::Taken,
            // "The endpoint is gone": nobody is there to be told, ever.
            StatusCode::GONE => Attempt::Refused(why),
            _ => {
                let after = answer.headers().get(header::RETRY_AFTER);
                let after = after.and_then(|value| retry_after(value, now));
                Attempt::Again(why, after.unwrap_or_default())
            }
        }
    }
}

fn time_left(message: &Message) -> Duration {
    let until = message.until();
    let left = until.map(|until| until.duration_since(Timestamp::now()));
    left.map_or(PATIENCE, |left| left.try_into().unwrap_or_default())
}

fn dice() -> u32 {
    let mut bytes = [0; 4];
    // Without dice everybody comes at once: no harm to us.
    let _ = getrandom::fill(&mut bytes);
    u32::from_ne_bytes(bytes)
}
