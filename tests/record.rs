//! The record tells who, what, the decision, the approval and the outcome, and it is written before anything leaves.

use holdpoint_tests::{
    issuer::SUBJECT,
    reviewer::{events, milliseconds, only_session, session_id, sessions},
    world::{INSTANCES_URL, World},
};
use serde_json::Value;

const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";

fn kinds<'e>(events: &'e [Value], kind: &str) -> Vec<&'e Value> {
    events
        .iter()
        .filter(|event| event["event"] == kind)
        .collect()
}

fn only<'e>(events: &'e [Value], kind: &str) -> &'e Value {
    let found = kinds(events, kind);
    assert_eq!(found.len(), 1, "{kind}: {events:#?}");
    found[0]
}

/// Operations on Google; names that were resolved on the way are left out.
fn only_intent(events: &[Value]) -> &Value {
    let mut found = kinds(events, "intent");
    let is_net = |event: &Value| {
        event["operation"]["action"]
            .to_string()
            .starts_with("\"net.")
    };
    found.retain(|event| !is_net(event));
    assert_eq!(found.len(), 1, "intents: {events:#?}");
    found[0]
}

fn seq(event: &Value) -> u64 {
    event["seq"].as_u64().expect("events are numbered")
}

fn time(event: &Value) -> u64 {
    milliseconds(&event["time"]).expect("events have a time")
}

fn approved_delete(world: &World) -> Vec<Value> {
    let url = format!("https://sqladmin.googleapis.com{PROD_DB}");
    let running = world
        .sandbox()
        .start(&["curl", "-sS", "--fail", "-X", "DELETE", &url]);
    let hold = world.wait_for_hold("sql.instances.delete");
    world.approve(hold.id()).expect("root may approve");
    let _ = running.finish().succeeded();
    let session = only_session(world);
    events(world, &session).expect("events")
}

#[test]
fn intent_and_decision_come_before_the_request_leaves() {
    let world = World::start();
    let events = approved_delete(&world);
    let intent = only_intent(&events);
    let later = ["hold", "approval_decided", "approval_used", "outcome"];
    let mut numbers = vec![seq(only(&events, "session_opened")), seq(intent)];
    numbers.extend(later.iter().map(|kind| seq(only(&events, kind))));
    assert!(
        numbers.is_sorted(),
        "opened, intent, {later:?} are {numbers:?}"
    );

    assert_eq!(intent["operation"]["action"], "sql.instances.delete");
    assert_eq!(intent["decision"]["verdict"], "hold");
    let arrivals = world.arrivals();
    let delete = arrivals
        .iter()
        .find(|it| it.asks("DELETE", PROD_DB))
        .expect("it arrived");
    assert!(
        time(intent) <= delete.t,
        "the intent is younger than the request"
    );
    assert!(time(only(&events, "approval_decided")) <= delete.t);
    assert!(time(only(&events, "approval_used")) <= delete.t);
    assert_eq!(only(&events, "outcome")["status"], 200);
}

fn sha256sum(file: &str) -> String {
    let output = std::process::Command::new("sha256sum").arg(file).output();
    let output = output.expect("sha256sum is there");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split(' ').next().expect("a sum").to_owned()
}

#[test]
fn what_runs_and_the_policies_that_decide_are_told_by_their_digests() {
    let world = World::start();
    let script = world.dir().join("work");
    std::fs::write(
        &script,
        format!("#!/bin/sh\ncurl -sS --fail {INSTANCES_URL}\n"),
    )
    .expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("ours");
    let script = script.to_str().expect("a plain path");
    let _ = world.sandbox().run(&[script]).succeeded();
    let events = events(&world, &only_session(&world)).expect("events");
    let binaries = &only(&events, "session_opened")["binaries"];
    for (at, file) in [script, "/bin/sh"].into_iter().enumerate() {
        assert_eq!(binaries[at]["path"], file, "{binaries}");
        assert_eq!(binaries[at]["sha256"], sha256sum(file), "{binaries}");
    }
    assert_eq!(binaries.as_array().map(Vec::len), Some(2));

    let policy = &only_intent(&events)["decision"]["policies"][0];
    let file = policy["file"].as_str().expect("a file");
    let text = std::fs::read_to_string(world.dir().join("policies").join(file)).expect("there");
    let line = policy["line"].as_u64().expect("a line");
    let line = usize::try_from(line).expect("small");
    let rest: String = text.split_inclusive('\n').skip(line - 1).collect();
    let alone = world.dir().join("alone.cedar");
    let end = rest.find(';').expect("its end");
    std::fs::write(&alone, &rest[..=end]).expect("written");
    let alone = sha256sum(alone.to_str().expect("a plain path"));
    assert_eq!(policy["sha256"], alone, "{policy}");
}

#[test]
fn an_allowed_read_and_who_connected_are_told() {
    let world = World::start();
    let _ = world
        .sandbox()
        .run(&["curl", "-sS", "--fail", INSTANCES_URL])
        .succeeded();
    let events = events(&world, &only_session(&world)).expect("events");
    let opened = only(&events, "session_opened");
    assert_eq!(opened["principal"]["subject"], SUBJECT);
    assert_eq!(opened["user"]["uid"], 65534);
    let intent = only_intent(&events);
    assert_eq!(intent["operation"]["action"], "sql.instances.list");
    assert_eq!(intent["decision"]["verdict"], "allow");
    let connections = kinds(&events, "connection");
    let connection = connections
        .iter()
        .find(|it| it["name"] == "sqladmin.googleapis.com");
    let connection = connection.unwrap_or_else(|| panic!("no connection: {events:#?}"));
    let executable = connection["process"]["executable"]
        .as_str()
        .unwrap_or_default();
    assert!(executable.ends_with("curl"), "{connection}");
    let arguments = connection["process"]["arguments"].to_string();
    assert!(arguments.contains(INSTANCES_URL), "{connection}");
}

#[test]
fn a_denial_is_told_and_has_no_outcome() {
    let world = World::start();
    let url = "https://sqladmin.googleapis.com/sql/v1beta4/no/such/method";
    let ran = world
        .sandbox()
        .run(&["curl", "-sS", "-w", "%{http_code}", url])
        .succeeded();
    assert!(ran.stdout.ends_with("403"), "{ran}");
    let events = events(&world, &only_session(&world)).expect("events");
    let intent = only_intent(&events);
    assert_eq!(intent["operation"]["action"], "google.unknown");
    assert_eq!(intent["decision"]["verdict"], "deny");
    assert!(kinds(&events, "forwarded").is_empty(), "{events:#?}");
}

#[test]
fn the_record_survives_kill_9() {
    let world = World::start();
    let before = approved_delete(&world);
    world.kill_daemon().expect("it was running");
    world.start_daemon().expect("it starts again");
    let session = session_id(&sessions(&world).expect("a list")[0]).to_owned();
    let after = events(&world, &session).expect("events");
    assert_eq!(after[..before.len()], before[..]);
}

#[test]
fn no_credential_and_no_body_is_in_the_record() {
    let world = World::start();
    let body = r#"{"password":"hunter2-in-a-body"}"#;
    let url = format!("https://sqladmin.googleapis.com{PROD_DB}/users?name=postgres");
    let header = "Content-Type: application/json";
    let _ = world.sandbox().run(&[
        "curl", "-sS", "-m", "5", "-X", "PUT", "-H", header, "-d", body, &url,
    ]);
    let events = events(&world, &only_session(&world)).expect("events");
    let intent = only_intent(&events);
    assert!(!intent.to_string().contains("hunter2"), "{intent}");
    assert!(!format!("{events:?}").contains(world.google.token()));
}
