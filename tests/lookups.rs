//! Rules may ask what an operation is about, and reviewers see what it changes; what cannot be looked up lets nothing pass.

use std::time::{Duration, Instant};

use holdpoint_tests::{
    reviewer::{Approval, events},
    sandbox::{Ran, Sandbox},
    world::{Settings, World},
};
use serde_json::{Value, json};

const VM: &str = "/compute/v1/projects/lab-project/zones/us-central1-a/instances";
const DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";
const BUCKET_POLICY: &str = "/storage/v1/b/lab-bucket/iam";

const POLICIES: &str = r#"
@id("ephemeral-only")
@reason("only machines with the network tag ephemeral may go")
forbid(principal, action == Action::"compute.instances.delete", resource)
unless { context.target.tags.contains("ephemeral") };

@id("protected")
forbid(principal, action == Action::"sql.instances.delete", resource)
when { context.target.deletion_protection || context.target.labels.contains("env=prod") };

@id("hold-patches")
@hold("reviewers")
forbid(principal, action in [Action::"sql.instances.patch", Action::"sql.instances.update"], resource);
"#;

fn world() -> World {
    let settings = Settings {
        extra_policies: POLICIES.to_owned(),
        ..Settings::default()
    };
    World::with(&settings).unwrap_or_else(|error| panic!("{error:#}"))
}

fn url(path: &str) -> String {
    let host = path.trim_start_matches('/').split('/').next();
    let host = match host {
        Some("compute") => "compute.googleapis.com",
        Some("sql") => "sqladmin.googleapis.com",
        _ => "storage.googleapis.com",
    };
    format!("https://{host}{path}")
}

fn vm(name: &str) -> String {
    format!("{VM}/{name}")
}

fn tagged(world: &World, name: &str, tags: &[&str]) {
    let resource = json!({"name": name, "machineType": "e2-medium", "tags": {"items": tags}});
    let script = world.google.script();
    script.say("GET", &vm(name), 200, &resource.to_string());
}

fn curl(agent: &Sandbox<'_>, method: &str, path: &str, body: Option<&str>) -> Ran {
    let url = url(path);
    let mut command = vec![
        "curl",
        "-sS",
        "-m",
        "30",
        "-w",
        "\n%{http_code}",
        "-X",
        method,
    ];
    if let Some(body) = body {
        command.extend(["-H", "content-type: application/json", "-d", body]);
    }
    command.push(&url);
    agent.run(&command).succeeded()
}

/// Asks for something that is held, and denies it once it is; the reviewer's view of it.
fn held(world: &World, method: &str, path: &str, body: &str) -> (Value, String) {
    let url = url(path);
    let agent = world.sandbox();
    let mut command = vec!["curl", "-sS", "-m", "60", "-X", method, &url];
    if !body.is_empty() {
        command.extend(["-H", "content-type: application/json", "-d", body]);
    }
    let running = agent.start(&command);
    let hold = world.wait_for_hold(path.trim_start_matches('/'));
    let seen = shown(world, &hold);
    world.deny(hold.id()).expect("root may deny");
    let _ = running.finish();
    seen
}

fn shown(world: &World, hold: &Approval) -> (Value, String) {
    let detail = world.holdpoint_json(&["approvals", "show", hold.id()]);
    let output = world.holdpoint(&["approvals", "show", hold.id()]).output();
    let text = String::from_utf8(output.expect("it runs").stdout).expect("text");
    (detail.expect("the daemon shows it")["change"].clone(), text)
}

#[test]
fn a_rule_about_the_target_decides() {
    let world = world();
    tagged(&world, "vm1", &["ephemeral", "web"]);
    tagged(&world, "vm2", &["web"]);
    let agent = world.sandbox();
    let denied = curl(&agent, "DELETE", &vm("vm2"), None);
    assert!(
        denied.says("only machines with the network tag ephemeral"),
        "{denied}"
    );
    assert_eq!(world.count("DELETE", &vm("vm2")), 0);

    let url = url(&vm("vm1"));
    let running = agent.start(&["curl", "-sS", "--fail", "-X", "DELETE", &url]);
    let hold = world.wait_for_hold("compute.instances.delete");
    let (change, text) = shown(&world, &hold);
    assert_eq!(change["state"], "known");
    assert!(text.contains("- machineType: e2-medium"), "{text}");
    assert!(text.contains("| tags: ephemeral, web"), "{text}");
    let detail = world.holdpoint_json(&["approvals", "show", hold.id()]);
    let detail = detail.expect("the daemon shows it");
    assert_eq!(detail["target"]["tags"], json!(["ephemeral", "web"]));
    assert_eq!(detail["target"]["deletion_protection"], false);
    assert!(detail["read_at"].is_string(), "{detail:#}");
    world.approve(hold.id()).expect("root may approve");
    let _ = running.finish().succeeded();
    assert_eq!(world.count("DELETE", &vm("vm1")), 1);

    let session = hold.session().expect("a session");
    let events = events(&world, session).expect("events");
    let of = |kind: &str| -> Vec<&Value> {
        events
            .iter()
            .filter(|event| event["event"] == kind)
            .collect()
    };
    let look_ups = of("look_up");
    assert!(!look_ups.is_empty(), "{events:#?}");
    assert_eq!(look_ups[0]["action"], "compute.instances.get");
    let mut intents = of("intent");
    intents.retain(|intent| {
        !intent["operation"]["action"]
            .to_string()
            .starts_with("\"net.")
    });
    assert_eq!(intents.len(), 1, "a look-up is no operation of the agent's");
    let target = &intents[0]["operation"]["target"]["known"];
    assert_eq!(target["tags"], json!(["ephemeral", "web"]));
}

#[test]
fn what_cannot_be_looked_up_is_denied() {
    let world = world();
    let agent = world.sandbox();
    let script = world.google.script();
    let ephemeral = r#"{"name":"vm1","tags":{"items":["ephemeral"]}}"#;
    let late = Duration::from_secs(4);
    for (problem, after, status, body) in [
        ("403", Duration::ZERO, 403, "{}"),
        ("500", Duration::ZERO, 500, "oh"),
        ("302", Duration::ZERO, 302, ""),
        ("cannot be read", Duration::ZERO, 200, "<html>"),
        ("cannot be read", Duration::ZERO, 200, ""),
        ("no JSON object", Duration::ZERO, 200, "[]"),
        (
            "named twice",
            Duration::ZERO,
            200,
            r#"{"tags":{},"tags":{"items":["ephemeral"]}}"#,
        ),
        ("within 2 s", late, 200, ephemeral),
    ] {
        script.say_after(after, "GET", &vm("vm1"), status, body);
        let started = Instant::now();
        let denied = curl(&agent, "DELETE", &vm("vm1"), None);
        assert!(denied.stdout.ends_with("\n403"), "{problem}: {denied}");
        assert!(denied.says("could not be looked up"), "{problem}: {denied}");
        assert!(denied.says(problem), "{problem}: {denied}");
        assert!(denied.says("ephemeral-only"), "{problem}: {denied}");
        assert!(started.elapsed() < Duration::from_secs(15), "{problem}");
    }
    // What is not there has no tag, and needs no protection.
    script.say("GET", &vm("vm1"), 404, "{}");
    let denied = curl(&agent, "DELETE", &vm("vm1"), None);
    assert!(
        denied.says("only machines with the network tag ephemeral"),
        "{denied}"
    );
    assert_eq!(world.count("DELETE", &vm("vm1")), 0);
    assert!(
        world.approvals().expect("a list").is_empty(),
        "nobody was asked"
    );
}

#[test]
fn every_part_of_a_batch_is_looked_up() {
    let world = world();
    tagged(&world, "vm1", &["ephemeral"]);
    tagged(&world, "vm2", &[]);
    let part = |name: &str| {
        let path = vm(name);
        format!(
            "--b\r\nContent-Type: application/http\r\nContent-ID: <{name}>\r\n\r\nDELETE {path} HTTP/1.1\r\n\r\n\r\n"
        )
    };
    let body = format!("{}{}--b--\r\n", part("vm1"), part("vm2"));
    let agent = world.sandbox();
    let file = agent.file("batch", &body);
    let data = format!("@{}", file.display());
    let ran = agent.run(&[
        "curl",
        "-sS",
        "-m",
        "30",
        "-H",
        "content-type: multipart/mixed; boundary=b",
        "--data-binary",
        &data,
        "https://compute.googleapis.com/batch/compute/v1",
    ]);
    assert!(ran.says("ephemeral-only"), "{ran}");
    for name in ["vm1", "vm2"] {
        assert_eq!(world.count("GET", &vm(name)), 1, "{name}");
        assert_eq!(world.count("DELETE", &vm(name)), 0, "{name}");
    }
}

#[test]
fn what_was_read_before_a_change_does_not_count_after_it() {
    let world = world();
    tagged(&world, "vm2", &["web"]);
    let agent = world.sandbox();
    for _ in 0..3 {
        let denied = curl(&agent, "DELETE", &vm("vm2"), None);
        assert!(denied.says("ephemeral-only"), "{denied}");
    }
    assert_eq!(
        world.count("GET", &vm("vm2")),
        1,
        "three look-ups within seconds"
    );

    let tags = r#"{"items":["ephemeral"],"fingerprint":"x"}"#;
    let set = curl(
        &agent,
        "POST",
        &format!("{}/setTags", vm("vm2")),
        Some(tags),
    );
    assert!(set.stdout.ends_with("\n200"), "{set}");
    tagged(&world, "vm2", &["ephemeral"]);
    let url = url(&vm("vm2"));
    let running = agent.start(&["curl", "-sS", "-m", "60", "-X", "DELETE", &url]);
    let hold = world.wait_for_hold("compute.instances.delete");
    assert!(world.count("GET", &vm("vm2")) > 1);

    // And people may take their time: what they approved is about something else by now.
    tagged(&world, "vm2", &["web"]);
    std::thread::sleep(Duration::from_secs(11));
    world.approve(hold.id()).expect("root may approve");
    let ran = running.finish();
    assert!(ran.says("its approval no longer counts"), "{ran}");
    assert_eq!(world.count("DELETE", &vm("vm2")), 0);
}

#[test]
fn a_reviewer_sees_what_a_patch_changes_and_no_secret() {
    let world = world();
    let before = json!({
        "name": "prod-db", "rootPassword": "hunter2", "maintenanceVersion": "5",
        "settings": {"tier": "db-custom-2-7680", "userLabels": {"env": "prod"},
            "ipConfiguration": {"ipv4Enabled": false, "requireSsl": true}},
    });
    world
        .google
        .script()
        .say("GET", DB, 200, &before.to_string());
    let body = r#"{"rootPassword":"hunter3","settings":{"tier":"db-g1-small","ipConfiguration":{"requireSsl":false}}}"#;
    let (change, text) = held(&world, "PATCH", DB, body);
    assert_eq!(change["state"], "known");
    let section = text.split("The request:").next().expect("a beginning");
    for line in [
        "rootPassword: [masked] -> [masked]",
        "settings.ipConfiguration.requireSsl: true -> false",
        "settings.tier: db-custom-2-7680 -> db-g1-small",
    ] {
        assert!(section.contains(line), "{line}\n{text}");
    }
    assert!(
        !section.contains("hunter") && !section.contains("userLabels"),
        "{text}"
    );

    let (change, text) = held(&world, "PUT", DB, r#"{"name":"prod-db"}"#);
    let removed = change["edits"].as_array().expect("edits").iter();
    let removed: Vec<_> = removed.filter(|edit| edit["after"].is_null()).collect();
    assert_eq!(removed.len(), 3, "{text}");
}

#[test]
fn a_reviewer_sees_who_gains_access_and_who_loses_it() {
    let world = world();
    let before = json!({"version": 1, "etag": "a", "bindings": [
        {"role": "roles/storage.objectViewer", "members": ["user:a@x.org", "user:b@x.org"]}]});
    let script = world.google.script();
    script.say("GET", BUCKET_POLICY, 200, &before.to_string());
    let body = r#"{"bindings":[{"role":"roles/storage.objectViewer","members":["user:b@x.org"]},
        {"role":"roles/storage.admin","members":["user:c@x.org"]}]}"#;
    let (_, text) = held(&world, "PUT", BUCKET_POLICY, body);
    assert!(
        text.contains("- roles/storage.objectViewer: user:a@x.org"),
        "{text}"
    );
    assert!(
        text.contains("+ roles/storage.admin: user:c@x.org"),
        "{text}"
    );
    let section = text.split("The request:").next().expect("a beginning");
    assert!(!section.contains("user:b@x.org"), "{text}");

    script.say("GET", BUCKET_POLICY, 403, "{}");
    let other = body.replace("user:c", "user:d");
    let (change, text) = held(&world, "PUT", BUCKET_POLICY, &other);
    // Read a moment ago, and nothing has changed since.
    assert_eq!(change["state"], "known", "{text}");
    std::thread::sleep(Duration::from_secs(11));
    let other = body.replace("user:c", "user:e");
    let (change, text) = held(&world, "PUT", BUCKET_POLICY, &other);
    assert_eq!(change["state"], "unknown", "{text}");
    assert!(
        text.contains("What it changes could not be read: Google answered 403"),
        "{text}"
    );
}

#[test]
fn a_slow_google_keeps_nobody_from_being_asked() {
    let world = world();
    let late = Duration::from_secs(20);
    world.google.script().say_after(late, "GET", DB, 200, "{}");
    let started = Instant::now();
    let (change, _) = held(&world, "PATCH", DB, r#"{"settings":{"tier":"x"}}"#);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(change["state"], "unknown");
    assert!(
        change["why"]
            .as_str()
            .is_some_and(|why| why.contains("within 2 s")),
        "{change}"
    );
}

#[test]
fn a_change_that_cannot_be_read_is_denied_in_any_dress() {
    let world = world();
    let agent = world.sandbox();
    let target = url(DB);
    let curl = format!(
        "curl -sS -m 20 -X PATCH -H 'content-type: application/json' -H 'transfer-encoding: chunked' --data-binary @- {target}"
    );
    let twice = r#"{"settings":{"tier":"a"},"settings":{"tier":"b"}}"#;
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    for (dress, body, filter, header) in [
        ("plain", twice, "cat", "x-a: b"),
        ("gzip", twice, "gzip -c", "content-encoding: gzip"),
        (
            "gzip twice",
            twice,
            "gzip -c | gzip -c",
            "content-encoding: gzip, gzip",
        ),
        (
            "gzip of nothing such",
            "{}",
            "cat",
            "content-encoding: gzip",
        ),
        ("deep", deep.as_str(), "cat", "x-a: b"),
        ("huge", r#"{"a":1e999}"#, "cat", "x-a: b"),
        ("BOM", "\u{feff}{}", "cat", "x-a: b"),
    ] {
        let script = format!("printf %s '{body}' | {filter} | {curl} -H '{header}'");
        let ran = agent.run(&["sh", "-c", &script]);
        assert!(ran.says("cannot read what it says"), "{dress}: {ran}");
    }
    assert_eq!(world.count("PATCH", DB), 0);
}
