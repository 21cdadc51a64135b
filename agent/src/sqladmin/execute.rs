//! `instances.executeSql`: SQL in a request to Cloud SQL's API
//! (<https://cloud.google.com/sql/docs/postgres/admin-api/rest/v1/instances/executeSql>).

use holdpoint_core::{
    fields::Json,
    operation::Operation,
    recognise::Recognised,
    sql::{self, Database, Resolved},
};

use super::instance_of;
use crate::{daemon::House, postgres::Entry};

const EXECUTE: &str = "sql.instances.executeSql";

/// What the SQL in a request asks for, with the place of the request that it is in: that of BigQuery's jobs, and that of `executeSql`.
pub fn within(house: &House, recognised: &Recognised) -> Vec<(usize, Operation)> {
    let mut within = recognised.within();
    for (at, request) in recognised.requests().iter().enumerate() {
        if request.action.id() == EXECUTE {
            let named = instance_of(&request.resource.name);
            let entry = named.and_then(|(project, id)| house.databases.of_instance(project, id));
            let operations = of_request(request, entry.map(|entry| &**entry));
            within.extend(operations.into_iter().map(|operation| (at, operation)));
        }
    }
    within
}

/// What its text plainly says, so that rules about statements hold here too. The request itself is opaque: nothing but a look at the server tells what
/// names mean there, and an instance without a `[[connection]]` need not even be PostgreSQL.
fn of_request(request: &Operation, entry: Option<&Entry>) -> Vec<Operation> {
    let field = |name| {
        let body = request.json.as_deref()?;
        body.field(name).and_then(Json::text)
    };
    let text = field("sqlStatement").unwrap_or_default();
    let at = Database {
        entry: entry.map_or_else(|| "executeSql".into(), |entry| entry.name.clone()),
        instance: entry.and_then(|entry| entry.instance.as_deref().map(str::to_owned)),
        host: request.host.clone(),
        port: 443,
        database: field("database").unwrap_or_default().to_owned(),
        user: field("user").unwrap_or_default().to_owned(),
    };
    let parsed = sql::parse(text);
    let each = parsed.statements.iter().flat_map(|statement| {
        let resolved = Resolved::as_parsed(statement);
        sql::operations(&at, text, statement, &resolved, &[], false)
    });
    let mut operations: Vec<_> = each.collect();
    for operation in &mut operations {
        operation.contains.clone_from(&request.contains);
        operation
            .resource
            .project
            .clone_from(&request.resource.project);
    }
    operations
}
