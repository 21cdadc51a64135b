//! Compute Engine, v1 (<https://cloud.google.com/compute/docs/reference/rest/v1>).

use std::{collections::BTreeSet, sync::Mutex};

use serde_json::{Value, json};

use super::{Answer, Call, PROJECT, PROJECT_NUMBER, ZONE};

const BASE: &str = "https://www.googleapis.com/compute/v1/projects";

/// The machines and firewalls there are.
pub struct Compute {
    instances: Mutex<BTreeSet<String>>,
    firewalls: Mutex<BTreeSet<String>>,
}

impl Default for Compute {
    fn default() -> Self {
        let names = ["vm1", "vm2", "vm3", "vm4", "vm5"];
        Self {
            instances: Mutex::new(names.map(str::to_owned).into()),
            firewalls: Mutex::new(["allow-ssh".to_owned()].into()),
        }
    }
}

impl Compute {
    /// Answers one call.
    pub fn answer(&self, call: &Call) -> Answer {
        let segments: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        let ["compute", "v1" | "beta", "projects", project, path @ ..] = segments.as_slice() else {
            return Answer::missing("the path");
        };
        let method = call.method.as_str();
        match (method, path) {
            ("GET", []) => Answer::json(&json!({
                "kind": "compute#project", "id": PROJECT_NUMBER.to_string(), "name": project,
                "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": "AAAA", "items": []},
                "selfLink": format!("{BASE}/{project}"),
            })),
            ("GET", ["aggregated", "instances"]) => {
                let here = json!({"instances": self.list()});
                let items = json!({ format!("zones/{ZONE}"): here });
                Answer::json(&json!({"kind": "compute#instanceAggregatedList", "items": items}))
            }
            (_, ["zones", zone, "instances", name @ ..]) => self.instances(call, zone, name),
            ("GET", ["zones"]) => list("zones", vec![zone(ZONE)]),
            ("GET", ["zones", name]) => Answer::json(&zone(name)),
            ("GET", ["zones", _, "machineTypes", name]) => {
                Answer::json(&json!({"kind": "compute#machineType", "name": name, "guestCpus": 2}))
            }
            (_, ["global", "firewalls", name @ ..]) => self.firewalls(call, name),
            ("GET", ["global", "images"]) => list("images", vec![image(project)]),
            ("GET", ["global", "images", "family", _] | ["global", "images", _]) => {
                Answer::json(&image(project))
            }
            ("POST", ["zones" | "regions", place, "operations", name, "wait"])
            | ("GET", ["zones" | "regions", place, "operations", name]) => {
                Answer::json(&operation(&format!("{}/{place}", path[0]), name))
            }
            ("POST", ["global", "operations", name, "wait"])
            | ("GET", ["global", "operations", name]) => Answer::json(&operation("global", name)),
            _ => Answer::missing("the method"),
        }
    }

    fn list(&self) -> Vec<Value> {
        let names = self.instances.lock().expect("no panic while locked");
        names.iter().map(|name| instance(ZONE, name)).collect()
    }

    fn instances(&self, call: &Call, zone: &str, path: &[&str]) -> Answer {
        let place = format!("zones/{zone}");
        let known = |name: &str| {
            self.instances
                .lock()
                .expect("no panic while locked")
                .contains(name)
        };
        match (call.method.as_str(), path) {
            ("GET", []) => list("instances", self.list()),
            ("POST", []) => {
                let name = call.json()["name"].as_str().unwrap_or("unnamed").to_owned();
                let operation = operation(&place, &format!("insert.instances.{name}"));
                self.instances
                    .lock()
                    .expect("no panic while locked")
                    .insert(name);
                Answer::json(&operation)
            }
            (_, [name, ..]) if !known(name) => Answer::missing(&format!(
                "The resource 'projects/{PROJECT}/{place}/instances/{name}'"
            )),
            ("GET", [name]) => Answer::json(&instance(zone, name)),
            ("DELETE", [name]) => {
                self.instances
                    .lock()
                    .expect("no panic while locked")
                    .remove(*name);
                Answer::json(&operation(&place, &format!("delete.instances.{name}")))
            }
            ("POST", [name, verb]) => {
                Answer::json(&operation(&place, &format!("{verb}.instances.{name}")))
            }
            _ => Answer::missing("the method"),
        }
    }

    fn firewalls(&self, call: &Call, path: &[&str]) -> Answer {
        let mut firewalls = self.firewalls.lock().expect("no panic while locked");
        match (call.method.as_str(), path) {
            ("GET", []) => list(
                "firewalls",
                firewalls.iter().map(|name| firewall(name)).collect(),
            ),
            ("POST", []) => {
                let name = call.json()["name"].as_str().unwrap_or("unnamed").to_owned();
                firewalls.insert(name.clone());
                Answer::json(&operation("global", &format!("insert.firewalls.{name}")))
            }
            (_, [name, ..]) if !firewalls.contains(*name) => Answer::missing(&format!(
                "The resource 'projects/{PROJECT}/global/firewalls/{name}'"
            )),
            ("GET", [name]) => Answer::json(&firewall(name)),
            ("DELETE", [name]) => {
                firewalls.remove(*name);
                Answer::json(&operation("global", &format!("delete.firewalls.{name}")))
            }
            _ => Answer::missing("the method"),
        }
    }
}

fn list(kind: &str, items: Vec<Value>) -> Answer {
    Answer::json(&json!({"kind": format!("compute#{kind}List"), "items": items}))
}

fn instance(zone: &str, name: &str) -> Value {
    json!({
        "kind": "compute#instance", "id": "1000000000000000001", "name": name, "status": "RUNNING",
        "zone": format!("{BASE}/{PROJECT}/zones/{zone}"),
        "machineType": format!("{BASE}/{PROJECT}/zones/{zone}/machineTypes/e2-medium"),
        "networkInterfaces": [{"name": "nic0", "networkIP": "10.0.0.2", "accessConfigs": []}],
        "scheduling": {"preemptible": false}, "disks": [],
        "selfLink": format!("{BASE}/{PROJECT}/zones/{zone}/instances/{name}"),
    })
}

fn firewall(name: &str) -> Value {
    json!({
        "kind": "compute#firewall", "id": "1000000000000000002", "name": name,
        "network": format!("{BASE}/{PROJECT}/global/networks/default"),
        "direction": "INGRESS", "priority": 1000, "sourceRanges": ["10.0.0.0/8"],
        "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}], "disabled": false,
        "selfLink": format!("{BASE}/{PROJECT}/global/firewalls/{name}"),
    })
}

fn zone(name: &str) -> Value {
    json!({
        "kind": "compute#zone", "id": "2000", "name": name, "status": "UP",
        "region": format!("{BASE}/{PROJECT}/regions/us-central1"),
        "selfLink": format!("{BASE}/{PROJECT}/zones/{name}"),
    })
}

fn image(project: &str) -> Value {
    json!({
        "kind": "compute#image", "id": "3000", "name": "debian-12", "family": "debian-12",
        "status": "READY", "diskSizeGb": "10", "creationTimestamp": "2026-01-01T00:00:00.000-00:00",
        "selfLink": format!("{BASE}/{project}/global/images/debian-12"),
    })
}

/// A finished operation whose name says what it was: `VERB.COLLECTION.NAME`.
fn operation(place: &str, name: &str) -> Value {
    let mut words = name.splitn(3, '.');
    let (verb, collection, target) = (
        words.next().unwrap_or(name),
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let mut operation = json!({
        "kind": "compute#operation", "id": "5000000000000000001", "name": name, "status": "DONE",
        "operationType": verb, "progress": 100, "user": super::ACCOUNT,
        "insertTime": "2026-01-01T00:00:00.000-00:00", "endTime": "2026-01-01T00:00:01.000-00:00",
        "targetLink": format!("{BASE}/{PROJECT}/{place}/{collection}/{target}"),
        "selfLink": format!("{BASE}/{PROJECT}/{place}/operations/{name}"),
    });
    if let Some(zone) = place.strip_prefix("zones/") {
        operation["zone"] = format!("{BASE}/{PROJECT}/zones/{zone}").into();
    }
    operation
}
