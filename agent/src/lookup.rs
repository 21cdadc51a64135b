//! What Holdpoint reads at Google by itself: what an operation is about, where policy asks for that, and what a person who is
//! asked should see of it.
//!
//! It is sent with the same credential as everything else, and nothing of it reaches a session but what a refusal says.

mod cache;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use holdpoint_core::{
    catalog::Catalog,
    change::{self, Needs, is_of_what_is_there},
    fields::Json,
    operation::Operation,
    recognise::Reading,
    target::{Attributes, Target},
};
use http::StatusCode;
use jiff::Timestamp;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout},
};

pub use self::cache::Changing;
use self::cache::{Age, Cache};
use crate::{
    approvals::{ChangeView, LookedUp, TargetView},
    credential::Credentials,
    metrics::{OwnRead, metrics},
    record::{Event, Record},
    session::SessionId,
    upstream::Upstream,
};

/// How long Google may take to answer, the fetching of a credential included.
const DEADLINE: Duration = Duration::from_secs(2);
/// Bytes of an answer at most.
const LIMIT: usize = 512 << 10;
/// How many may be under way at once; whoever is late for a place is not served.
const PLACES: usize = 32;

/// For whom something is read.
#[derive(Clone, Debug)]
pub struct Asking {
    /// The session.
    pub session: SessionId,
    /// The connection's number in the record.
    pub connection: u64,
}

/// Reads what operations are about. Cheap to clone.
#[derive(Clone)]
pub struct Lookups(Arc<Parts>);

struct Parts {
    upstream: Upstream,
    credentials: Arc<Credentials>,
    record: Record,
    places: Semaphore,
    cache: Arc<Mutex<Cache>>,
}

/// What was found: nothing, where there is no such thing.
type Found = Option<Arc<Json>>;

/// What was found, and when.
struct Seen {
    found: Found,
    at: Instant,
}

impl Lookups {
    /// Reads with these.
    #[must_use]
    pub fn new(upstream: Upstream, credentials: Arc<Credentials>, record: Record) -> Self {
        Self(Arc::new(Parts {
            upstream,
            credentials,
            record,
            places: Semaphore::new(PLACES),
            cache: Arc::default(),
        }))
    }

    /// What the operations are about, in their order.
    pub async fn targets(&self, asking: &Asking, operations: &[&Operation]) -> Vec<Target> {
        let readings = operations
            .iter()
            .map(|operation| Reading::of_target(Catalog::built_in(), operation))
            .collect();
        let found = self.read_all(asking, readings).await;
        found
            .into_iter()
            .map(|seen| target(&seen.map(|seen| seen.found)))
            .collect()
    }

    /// What a person who is asked should see of what is there, for each of the operations.
    pub async fn for_people(
        &self,
        asking: &Asking,
        operations: &[&Operation],
    ) -> Vec<Option<LookedUp>> {
        let catalog = Catalog::built_in();
        let (targets, policies): (Vec<_>, Vec<_>) = operations
            .iter()
            .map(|operation| {
                let target = match is_of_what_is_there(operation) {
                    // What people are asked about is not done beforehand.
                    true => Reading::of_target(catalog, operation).and_then(|it| {
                        match it.action() == operation.action.id() {
                            true => Err("it is what is asked for".to_owned()),
                            false => Ok(it),
                        }
                    }),
                    false => Err("it makes something new".to_owned()),
                };
                let policy = match Needs::of(operation) {
                    Some(Needs::Policy) => Reading::of_policy(catalog, operation),
                    _ => Err("nobody asks for it".to_owned()),
                };
                (target, policy)
            })
            .unzip();
        let can_be_read: Vec<_> = targets.iter().map(Result::is_ok).collect();
        let (targets, policies) = tokio::join!(
            self.read_all(asking, targets),
            self.read_all(asking, policies)
        );
        let seen = targets.into_iter().zip(policies).zip(can_be_read);
        let now = (Instant::now(), Timestamp::now());
        operations
            .iter()
            .zip(seen)
            .map(|(operation, ((target, policy), can_be_read))| {
                looked_up(
                    operation,
                    can_be_read.then_some(&target),
                    &target,
                    &policy,
                    now,
                )
            })
            .collect()
    }

    /// Something is being changed: what was read before is not relied on any more, nor what is read meanwhile.
    #[must_use]
    pub fn changing(&self) -> Changing {
        Changing::begin(&self.0.cache)
    }

    async fn read_all(
        &self,
        asking: &Asking,
        readings: Vec<Result<Reading, String>>,
    ) -> Vec<Result<Seen, String>> {
        let mut results: Vec<Result<Seen, String>> = Vec::with_capacity(readings.len());
        let mut tasks = JoinSet::new();
        for (place, reading) in readings.into_iter().enumerate() {
            results.push(Err("the look-up was broken off".to_owned()));
            match reading {
                Ok(reading) => {
                    let (lookups, asking) = (self.clone(), asking.clone());
                    tasks.spawn(async move { (place, lookups.read(&asking, &reading).await) });
                }
                Err(why) => results[place] = Err(why),
            }
        }
        while let Some(read) = tasks.join_next().await {
            if let Ok((place, result)) = read {
                results[place] = result;
            }
        }
        results
    }

    async fn read(&self, asking: &Asking, reading: &Reading) -> Result<Seen, String> {
        let (known, age) = self.cache().find(reading, Instant::now());
        if let Some((found, at)) = known {
            metrics().read_by_itself(OwnRead::Cached);
            return Ok(Seen { found, at });
        }
        let Ok(Ok(_place)) = timeout(DEADLINE, self.0.places.acquire()).await else {
            metrics().read_by_itself(OwnRead::Failed);
            return Err("too many look-ups are under way".to_owned());
        };
        let result = match timeout(DEADLINE, self.fetch(reading)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(format!(
                "Google did not answer within {} s",
                DEADLINE.as_secs()
            ))),
        };
        self.note(asking, reading, &result, age).await;
        result
            .map(|found| Seen { found, at: age.at })
            .map_err(|failure| failure.why)
    }

    async fn fetch(&self, reading: &Reading) -> Result<Found, Failure> {
        let authorization = self.0.credentials.authorization().await;
        let authorization = authorization.map_err(|error| Failure::new(error.to_string()))?;
        let answer = self
            .0
            .upstream
            .read(reading, authorization, LIMIT, DEADLINE)
            .await;
        let answer = answer.map_err(|error| Failure::new(error.to_string()))?;
        match answer.status() {
            StatusCode::OK => object(answer.body()).map(|json| Some(Arc::new(json))),
            // A policy there always is.
            StatusCode::NOT_FOUND if reading.action().ends_with("get") => Ok(None),
            status => Err(format!("Google answered {status} to {}", reading.action())),
        }
        .map_err(|why| Failure {
            why,
            status: Some(answer.status()),
        })
    }

    async fn note(
        &self,
        asking: &Asking,
        reading: &Reading,
        result: &Result<Found, Failure>,
        age: Age,
    ) {
        let (kind, status, problem) = match result {
            Ok(Some(_)) => (OwnRead::Read, Some(StatusCode::OK), None),
            Ok(None) => (OwnRead::Absent, Some(StatusCode::NOT_FOUND), None),
            Err(failure) => (OwnRead::Failed, failure.status, Some(failure.why.as_str())),
        };
        metrics().read_by_itself(kind);
        if let Ok(found) = result {
            self.cache().keep(reading, found.clone(), age);
        }
        let event = Event::LookUp {
            session: asking.session.clone(),
            connection: asking.connection,
            action: reading.action().into(),
            resource: reading.resource().into(),
            status: status.map(|status| status.as_u16()),
            problem: problem.map(Into::into),
        };
        if let Err(error) = self.0.record.append_unsynced(event).await {
            tracing::error!(%error, "a look-up is missing in the record");
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.0.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why something could not be read.
struct Failure {
    why: String,
    status: Option<StatusCode>,
}

impl Failure {
    fn new(why: String) -> Self {
        Self { why, status: None }
    }
}

/// `now` by both clocks.
fn looked_up(
    operation: &Operation,
    target_to_show: Option<&Result<Seen, String>>,
    target_read: &Result<Seen, String>,
    policy_read: &Result<Seen, String>,
    now: (Instant, Timestamp),
) -> Option<LookedUp> {
    let change = Needs::of(operation).map(|needs| {
        let read = match needs {
            Needs::Policy => policy_read,
            Needs::Target => target_read,
        };
        let before = read.as_ref().map_err(Clone::clone);
        ChangeView::from(before.and_then(|seen| change::of(operation, seen.found.as_deref())))
    });
    let before = target_read
        .as_ref()
        .ok()
        .and_then(|seen| seen.found.as_deref());
    let custom = || Some(ChangeView::Known(change::of_custom(operation, before?)?));
    let change = change.or_else(custom);
    let target_view = target_to_show.and_then(|read| {
        let found = read.as_ref().map(|seen| seen.found.clone());
        TargetView::of(&target(&found.map_err(Clone::clone)))
    });
    let read = [target_read, policy_read].into_iter().flatten();
    let age = read.map(|seen| now.0.duration_since(seen.at)).max();
    (change.is_some() || target_view.is_some()).then(|| LookedUp {
        read_at: now.1 - age.unwrap_or_default(),
        target: target_view,
        change,
        rows: None,
    })
}

fn target(found: &Result<Found, String>) -> Target {
    match found {
        Ok(Some(json)) => Target::Known(Box::new(Attributes::of(json))),
        Ok(None) => Target::Known(Box::new(Attributes::absent())),
        Err(why) => Target::Unknown(why.clone()),
    }
}

fn object(body: &[u8]) -> Result<Json, String> {
    match Json::parse(body) {
        Ok(json @ Json::Object(_)) => Ok(json),
        Ok(_) => Err("Google's answer is no JSON object".to_owned()),
        Err(why) => Err(format!("Google's answer cannot be read: {why}")),
    }
}
