//! `instances.executeSql`: the rules for statements hold for SQL that goes over Cloud SQL's own API, too.

use std::{sync::Arc, time::Duration};

use holdpoint_tests::{
    cloud_sql::connection_name,
    postgres::{DATABASE, Postgres, Role},
    reviewer::events_of_kind,
    sandbox::Sandbox,
    stand_in::Answer,
    world::{Settings, World},
};
use serde_json::{Value, json};

const PATH: &str = "/v1/projects/lab-project/instances/prod-db/executeSql";
const ELSEWHERE: &str = "/v1/projects/lab-project/instances/staging-db/executeSql";

/// A daemon that knows the instance prod-db, which runs what reaches it.
fn world(postgres: &Arc<Postgres>, policies: &str) -> World {
    let mut connection = postgres.connection(Role::App);
    connection.instance = Some(connection_name());
    let settings = Settings::with_connection(connection).policies(policies);
    let world = settings.start();
    for path in [PATH, ELSEWHERE] {
        let postgres = postgres.clone();
        world.google.script().answer_by("POST", path, move |call| {
            let body = call.json();
            let database = body["database"].as_str().unwrap_or_default();
            let sql = body["sqlStatement"].as_str().unwrap_or_default();
            let rows = tokio::task::block_in_place(|| postgres.query(database, sql));
            Answer::json(&json!({"results": [{"rows": [{"values": [{"value": rows}]}]}]}))
        });
    }
    world
}

fn body(sql: &str) -> Value {
    json!({"sqlStatement": sql, "database": DATABASE, "user": Role::App.name()})
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passed(String),
    Held,
    Denied(String),
}

/// What comes of a request; what is held is denied by its reviewer.
fn ask(world: &World, agent: &Sandbox<'_>, path: &str, body: &Value) -> Verdict {
    let (url, body) = (
        format!("https://sqladmin.googleapis.com{path}"),
        body.to_string(),
    );
    let json = "content-type: application/json";
    let mut running = agent.start(&["curl", "-sS", "-H", json, "--data-binary", &body, &url]);
    let mut is_held = false;
    loop {
        let is_over = !running.is_running();
        let pending = world.pending().expect("the daemon answers");
        if let Some(held) = pending.first() {
            world.deny(held.id()).expect("root may answer");
            is_held = true;
        }
        if is_over {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let ran = running.finish().succeeded();
    if is_held {
        return Verdict::Held;
    }
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran}"));
    match answer["error"]["message"].as_str() {
        Some(message) => Verdict::Denied(message.to_owned()),
        None => {
            let value = answer["results"][0]["rows"][0]["values"][0]["value"].as_str();
            Verdict::Passed(value.unwrap_or_default().to_owned())
        }
    }
}

#[test]
fn reads_are_reads_and_writes_are_what_they_are() {
    let postgres = Arc::new(Postgres::start());
    let world = world(&postgres, "");
    let agent = world.sandbox();
    let of = |sql: &str| ask(&world, &agent, PATH, &body(sql));
    let name = of("SELECT name FROM customers WHERE id = 1");
    assert_eq!(name, Verdict::Passed("Ada Lovelace".to_owned()));
    let written = of("UPDATE scratch SET note = 'seen' WHERE id = 1");
    assert!(matches!(written, Verdict::Passed(_)), "{written:?}");
    match of("DELETE FROM scratch") {
        Verdict::Denied(why) => assert!(why.contains("every row"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(of("DROP TABLE scratch"), Verdict::Held);
    assert_eq!(
        postgres.query(DATABASE, "SELECT count(*) FROM scratch"),
        "10"
    );
    let intents = events_of_kind(&world, "intent");
    let shown = Value::from(intents).to_string();
    for action in ["postgres.select", "postgres.update", "postgres.drop_table"] {
        assert!(shown.contains(action), "{action}: {shown}");
    }
}

#[test]
fn what_cannot_be_seen_through_is_held() {
    let postgres = Arc::new(Postgres::start());
    let world = world(&postgres, "");
    let agent = world.sandbox();
    let plain = body("SELECT 1");
    let with = |name: &str, value: Value| {
        let mut body = plain.clone();
        body[name] = value;
        body
    };
    for (what, path, body) in [
        (
            "a function that writes",
            PATH,
            body("SELECT note_and_count()"),
        ),
        (
            "a view that calls one",
            PATH,
            body("SELECT * FROM innocent"),
        ),
        (
            "a read before it",
            PATH,
            body("SELECT 1; SELECT * FROM innocent"),
        ),
        ("an operator", PATH, body("SELECT 'a'::text @#@ 'b'::text")),
        (
            "what was prepared",
            PATH,
            body("PREPARE p AS SELECT 1; EXECUTE p"),
        ),
        ("no SQL", PATH, body("SELEC 1")),
        ("nothing", PATH, body("")),
        ("where strings may end elsewhere", PATH, body(r"SELECT '\'")),
        ("another user", PATH, with("user", "dba".into())),
        ("the caller", PATH, with("autoIamAuthn", true.into())),
        (
            "another database",
            PATH,
            with("database", "postgres".into()),
        ),
        (
            "an unknown field",
            PATH,
            with("moreSql", "DROP TABLE scratch".into()),
        ),
        ("an unknown instance", ELSEWHERE, plain.clone()),
    ] {
        assert_eq!(ask(&world, &agent, path, &body), Verdict::Held, "{what}");
    }
    assert_eq!(postgres.query(DATABASE, "SELECT count(*) FROM audit"), "0");
    let passed = ask(&world, &agent, PATH, &plain);
    assert_eq!(passed, Verdict::Passed("1".to_owned()));
}

#[test]
fn what_it_changes_is_not_taken_for_what_it_was() {
    let postgres = Arc::new(Postgres::start());
    let world = world(&postgres, "");
    let agent = world.sandbox();
    let of = |sql: &str| ask(&world, &agent, PATH, &body(sql));
    let names = "SELECT count(*) FROM customer_names";
    assert_eq!(of(names), Verdict::Passed("3".to_owned()));
    let changed = of(
        "CREATE OR REPLACE VIEW customer_names AS SELECT note_and_count()::int AS id, 'x' AS name",
    );
    assert!(matches!(changed, Verdict::Passed(_)), "{changed:?}");
    assert_eq!(
        of(names),
        Verdict::Held,
        "what was known of it is forgotten"
    );
}

#[test]
fn rows_that_would_have_to_be_masked_are_not_asked_for() {
    let postgres = Arc::new(Postgres::start());
    let masked = r#"
@id("reads-are-masked") @mask("pii")
permit(principal, action == Action::"postgres.select", resource);
"#;
    let world = world(&postgres, masked);
    let agent = world.sandbox();
    match ask(&world, &agent, PATH, &body("SELECT card FROM customers")) {
        Verdict::Denied(why) => assert!(why.contains("Connect to the database itself"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.count("POST", PATH), 0);
}
