//! What reviewers see of statements, and the record of what came of them, against a real PostgreSQL.

use std::time::{Duration, Instant};

use holdpoint_tests::{
    database::{MASKED_CARDS, agent, psql},
    patience::{wait_until, wait_within},
    postgres::{Bystander, DATABASE, Entry, Postgres},
    reviewer::{Approval, only_session},
    world::{Settings, World},
};
use serde_json::Value;

const WRITES_ARE_HELD: &str = r#"
@id("agents-use-databases")
permit(principal, action in Action::"postgres.*", resource);
@id("writes-are-held") @hold("database-team")
forbid(principal, action in [Action::"postgres.update", Action::"postgres.delete", Action::"postgres.insert", Action::"postgres.drop_table"], resource);
"#;

const ALLOWED: &str = r#"
@id("agents-use-databases")
permit(principal, action in Action::"postgres.*", resource);
"#;

fn world(postgres: &Postgres, policies: &str, configuration: &str) -> World {
    Settings::with_database(postgres)
        .policies(policies)
        .configuration(configuration)
        .start()
}

fn output(world: &World, arguments: &[&str]) -> String {
    let text = world.holdpoint_text(arguments);
    text.expect("root may look")
}

/// What `holdpoint approvals show` says of what is held; it is denied then, and nothing of it has run.
fn shown(world: &World, postgres: &Postgres, sql: &str) -> (String, Value) {
    let mut running = agent(world).start_psql(&[sql]);
    let started = Instant::now();
    let held = pending(world);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(15), "{sql}: held after {took:?}");
    let text = output(world, &["approvals", "show", held.id()]);
    let json = world
        .holdpoint_json(&["approvals", "show", held.id()])
        .expect("the daemon answers");
    assert!(running.is_running(), "{sql}");
    while let Some(held) = all_pending(world).pop() {
        world.deny(held.id()).expect("root may answer");
    }
    let ran = running.finish().failed();
    assert!(ran.says("ERROR"), "{ran}");
    assert!(!postgres.log().has(sql), "{sql} has not arrived");
    (text, json)
}

fn all_pending(world: &World) -> Vec<Approval> {
    world.pending().expect("the daemon answers")
}

fn pending(world: &World) -> Approval {
    let mut held = None;
    wait_until("something is held", || {
        held = all_pending(world).pop();
        held.is_some()
    });
    held.expect("we waited for it")
}

#[test]
fn a_reviewer_sees_how_many_rows_a_held_statement_touches() {
    let postgres = Postgres::start();
    let _ = postgres.query(DATABASE, "ANALYZE");
    let world = world(&postgres, WRITES_ARE_HELD, "");
    for (sql, told, about) in [
        (
            "UPDATE orders SET quantity = 1 WHERE id <= 50",
            ["update: about ", " rows of public.orders (of about 100)"],
            45..=55,
        ),
        (
            "WITH gone AS (DELETE FROM orders WHERE id > 0 RETURNING id) SELECT count(*) FROM gone",
            ["delete: about ", " rows of public.orders (of about 100)"],
            95..=100,
        ),
        (
            "INSERT INTO scratch SELECT id + 100, item FROM orders WHERE id > 90",
            [
                "insert: about ",
                " rows into public.scratch (which has about 10)",
            ],
            5..=15,
        ),
        (
            "DROP TABLE scratch",
            ["drop table: all of about ", " rows of public.scratch"],
            10..=10,
        ),
    ] {
        let (text, json) = shown(&world, &postgres, sql);
        let rows = &json["rows"];
        assert_eq!(rows["state"], "estimated", "{sql}: {json}");
        let rows = rows["changes"][0]["rows"].as_u64().expect("a number");
        assert!(about.contains(&rows), "{sql}: {json}");
        let told = format!("rows: {}{rows}{}", told[0], told[1]);
        assert!(text.contains(&told), "{sql}: {text}");
    }
    let rows = postgres.query(DATABASE, "SELECT count(*), sum(quantity) FROM orders");
    assert_eq!(rows, "100|397", "planning has changed nothing");
}

#[test]
fn values_are_bound_as_the_agent_binds_them() {
    let postgres = Postgres::start();
    let _ = postgres.query(DATABASE, "ANALYZE");
    let world = world(&postgres, WRITES_ARE_HELD, "");
    let agent = agent(&world);
    let script = agent.file(
        "update.sql",
        "\\set most 30\nUPDATE orders SET quantity = 1 WHERE id <= :most;\n",
    );
    let script = script.to_str().expect("a path");
    for protocol in ["extended", "prepared"] {
        let running = agent.start(&["pgbench", "-n", "-t", "1", "-M", protocol, "-f", script]);
        let held = pending(&world);
        let text = output(&world, &["approvals", "show", held.id()]);
        let told = [29, 30, 31]
            .map(|it| format!("update: about {it} rows of public.orders (of about 100)"));
        assert!(
            told.iter().any(|it| text.contains(it)),
            "{protocol}: {text}"
        );
        world.deny(held.id()).expect("root may answer");
        let _ = running.finish();
    }
}

#[test]
fn what_could_run_something_is_not_planned_and_a_locked_table_delays_nobody() {
    let postgres = Postgres::start();
    // Planning an INSERT works out defaults that claim to be immutable.
    let _ = postgres.query(
        DATABASE,
        "CREATE FUNCTION trap() RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RAISE LOG 'the trap has sprung'; RETURN 1; END $$;
         CREATE TABLE traps (id int, trap int DEFAULT trap());
         ALTER TABLE traps OWNER TO app",
    );
    let world = world(&postgres, WRITES_ARE_HELD, "");
    let (text, _) = shown(
        &world,
        &postgres,
        "INSERT INTO traps (id) SELECT id FROM orders",
    );
    assert!(text.contains("not estimated: planning it could run what a user wrote: the default of public.traps.trap"), "{text}");
    let (text, _) = shown(&world, &postgres, "DELETE FROM orders WHERE id = trap()");
    assert!(
        text.contains("not estimated: Holdpoint cannot see through the statement"),
        "{text}"
    );
    let log = postgres.log();
    let sprung = |it: &&Entry| it.message.contains("sprung");
    assert_eq!(log.entries().iter().find(sprung), None);
    assert_eq!(log.estimates().count(), 0);

    let _locks = Bystander::after(&postgres, "LOCK TABLE orders");
    let running = agent(&world).start_psql(&["DELETE FROM orders WHERE id = 1"]);
    let started = Instant::now();
    let held = pending(&world);
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    let text = output(&world, &["approvals", "show", held.id()]);
    assert!(
        text.contains("rows: not estimated: the server did not plan it (55P03)"),
        "{text}"
    );
    world.deny(held.id()).expect("root may answer");
    let _ = running.finish().failed();
}

/// Everything the record tells of its only session, in all forms.
fn told(world: &World, id: &str) -> Vec<(&'static str, String)> {
    let mut told = vec![
        ("show", output(world, &["sessions", "show", id, "--bodies"])),
        (
            "replay",
            output(world, &["sessions", "replay", id, "--speed", "100000"]),
        ),
    ];
    for form in ["html", "har", "ocsf", "ndjson"] {
        told.push((
            form,
            output(world, &["sessions", "export", id, "--format", form]),
        ));
    }
    let mut parquet = world.holdpoint(&["sessions", "export", id, "--format", "parquet"]);
    let parquet = parquet.output().expect("it runs").stdout;
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    told
}

/// Until the record has the body that says so, which comes by itself.
fn wait_for_body(world: &World, id: &str, says: &str) {
    wait_within(Duration::from_secs(20), says, || {
        output(world, &["sessions", "show", id, "--bodies"]).contains(says)
    });
}

const ALL_BODIES: &str = "[record]\nbodies = \"all\"\n";

#[test]
fn rows_are_kept_without_secrets_and_shown_in_every_form() {
    let postgres = Postgres::start();
    let key = "AIzaSyA-1234567890abcdefghijklmnopqrstu";
    let _ = postgres.query(
        DATABASE,
        &format!("ALTER TABLE scratch ADD password text; UPDATE scratch SET password = 'hunter-' || id; UPDATE scratch SET note = '{key}' WHERE id = 2"),
    );
    let world = world(&postgres, ALLOWED, ALL_BODIES);
    let ran = psql(
        &world,
        &["SELECT id, note, password FROM scratch WHERE id < 4 ORDER BY id"],
    );
    let ran = ran.succeeded();
    assert!(
        ran.says("hunter-3") && ran.says(key),
        "policy lets the agent see them: {ran}"
    );
    let id = only_session(&world);
    wait_for_body(&world, &id, "note 3");
    for (form, told) in told(&world, &id) {
        assert!(
            !told.contains("hunter-") && !told.contains(key),
            "{form}: {told}"
        );
        assert!(
            told.contains("FROM scratch WHERE id"),
            "{form} tells the statement: {told}"
        );
        assert!(
            told.contains("SELECT 3"),
            "{form} tells what the server said: {told}"
        );
        if !["ocsf", "ndjson"].contains(&form) {
            assert!(
                told.contains("note 3") && told.contains("[masked:"),
                "{form} has the rows: {told}"
            );
        }
    }
    let shown = output(&world, &["sessions", "show", &id, "--bodies"]);
    assert!(
        shown.contains("  | id | note | password\n  | 1 | note 1 | [masked:"),
        "{shown}"
    );
}

#[test]
fn what_is_bound_and_what_a_portal_gives_is_kept() {
    let postgres = Postgres::start();
    let world = world(&postgres, ALLOWED, ALL_BODIES);
    let agent = agent(&world);
    let script = agent.file(
        "select.sql",
        "\\set low 7\nSELECT note FROM scratch WHERE id > :low ORDER BY id;\n",
    );
    let script = script.to_str().expect("a path");
    let ran = agent.run(&["pgbench", "-n", "-t", "1", "-M", "extended", "-f", script]);
    let _ = ran.succeeded();
    let id = only_session(&world);
    wait_for_body(&world, &id, "note 10");
    wait_for_body(&world, &id, "$1 = 7");
}

#[test]
fn the_data_of_a_copy_is_kept_both_ways_and_masked_by_its_columns() {
    let postgres = Postgres::start();
    let _ = postgres.query(
        DATABASE,
        "ALTER TABLE scratch ADD password text; UPDATE scratch SET password = 'hunter-' || id",
    );
    let world = world(&postgres, ALLOWED, ALL_BODIES);
    let agent = agent(&world);
    let copies = "COPY scratch FROM STDIN;\n50\tcame in\thunter-50\n\\.\nCOPY scratch TO STDOUT;\n";
    let script = agent.file("copies.sql", copies);
    let script = script.to_str().expect("a path");
    let ran = agent.run(&["psql", "-XAt", "-f", script]).succeeded();
    assert!(ran.says("hunter-50"), "{ran}");
    let id = only_session(&world);
    wait_for_body(&world, &id, "note 9");
    wait_for_body(&world, &id, "came in");
    let shown = output(&world, &["sessions", "show", &id, "--bodies"]);
    assert!(!shown.contains("hunter-"), "{shown}");
    assert_eq!(shown.matches("came in").count(), 2, "in and out: {shown}");
    assert!(shown.contains("COPY 11"), "{shown}");
}

#[test]
fn a_copy_that_names_no_columns_is_masked_by_those_of_its_table() {
    const CARDS: &str = r#"
@id("cards-are-masked") @mask("cards")
permit(principal, action in Action::"postgres.*", resource);
"#;
    let postgres = Postgres::start();
    // A column that is gone moves those behind it.
    let _ = postgres.query(
        DATABASE,
        "ALTER TABLE customers DROP COLUMN email;
         CREATE SCHEMA other; CREATE TABLE other.scratch (note text); GRANT ALL ON SCHEMA other TO app; GRANT ALL ON other.scratch TO app",
    );
    let world = world(&postgres, CARDS, MASKED_CARDS);
    // Of the type of a column nobody tells: what looks like a number stays one.
    for (copy, masked) in [
        ("COPY customers TO STDOUT", "1\tAda Lovelace\t0\t10.50"),
        (
            "COPY public.customers TO STDOUT (FORMAT csv, HEADER)",
            "id,name,card,balance\n1,Ada Lovelace,0,10.50",
        ),
    ] {
        let ran = psql(&world, &[copy]).succeeded();
        assert!(!ran.says("4111111111111111") && ran.says(masked), "{ran}");
    }
    // It cannot be told which of the two is meant.
    let ran = psql(&world, &["COPY scratch TO STDOUT"]).failed();
    assert!(ran.says("what columns it has cannot be told"), "{ran}");
    // What only this transaction knows is known to nobody else.
    let renamed = "BEGIN; ALTER TABLE customers RENAME COLUMN card TO harmless; COPY customers TO STDOUT; ROLLBACK";
    let ran = psql(&world, &[renamed]).failed();
    assert!(!ran.says("4111111111111111"), "{ran}");
}

#[test]
fn reads_leave_no_rows_unless_the_configuration_says_so() {
    let postgres = Postgres::start();
    let world = world(&postgres, ALLOWED, "");
    let ran = psql(
        &world,
        &[
            "SELECT note FROM scratch WHERE id = 3; UPDATE scratch SET note = 'changed' WHERE id = 4 RETURNING note",
        ],
    );
    let _ = ran.succeeded();
    let id = only_session(&world);
    wait_for_body(&world, &id, "changed");
    let shown = output(&world, &["sessions", "show", &id, "--bodies"]);
    assert!(!shown.contains("note 3"), "{shown}");
}
