//! Sessions: one agent run each.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, RwLock},
};

use holdpoint_core::identity::Principal;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::service::Standing;

/// The name of a session: `s-` and 10 characters. Unique on this host for ever, not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(Arc<str>);

impl SessionId {
    /// A new, random id.
    ///
    /// # Panics
    /// When the kernel gives no random bytes.
    #[must_use]
    pub fn random() -> Self {
        Self(random_id("s-").into())
    }

    /// The session whose cgroup has this name.
    #[must_use]
    pub fn from_cgroup(name: &str) -> Self {
        Self(name.into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `prefix` and 10 random characters that are easy to read aloud and to type (50 bits; Crockford's base 32 in lower case).
pub(crate) fn random_id(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut bytes = [0_u8; 10];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    let tail = bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 31)]));
    prefix.chars().chain(tail).collect()
}

/// The Unix user who opened a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// The name in the host's user database; the number where there is none.
    pub name: String,
}

/// A live session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// Who it acts for.
    pub principal: Principal,
    /// The caller of `holdpoint run`.
    pub user: User,
    /// The command line it was opened for, masked.
    pub command: Vec<String>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// The id of its cgroup: what the BPF programs know it by. A job shares it with the service in whose sandbox it runs.
    pub cgroup_id: u64,
    /// How it came about.
    #[serde(default)]
    pub standing: Standing,
}

/// The live sessions of this host.
#[derive(Debug, Default)]
pub struct Sessions(RwLock<HashMap<SessionId, Arc<Session>>>);

impl Sessions {
    /// Adds a session.
    pub fn insert(&self, session: Arc<Session>) {
        self.0
            .write()
            .expect("no panic while locked")
            .insert(session.id.clone(), session);
    }

    /// Takes a session out.
    pub fn remove(&self, id: &SessionId) -> Option<Arc<Session>> {
        self.0.write().expect("no panic while locked").remove(id)
    }

    /// The session that processes of the cgroup with this id act for: where a job shares it with its service, the job's, which was
    /// opened later.
    #[must_use]
    pub fn of_cgroup(&self, cgroup_id: u64) -> Option<SessionId> {
        let sessions = self.0.read().expect("no panic while locked");
        let of_it = sessions.values().filter(|it| it.cgroup_id == cgroup_id);
        Some(of_it.max_by_key(|it| it.opened_at)?.id.clone())
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.read().expect("no panic while locked").len()
    }

    /// The sessions, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = self
            .0
            .read()
            .expect("no panic while locked")
            .values()
            .cloned()
            .collect();
        all.sort_by_key(|session| session.opened_at);
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn session(cgroup_id: u64, opened_at: Timestamp) -> Arc<Session> {
        Arc::new(Session {
            id: SessionId::random(),
            principal: Principal {
                issuer: "https://issuer.example".into(),
                subject: "job".into(),
                groups: [].into(),
                claims: [].into(),
            },
            user: User {
                uid: 1,
                gid: 1,
                name: "ci".into(),
            },
            command: Vec::new(),
            opened_at,
            cgroup_id,
            standing: Standing::Token,
        })
    }

    #[test]
    fn a_cgroup_is_the_jobs_while_one_is_bound() {
        let sessions = Sessions::default();
        let start = Timestamp::now();
        let service = session(7, start);
        sessions.insert(service.clone());
        sessions.insert(session(8, start + Duration::from_secs(60)));
        for round in 1..20 {
            let job = session(7, start + Duration::from_secs(round));
            sessions.insert(job.clone());
            assert_eq!(sessions.of_cgroup(7), Some(job.id.clone()));
            sessions.remove(&job.id);
            assert_eq!(sessions.of_cgroup(7), Some(service.id.clone()));
        }
        assert_eq!(sessions.of_cgroup(9), None);
    }
}
