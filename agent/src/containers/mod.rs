//! Containers of sessions: docker jobs of a sandboxed runner.
//!
//! A container is processes of a session with another root file system. They run as the session's user, without a capability, under the
//! session's system-call filter, in its cgroup and its network; what they see of the host is what the session sees and shows them.
//! The engine (dockerd, or podman's service) is the host's and outside of all sessions, and two parts stand in front of it:
//!
//! 1. an Engine API of Holdpoint's own inside of sessions ([`ADDRESS`]), which passes on what it knows ([`ask`], [`order`]) for
//!    containers of that very session, and refuses all else;
//! 2. an OCI runtime ([`runtime`]), by which the engine starts these containers: it builds each one's configuration anew, whatever the
//!    engine was told, and only for a start that a session waits for ([`birth`]).

mod ask;
mod bind;
mod birth;
mod engine;
mod order;
pub mod runtime;
mod serve;

use std::sync::Arc;

use http::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

pub use birth::{answer_runtimes, bind};

use crate::{config, daemon::House, session::SessionId};
use birth::Births;
use engine::{Engine, EngineError};
use order::SESSION_LABEL;

/// The port, at [`crate::binding::NAME`]: the one that Docker's clients know (IANA: docker).
pub const PORT: u16 = 2375;
/// What sessions' `DOCKER_HOST` is.
pub const ADDRESS: &str = "tcp://holdpoint.internal:2375";

/// The way to the engine.
#[derive(Clone, Debug)]
pub struct Containers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    runtime: String,
    births: Births,
}

impl Containers {
    /// As configured.
    #[must_use]
    pub fn new(config: &config::Containers) -> Self {
        Self(Arc::new(Inner {
            engine: Engine::new(config.engine.clone()),
            runtime: config.runtime.clone(),
            births: Births::default(),
        }))
    }

    fn births(&self) -> &Births {
        &self.0.births
    }

    fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Has the engine remove what a session has left. What ran in it has been killed with the session.
    pub async fn remove_all_of(&self, session: &SessionId) {
        if let Err(error) = self.remove_where(|owner| owner == session.as_str()).await {
            tracing::warn!(%session, "containers of an ended session are left over: {error}");
        }
    }

    async fn remove_where(&self, goes: impl Fn(&str) -> bool) -> Result<(), EngineError> {
        for (container, owner) in self.list(None, true).await?.iter().filter_map(identity) {
            if goes(owner) {
                let path = format!("/containers/{container}?force=1&v=1");
                let (status, answer) = self.engine().ask(Method::DELETE, &path, None).await?;
                // One that removes itself may be gone, or going.
                if !status.is_success()
                    && ![StatusCode::NOT_FOUND, StatusCode::CONFLICT].contains(&status)
                {
                    tracing::warn!(container, %status, %answer, "a container is left over");
                }
            }
        }
        Ok(())
    }

    /// Those of one session, or of all there ever were.
    async fn list(
        &self,
        session: Option<&SessionId>,
        all: bool,
    ) -> Result<Vec<Value>, EngineError> {
        let label = session.map_or_else(
            || SESSION_LABEL.to_owned(),
            |it| format!("{SESSION_LABEL}={it}"),
        );
        let filters = json!({ "label": [label] }).to_string();
        let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC);
        let path = format!("/containers/json?all={}&filters={filters}", u8::from(all));
        match self.engine().ask(Method::GET, &path, None).await? {
            (StatusCode::OK, Value::Array(list)) => Ok(list),
            _ => Err(EngineError::Strange),
        }
    }
}

/// A listed container's id and its owner.
fn identity(container: &Value) -> Option<(&str, &str)> {
    let id = container.get("Id")?.as_str()?;
    Some((id, container.get("Labels")?.get(SESSION_LABEL)?.as_str()?))
}

/// Has the engine remove the containers of sessions that ended while no daemon ran.
pub async fn remove_leftovers(house: Arc<House>) {
    let Some(containers) = &house.containers else {
        return;
    };
    // Those of other daemons' sessions are none of this one's business.
    let goes = |owner: &str| {
        let session = house.record.session(&SessionId::from_cgroup(owner));
        session.is_some_and(|session| session.closed_at.is_some())
    };
    if let Err(error) = containers.remove_where(goes).await {
        tracing::warn!("no containers for sessions: {error}");
    }
}
