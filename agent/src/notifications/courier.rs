//! One attempt to hand something over by HTTPS.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use jiff::Timestamp;

use super::{
    backoff::retry_after,
    secret::{SecretUrl, Secrets},
};
use crate::upstream::Upstream;

/// For one attempt: connecting, sending, the whole answer.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Nobody reads what is answered; so much of it is taken for the connection to be of further use.
const LONGEST_ANSWER: usize = 256 * 1024;

/// Knows the way to one destination.
pub(crate) struct Courier {
    client: Upstream,
    url: SecretUrl,
    /// What is taken there is signed (Standard Webhooks 1.0.0), where there are any.
    secrets: Option<Secrets>,
}

/// What came of one attempt.
pub(crate) enum Attempt {
    /// It was taken.
    Taken,
    /// Another may do better, after this time at the earliest.
    Again(String, Duration),
    /// No other will do better.
    Refused(String),
}

impl Courier {
    pub(crate) fn new(client: Upstream, url: SecretUrl, secrets: Option<Secrets>) -> Self {
        Self {
            client,
            url,
            secrets,
        }
    }

    /// Sends JSON; `id` is the same for the same message sent again.
    pub(crate) async fn attempt(&self, id: &str, body: Bytes) -> Attempt {
        let now = Timestamp::now();
        let mut request = Request::post(self.url.reveal())
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::USER_AGENT,
                concat!("holdpoint/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(secrets) = &self.secrets {
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
        let answer = match self.client.tell(request, LONGEST_ANSWER, ATTEMPT).await {
            Ok(answer) => answer,
            // The error names the URL, which may be a secret.
            Err(error) => return Attempt::Again(error.cause(), Duration::ZERO),
        };
        let why = format!("it answered {}", answer.status);
        match answer.status {
            status if status.is_success() => Attempt::Taken,
            // "The endpoint is gone": nobody is there to be told, ever.
            StatusCode::GONE => Attempt::Refused(why),
            _ => {
                let after = answer.headers.get(header::RETRY_AFTER);
                let after = after.and_then(|value| retry_after(value, now));
                Attempt::Again(why, after.unwrap_or_default())
            }
        }
    }
}
