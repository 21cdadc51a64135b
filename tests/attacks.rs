//! What an agent that knows Holdpoint's source may try from inside a session.

use std::time::Duration;

use holdpoint_tests::{
    reviewer::{events, session_id, sessions},
    world::World,
};
use serde_json::Value;

const SQL: &str = "sqladmin.googleapis.com";
const STORAGE: &str = "storage.googleapis.com";
const COMPUTE: &str = "compute.googleapis.com";
const FIREWALLS: &str = "/compute/v1/projects/lab-project/global/firewalls";
const DATABASE: &str = "/sql/v1beta4/projects/lab-project/instances/staging-db";
const OPEN_FIREWALL: &str =
    r#"{"name":"x","allowed":[{"IPProtocol":"tcp"}],"sourceRanges":["0.0.0.0/0"]}"#;

/// One request, byte for byte.
struct Attempt {
    name: &'static str,
    host: &'static str,
    request: String,
}

fn attempt(
    name: &'static str,
    host: &'static str,
    line: &str,
    headers: &[&str],
    body: &str,
) -> Attempt {
    let mut request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n");
    for header in headers {
        request += header;
        request += "\r\n";
    }
    if !headers.iter().any(|header| header.contains("chunked")) {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    request += "\r\n";
    request += body;
    Attempt {
        name,
        host,
        request,
    }
}

/// Sends all of it in one session; what came back, in order.
fn send(world: &World, attempts: &[Attempt]) -> Vec<String> {
    let cases: Vec<_> = attempts.iter().map(|it| (it.host, &it.request)).collect();
    let agent = world.sandbox();
    let file = agent.file("cases.json", serde_json::to_vec(&cases).expect("JSON"));
    let ran = agent
        .python("raw.py", &[file.to_str().expect("a plain path")])
        .succeeded();
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran}"))
}

/// None of it may reach the stand-in.
fn assert_stopped(world: &World, attempts: &[Attempt]) {
    let answers = send(world, attempts);
    for (attempt, answer) in attempts.iter().zip(answers) {
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(
            matches!(status, "400" | "403" | "431"),
            "{}: {answer}",
            attempt.name
        );
    }
    let arrived = world.arrivals();
    assert!(arrived.is_empty(), "{arrived:#?}");
}

/// The daemon's resident memory, in MiB.
fn memory(world: &World) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.daemon_pid()));
    let status = status.expect("the daemon is there");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok());
    resident.expect("a number") / 1024
}

fn latest_events(world: &World) -> Vec<Value> {
    let all = sessions(world).expect("a list");
    let latest = all.first().expect("a session");
    events(world, session_id(latest)).expect("events")
}

#[test]
fn a_header_that_decides_is_not_taken_away_after_the_decision() {
    let world = World::start();
    let form = "Content-Type: application/x-www-form-urlencoded";
    let get = "X-HTTP-Method-Override: GET";
    let attempts = [
        attempt(
            "a list for policy, an insert for Google",
            COMPUTE,
            &format!("POST {FIREWALLS}"),
            &[
                get,
                form,
                "Connection: X-HTTP-Method-Override, Content-Type",
            ],
            OPEN_FIREWALL,
        ),
        attempt(
            "the same in two lines",
            COMPUTE,
            &format!("POST {FIREWALLS}"),
            &[
                get,
                form,
                "Connection: close, x-http-method-override",
                "connection:\tCONTENT-TYPE",
            ],
            OPEN_FIREWALL,
        ),
    ];
    assert_stopped(&world, &attempts);
}

#[test]
fn a_process_that_calls_all_its_memory_its_arguments_does_not_fill_the_daemons() {
    let world = World::start();
    let before = memory(&world);
    let ran = world.sandbox().python("long_arguments.py", &[]).succeeded();
    assert!(ran.says("connected"), "{ran}");
    let grown = memory(&world) - before;
    assert!(grown < 100, "{grown} MiB more");
    world.assert_daemon_works("a long command line");
}

#[test]
fn bodies_that_never_end_take_bounded_memory() {
    let world = World::start();
    let before = memory(&world);
    let ran = world
        .sandbox()
        .limit(Duration::from_secs(200))
        .python("many_bodies.py", &[])
        .succeeded();
    let grown = memory(&world) - before;
    assert!(grown < 400, "{grown} MiB more: {ran}");
    world.assert_daemon_works("many bodies");
}
