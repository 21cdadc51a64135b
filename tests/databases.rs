//! What is promised of databases, promise by promise, against a real PostgreSQL.

use holdpoint_tests::{
    database::{MASKED_CARDS, agent, psql},
    postgres::{AGENT_PORT, DATABASE, Postgres},
    reviewer::{events, export, only_session, session_id, sessions},
    world::{Settings, World},
};
use nix::sys::signal::Signal;

const POLICIES: &str = r#"
@id("agents-use-databases")
permit(principal, action in Action::"postgres.*", resource);
@id("no-deletes-without-where")
@reason("it would delete every row")
forbid(principal, action == Action::"postgres.delete", resource)
when { context.traits.contains("without-where") };
@id("drops-are-held") @hold("database-team")
forbid(principal, action == Action::"postgres.drop_table", resource);
"#;

fn world(postgres: &Postgres) -> World {
    Settings::with_database(postgres).policies(POLICIES).start()
}

#[test]
fn a_denied_statement_never_arrives_and_the_connection_lives_on() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let ran = psql(
        &world,
        &["DELETE FROM scratch", "SELECT 'still ' || 'here'"],
    );
    assert!(ran.says("still here"), "{ran}");
    assert!(ran.says("ERROR"), "{ran}");
    assert!(!postgres.log().has("DELETE FROM scratch"));
    assert_eq!(
        postgres.query(DATABASE, "SELECT count(*) FROM scratch"),
        "10"
    );
    let ran = psql(&world, &["UPDATE scratch SET id = 11 WHERE id = 1"]).succeeded();
    assert!(ran.says("UPDATE 1"), "{ran}");
}

#[test]
fn a_held_drop_waits_for_its_approval() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    for gone in [false, true] {
        let agent = agent(&world);
        let mut running = agent.start_psql(&["DROP TABLE scratch"]);
        let held = world.wait_for_hold("scratch");
        let id = held.id();
        assert!(running.is_running());
        assert!(
            !postgres.log().has("DROP TABLE scratch"),
            "before its decision"
        );
        match gone {
            true => world.approve(id),
            false => world.deny(id),
        }
        .expect("root may answer");
        let ran = running.finish();
        assert_eq!(ran.status.success(), gone, "{ran}");
        assert!(ran.says(id), "the notice names the approval: {ran}");
        assert_eq!(ran.says("It did not reach the database"), !gone, "{ran}");
        assert!(!ran.says("Google"), "{ran}");
        assert_eq!(postgres.has_relation("scratch"), !gone, "{ran}");
        assert_eq!(postgres.log().has("DROP TABLE scratch"), gone);
    }
}

#[test]
fn the_password_is_nowhere_in_the_sandbox() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let hunt = format!(
        "psql -XAt -c 'SELECT current_user' && set +x && ! env | grep -q {0} && ! grep -rqs {0} ~ /tmp /proc/self/environ && \
         cat /proc/[0-9]*/environ 2>/dev/null | grep -c {0} ; test ! -r {1}",
        &postgres.password()[1..],
        postgres.dir().join("password").display()
    );
    let ran = agent(&world).run(&["sh", "-c", &hunt]).succeeded();
    assert_eq!(ran.stdout, "app\n0\n", "{ran}");
}

#[test]
fn a_database_in_no_entry_is_refused() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    for (host, port) in [
        ("192.0.2.77", AGENT_PORT),
        ("127.0.0.1", postgres.address.port()),
    ] {
        let before = postgres.log();
        let ran = agent(&world)
            .env("PGHOST", host)
            .env("PGPORT", port.to_string())
            .start_psql(&["SELECT 1"])
            .finish()
            .failed();
        assert!(!ran.says("\n1\n"), "{ran}");
        assert!(postgres.log().since(&before).entries().is_empty(), "{host}");
    }
    let ran = agent(&world)
        .env("PGDATABASE", "postgres")
        .start_psql(&["SELECT 1"])
        .finish();
    let _ = ran.failed();
}

#[test]
fn what_policy_masks_reaches_neither_the_agent_nor_the_record() {
    const CARDS: &str = r#"
@id("cards-are-masked") @mask("cards") @record("bodies")
permit(principal, action == Action::"postgres.select", resource);
"#;
    let postgres = Postgres::start();
    let cards = postgres.query(
        DATABASE,
        "SELECT count(card) || ' ' || max(card) FROM customers",
    );
    let (count, card) = cards.split_once(' ').expect("there are cards");
    let ids = postgres.query(DATABASE, "SELECT count(*) FROM customers");
    let ids: usize = ids.parse().expect("a number");
    let settings = Settings::with_database(&postgres)
        .policies(CARDS)
        .configuration(MASKED_CARDS);
    let world = settings.start();
    // By its name, under another, in an expression, and in a copy.
    let asked = [
        "SELECT id, card FROM customers",
        "SELECT id, card AS harmless FROM customers",
        "SELECT id, upper(card) FROM customers",
        "SELECT count(card) FROM customers",
        "COPY customers (id, card) TO STDOUT",
    ];
    for asked in asked {
        let ran = psql(&world, &[asked]).succeeded();
        assert!(!ran.says(card), "{ran}");
        let rows = if asked.contains("count") { 1 } else { ids };
        assert_eq!(ran.stdout.lines().count(), rows, "rows stay rows: {ran}");
        if asked.contains("count") {
            assert_eq!(ran.stdout.trim(), count, "{ran}");
        }
    }
    for session in sessions(&world).expect("the daemon answers") {
        let exported = export(&world, session_id(&session));
        assert!(exported.contains("postgres.select"), "{exported}");
        assert!(!exported.contains(card));
    }
}

#[test]
fn who_cancels_withdraws_what_is_held() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let running = agent(&world).start_psql(&["DROP TABLE scratch"]);
    let held = world.wait_for_hold("scratch");
    running.signal(Signal::SIGINT);
    let ran = running.finish().failed();
    assert!(ran.says("cancel"), "{ran}");
    let after = world.approvals().expect("the daemon answers");
    let state = after.iter().find(|it| it.id() == held.id());
    assert_eq!(state.map(|it| it.state()), Some("withdrawn"));
    assert!(!postgres.log().has("DROP TABLE scratch"));
}

#[test]
fn a_denial_leaves_a_transaction_as_it_was() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let commands = [
        "BEGIN",
        "INSERT INTO scratch (id) VALUES (100)",
        "DELETE FROM scratch",
        "COMMIT",
    ];
    let ran = psql(&world, &commands);
    assert!(ran.says("without-where") || ran.says("every row"), "{ran}");
    let rows = postgres.query(DATABASE, "SELECT count(*) FROM scratch");
    assert_eq!(rows, "11", "what was allowed was committed: {ran}");
}

#[test]
fn what_a_read_hides_is_held() {
    let postgres = Postgres::start();
    let _ = postgres.query(
        DATABASE,
        "CREATE FUNCTION helpful() RETURNS int LANGUAGE sql AS 'DELETE FROM public.scratch RETURNING 1';
         CREATE VIEW harmless AS SELECT helpful();
         GRANT SELECT ON harmless TO PUBLIC",
    );
    let world = world(&postgres);
    for asked in [
        "SELECT * FROM harmless",
        "SELECT pg_read_file('PG_VERSION')",
        "WITH gone AS (DELETE FROM scratch WHERE id = 3 RETURNING id) SELECT * FROM gone",
        "EXPLAIN ANALYZE DROP TABLE scratch",
        "DO $$ BEGIN DELETE FROM scratch; END $$",
        "COPY scratch TO PROGRAM 'true'",
    ] {
        let mut running = agent(&world).start_psql(&[asked]);
        let pending = loop {
            let pending = world.pending().expect("the daemon answers").pop();
            if pending.is_some() || !running.is_running() {
                break pending;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        };
        let is_opaque = pending.as_ref().is_some_and(|it| it.mentions("opaque"));
        if let Some(pending) = pending {
            let shown = world.holdpoint_text(&["approvals", "show", pending.id()]);
            let shown = shown.expect("root may look");
            let is_said = shown.contains("cannot see through it:");
            assert_eq!(is_said, is_opaque, "{asked}: {shown}");
            world.deny(pending.id()).expect("root may answer");
        }
        let ran = running.finish().failed();
        assert!(ran.says("ERROR"), "{asked}: {ran}");
        assert_eq!(
            ran.says("It cannot be seen through:"),
            is_opaque,
            "{asked}: {ran}"
        );
        assert!(!postgres.log().has(asked), "{asked}");
    }
    assert_eq!(
        postgres.query(DATABASE, "SELECT count(*) FROM scratch"),
        "10"
    );
}

#[test]
fn the_record_says_what_was_asked_and_what_came_of_it() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let _ = psql(
        &world,
        &[
            "UPDATE scratch SET id = 12 WHERE id = 2",
            "SELECT 1/0",
            "DELETE FROM scratch",
        ],
    );
    let events = events(&world, &only_session(&world)).expect("the record");
    let told = serde_json::to_string(&events).expect("JSON");
    for part in [
        "postgres.update",
        "UPDATE 1",
        "22012",
        "postgres.delete",
        "without-where",
    ] {
        assert!(told.contains(part), "{part} is missing in {told}");
    }
}
