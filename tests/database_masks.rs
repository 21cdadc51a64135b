//! A masked column is masked in whatever a statement makes of it, and what is beside it is not.

use holdpoint_tests::{
    database::{self, OBSERVE},
    postgres::{DATABASE, Postgres},
    world::Settings,
};

const POLICIES: &str = r#"
@id("all-of-it-masked") @mask("contacts")
permit(principal, action in Action::"postgres.*", resource);
"#;
const SET: &str = "[[mask]]\nname = \"contacts\"\ncolumns = [\"public.customers.email\", \"public.customers.card\", \"public.parts.email\"]\n";

const VIEWS: &str = "
SET ROLE app;
CREATE VIEW contacts AS SELECT id, name, email AS address, upper(card) AS number FROM customers;
CREATE VIEW contacts_of_contacts AS SELECT c.address AS a, c.name FROM contacts c UNION SELECT 'nobody', 'Nobody';
CREATE MATERIALIZED VIEW kept_contacts AS SELECT name, email AS address FROM customers;
CREATE TABLE parts (id int, email text) PARTITION BY LIST (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
INSERT INTO parts VALUES (1, 'ada@example.com');
";

const LEAKS: &[&str] = &[
    "SELECT email, card FROM customers",
    "SELECT lower(email), card || '' FROM customers",
    "SELECT c FROM customers c",
    "SELECT c::text FROM customers /* x */ c",
    "SELECT row_to_json(c), to_jsonb(c) FROM customers AS c",
    "SELECT c.to_jsonb FROM customers c",
    "SELECT c.concat FROM customers c",
    "SELECT hstore(c) FROM customers c",
    "SELECT json_agg(c) FROM customers c",
    "SELECT array_agg(c) FROM customers c",
    "SELECT string_agg(email, ','), max(card), array_agg(email) FROM customers",
    "SELECT format('%s %s', email, c) FROM customers c",
    "SELECT xmlforest(email, card) FROM customers",
    "SELECT encode(convert_to(email, 'UTF8'), 'escape') FROM customers",
    "SELECT unnest(string_to_array(email || ' ', ' ')) FROM customers",
    "SELECT t::text FROM (TABLE customers LIMIT 5) t",
    "WITH t AS (TABLE customers) SELECT t::text FROM t",
    "WITH x(a, b, c, d, e) AS (TABLE customers) SELECT lower(c), lower(d) FROM x",
    "SELECT j::text FROM (customers c JOIN scratch s USING (id)) j",
    "SELECT 0, 'n', 'e', 'c', 0 UNION ALL TABLE customers",
    "SELECT k.value FROM customers c CROSS JOIN LATERAL jsonb_each_text(c.to_jsonb) k",
    "SELECT lower(e) FROM customers AS c(i, n, e)",
    "SELECT (c).email, (c).* FROM customers c",
    "VALUES ((SELECT email FROM customers WHERE id = 1))",
    "UPDATE customers SET name = name WHERE id = 1 RETURNING *, lower(email), customers::text",
    "PREPARE q AS SELECT lower(email) FROM customers; EXECUTE q",
    "BEGIN; DECLARE k CURSOR FOR SELECT lower(email), c FROM customers c; FETCH ALL FROM k; COMMIT",
    "COPY customers TO STDOUT",
    "COPY customers (card, email) TO STDOUT (FORMAT csv)",
    "SELECT email::int FROM customers",
    "SELECT address, number FROM contacts",
    "SELECT lower(address) FROM contacts",
    "SELECT c::text FROM contacts c",
    "SELECT a FROM contacts_of_contacts",
    "SELECT address FROM kept_contacts",
    "SELECT upper(address) || lower(address) FROM kept_contacts",
    "SELECT email FROM parts_1",
    "COPY parts_1 TO STDOUT",
    "COPY parts_1 (email) TO STDOUT CSV",
    "CREATE VIEW sneaky AS SELECT email AS e FROM customers",
    "SELECT e, lower(e) FROM sneaky",
    "SELECT query_to_xml('select em' || 'ail from customers', true, true, '')",
    "BEGIN; ALTER VIEW contacts RENAME TO renamed; SELECT lower(address) FROM renamed; ROLLBACK",
];

/// What is shown as it is, for all that masked columns are near.
const SHOWN: &[(&str, &str)] = &[
    ("SELECT name FROM contacts WHERE id = 1", "Ada Lovelace"),
    (
        "SELECT upper(c.name) FROM customers c WHERE c.id = 1",
        "ADA LOVELACE",
    ),
    (
        "SELECT count(email), max(length(card)) FROM customers",
        "3|16",
    ),
    (
        "SELECT upper(name) FROM customer_names WHERE id = 1",
        "ADA LOVELACE",
    ),
    (
        "SELECT name FROM kept_contacts ORDER BY 1 LIMIT 1",
        "Ada Lovelace",
    ),
    ("SELECT note FROM scratch WHERE id = 1", "note 1"),
];

#[test]
fn masks_follow_what_a_statement_makes_of_their_columns() {
    let postgres = Postgres::start();
    let _ = postgres.query(DATABASE, VIEWS);
    let settings = Settings::with_database(&postgres)
        .policies(POLICIES)
        .configuration(&format!("{SET}\n{OBSERVE}"));
    let world = settings.start();
    for command in LEAKS {
        let ran = database::psql(&world, &[command]);
        for secret in [
            "@example.com",
            "@EXAMPLE.COM",
            "4111111111111111",
            "5500005555555559",
        ] {
            assert!(!ran.says(secret), "{command}: {ran}");
        }
        let is_masked = ran.says("[masked:contacts]");
        let is_made = ran.says("CREATE VIEW");
        assert!(
            is_masked || is_made,
            "{command}: {ran}\n{}",
            world.daemon_log()
        );
    }
    for (command, shown) in SHOWN {
        let ran = database::psql(&world, &[command]).succeeded();
        assert_eq!(ran.stdout.trim(), *shown, "{command}: {ran}");
    }
}
