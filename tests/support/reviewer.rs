//! The reviewer's side: root on the host, with `holdpoint approvals`.

use std::{
    os::unix::process::CommandExt as _,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::world::World;

/// One held operation, as the control API describes it.
#[derive(Clone, Debug)]
pub struct Approval(pub Value);

impl Approval {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0["id"].as_str().unwrap_or_default()
    }

    /// `pending`, `approved`, `denied`, ...
    #[must_use]
    pub fn state(&self) -> &str {
        self.0["state"].as_str().unwrap_or_default()
    }

    /// The session that asked first.
    #[must_use]
    pub fn session(&self) -> Option<&str> {
        self.0["session"].as_str()
    }

    /// Whether its description mentions `text` anywhere.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        self.0.to_string().contains(text)
    }

    /// When it was answered, in milliseconds since the epoch.
    #[must_use]
    pub fn decided_at(&self) -> Option<u64> {
        self.0["decided_at_ms"].as_u64()
    }
}

/// Milliseconds since the epoch, from an RFC 3339 time.
#[must_use]
pub fn milliseconds(time: &Value) -> Option<u64> {
    let time: jiff::Timestamp = time.as_str()?.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

impl World {
    /// All approvals, whatever their state.
    ///
    /// # Errors
    /// When the daemon does not say.
    pub fn approvals(&self) -> anyhow::Result<Vec<Approval>> {
        let answer = self.holdpoint_json(&["approvals", "list", "--state", "all"])?;
        let list = answer
            .as_array()
            .context("`holdpoint approvals list` printed no list")?;
        Ok(list.iter().cloned().map(Approval).collect())
    }

    /// The approvals that wait for people.
    ///
    /// # Errors
    /// When the daemon does not say.
    pub fn pending(&self) -> anyhow::Result<Vec<Approval>> {
        let mut all = self.approvals()?;
        all.retain(|it| it.state() == "pending");
        Ok(all)
    }

    /// Waits until exactly one pending approval mentions `text`.
    ///
    /// # Panics
    /// When there is none in time, or more than one.
    #[must_use]
    pub fn wait_for_hold(&self, text: &str) -> Approval {
        self.find_hold(text, Duration::from_secs(30))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", self.daemon_log()))
    }

    /// Waits until exactly one pending approval mentions `text`.
    ///
    /// # Errors
    /// When there is none in time, or more than one.
    pub fn find_hold(&self, text: &str, limit: Duration) -> anyhow::Result<Approval> {
        let started = Instant::now();
        loop {
            let mut pending = self.pending()?;
            pending.retain(|it| it.mentions(text));
            ensure!(
                pending.len() < 2,
                "{} holds for {text}, not one",
                pending.len()
            );
            if let Some(approval) = pending.pop() {
                return Ok(approval);
            }
            if started.elapsed() > limit {
                bail!("nothing is held for {text} after {limit:?}");
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// Approves.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn approve(&self, id: &str) -> anyhow::Result<()> {
        self.answer("approve", id, 0)
    }

    /// Approves as another user than root.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn approve_as(&self, uid: u32, id: &str) -> anyhow::Result<()> {
        self.answer("approve", id, uid)
    }

    /// Denies.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn deny(&self, id: &str) -> anyhow::Result<()> {
        self.answer("deny", id, 0)
    }

    fn answer(&self, verb: &str, id: &str, uid: u32) -> anyhow::Result<()> {
        let comment = format!("{verb} by the test");
        let args = ["approvals", verb, id, "--comment", &comment];
        let output = self.holdpoint(&args).uid(uid).output()?;
        ensure!(
            output.status.success(),
            "holdpoint approvals {verb} {id}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

/// The events that `holdpoint sessions show ID` tells, oldest first.
///
/// # Errors
/// When the daemon does not say.
pub fn events(world: &World, session: &str) -> anyhow::Result<Vec<Value>> {
    let answer = world.holdpoint_json(&["sessions", "show", session])?;
    let events = answer["events"].as_array();
    Ok(events
        .context("`holdpoint sessions show` printed no events")?
        .clone())
}

/// The events of one kind, of all sessions.
///
/// # Panics
/// When the daemon does not say.
#[must_use]
pub fn events_of_kind(world: &World, kind: &str) -> Vec<Value> {
    let sessions = sessions(world).expect("the daemon answers");
    let of = |session: &Value| events(world, session_id(session)).expect("the daemon answers");
    let all = sessions.iter().flat_map(of);
    all.filter(|it| it["event"] == kind).collect()
}

/// What `holdpoint sessions export` gives of a session: its events, one on a line.
///
/// # Panics
/// When the daemon does not say.
#[must_use]
pub fn export(world: &World, session: &str) -> String {
    let exported = world.holdpoint_text(&["sessions", "export", session, "--format", "ndjson"]);
    exported.expect("the daemon answers")
}

/// The sessions that `holdpoint sessions list` tells, newest first.
///
/// # Errors
/// When the daemon does not say.
pub fn sessions(world: &World) -> anyhow::Result<Vec<Value>> {
    let answer = world.holdpoint_json(&["sessions", "list"])?;
    let list = answer.as_array();
    Ok(list
        .context("`holdpoint sessions list` printed no list")?
        .clone())
}

/// A session's id.
#[must_use]
pub fn session_id(session: &Value) -> &str {
    session["id"].as_str().unwrap_or_default()
}

/// The id of the only session there was.
///
/// # Panics
/// When there were others, or the daemon does not say.
#[must_use]
pub fn only_session(world: &World) -> String {
    let all = sessions(world).expect("the daemon answers");
    assert_eq!(all.len(), 1, "{all:?}");
    session_id(&all[0]).to_owned()
}
