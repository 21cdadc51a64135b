//! Watches what enforcement hangs on, and ends every session when something of it is gone.
//!
//! It is a thread of its own: sessions that keep the daemon busy do not keep it from looking. It looks at four points a second, because the
//! kernel tells nobody of a link that is detached by force. Removed pins alone detach nothing for as long as the daemon lives, because the
//! links are held; so what is caught then is caught before anything is let through.

use std::{path::Path, thread, time::Duration};

use anyhow::Context as _;
use tokio::sync::oneshot;

use crate::{
    kernel::{Anchors, Loss},
    launch,
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(250);
/// Between two kills once something is lost: sessions may just be starting.
const KILL_PAUSE: Duration = Duration::from_millis(20);

/// The daemon's ear to it.
pub struct Guard(Option<oneshot::Receiver<Loss>>);

impl Guard {
    /// Begins to watch.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(anchors: Anchors) -> anyhow::Result<Self> {
        let (tell, told) = oneshot::channel();
        thread::Builder::new()
            .name("guard".into())
            .spawn(move || watch(&anchors, tell))
            .context("cannot start the thread that watches the BPF programs")?;
        Ok(Self(Some(told)))
    }

    /// Nobody watches.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Returns when something is lost, and says what. The processes of all sessions have been killed by then, and those that come are
    /// killed for as long as this process lives. Cancel-safe.
    ///
    /// # Errors
    /// When nobody watches any more.
    pub async fn lost(&mut self) -> anyhow::Result<Loss> {
        let Some(told) = &mut self.0 else {
            return std::future::pending().await;
        };
        told.await
            .context("the thread that watches the BPF programs ended")
    }
}

fn watch(anchors: &Anchors, tell: oneshot::Sender<Loss>) {
    let loss = loop {
        match anchors.check() {
            Ok(()) => thread::sleep(PAUSE),
            Err(loss) => break loss,
        }
    };
    let agents = anchors.agents();
    kill(&agents);
    let _ending_anyway = tell.send(loss);
    loop {
        thread::sleep(KILL_PAUSE);
        kill(&agents);
    }
}

fn kill(agents: &Path) {
    if let Err(error) = launch::kill_sessions(agents) {
        // A cgroup that was removed has nobody in it.
        tracing::debug!(%error, "no session could be killed");
    }
}
