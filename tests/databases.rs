//! What is promised of databases, promise by promise, against a real PostgreSQL.

use holdpoint_tests::{
    postgres::{AGENT_PORT, DATABASE, HOST, Postgres, Role},
    sandbox::{Ran, Sandbox},
    world::{Settings, World},
};

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
}

fn psql(world: &World, commands: &[&str]) -> Ran {
    let mut arguments = vec!["psql", "-XAt"];
    for command in commands {
        arguments.extend(["-c", command]);
    }
    agent(world).run(&arguments)
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
        let mut running = agent.start(&["psql", "-XAt", "-c", "DROP TABLE scratch"]);
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
            .run(&["psql", "-XAt", "-c", "SELECT 1"])
            .failed();
        assert!(!ran.says("\n1\n"), "{ran}");
        assert!(postgres.log().since(&before).entries().is_empty(), "{host}");
    }
    let ran = agent(&world)
        .env("PGDATABASE", "postgres")
        .run(&["psql", "-XAt", "-c", "SELECT 1"]);
    let _ = ran.failed();
}
