//! Every version of PostgreSQL that Cloud SQL has: startup, what names mean there, masks, and holds.

use holdpoint_tests::{
    database::{CARDS, MASKED_CARDS, psql},
    postgres::{DATABASE, Options},
    world::Settings,
};

/// Reads that are known to be reads pass, and nothing else does.
const POLICIES: &str = r#"
@id("reads-pass") @mask("cards")
permit(principal, action in [Action::"postgres.select", Action::"postgres.copy_to"], resource);
@id("rows-may-change")
permit(principal, action in [Action::"postgres.insert", Action::"postgres.update"], resource);
@id("what-nobody-sees-through")
forbid(principal, action in Action::"postgres.*", resource) when { context.traits.contains("opaque") };
"#;

fn works_with(version: u32) {
    let options = Options {
        version: Some(version),
        ..Options::default()
    };
    let postgres = options.start();
    let settings = Settings::with_database(&postgres)
        .policies(POLICIES)
        .configuration(MASKED_CARDS);
    let world = settings.start();
    let ran = psql(
        &world,
        &["SELECT current_setting('server_version_num')::int / 10000"],
    )
    .succeeded();
    assert_eq!(ran.stdout.trim(), version.to_string(), "{ran}");

    let passes = [
        (
            "SELECT upper(name) || count(*) FROM customers JOIN orders ON customer = customers.id GROUP BY name",
            3,
        ),
        ("SELECT c.id, card FROM customers c", 3),
        ("COPY customers (id, card) TO STDOUT", 3),
        (
            "SELECT * FROM customer_names WHERE name ~ '^A' AND id = ANY (ARRAY[1, 2]) ORDER BY id::text COLLATE \"C\"",
            1,
        ),
        (
            "SELECT to_jsonb(o) ->> 'item', sum(quantity) OVER (ORDER BY placed) FROM orders o LIMIT 2",
            2,
        ),
    ];
    for (command, rows) in passes {
        let ran = psql(&world, &[command]);
        assert!(
            ran.status.success(),
            "{version}: {ran}\n{}",
            world.daemon_log()
        );
        assert_eq!(ran.stdout.lines().count(), rows, "{version}: {ran}");
        assert!(!ran.says(CARDS[0]), "{version}: {ran}");
    }
    let refused = [
        "SELECT * FROM innocent",
        "SELECT name @#@ 'x' FROM customers",
        "SET search_path = shadow, public; SELECT lower(name) FROM customers",
        "DROP TABLE scratch",
        "SELECT pg_read_file('PG_VERSION')",
    ];
    for command in refused {
        let ran = psql(&world, &[command]).failed();
        assert!(ran.says("Holdpoint"), "{version}: {ran}");
    }
    assert_eq!(
        postgres.query(DATABASE, "SELECT count(*) FROM audit"),
        "0",
        "{version}"
    );
    let ran = psql(&world, &["UPDATE scratch SET note = 'new' WHERE id < 3"]).succeeded();
    assert!(ran.says("UPDATE 2"), "{version}: {ran}");
}

#[test]
fn version_12_works() {
    works_with(12);
}

#[test]
fn version_13_works() {
    works_with(13);
}

#[test]
fn version_14_works() {
    works_with(14);
}

#[test]
fn version_16_works() {
    works_with(16);
}

#[test]
fn version_17_works() {
    works_with(17);
}

#[test]
fn version_18_works() {
    works_with(18);
}
