//! Servers that die, clients that are gone, daemons that are killed, grants that are revoked, all of them in mid-statement: everybody is
//! told, and nothing is recorded as done that was not.

use std::{thread::sleep, time::Duration};

use holdpoint_tests::{
    database::{agent, psql},
    patience::{wait_until, wait_within},
    postgres::{Bystander, DATABASE, Postgres},
    reviewer::events_of_kind,
    sandbox::{Running, Sandbox},
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
const RECORDED: Duration = Duration::from_secs(10);

fn world(postgres: &Postgres) -> World {
    Settings::with_database(postgres).policies(POLICIES).start()
}

/// How the operations with this action ended, each once its outcome is there.
fn ends_of(world: &World, action: &str) -> Vec<String> {
    let mut ends = Vec::new();
    wait_until(&format!("{action} has ended"), || {
        let outcomes = events_of_kind(world, "outcome");
        let end = |intent: &Value| {
            let id = &intent["operation"]["id"];
            let end = outcomes.iter().find(|it| it["operation"] == *id)?;
            Some(end["result"].as_str()?.to_owned())
        };
        let intents = events_of_kind(world, "intent");
        let asked = intents
            .iter()
            .filter(|it| it["operation"]["action"] == action);
        ends = asked.map(end).collect::<Option<_>>().unwrap_or_default();
        !ends.is_empty()
    });
    ends
}

/// How many of the agents' statements with `text` in them run on the server.
fn running(postgres: &Postgres, text: &str) -> String {
    let text = text.replace('\'', "''");
    postgres.query(
        DATABASE,
        &format!("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state = 'active' AND position('{text}' in query) > 0"),
    )
}

/// Copies for minutes, into nothing.
fn copy() -> String {
    format!("psql -XAt -c \"{LASTING}\" >/dev/null")
}

/// A session whose copy is under way.
fn copying(agent: &Sandbox<'_>, postgres: &Postgres) -> Running {
    let copies = agent.start(&["sh", "-c", &copy()]);
    wait_until("it copies", || running(postgres, "100000000") == "1");
    // An intent that only reads is on disk within 50 ms.
    sleep(Duration::from_millis(300));
    copies
}

/// Nobody runs what nobody waits for.
fn wait_until_over(postgres: &Postgres, text: &str) {
    wait_until("the server stops", || running(postgres, text) == "0");
}

#[test]
fn a_backend_that_is_ended_in_mid_result_is_told_of_and_nothing_is_done() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let copies = copying(&agent(&world), &postgres);
    let _ = postgres.query(
        DATABASE,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE position('100000000' in query) > 0 AND usename = 'app'",
    );
    let ran = copies.finish().failed();
    assert!(ran.says("terminating connection"), "{ran}");
    assert_eq!(ends_of(&world, "postgres.copy_to"), ["unknown"], "{ran}");
    // Others go on, and others come.
    let ran = psql(&world, &["SELECT 'here' || 'still'"]);
    assert!(ran.succeeded().says("herestill"));
}

#[test]
fn a_server_that_crashes_in_mid_result_is_told_of_and_nothing_is_done() {
    let mut postgres = Postgres::start();
    let world = world(&postgres);
    let agent = agent(&world);
    let mut clients = [
        agent.start_psql(&["SELECT pg_sleep(50)"]),
        agent.start_psql(&["INSERT INTO scratch SELECT 500, pg_sleep(50)::text"]),
        copying(&agent, &postgres),
    ];
    wait_until("all of them run", || {
        running(&postgres, "pg_sleep(50)") == "2"
    });
    sleep(Duration::from_millis(300));
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
    let ran = agent.start_psql(&["SELECT 1"]).finish().failed();
    assert!(
        ran.says("cannot be reached") || ran.says("could not be reached"),
        "{ran}"
    );
}

#[test]
fn a_client_that_is_gone_in_mid_hold_has_run_nothing() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let command = "timeout -s KILL 5 psql -XAt -c 'DROP TABLE scratch'; exec sleep 20";
    let session = agent(&world).start(&["sh", "-c", command]);
    let held = world.wait_for_hold("scratch");
    wait_until("its client is gone", || {
        let waiting = world.approvals().expect("the daemon answers");
        waiting
            .iter()
            .any(|it| it.id() == held.id() && it.0["waiting"] == 0)
    });
    let _ = world.approve(held.id());
    sleep(Duration::from_secs(1));
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
    let command = format!("timeout -s KILL 4 {}", copy());
    let _ = agent.run(&["sh", "-c", &command]).failed();
    wait_until_over(&postgres, "100000000");
    assert_eq!(ends_of(&world, "postgres.copy_to"), ["unknown"]);
}

#[test]
fn what_runs_while_the_daemon_is_killed_is_unknown_afterwards() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let copies = copying(&agent(&world), &postgres);
    world.kill_daemon().expect("it was running");
    let ran = copies.finish().failed();
    assert!(!ran.says("COPY"), "{ran}");
    wait_until_over(&postgres, "100000000");
    world.start_daemon().expect("it starts again");
    assert_eq!(ends_of(&world, "postgres.copy_to"), ["unknown"]);
}

#[test]
fn a_statement_that_lives_by_a_grant_is_broken_off_with_it() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let agent = agent(&world);
    let update = |id: u32| format!("UPDATE scratch SET note = 'changed' WHERE id = {id}");
    let first = agent.start_psql(&[&update(1)]);
    let held = world.wait_for_hold("postgres.update");
    let granted = world.holdpoint_json(&["approvals", "grant", held.id(), "--for", "10m"]);
    let granted = granted.expect("it may be granted");
    let grant = granted["id"].as_str().expect("an id");
    let _ = first.finish().succeeded();
    // Somebody holds the row, so that the next one waits for it.
    let locks = Bystander::after(&postgres, "SELECT 1 FROM scratch WHERE 2 = id FOR UPDATE");
    let waits = agent.start_psql(&[&update(2), "SELECT 1"]);
    wait_until("it waits", || running(&postgres, "WHERE id = 2") == "1");
    let revoked = world.holdpoint(&["grants", "revoke", grant]).output();
    assert!(revoked.expect("it runs").status.success());
    let ran = waits.finish().failed();
    assert!(ran.says("broke this off") && ran.says("grant"), "{ran}");
    wait_until_over(&postgres, "WHERE id = 2");
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
    let runs = agent(&world).start_psql(&[insert]);
    wait_until("it runs", || running(&postgres, "pg_sleep(60)") == "1");
    drop(runs);
    wait_until_over(&postgres, "pg_sleep(60)");
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
        let _ = agent.start_psql(&["SELECT 1"]).finish().failed();
    }
    let recorded = || events_of_kind(&world, "connection_refused").len();
    wait_within(RECORDED, "all of them are recorded", || {
        recorded() >= SESSIONS
    });
    assert_eq!(recorded(), SESSIONS);
}
