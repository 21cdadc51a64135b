//! Tells somebody elsewhere of each checkpoint: whoever keeps one can prove later what was in the record.
//!
//! Of several that could not be told only the newest is: it vouches for all that the older ones did. So nothing piles up.

use bytes::Bytes;
use holdpoint_core::checkpoint::Checkpoint;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::keeper::Checkpoints;
use crate::{
    config::{self, record::CheckpointWebhook},
    notifications::{
        backoff::{dice, pause},
        courier::{Attempt, Courier},
        secret::{self, Secrets},
    },
    upstream::Upstream,
};

/// What is to be run in order to tell of all checkpoints from now on, and of the last one there is.
///
/// # Errors
/// When a secret or a certificate that is named is not there.
pub fn start(
    settings: &CheckpointWebhook,
    checkpoints: &Checkpoints,
    upstream: &config::Upstream,
) -> anyhow::Result<impl Future<Output = ()> + use<>> {
    let client = match &settings.ca_file {
        Some(file) => Upstream::trusting_only(file, upstream)?,
        None => Upstream::new(upstream)?,
    };
    let secrets = Secrets::read(&settings.secret_file)?;
    let courier = Courier::new(client, secret::url(&settings.url)?, Some(secrets));
    let key = checkpoints.key().clone();
    let opened = move |note: &str| Checkpoint::open(note, &key).ok();
    Ok(tell(courier, checkpoints.newest(), opened))
}

async fn tell(
    courier: Courier,
    mut newest: watch::Receiver<Option<(u64, String)>>,
    opened: impl Fn(&str) -> Option<Checkpoint>,
) {
    newest.mark_changed();
    let mut failures = 0;
    loop {
        // While one is to be told again, a newer one takes its place.
        let ended = match failures {
            0 => newest.changed().await.is_err(),
            _ => {
                let pause = pause(failures, dice());
                matches!(timeout(pause, newest.changed()).await, Ok(Err(_)))
            }
        };
        if ended {
            return;
        }
        let Some((size, note)) = newest.borrow_and_update().clone() else {
            continue;
        };
        let Some(checkpoint) = opened(&note) else {
            continue;
        };
        // The same again has the same id: receivers know repeats.
        let id = format!("checkpoint-{size}-{}", checkpoint.root);
        let body = Bytes::from(message(&checkpoint, &note).to_string());
        match courier.attempt(&id, body).await {
            Attempt::Taken => failures = 0,
            Attempt::Refused(why) => {
                tracing::error!(
                    size,
                    why,
                    "a checkpoint of the record is not told elsewhere"
                );
                failures = 0;
            }
            Attempt::Again(why, at_least) => {
                if failures == 0 {
                    tracing::warn!(size, why, "a checkpoint of the record is told again later");
                }
                failures += 1;
                sleep(at_least).await;
            }
        }
    }
}

fn message(checkpoint: &Checkpoint, note: &str) -> Value {
    json!({
        "type": "holdpoint.checkpoint",
        "timestamp": Timestamp::now(),
        "data": {
            "log": checkpoint.origin.to_string(),
            "size": checkpoint.size,
            "root": checkpoint.root,
            // `holdpoint audit verify --checkpoint` takes this as a file.
            "note": note,
        },
    })
}
