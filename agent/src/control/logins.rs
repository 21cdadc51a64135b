//! Reviewers who have shown who they are. The record knows them over a restart; a token is nowhere.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use holdpoint_core::{
    approval::{Reviewer, known_as},
    identity::Principal,
};
use jiff::Timestamp;

use nix::unistd::{Uid, User};

use crate::{
    config::{Config, Reviewers},
    oidc::{TokenError, Verifier},
    record::{Event, StoredEvent},
};

/// Users who are logged in at most; one login each. Full means no.
const MOST: usize = 1024;

/// Who the users of this host are, for as long as their tokens say so.
pub struct Logins {
    verifier: Verifier,
    owner_claims: Vec<String>,
    by_user: Mutex<HashMap<u32, Login>>,
}

/// A person, as an OIDC issuer knows them.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) person: Principal,
    pub(crate) until: Timestamp,
}

impl Logins {
    /// Nobody yet.
    ///
    /// # Errors
    /// When an issuer's settings cannot be used.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            verifier: Verifier::new(&config.reviewer_issuers, &config.upstream)?,
            owner_claims: config.approvals.owner_claims.clone(),
            by_user: Mutex::default(),
        })
    }

    /// Takes over who was logged in when the daemon before ended, as the record tells: the same user, for the rest of the time, if the
    /// issuer is still one of the configuration's.
    pub fn restore(&self, standing: &[StoredEvent], issuers: &[String]) {
        // Not by a clock that was set back.
        let latest = standing.iter().map(|event| event.time).max();
        let now = latest.unwrap_or_default().max(Timestamp::now());
        for event in standing {
            let Event::ReviewerLogin {
                user,
                principal,
                until,
            } = &event.event
            else {
                continue;
            };
            let is_the_same = matches!(User::from_uid(Uid::from_raw(user.uid)), Ok(Some(known)) if known.name == user.name);
            let person = principal.whole().filter(|it| issuers.contains(&it.issuer));
            if let Some(person) = person
                && is_the_same
                && now < *until
            {
                self.insert(
                    user.uid,
                    Login {
                        person,
                        until: *until,
                    },
                );
            }
        }
    }

    /// From now on the user is nobody but themselves. `false` when that is so already.
    pub(super) fn remove(&self, uid: u32) -> bool {
        let mut by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let login = by_user.remove(&uid);
        login.is_some_and(|login| Timestamp::now() < login.until)
    }

    /// Who the token speaks for. It counts once.
    pub(super) async fn verify(&self, token: &str) -> Result<Login, TokenError> {
        let (person, until) = self.verifier.verify_login(token).await?;
        Ok(Login { person, until })
    }

    /// Who the token speaks for, as long as it is valid.
    pub(crate) async fn person(&self, token: &str) -> Result<Principal, TokenError> {
        self.verifier.verify(token).await
    }

    /// The person as a reviewer who is not on this host; a user that the person is logged in as is known to be the same.
    pub(crate) fn reviewer<'a>(
        &self,
        person: &Principal,
        reviewers: impl IntoIterator<Item = (&'a String, &'a Reviewers)>,
    ) -> Reviewer {
        let name = |claim: &str| person.claims.get(claim);
        let called = name("email").or_else(|| name("preferred_username"));
        Reviewer {
            uid: self.user_of(person),
            name: match called {
                Some(called) => format!("{called} ({})", person.name()),
                None => person.name(),
            },
            groups: groups_of(person, reviewers),
            names: self.names(person),
        }
    }

    fn user_of(&self, person: &Principal) -> Option<u32> {
        let by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        let same = |login: &Login| now < login.until && login.person.name() == person.name();
        let found = by_user.iter().find(|(_, login)| same(login));
        found.map(|(uid, _)| *uid)
    }

    /// From now on the user answers as that person. `false` when there is no room.
    pub(super) fn insert(&self, uid: u32, login: Login) -> bool {
        let mut by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        by_user.retain(|_, login| now < login.until);
        let has_room = by_user.len() < MOST || by_user.contains_key(&uid);
        if has_room {
            by_user.insert(uid, login);
        }
        has_room
    }

    /// Who the user is at the moment.
    pub(crate) fn of(&self, uid: u32) -> Option<Login> {
        let by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let login = by_user.get(&uid)?;
        (Timestamp::now() < login.until).then(|| login.clone())
    }

    /// What a person is called, besides by the user's name.
    pub(super) fn names(&self, person: &Principal) -> BTreeSet<String> {
        let claims = self.owner_claims.iter();
        let claims = claims.filter_map(|claim| person.claims.get(claim).cloned());
        known_as(claims.chain([person.name()]))
    }
}

/// The reviewer groups that the person is in.
pub(crate) fn groups_of<'a>(
    person: &Principal,
    reviewers: impl IntoIterator<Item = (&'a String, &'a Reviewers)>,
) -> BTreeSet<String> {
    let reviewers = reviewers.into_iter();
    let are = |reviewers: &Reviewers| reviewers.oidc.iter().any(|it| it.include(person));
    reviewers
        .filter(|(_, reviewers)| are(reviewers))
        .map(|(group, _)| group.clone())
        .collect()
}
