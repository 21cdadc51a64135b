//! Servers that die, clients that are gone, daemons that are killed, grants that are revoked, all of them in mid-statement: everybody is
//! told, and nothing is recorded as done that was not.

use std::time::{Duration, Instant};

use holdpoint_tests::{
    postgres::{AGENT_PORT, DATABASE, HOST, Postgres, Role},
    sandbox::Sandbox,
    world::{Settings, World},
};
use serde_json::Value;

const POLICIES: &str = r#"
@id("agents-use-databases")
permit(principal, action in Action::"postgres.*", resource);
@id("drops-are-held") @hold("database-team") @grantable("resource")
forbid(principal, action == Action::"postgres.drop_table", resource);
@id("updates-are-held") @hold("database-team") @grantable("resource")
forbid(principal, action == Action::"postgres.update", resource);
"#;
/// Much, and slowly: rows are on their way for minutes.
const LASTING: &str =
    "COPY (SELECT repeat('x', 100000) FROM generate_series(1, 100000000)) TO STDOUT";
const PATIENCE: Duration = Duration::from_secs(30);

fn world(postgres: &Postgres) -> World {
    let settings = Settings {
        extra_policies: POLICIES.to_owned(),
        connections: vec![postgres.connection(Role::App)],
        ..Settings::default()
    };
    World::with(&settings).unwrap_or_else(|error| panic!("{error:#}"))
}

fn agent(world: &World) -> Sandbox<'_> {
    world
        .sandbox()
        .env("PGHOST", HOST)
        .env("PGPORT", AGENT_PORT.to_string())
        .env("PGDATABASE", DATABASE)
        .env("PGUSER", "whoever")
        .env("PGCONNECT_TIMEOUT", "20")
        .limit(Duration::from_secs(60))
}

/// One shell command; what it prints to standard output is not of interest.
fn shell(command: &str) -> Vec<String> {
    vec!["sh".into(), "-c".into(), command.into()]
}

fn refs(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

/// All events of one kind, in all sessions.
fn events(world: &World, kind: &str) -> Vec<Value> {
    let list = world.holdpoint_json(&["sessions", "list"]);
    let list = list.expect("root may read");
    let of = |session: &Value| {
        let id = session["id"].as_str().expect("an id");
        let shown = world.holdpoint_json(&["sessions", "show", id]);
        shown.expect("root may read")["events"].clone()
    };
    let shown: Vec<Value> = list.as_array().expect("a list").iter().map(of).collect();
    let events = shown.iter().flat_map(|it| it.as_array().expect("a list"));
    let wanted = events.filter(|it| it["event"] == kind);
    wanted.cloned().collect()
}

/// How the operations with this action ended, each once its outcome is there.
fn ends_of(world: &World, action: &str) -> Vec<String> {
    let started = Instant::now();
    loop {
        let outcomes = events(world, "outcome");
        let intents = events(world, "intent");
        let mut asked = intents
            .iter()
            .filter(|it| it["operation"]["action"] == action);
        let ends: Option<Vec<String>> = asked
            .by_ref()
            .map(|intent| {
                let id = &intent["operation"]["id"];
                let end = outcomes.iter().find(|it| it["operation"] == *id)?;
                Some(end["result"].as_str()?.to_owned())
            })
            .collect();
        match ends {
            Some(ends) if !ends.is_empty() => return ends,
            _ => assert!(
                started.elapsed() < PATIENCE,
                "{action} has not ended: {intents:#?}\n{outcomes:#?}"
            ),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}: not yet");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How many of the agents' statements with `text` in them run on the server.
fn running(postgres: &Postgres, text: &str) -> String {
    let text = text.replace('\'', "''");
    postgres.query(
        DATABASE,
        &format!("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active' AND position('{text}' in query) > 0"),
    )
}

#[test]
fn a_backend_that_is_ended_in_mid_result_is_told_of_and_nothing_is_done() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let agent = agent(&world);
    let command = shell(&format!("psql -XAt -c \"{LASTING}\" >/dev/null"));
    let copies = agent.start(&refs(&command));
    wait_until("it copies", || running(&postgres, "100000000") == "1");
    std::thread::sleep(Duration::from_millis(300));
    let _ = postgres.query(
        DATABASE,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE position('100000000' in query) > 0 AND usename = 'app'",
    );
    let ran = copies.finish().failed();
    assert!(ran.says("terminating connection"), "{ran}");
    assert_eq!(ends_of(&world, "postgres.copy_to"), ["unknown"], "{ran}");
    // Others go on, and others come.
    let ran = agent.run(&["psql", "-XAt", "-c", "SELECT 'here' || 'still'"]);
    assert!(ran.succeeded().says("herestill"));
}

#[test]
fn a_server_that_crashes_in_mid_result_is_told_of_and_nothing_is_done() {
    let mut postgres = Postgres::start();
    let world = world(&postgres);
    let agent = agent(&world);
    let commands = [
        shell(&format!("psql -XAt -c \"{LASTING}\" >/dev/null")),
        shell("psql -XAt -c 'SELECT pg_sleep(50)'"),
        shell("psql -XAt -c 'INSERT INTO scratch SELECT 500, pg_sleep(50)::text'"),
    ];
    let mut clients: Vec<_> = commands.iter().map(|it| agent.start(&refs(it))).collect();
    wait_until("all of them run", || {
        running(&postgres, "100000000") == "1" && running(&postgres, "pg_sleep(50)") == "2"
    });
    std::thread::sleep(Duration::from_millis(300));
    assert!(clients.iter_mut().all(|it| it.is_running()));
    postgres.crash();
    for client in clients {
        let ran = client.finish().failed();
        let said = ran.says("closed the connection") || ran.says("terminating connection");
        assert!(said, "{ran}");
    }
    for action in ["postgres.copy_to", "postgres.insert"] {
        assert_eq!(ends_of(&world, action), ["unknown"], "{action}");
    }
    let ran = agent.run(&["psql", "-XAt", "-c", "SELECT 1"]).failed();
    assert!(
        ran.says("cannot be reached") || ran.says("could not be reached"),
        "{ran}"
    );
}

#[test]
fn a_client_that_is_gone_in_mid_hold_has_run_nothing() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let command = shell("timeout -s KILL 5 psql -XAt -c 'DROP TABLE scratch'; exec sleep 20");
    let agent = agent(&world);
    let session = agent.start(&refs(&command));
    let held = world.wait_for_hold("scratch");
    wait_until("its client is gone", || {
        let waiting = world.approvals().expect("the daemon answers");
        waiting
            .iter()
            .any(|it| it.id() == held.id() && it.0["waiting"] == 0)
    });
    let _ = world.approve(held.id());
    std::thread::sleep(Duration::from_secs(1));
    assert!(postgres.has_relation("scratch"));
    assert!(!postgres.log().has("DROP TABLE scratch"));
    assert_eq!(ends_of(&world, "postgres.drop_table"), ["not_sent"]);
    drop(session);
}

#[test]
fn a_client_that_is_gone_in_mid_copy_or_mid_result_has_not_completed_it() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let _ = postgres.query(
        DATABASE,
        "SET ROLE app; CREATE TABLE copied (id int, line text)",
    );
    let agent = agent(&world);
    let program = agent.program("postgres-client");
    let ran = agent.run(&[&program, "half-copy", "4"]).succeeded();
    assert!(ran.says("half: gone"), "{ran}");
    assert_eq!(ends_of(&world, "postgres.copy_from"), ["unknown"]);
    assert_eq!(postgres.query(DATABASE, "SELECT count(*) FROM copied"), "0");
    // What it asked for does not run on for nobody.
    let command = shell(&format!(
        "timeout -s KILL 4 psql -XAt -c \"{LASTING}\" >/dev/null"
    ));
    let _ = agent.run(&refs(&command)).failed();
    wait_until("the server stops", || {
        running(&postgres, "100000000") == "0"
    });
    assert_eq!(ends_of(&world, "postgres.copy_to"), ["unknown"]);
}

#[test]
fn what_runs_while_the_daemon_is_killed_is_unknown_afterwards() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let agent = agent(&world);
    let command = shell(&format!("psql -XAt -c \"{LASTING}\" >/dev/null"));
    let copies = agent.start(&refs(&command));
    wait_until("it copies", || running(&postgres, "100000000") == "1");
    // An intent that only reads is on disk within 50 ms.
    std::thread::sleep(Duration::from_millis(300));
    world.kill_daemon().expect("it was running");
    let ran = copies.finish().failed();
    assert!(!ran.says("COPY"), "{ran}");
    wait_until("the server stops", || {
        running(&postgres, "100000000") == "0"
    });
    world.start_daemon().expect("it starts again");
    assert_eq!(ends_of(&world, "postgres.copy_to"), ["unknown"]);
}

#[test]
fn a_statement_that_lives_by_a_grant_is_broken_off_with_it() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let agent = agent(&world);
    let update = |id: u32| format!("UPDATE scratch SET note = 'changed' WHERE id = {id}");
    let first = agent.start(&["psql", "-XAt", "-c", &update(1)]);
    let held = world.wait_for_hold("postgres.update");
    let granted = world.holdpoint_json(&["approvals", "grant", held.id(), "--for", "10m"]);
    let granted = granted.expect("it may be granted");
    let grant = granted["id"].as_str().expect("an id");
    let _ = first.finish().succeeded();
    // Somebody holds the row, so that the next one waits for it.
    let locks = Locked::row(&postgres, 2);
    let waits = agent.start(&["psql", "-XAt", "-c", &update(2), "-c", "SELECT 1"]);
    wait_until("it waits", || running(&postgres, "WHERE id = 2") == "1");
    let revoked = world.holdpoint(&["grants", "revoke", grant]).output();
    assert!(revoked.expect("it runs").status.success());
    let ran = waits.finish().failed();
    assert!(ran.says("broke this off") && ran.says("grant"), "{ran}");
    wait_until("the server stops", || {
        running(&postgres, "WHERE id = 2") == "0"
    });
    drop(locks);
    let note = "SELECT note FROM scratch WHERE id = 2";
    assert_eq!(postgres.query(DATABASE, note), "note 2");
    let mut ends = ends_of(&world, "postgres.update");
    ends.sort();
    assert_eq!(ends, ["completed", "cut"]);
}

#[test]
fn a_session_that_ends_takes_along_what_runs_for_it() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let insert = "INSERT INTO scratch SELECT 700, pg_sleep(60)::text";
    let runs = agent(&world).start(&["psql", "-XAt", "-c", insert]);
    wait_until("it runs", || running(&postgres, "pg_sleep(60)") == "1");
    drop(runs);
    wait_until("the server stops", || {
        running(&postgres, "pg_sleep(60)") == "0"
    });
    assert_eq!(ends_of(&world, "postgres.insert"), ["unknown"]);
    assert_eq!(
        postgres.query(DATABASE, "SELECT count(*) FROM scratch WHERE id = 700"),
        "0"
    );
}

#[test]
fn who_is_refused_is_recorded_though_its_session_ends_with_it() {
    const SESSIONS: usize = 20;
    let postgres = Postgres::start();
    let world = world(&postgres);
    // Without TLS: libpq tries once.
    let agent = agent(&world)
        .env("PGHOST", "192.0.2.77")
        .env("PGSSLMODE", "disable");
    for _ in 0..SESSIONS {
        let _ = agent.run(&["psql", "-XAt", "-c", "SELECT 1"]).failed();
    }
    let started = Instant::now();
    let mut recorded = 0;
    while recorded < SESSIONS && started.elapsed() < PATIENCE / 3 {
        recorded = events(&world, "connection_refused").len();
    }
    assert_eq!(recorded, SESSIONS);
}

/// A transaction of somebody else's that has a row locked.
struct Locked(std::process::Child);

impl Locked {
    fn row(postgres: &Postgres, id: u32) -> Self {
        let lock = format!(
            "BEGIN; SELECT 1 FROM scratch WHERE {id} = id FOR UPDATE; SELECT 'locked', pg_sleep(60)"
        );
        let child = std::process::Command::new(postgres.program("psql"))
            .args(["-XAt", "-c", &lock])
            .envs(postgres.environment(Role::App))
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("psql starts");
        wait_until("it is locked", || running(postgres, "'locked'") == "1");
        std::thread::sleep(Duration::from_millis(300));
        Self(child)
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
