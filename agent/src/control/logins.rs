//! Reviewers who have shown who they are. In memory: after a restart they show a new token.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use holdpoint_core::{approval::known_as, identity::Principal};
use jiff::Timestamp;

use crate::{
    config::{Config, Reviewers},
    oidc::{TokenError, Verifier},
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
pub(super) struct Login {
    pub(super) person: Principal,
    pub(super) until: Timestamp,
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

    /// Who the token speaks for. It counts once.
    pub(super) async fn verify(&self, token: &str) -> Result<Login, TokenError> {
        let (person, until) = self.verifier.verify_login(token).await?;
        Ok(Login { person, until })
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
    pub(super) fn of(&self, uid: u32) -> Option<Login> {
        let by_user = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
        let login = by_user.get(&uid)?;
        (Timestamp::now() < login.until).then(|| login.clone())
    }

    /// What a person is called, besides by the user's name.
    pub(super) fn names(&self, login: &Login) -> BTreeSet<String> {
        let person = &login.person;
        let claims = self.owner_claims.iter();
        let claims = claims.filter_map(|claim| person.claims.get(claim).cloned());
        known_as(claims.chain([person.name()]))
    }
}

/// The reviewer groups that the person is in.
pub(super) fn groups_of<'a>(
    login: &'a Login,
    reviewers: impl IntoIterator<Item = (&'a String, &'a Reviewers)>,
) -> BTreeSet<String> {
    let reviewers = reviewers.into_iter();
    let are = |reviewers: &Reviewers| reviewers.oidc.iter().any(|it| it.include(&login.person));
    reviewers
        .filter(|(_, reviewers)| are(reviewers))
        .map(|(group, _)| group.clone())
        .collect()
}
