//! The services that clients ask a question or two.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{ACCOUNT, Answer, Call, PROJECT, PROJECT_NUMBER, SECRET};

/// Answers one call, by host and path.
pub fn answer(call: &Call) -> Answer {
    let service = call.host.split('.').next().unwrap_or_default();
    let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
    let value = match (service, call.method.as_str(), segments.as_slice()) {
        ("iam", method, ["v1", "projects", _, "serviceAccounts", path @ ..]) => {
            service_accounts(method, path)
        }
        ("secretmanager", "GET", ["v1", "projects", PROJECT, "secrets"]) => {
            Some(json!({"secrets": [{"name": format!("projects/{PROJECT_NUMBER}/secrets/s1")}]}))
        }
        (
            "secretmanager",
            "GET",
            [
                "v1",
                "projects",
                PROJECT,
                "secrets",
                name,
                "versions",
                "latest:access" | "1:access",
            ],
        ) => Some(secret(name)),
        ("serviceusage", "GET", ["v1", "projects", _, "services", name]) => Some(json!({
            "name": format!("projects/{PROJECT_NUMBER}/services/{name}"), "state": "ENABLED",
        })),
        ("cloudresourcemanager", "GET", [_, "projects", PROJECT]) => Some(json!({
            "projectId": PROJECT, "projectNumber": PROJECT_NUMBER.to_string(), "name": PROJECT,
            "lifecycleState": "ACTIVE",
        })),
        (
            "iamcredentials",
            "GET",
            [
                "v1",
                "projects",
                "-",
                "serviceAccounts",
                _,
                "allowedLocations",
            ],
        ) => Some(json!({"locations": ["global"], "encodedLocations": "0x0"})),
        ("iamcredentials", "POST", ["v1", "projects", "-", "serviceAccounts", _]) => Some(json!({
            "accessToken": "ya29.impersonated", "expireTime": "2099-01-01T00:00:00Z",
        })),
        (
            "us-central1-run",
            method,
            [
                "apis",
                "serving.knative.dev",
                "v1",
                "namespaces",
                _,
                path @ ..,
            ],
        ) => run(method, path),
        ("pubsub", "GET", ["v1", "projects", PROJECT, "topics"]) => {
            Some(json!({"topics": [{"name": format!("projects/{PROJECT}/topics/t1")}]}))
        }
        ("bigquery", "GET", ["bigquery", "v2", "projects", PROJECT, "datasets"]) => {
            Some(json!({"kind": "bigquery#datasetList", "datasets": [dataset("ds1")]}))
        }
        _ => None,
    };
    value.map_or_else(
        || Answer::missing("the method"),
        |value| Answer::json(&value),
    )
}

fn service_accounts(method: &str, path: &[&str]) -> Option<Value> {
    let account = |email: &str| {
        json!({
            "name": format!("projects/{PROJECT}/serviceAccounts/{email}"), "email": email,
            "projectId": PROJECT, "uniqueId": "100000000000000000000", "displayName": "agent",
        })
    };
    match (method, path) {
        ("GET", []) => Some(json!({"accounts": [account(ACCOUNT)]})),
        ("POST", []) => Some(account("new@lab-project.iam.gserviceaccount.com")),
        ("POST", [name]) if name.ends_with(":getIamPolicy") => Some(json!({"etag": "ACAB"})),
        ("POST", [name]) if name.ends_with(":setIamPolicy") => Some(json!({"etag": "ACAC"})),
        ("GET", [email]) => Some(account(email)),
        _ => None,
    }
}

fn secret(name: &str) -> Value {
    json!({
        "name": format!("projects/{PROJECT_NUMBER}/secrets/{name}/versions/1"),
        "payload": {
            "data": BASE64_STANDARD.encode(SECRET),
            "dataCrc32c": crc32c::crc32c(SECRET.as_bytes()).to_string(),
        },
    })
}

fn run(method: &str, path: &[&str]) -> Option<Value> {
    let service = |name: &str| {
        json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Service",
            "metadata": {"name": name, "namespace": PROJECT_NUMBER.to_string(),
                "labels": {"cloud.googleapis.com/location": "us-central1"}},
            "status": {"url": format!("https://{name}.a.run.app"),
                "conditions": [{"type": "Ready", "status": "True"}]},
        })
    };
    match (method, path) {
        ("GET", ["services"]) => Some(json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "ServiceList", "items": [service("svc1")],
        })),
        ("GET", ["services", name]) => Some(service(name)),
        ("DELETE", ["services", _]) => Some(json!({"kind": "Status", "status": "Success"})),
        _ => None,
    }
}

fn dataset(name: &str) -> Value {
    json!({
        "kind": "bigquery#dataset", "id": format!("{PROJECT}:{name}"), "location": "US",
        "datasetReference": {"datasetId": name, "projectId": PROJECT},
    })
}
