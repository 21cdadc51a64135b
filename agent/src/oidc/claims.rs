//! What a token says, and whether that counts here and now.

use std::collections::{BTreeMap, BTreeSet};

use holdpoint_core::identity::Principal;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::TokenError;

/// How far the clocks of this host and the issuer may be apart.
pub(super) const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// What an issuer's tokens have to say.
#[derive(Debug)]
pub(super) struct Rules {
    pub audience: String,
    pub groups_claim: Option<String>,
}

/// The claims of a token (RFC 7519, section 4.1). A registered claim that is there twice does not parse; how many there
/// are, and how long, is bounded by the length of the token.
#[derive(Deserialize)]
pub(super) struct Claims {
    pub iss: String,
    sub: String,
    aud: Audience,
    exp: Seconds,
    nbf: Option<Seconds>,
    iat: Option<Seconds>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn includes(&self, audience: &str) -> bool {
        match self {
            Self::One(one) => one == audience,
            Self::Several(several) => several.iter().any(|one| one == audience),
        }
    }
}

/// A NumericDate: seconds since the epoch, whole or not.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Seconds(Timestamp);

impl TryFrom<f64> for Seconds {
    type Error = jiff::Error;

    fn try_from(seconds: f64) -> Result<Self, jiff::Error> {
        let since_epoch = SignedDuration::try_from_secs_f64(seconds)?;
        Timestamp::from_duration(since_epoch).map(Self)
    }
}

impl Claims {
    pub(super) fn accept(self, rules: &Rules, now: Timestamp) -> Result<Principal, TokenError> {
        if !self.aud.includes(&rules.audience) {
            let expected = rules.audience.clone();
            return Err(TokenError::Audience { expected });
        }
        self.check_times(now)?;
        printable("sub", &self.sub)?;
        let groups = match &rules.groups_claim {
            Some(claim) => groups(&self.other, claim)?,
            None => BTreeSet::new(),
        };
        Ok(Principal {
            issuer: self.iss,
            subject: self.sub,
            groups,
            claims: scalars(self.other)?,
        })
    }

    pub(super) fn issued_and_expires(&self) -> (Option<Timestamp>, Timestamp) {
        (self.iat.map(|at| at.0), self.exp.0)
    }

    fn check_times(&self, now: Timestamp) -> Result<(), TokenError> {
        let expired = now.duration_since(self.exp.0);
        if expired >= LEEWAY {
            let since = expired.unsigned_abs();
            return Err(TokenError::Expired { since });
        }
        // A token from the future was not issued for this run, or a clock is wrong.
        for start in [self.nbf, self.iat].into_iter().flatten() {
            let early = start.0.duration_since(now);
            if early > LEEWAY {
                let until = early.unsigned_abs();
                return Err(TokenError::NotYetValid { until });
            }
        }
        Ok(())
    }
}

/// The groups in `claim`: the claim of that name, else the one at that path of names separated by dots
/// (`realm_access.roles`). A token without the claim is in no group.
fn groups(claims: &Map<String, Value>, claim: &str) -> Result<BTreeSet<String>, TokenError> {
    let wrong = || TokenError::claim(claim, "is neither a string nor an array of strings");
    let groups = match claims.get(claim).or_else(|| nested(claims, claim)) {
        None | Some(Value::Null) => BTreeSet::new(),
        Some(Value::String(group)) => BTreeSet::from([group.clone()]),
        Some(Value::Array(groups)) => groups
            .iter()
            .map(|group| group.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong()),
    };
    for group in &groups {
        printable(claim, group)?;
    }
    Ok(groups)
}

fn nested<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut names = path.split('.');
    let first = claims.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

/// Subjects and groups decide; nothing in them may look like something else on a reviewer's terminal.
fn printable(claim: &str, text: &str) -> Result<(), TokenError> {
    if text.is_empty() {
        Err(TokenError::claim(claim, "is empty"))
    } else if text.chars().any(char::is_control) {
        Err(TokenError::claim(claim, "contains control characters"))
    } else {
        Ok(())
    }
}

/// The scalar claims as text. One inside of another goes by the path to it, `google.compute_engine.zone`; a token in which
/// two claims come to the same name is refused, since rules would see only one of them.
fn scalars(claims: Map<String, Value>) -> Result<BTreeMap<String, String>, TokenError> {
    let mut found = BTreeMap::new();
    collect("", claims, &mut found)?;
    Ok(found)
}

fn collect(
    path: &str,
    claims: Map<String, Value>,
    found: &mut BTreeMap<String, String>,
) -> Result<(), TokenError> {
    for (name, value) in claims {
        let name = format!("{path}{name}");
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Null | Value::Array(_) => continue,
            Value::Object(inner) => {
                collect(&format!("{name}."), inner, found)?;
                continue;
            }
        };
        if found.contains_key(&name) {
            return Err(TokenError::claim(&name, "is there twice"));
        }
        found.insert(name, text);
    }
    Ok(())
}
