//! What a daemon leaves for the one after it, and how that takes over the sessions it finds.
//!
//! A session outlives its daemon without a network: nothing listens in it any more, so every connect is refused. Its shim keeps
//! what the daemon knew of it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    binding::{Room, Sandbox},
    daemon::House,
    dns::AddressBook,
    kernel::SessionRules,
    launch::{self, Found, Network, Place, Site},
    metadata::MetadataView,
    opening,
    record::{Event, Record},
    session::{Session, SessionId},
};

/// The version of [`Legacy`]. What an older daemon has left is to be understood for as long as sessions may last.
const VERSION: u32 = 1;

/// What a daemon knows of a session and the next one has to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Legacy {
    version: u32,
    session: Session,
    #[serde(default)]
    place: Place,
    metadata: MetadataView,
    /// When its time is up.
    ends_at: Timestamp,
}

impl Legacy {
    /// Of a session that is being opened, and may last for so long.
    #[must_use]
    pub fn new(
        session: &Session,
        place: Place,
        metadata: &MetadataView,
        lasting: Duration,
    ) -> Self {
        let ends_at = session.opened_at.saturating_add(lasting);
        Self {
            version: VERSION,
            session: session.clone(),
            place,
            metadata: metadata.clone(),
            ends_at: ends_at.unwrap_or(Timestamp::MAX),
        }
    }

    /// How long the session may last from now on, and not longer than `most`, whatever the clock was set to meanwhile.
    #[must_use]
    pub fn remaining(&self, most: Duration) -> Duration {
        let remaining = self.ends_at.duration_since(Timestamp::now());
        Duration::try_from(remaining).unwrap_or_default().min(most)
    }

    /// As text, for the shim to keep.
    ///
    /// # Errors
    /// Never, in fact: all of it can be JSON.
    pub fn text(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    fn read(state: &str, id: &SessionId, cgroup_id: u64) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let unknown = "what the daemon before has left of it is not understood";
        let Versioned { version } = serde_json::from_str(state).context(unknown)?;
        anyhow::ensure!(
            version == VERSION,
            "the daemon before has left version {version} of its state, and this one reads version {VERSION}"
        );
        let legacy: Self = serde_json::from_str(state).context(unknown)?;
        anyhow::ensure!(
            legacy.session.id == *id && legacy.session.cgroup_id == cgroup_id,
            "its shim speaks of another session"
        );
        Ok(legacy)
    }
}

/// A session of the daemon before. Nothing listens in it yet.
pub struct Adopted {
    found: Found,
    legacy: Legacy,
}

impl Adopted {
    /// What the kernel has to know of it.
    #[must_use]
    pub fn for_kernel(&self) -> (u64, SessionRules) {
        (self.found.cgroup_id, self.legacy.place.rules())
    }
}

/// Takes over the sessions that go on, ends what is left of others, and makes the record complete. What the BPF programs are then
/// told is what they have to know: there is no other session.
///
/// # Errors
/// When something is left that does not end, or the record fails.
pub async fn take_over(site: &Site, record: &Record) -> anyhow::Result<Vec<Adopted>> {
    let mut adopted = Vec::new();
    for found in launch::find(site).await? {
        match Legacy::read(&found.state, &found.id, found.cgroup_id) {
            Ok(legacy) => adopted.push(Adopted { found, legacy }),
            Err(error) => {
                tracing::error!(session = %found.id, "not adopted: {error:#}");
                close(record, found.id.clone(), &format!("{error:#}")).await?;
                found.into_running().kill().await;
            }
        }
    }
    let known: HashSet<_> = adopted.iter().map(|it| it.found.id.clone()).collect();
    for cgroup in launch::sessions(&site.agents_cgroup)? {
        let name = cgroup.file_name().unwrap_or_default().to_string_lossy();
        let id = SessionId::from_cgroup(&name);
        if known.contains(&id) {
            continue;
        }
        launch::clear(&site.launcher, &cgroup).await?;
        close(
            record,
            id,
            "its shim died, and what was left of it was ended when the daemon was started again",
        )
        .await?;
    }
    if let Err(error) = launch::sweep(&site.launcher, &site.agents_cgroup).await {
        // It costs space, no more.
        tracing::warn!("{error:#}");
    }
    let open = record.sessions(usize::MAX, |session| session.closed_at.is_none());
    for session in open {
        if !known.contains(&session.id) {
            close(record, session.id, "it ended while no daemon ran").await?;
        }
    }
    Ok(adopted)
}

/// Records the end of a session that was opened and not closed.
async fn close(record: &Record, session: SessionId, reason: &str) -> anyhow::Result<()> {
    if record
        .session(&session)
        .is_some_and(|session| session.closed_at.is_none())
    {
        let reason = reason.into();
        record
            .append(Event::SessionClosed { session, reason })
            .await?;
    }
    Ok(())
}

/// Serves an adopted session to its end, or the daemon's.
pub async fn serve(house: Arc<House>, Adopted { found, legacy }: Adopted) {
    let remaining = legacy.remaining(opening::lasting(&house, &legacy.session));
    let mut session = legacy.session;
    // As configured now. A job that was bound is not any more.
    let renewed = house.services.renew(&session.standing);
    session.standing = renewed.clone().unwrap_or_default();
    let session = Arc::new(session);
    let book = Arc::new(AddressBook::after(found.times));
    let room = Room::new(&house, session.clone(), book, legacy.metadata);
    let listeners = match renewed {
        Some(_) => announce(&house, &found, &session, legacy.place).await,
        None => Err(anyhow::anyhow!(
            "its [[service]] is not configured any more"
        )),
    };
    let running = found.into_running();
    match listeners {
        Ok(listeners) => {
            let sandbox = Arc::new(Sandbox::new(room));
            opening::live(&house, sandbox, listeners, running, remaining).await;
        }
        Err(error) => {
            tracing::error!(session = %session.id, "not adopted: {error:#}");
            running.kill().await;
            opening::end(
                &house,
                &session,
                &format!("it could not be adopted: {error:#}"),
            )
            .await;
        }
    }
}

/// Makes it known to the record and to the people; the kernel knows it already. Then, not before, something listens in it.
async fn announce(
    house: &House,
    found: &Found,
    session: &Arc<Session>,
    place: Place,
) -> anyhow::Result<launch::Listeners> {
    let adopted = Event::SessionAdopted {
        session: session.id.clone(),
        cgroup_id: session.cgroup_id,
    };
    house.record.append(adopted).await?;
    house.sessions.insert(session.clone());
    let listeners = found.listen().await?;
    if place.network == Network::Host {
        opening::own_listeners(house, session.cgroup_id, &listeners)?;
    }
    tracing::info!(session = %session.id, principal = session.principal.name(), user = session.user.name, "session adopted");
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use holdpoint_core::identity::Principal;

    use super::*;
    use crate::{service::Standing, session::User};

    fn session() -> Session {
        Session {
            id: SessionId::random(),
            principal: Principal {
                issuer: "https://issuer.example".into(),
                subject: "repo:\"x\"\n".into(),
                groups: ["a".to_owned()].into(),
                claims: [("ref".to_owned(), "main".to_owned())].into(),
            },
            user: User {
                uid: 1,
                gid: 2,
                name: "agent".into(),
            },
            command: vec!["sh".into(), "-c".into(), "echo \u{fffd}".into()],
            opened_at: Timestamp::now(),
            cgroup_id: u64::MAX,
            standing: Standing::Token,
        }
    }

    fn metadata() -> MetadataView {
        MetadataView {
            project: "p".into(),
            numeric_project: None,
            account: "a@b".into(),
            scopes: vec!["s".into()],
            zone: None,
            universe_domain: "googleapis.com".into(),
            instance_name: "i".into(),
            instance_id: 0,
            placeholder: "ya29.x".into(),
        }
    }

    #[test]
    fn what_is_left_is_understood() {
        let (session, metadata) = (session(), metadata());
        let text = Legacy::new(
            &session,
            Place::default(),
            &metadata,
            Duration::from_secs(9),
        )
        .text()
        .expect("JSON");
        let legacy = Legacy::read(&text, &session.id, session.cgroup_id).expect("understood");
        assert_eq!(legacy.session, session);
        assert_eq!(legacy.metadata, metadata);
    }

    #[test]
    fn other_sessions_and_versions_and_garbage_are_refused() {
        let session = session();
        let place = Place::default();
        let legacy = Legacy::new(&session, place, &metadata(), Duration::ZERO);
        let text = legacy.text().expect("JSON");
        let read = |text: &str, id: &SessionId, cgroup| Legacy::read(text, id, cgroup).is_err();
        assert!(read(&text, &SessionId::random(), session.cgroup_id));
        assert!(read(&text, &session.id, 7));
        for text in ["", "{}", "null", "{\"version\":1}", &text[..text.len() - 1]] {
            assert!(read(text, &session.id, session.cgroup_id), "{text}");
        }
        let newer = text.replacen("\"version\":1", "\"version\":2", 1);
        let error = Legacy::read(&newer, &session.id, session.cgroup_id).expect_err("newer");
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    #[test]
    fn a_session_lasts_no_longer_for_having_been_adopted() {
        let mut session = session();
        let hour = Duration::from_secs(3600);
        let fresh = Legacy::new(&session, Place::default(), &metadata(), hour).remaining(hour);
        assert!(fresh <= hour && fresh > hour / 2);
        session.opened_at = Timestamp::now() - hour * 2;
        assert_eq!(
            Legacy::new(&session, Place::default(), &metadata(), hour).remaining(hour),
            Duration::ZERO
        );
        // The clock was set back.
        session.opened_at = Timestamp::now() + hour * 24;
        assert_eq!(
            Legacy::new(&session, Place::default(), &metadata(), hour).remaining(hour),
            hour
        );
        let forever = Duration::from_secs(u64::MAX);
        assert_eq!(
            Legacy::new(&session, Place::default(), &metadata(), forever).remaining(hour),
            hour
        );
    }
}
