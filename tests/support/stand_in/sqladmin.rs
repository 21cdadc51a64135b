//! Cloud SQL Admin, v1beta4 and v1 (<https://cloud.google.com/sql/docs/mysql/admin-api/rest>).

use std::{collections::BTreeSet, sync::Mutex};

use serde_json::{Value, json};

use super::{Answer, Call, PROJECT};

/// The instances there are.
pub struct SqlAdmin {
    instances: Mutex<BTreeSet<String>>,
}

impl Default for SqlAdmin {
    fn default() -> Self {
        let names = ["prod-db", "prod-db-2", "staging-db", "twin-db"];
        Self {
            instances: Mutex::new(names.map(str::to_owned).into()),
        }
    }
}

impl SqlAdmin {
    /// Answers one call.
    pub fn answer(&self, call: &Call) -> Answer {
        let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        let path = match segments.as_slice() {
            ["sql", "v1beta4" | "v1", "projects", PROJECT, path @ ..] => path,
            ["v1" | "v1beta4", "projects", PROJECT, path @ ..] => path,
            _ => return Answer::missing("the path"),
        };
        let mut instances = self.instances.lock().expect("no panic while locked");
        match (call.method.as_str(), path) {
            ("GET", ["instances"]) => {
                let items: Vec<Value> = instances.iter().map(|name| instance(name)).collect();
                Answer::json(&json!({"kind": "sql#instancesList", "items": items}))
            }
            ("POST", ["instances"]) => {
                let name = call.json()["name"].as_str().unwrap_or("unnamed").to_owned();
                instances.insert(name.clone());
                Answer::json(&operation("CREATE", &name))
            }
            ("GET", ["operations", name]) => {
                let (kind, target) = name.split_once('.').unwrap_or((name, ""));
                Answer::json(&operation(&kind.to_uppercase(), target))
            }
            (_, ["instances", name, ..]) if !instances.contains(*name) => {
                Answer::missing(&format!("The Cloud SQL instance {name}"))
            }
            ("GET", ["instances", name]) => Answer::json(&instance(name)),
            ("PATCH" | "PUT", ["instances", name]) => Answer::json(&operation("UPDATE", name)),
            ("DELETE", ["instances", name]) => {
                instances.remove(*name);
                Answer::json(&operation("DELETE", name))
            }
            (
                "GET",
                [
                    "instances",
                    _,
                    list @ ("databases" | "users" | "backupRuns"),
                ],
            ) => Answer::json(&json!({"kind": format!("sql#{list}List"), "items": []})),
            _ => Answer::missing("the method"),
        }
    }
}

fn instance(name: &str) -> Value {
    json!({
        "kind": "sql#instance", "name": name, "project": PROJECT, "state": "RUNNABLE",
        "databaseVersion": "POSTGRES_15", "region": "us-central1", "gceZone": "us-central1-a",
        "backendType": "SECOND_GEN", "instanceType": "CLOUD_SQL_INSTANCE",
        "connectionName": format!("{PROJECT}:us-central1:{name}"),
        "ipAddresses": [{"type": "PRIMARY", "ipAddress": "203.0.113.10"}],
        "settings": {"tier": "db-custom-2-7680", "settingsVersion": "1", "activationPolicy": "ALWAYS"},
        "selfLink": format!("https://sqladmin.googleapis.com/sql/v1beta4/projects/{PROJECT}/instances/{name}"),
    })
}

fn operation(kind: &str, target: &str) -> Value {
    let name = format!("{}.{target}", kind.to_lowercase());
    json!({
        "kind": "sql#operation", "name": name, "operationType": kind, "status": "DONE",
        "targetId": target, "targetProject": PROJECT, "user": super::ACCOUNT,
        "insertTime": "2026-01-01T00:00:00.000Z", "endTime": "2026-01-01T00:00:01.000Z",
        "targetLink": format!("https://sqladmin.googleapis.com/sql/v1beta4/projects/{PROJECT}/instances/{target}"),
        "selfLink": format!("https://sqladmin.googleapis.com/sql/v1beta4/projects/{PROJECT}/operations/{name}"),
    })
}
