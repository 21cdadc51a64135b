//! The stream of stored events, from one answer to the next.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::{Client, DaemonSays};
use crate::{
    control::LastEvent,
    record::{RawEvent, StoredEvent},
};

/// Bytes of an event at most.
const LONGEST: usize = 1024 * 1024;
/// Events that are read ahead.
const AHEAD: usize = 64;
/// Between two attempts to reach the daemon again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Of one session.
    pub session: Option<String>,
    /// With numbers above this one.
    pub after: u64,
    /// Whether to wait for more, for ever.
    pub follow: bool,
}

/// An event: its bytes, and what they say.
#[derive(Clone, Debug)]
pub struct Told {
    /// As stored.
    pub raw: RawEvent,
    /// What they say.
    pub event: StoredEvent,
}

/// Events as they come. The daemon may go and come in between.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<anyhow::Result<Told>>);

impl Events {
    /// The next one; none at the end.
    ///
    /// # Errors
    /// When the daemon cannot be reached or refuses, with its reason.
    pub async fn next(&mut self) -> anyhow::Result<Option<Told>> {
        self.0.recv().await.transpose()
    }

    /// Those of a list.
    #[cfg(test)]
    pub(crate) fn of(events: Vec<StoredEvent>) -> Self {
        let (queue, told) = mpsc::channel(events.len().max(1));
        for event in events {
            let bytes = serde_json::to_vec(&event).expect("JSON");
            let raw = RawEvent {
                seq: event.seq,
                bytes,
            };
            queue.try_send(Ok(Told { raw, event })).expect("room");
        }
        Self(told)
    }
}

impl Client {
    /// The number of the last event there is.
    ///
    /// # Errors
    /// When the daemon cannot be reached.
    pub async fn newest(&self) -> anyhow::Result<u64> {
        let last: LastEvent = self.read("/v1/events/last").await?;
        Ok(last.seq)
    }

    /// Starts to read. Needs a tokio runtime.
    #[must_use]
    pub fn events(&self, which: Which) -> Events {
        let (queue, events) = mpsc::channel(AHEAD);
        let client = self.clone();
        tokio::spawn(async move {
            if let Err(error) = client.read_on(which, &queue).await {
                let _ = queue.send(Err(error)).await;
            }
        });
        Events(events)
    }

    async fn read_on(
        &self,
        mut which: Which,
        queue: &mpsc::Sender<anyhow::Result<Told>>,
    ) -> anyhow::Result<()> {
        while !queue.is_closed() {
            let before = which.after;
            let answered = self.one_answer(&mut which, queue).await;
            let got_on = which.after > before;
            match answered {
                Ok(()) if got_on || which.follow => {}
                Ok(()) => return Ok(()),
                // What the daemon says itself will not change.
                Err(error) if error.is::<DaemonSays>() || error.is::<NotUnderstood>() => {
                    return Err(error);
                }
                Err(_) if got_on => {}
                Err(_) if which.follow => tokio::time::sleep(AGAIN_AFTER).await,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn one_answer(
        &self,
        which: &mut Which,
        queue: &mpsc::Sender<anyhow::Result<Told>>,
    ) -> anyhow::Result<()> {
        let mut path = format!("/v1/events?after={}&follow={}", which.after, which.follow);
        if let Some(session) = &which.session {
            path.push_str("&session=");
            path.push_str(session);
        }
        let (mut body, _connection) = self.send(Method::GET, &path, Bytes::new()).await?;
        let mut rest = Vec::new();
        while let Some(line) = next_line(&mut body, &mut rest).await? {
            let event: StoredEvent = serde_json::from_slice(&line).map_err(NotUnderstood)?;
            which.after = event.seq;
            let raw = RawEvent {
                seq: event.seq,
                bytes: line,
            };
            if queue.send(Ok(Told { raw, event })).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an event is not understood: is the daemon of the same version?")]
struct NotUnderstood(#[source] serde_json::Error);

/// The next line, without its end; `rest` is what was read beyond.
async fn next_line(body: &mut Incoming, rest: &mut Vec<u8>) -> anyhow::Result<Option<Vec<u8>>> {
    let mut looked = 0;
    loop {
        if let Some(at) = memchr::memchr(b'\n', &rest[looked..]) {
            let after = rest.split_off(looked + at + 1);
            let mut line = std::mem::replace(rest, after);
            line.pop();
            return Ok(Some(line));
        }
        looked = rest.len();
        ensure!(looked <= LONGEST, "the daemon sent an event without an end");
        let Some(frame) = body.frame().await else {
            ensure!(rest.is_empty(), "the daemon broke off within an event");
            return Ok(None);
        };
        let frame = frame.context("the daemon closed the connection")?;
        if let Some(data) = frame.data_ref() {
            rest.extend_from_slice(data);
        }
    }
}
