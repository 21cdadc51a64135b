//! Metrics count what happened, and Prometheus reads them.

use std::{
    collections::BTreeMap,
    io::Write as _,
    net::{Ipv4Addr, TcpListener},
    process::{Command, Stdio},
};

use holdpoint_tests::{
    files::repository,
    python::{PYTHON, packages},
    world::{INSTANCES_URL, Settings, World},
};

const PROD_DB_URL: &str =
    "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/prod-db";

type Samples = BTreeMap<String, f64>;

/// Over the control socket.
fn scrape(world: &World) -> String {
    let socket = world.control_socket();
    let socket = socket.to_str().expect("a plain path");
    fetch(&["--unix-socket", socket, "http://localhost/v1/metrics"])
}

fn fetch(arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail", "-m", "10"]).args(arguments);
    let output = curl.output().expect("curl is there");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// As Prometheus' own parser reads it.
fn read(world: &World, text: &str) -> Samples {
    let place = world.dir().join("prometheus");
    if !place.exists() {
        std::fs::create_dir(&place).expect("our own directory");
        packages("prometheus", &["prometheus-client==0.23.1"], &place).expect("from PyPI");
    }
    let mut parser = Command::new(PYTHON)
        .arg(repository().join("tests/clients/read_metrics.py"))
        .env("PYTHONPATH", place.join("python"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let mut input = parser.stdin.take().expect("piped");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let output = parser.wait_with_output().expect("it ends");
    assert!(output.status.success(), "Prometheus cannot read:\n{text}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn value(samples: &Samples, name: &str) -> f64 {
    samples.get(name).copied().unwrap_or_default()
}

#[test]
fn what_happens_is_counted() {
    let world = World::start();
    let before = read(&world, &scrape(&world));
    assert_eq!(value(&before, "holdpoint_sessions_opened_total{}"), 0.0);

    let agent = world.sandbox();
    let _ = agent
        .run(&["curl", "-sS", "--fail", INSTANCES_URL])
        .succeeded();
    let denied = "https://sqladmin.googleapis.com/v9/projects/lab-project/obliterate";
    let _ = agent
        .run(&["curl", "-sS", "--fail", "-X", "POST", denied])
        .failed();
    let masked = "{\"rootPassword\": \"[masked:secret-field]\"}";
    let _ = agent
        .run(&[
            "curl",
            "-sS",
            "--fail",
            "-X",
            "PATCH",
            "-d",
            masked,
            PROD_DB_URL,
        ])
        .failed();
    let _ = agent.run(&["getent", "hosts", "attacker.example"]).failed();
    let _ = agent
        .run(&["curl", "-sS", "--fail", "-m", "5", "http://192.0.2.1/"])
        .failed();
    let udp = "import socket; socket.socket(2, 2).sendto(b'x', ('192.0.2.1', 9))";
    let _ = agent.run(&["/usr/bin/python3", "-c", udp]).failed();
    let stranger = world.sandbox().token(Some("not a token".into()));
    let _ = stranger.run(&["true"]).failed();

    let after = read(&world, &scrape(&world));
    let grown = |name: &str| value(&after, name) - value(&before, name);
    for (name, by) in [
        ("holdpoint_sessions_opened_total{}", 6.0),
        ("holdpoint_sessions_refused_total{}", 1.0),
        (
            "holdpoint_operations_total{decision=allow,mode=enforce,service=sql}",
            1.0,
        ),
        (
            "holdpoint_operations_total{decision=deny,mode=enforce,service=google}",
            1.0,
        ),
        ("holdpoint_request_seconds_count{kind=upstream}", 1.0),
        ("holdpoint_request_seconds_count{kind=refusal}", 2.0),
        ("holdpoint_mask_tokens_refused_total{}", 1.0),
        ("holdpoint_answers_withheld_total{}", 0.0),
        ("holdpoint_connection_seconds_count{kind=refused}", 1.0),
        ("holdpoint_kernel_refusals_total{reason=udp}", 1.0),
        ("holdpoint_upstream_errors_total{kind=unknown}", 0.0),
        ("holdpoint_record_failures_total{}", 0.0),
    ] {
        assert_eq!(grown(name), by, "{name}: {after:#?}");
    }
    for name in [
        "holdpoint_dns_answers_total{kind=found}",
        "holdpoint_dns_answers_total{kind=unknown_name}",
        "holdpoint_record_events_total{}",
        "holdpoint_record_sync_seconds_count{}",
    ] {
        assert!(grown(name) >= 1.0, "{name}: {after:#?}");
    }
    // A client that has its answer may end its session before the daemon sees the connection's end.
    let connections = |kind: &str| {
        grown(&format!(
            "holdpoint_connection_seconds_count{{kind={kind}}}"
        ))
    };
    assert_eq!(
        connections("google") + connections("cut_off"),
        3.0,
        "{after:#?}"
    );
    let build = format!(
        "holdpoint_build_info{{version={}}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(value(&after, &build), 1.0);
}

#[test]
fn holds_are_counted_while_they_wait_and_when_they_end() {
    let world = World::start();
    let agent = world.sandbox();
    let delete = agent.start(&["curl", "-sS", "--fail", "-X", "DELETE", PROD_DB_URL]);
    let id = loop {
        let listed = world
            .holdpoint_json(&["approvals", "list"])
            .expect("a list");
        if let Some(id) = listed[0]["id"].as_str() {
            break id.to_owned();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    let during = read(&world, &scrape(&world));
    assert_eq!(value(&during, "holdpoint_holds_pending{}"), 1.0);
    assert_eq!(value(&during, "holdpoint_sessions_open{}"), 1.0);
    assert_eq!(
        value(
            &during,
            "holdpoint_operations_total{decision=hold,mode=enforce,service=sql}"
        ),
        1.0
    );
    let denied = world.holdpoint(&["approvals", "deny", &id]).output();
    assert!(denied.expect("it runs").status.success());
    let _ = delete.finish().failed();
    let after = read(&world, &scrape(&world));
    assert_eq!(value(&after, "holdpoint_holds_pending{}"), 0.0);
    assert_eq!(value(&after, "holdpoint_approvals_total{end=denied}"), 1.0);
}

#[test]
fn agents_choose_no_label() {
    let world = World::start();
    let mark = "hp-mark-of-an-agent";
    let agent = world.sandbox();
    for url in [
        format!("https://{mark}.googleapis.com/{mark}?{mark}=1"),
        format!("https://sqladmin.googleapis.com/{mark}"),
        format!("https://{mark}.example/"),
    ] {
        let _ = agent.run(&["curl", "-sS", "-m", "5", "-X", "POST", "-A", mark, &url]);
    }
    assert!(!scrape(&world).contains(mark));
}

#[test]
fn over_tcp_where_the_operator_wants_it_and_not_for_sessions() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    let settings = Settings {
        extra_configuration: format!("\n[metrics]\nlisten = \"{address}\"\n"),
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let url = format!("http://{address}/metrics");
    let samples = read(&world, &fetch(&[&url]));
    assert!(
        samples.contains_key("holdpoint_sessions_open{}"),
        "{samples:#?}"
    );
    let elsewhere = format!("http://{address}/v1/status");
    let refused = Command::new("curl")
        .args(["-sS", "--fail", &elsewhere])
        .output();
    assert!(!refused.expect("curl is there").status.success());
    let _ = world
        .sandbox()
        .run(&["curl", "-sS", "--fail", "-m", "5", &url])
        .failed();
}

#[test]
fn sessions_get_no_metrics() {
    let world = World::start();
    let socket = world.control_socket();
    let socket = socket.to_str().expect("a plain path");
    let url = "http://localhost/v1/metrics";
    let ran = world
        .sandbox()
        .run(&["curl", "-sS", "--fail", "--unix-socket", socket, url]);
    assert!(!ran.failed().says("holdpoint_"));
}
