//! Attacks on the way to a database, byte by byte, from inside of sessions: what is promised of databases holds against them.

use holdpoint_tests::{
    postgres::{AGENT_PORT, DATABASE, HOST, Postgres, Role},
    sandbox::{Ran, Sandbox},
    world::{Settings, World},
};

const POLICIES: &str = r#"
@id("cards-are-masked") @mask("cards")
permit(principal, action == Action::"postgres.select", resource)
when { resource.name like "*/relations/customers" };
"#;
const SET: &str = "[[mask]]\nname = \"cards\"\ncolumns = [\"public.customers.card\"]\n";
const CARD: &str = "4111111111111111";

fn world(postgres: &Postgres) -> World {
    let settings = Settings {
        extra_policies: POLICIES.to_owned(),
        extra_configuration: SET.to_owned(),
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
        .limit(std::time::Duration::from_secs(90))
}

fn attack(world: &World, arguments: &[&str]) -> Ran {
    agent(world).python("database_attacks.py", arguments)
}

#[test]
fn explore() {
    let postgres = Postgres::start();
    let world = world(&postgres);
    let which = std::env::var("ATTACK").unwrap_or_default();
    for one in which.split(';') {
        let arguments: Vec<&str> = one.split(' ').collect();
        let ran = attack(&world, &arguments);
        println!("=== {one}\n{ran}");
        println!(
            "rows left: {}",
            postgres.query(DATABASE, "SELECT count(*) FROM scratch")
        );
        println!("shows card: {}", ran.says(CARD));
    }
    println!(
        "{}",
        world
            .daemon_log()
            .lines()
            .filter(|l| l.contains("WARN") || l.contains("ERROR") || l.contains("panic"))
            .collect::<Vec<_>>()
            .join("\n")
    );
}
