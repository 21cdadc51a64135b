//! Where exports read from: the daemon, through its control socket.

use std::{collections::HashMap, sync::Arc};

use crate::{
    control::{
        SessionDetail,
        client::{Client, Events, Told, Which},
    },
    record::SessionSummary,
    session::SessionId,
};

use super::story::BodyStory;

/// Sessions that are remembered at most.
const MOST_SESSIONS: usize = 1024;

/// What there is of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kept {
    /// There was none, or nothing is known of it.
    #[default]
    None,
    /// This, masked, and perhaps cut.
    Bytes(Vec<u8>),
    /// There was one, and it is not there, for this reason.
    Gone(String),
}

/// Events in order, and what belongs to them.
#[allow(async_fn_in_trait, reason = "nobody needs it to be Send")]
pub trait Source {
    /// The next event.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn next(&mut self) -> anyhow::Result<Option<Told>>;

    /// A body.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn kept(&mut self, session: &str, body: Option<&BodyStory>) -> anyhow::Result<Kept>;

    /// Whose session it is.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn session(&mut self, id: &SessionId) -> anyhow::Result<Arc<SessionSummary>>;
}

/// The daemon.
#[derive(Debug)]
pub struct Live {
    client: Client,
    events: Events,
    sessions: HashMap<SessionId, Arc<SessionSummary>>,
}

impl Live {
    /// Starts to read. Needs a tokio runtime.
    #[must_use]
    pub fn new(client: Client, which: Which) -> Self {
        Self {
            events: client.events(which),
            client,
            sessions: HashMap::new(),
        }
    }
}

impl Source for Live {
    async fn next(&mut self) -> anyhow::Result<Option<Told>> {
        self.events.next().await
    }

    async fn kept(&mut self, session: &str, body: Option<&BodyStory>) -> anyhow::Result<Kept> {
        let Some(body) = body.filter(|it| it.record.bytes > 0) else {
            return Ok(Kept::None);
        };
        Ok(match self.client.body(session, body.seq).await? {
            Ok(bytes) => Kept::Bytes(bytes),
            Err(why) => Kept::Gone(why),
        })
    }

    async fn session(&mut self, id: &SessionId) -> anyhow::Result<Arc<SessionSummary>> {
        if let Some(known) = self.sessions.get(id) {
            return Ok(Arc::clone(known));
        }
        let detail: SessionDetail = self
            .client
            .read(&format!("/v1/sessions/{id}?last=1"))
            .await?;
        let summary = Arc::new(detail.session.summary);
        if self.sessions.len() == MOST_SESSIONS {
            self.sessions.clear();
        }
        self.sessions.insert(id.clone(), Arc::clone(&summary));
        Ok(summary)
    }
}
