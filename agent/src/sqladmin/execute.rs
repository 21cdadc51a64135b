//! `instances.executeSql`: SQL in a request to Cloud SQL's API
//! (<https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/instances/executeSql>).
//!
//! Where the instance has a `[[connection]]`, names are looked up on it as for statements on a connection. Where that would not tell what runs, the request is opaque as a
//! whole, and its statements are what their text plainly says.

use std::{borrow::Cow, sync::Arc};

use holdpoint_core::{
    fields::Json,
    operation::{Operation, Trait},
    policy::Terms,
    recognise::Recognised,
    refusal::{Kind, Refusal, describe},
    sql::{self, Database, Effect, Resolved, facts::LocalNames},
};

use super::instance_of;
use crate::{daemon::House, postgres::Entry};

const EXECUTE: &str = "sql.instances.executeSql";
/// All that a body may say. What else it says may change what runs.
const FIELDS: [&str; 8] = [
    "application",
    "autoIamAuthn",
    "database",
    "partialResultMode",
    "passwordSecretVersion",
    "rowLimit",
    "sqlStatement",
    "user",
];

/// What the SQL in requests asks for: that of BigQuery's jobs, and that of `executeSql`.
pub struct Within {
    /// With the place of the request that each is in.
    pub operations: Vec<(usize, Operation)>,
    /// Where names may mean something else once it has run.
    pub changes: Changes,
}

/// What the SQL in requests asks for. A request whose SQL is looked up is opaque no longer: its statements are, where they are.
pub async fn within(house: &Arc<House>, recognised: &mut Recognised) -> Within {
    let mut within = Within {
        operations: recognised.within(),
        changes: Changes {
            house: house.clone(),
            is_any: false,
        },
    };
    for (at, request) in recognised.requests_mut().iter_mut().enumerate() {
        if request.action.id() == EXECUTE {
            let asked = Asked::of(house, request);
            let found = asked.look_up().await;
            if found.says_itself {
                request.traits.remove(&Trait::Opaque);
            }
            within.changes.is_any |= found.changes;
            let operations = found.operations.into_iter();
            within.operations.extend(operations.map(|it| (at, it)));
        }
    }
    within
}

/// Rows of an answer carry no names: masks that go by those do not find anything in it.
///
/// # Errors
/// When the answer to one of these would have to be masked.
pub fn refuse_rows_to_mask(
    requests: &[Operation],
    terms: &[Cow<'_, Terms>],
) -> Result<(), Refusal> {
    let mut each = requests.iter().zip(terms);
    let masked = each.find(|(it, terms)| it.action.id() == EXECUTE && !terms.masks.is_empty());
    let Some((request, _)) = masked else {
        return Ok(());
    };
    Err(Refusal::new(
        Kind::Denied,
        format!(
            "Holdpoint denied this: {} would answer with rows that policy wants masked (@mask), and in such an answer Holdpoint does not know which column is which. Nothing \
             was sent. Connect to the database itself instead, at its address or with a Cloud SQL connector: there the rows come, masked.",
            describe(request)
        ),
    ))
}

/// Makes stale what is known of databases: when it is sent, and again when it is over.
pub struct Changes {
    house: Arc<House>,
    is_any: bool,
}

impl Changes {
    /// What was known of databases may not be so any more.
    pub fn forget(&self) {
        if self.is_any {
            self.house.databases.lookups.changed();
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.forget();
    }
}

/// One request.
struct Asked<'a> {
    house: &'a House,
    request: &'a Operation,
    entry: Option<&'a Arc<Entry>>,
    text: &'a str,
    database: &'a str,
    user: &'a str,
}

/// What was found in it.
struct Found {
    operations: Vec<Operation>,
    /// What is opaque about the request is among the operations.
    says_itself: bool,
    changes: bool,
}

impl<'a> Asked<'a> {
    fn of(house: &'a House, request: &'a Operation) -> Self {
        let named = instance_of(&request.resource.name);
        let of = |(project, id)| house.databases.of_instance(project, id);
        Self {
            house,
            request,
            entry: named.and_then(of),
            text: field(request, "sqlStatement"),
            database: field(request, "database"),
            user: field(request, "user"),
        }
    }

    async fn look_up(&self) -> Found {
        let parsed = self.house.databases.parse(self.text);
        let at = self.place();
        let obstacle = self.obstacle().await;
        if let Some(why) = &obstacle {
            tracing::info!(
                resource = self.request.resource.name,
                why,
                "executeSql cannot be seen through"
            );
        }
        let mut local = LocalNames::default();
        let mut operations = Vec::new();
        let mut only_reads = true;
        for statement in &parsed.statements {
            let resolved = match (self.entry, &obstacle) {
                (Some(entry), None) => {
                    let lookups = &self.house.databases.lookups;
                    lookups
                        .resolve(entry, self.database, statement, &local)
                        .await
                }
                _ => Resolved::as_parsed(statement),
            };
            local.note(statement, &resolved);
            only_reads &= resolved.effects.iter().all(Effect::only_reads);
            let found = sql::operations(&at, self.text, statement, &resolved, &[], false);
            operations.extend(found);
        }
        for operation in &mut operations {
            operation.contains.clone_from(&self.request.contains);
            let project = &self.request.resource.project;
            operation.resource.project.clone_from(project);
        }
        Found {
            operations,
            says_itself: obstacle.is_none() && !parsed.statements.is_empty(),
            changes: !only_reads,
        }
    }

    fn place(&self) -> Database {
        let entry = self.entry;
        Database {
            entry: entry.map_or_else(|| "executeSql".into(), |entry| entry.name.clone()),
            instance: entry.and_then(|entry| entry.instance.as_deref().map(str::to_owned)),
            host: self.request.host.clone(),
            port: 443,
            database: self.database.to_owned(),
            user: self.user.to_owned(),
        }
    }

    /// Why a look at the server would not tell what the SQL does.
    async fn obstacle(&self) -> Option<String> {
        let Some(entry) = self.entry else {
            return Some(
                "its instance is in no [[connection]], so nothing tells what names mean there"
                    .to_owned(),
            );
        };
        let body = self.request.json.as_deref();
        if let Some(other) = body.and_then(|body| body.other_field(&FIELDS)) {
            return Some(format!("\"{other}\" in its body is not known to Holdpoint"));
        }
        if self.database.is_empty() || !entry.has_database(self.database) {
            return Some(format!(
                "the [[connection]] \"{}\" does not open the database \"{}\" to sessions",
                entry.name, self.database
            ));
        }
        // Where the server, the database or the user has standard_conforming_strings off, strings end elsewhere.
        if self.text.contains('\\') {
            return Some(
                "it has a backslash in it, which need not mean there what it means on a connection"
                    .to_owned(),
            );
        }
        let (own, asked) = match (entry.user().await, self.runs_as().await) {
            (Ok(own), Ok(asked)) => (own, asked),
            (Err(error), _) | (_, Err(error)) => {
                return Some(format!("it is not known who it would run as: {error:#}"));
            }
        };
        (*own != *asked).then(|| {
            format!(
                "it would run as \"{asked}\", and sessions are \"{own}\" at the [[connection]] \"{}\"",
                entry.name
            )
        })
    }

    async fn runs_as(&self) -> anyhow::Result<Cow<'_, str>> {
        if field(self.request, "autoIamAuthn") != "true" {
            return Ok(self.user.into());
        }
        let account = self.house.credentials.account().await?;
        Ok(Entry::user_of(&account).to_owned().into())
    }
}

fn field<'r>(request: &'r Operation, name: &str) -> &'r str {
    let body = request.json.as_deref();
    let value = body.and_then(|body| body.field(name));
    value.and_then(Json::text).unwrap_or_default()
}
