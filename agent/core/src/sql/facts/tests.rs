use super::{observed::Answers, *};
use crate::sql::{Effect, Resolved, Statement, parse};

fn only(sql: &str) -> Statement {
    parse(sql).statements[0].clone()
}

fn is_read(resolved: &Resolved) -> bool {
    resolved.needs.is_empty() && resolved.effects.iter().all(Effect::only_reads)
}

fn offline(sql: &str) -> bool {
    is_read(&resolve(&only(sql), Facts::stock()))
}

#[test]
fn without_a_server_only_what_postgresql_came_with_is_harmless() {
    for sql in [
        "SELECT lower(a), count(*) FROM t WHERE b = 1 AND c LIKE 'x' GROUP BY 1",
        "SELECT now(), random(), pg_sleep(1), uuidv7()",
        "SELECT '1'::int8, a::text[] FROM pg_class",
    ] {
        assert!(
            offline(sql),
            "{sql}: {:?}",
            resolve(&only(sql), Facts::stock())
        );
    }
    for sql in [
        "SELECT nextval('s')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/x')",
        "SELECT lo_get(1)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_terminate_backend(1)",
        "SELECT setval('s', 1)",
        "SELECT table_to_xml('t', true, true, '')",
        "SELECT pg_input_is_valid('1', 'd')",
        "SELECT mine(1)",
        "SELECT other.lower('x')",
        "SELECT a === b FROM t",
        "SELECT a OPERATOR(mine.=) b FROM t",
        "SELECT 'x'::mine",
        "SELECT * FROM dblink('', 'DELETE') AS t(a int)",
        "SELECT * FROM pg_shadow",
        "SELECT * FROM pg_catalog.pg_stats",
        "SELECT * FROM information_schema.user_mapping_options",
    ] {
        assert!(!offline(sql), "{sql}");
    }
}

#[test]
fn nothing_is_a_read_before_its_names_are_known() {
    let statement = only("SELECT lower(a) FROM t WHERE a = 'x'::u");
    let mut facts = Facts::default();
    let asked = resolve(&statement, &facts);
    assert!(!is_read(&asked) && asked.effects.iter().all(|effect| effect.opaque.is_some()));
    assert_eq!(asked.needs, statement.names);
    facts.add(answers(TABLE));
    let half = resolve(&statement, &facts);
    assert!(!is_read(&half) && half.needs.relations.is_empty() && !half.needs.functions.is_empty());
}

const TABLE: &str = r#""relations": [{"schema": null, "name": "t", "found": [{"schema": "s", "name": "t", "kind": "r", "builtin": false, "definition": null,
    "expressions": [], "planned": [], "defaults": [], "operator_classes": [], "types": [], "foreign": null, "rewrites": []}]}]"#;

fn answers(relations: &str) -> Answers {
    let text = format!(
        r#"{{{relations}, "functions": [], "operators": [], "types": [], "attributes": [], "methods": [], "inputs": [], "casts": []}}"#
    );
    serde_json::from_str(&text).expect("answers")
}

fn view(name: &str, definition: &str) -> String {
    format!(
        r#""relations": [{{"schema": "s", "name": "{name}", "found": [{{"schema": "s", "name": "{name}", "kind": "v", "builtin": false,
        "definition": "{definition}", "expressions": [], "planned": [], "defaults": [], "operator_classes": [], "types": [], "foreign": null, "rewrites": []}}]}}]"#
    )
}

#[test]
fn relations_are_qualified() {
    let mut facts = Facts::default();
    facts.add(answers(TABLE));
    let resolved = resolve(&only("SELECT 1 FROM t"), &facts);
    assert!(is_read(&resolved), "{resolved:?}");
    assert_eq!(
        resolved.effects[0]
            .relation
            .as_ref()
            .map(ToString::to_string)
            .as_deref(),
        Some("s.t")
    );
}

#[test]
fn views_are_followed_and_that_ends() {
    let mut facts = Facts::default();
    facts.add(answers(&view("a", "SELECT x FROM s.b")));
    let resolved = resolve(&only("SELECT * FROM s.a"), &facts);
    assert_eq!(resolved.needs.relations.len(), 1);
    facts.add(answers(&view("b", "SELECT x FROM s.a")));
    assert!(is_read(&resolve(&only("SELECT * FROM s.a"), &facts)));
    for depth in 0..100 {
        facts.add(answers(&view(
            &format!("v{depth}"),
            &format!("SELECT x FROM s.v{}", depth + 1),
        )));
    }
    assert!(!is_read(&resolve(&only("SELECT * FROM s.v0"), &facts)));
}

#[test]
fn an_opaque_statement_leaves_nothing_certain_in_its_transaction() {
    let mut local = LocalNames::default();
    let stock = |sql: &str| (only(sql), resolve(&only(sql), Facts::stock()));
    for quiet in [
        "SELECT nextval('s')",
        "CREATE TABLE a (b int)",
        "INSERT INTO a VALUES (1)",
        "SET TRANSACTION READ ONLY",
        "ALTER TABLE a ADD CHECK (b > 0), ADD c text NOT NULL DEFAULT 'x', DROP COLUMN d",
        "ALTER TABLE a RENAME COLUMN b TO c",
        "CREATE TYPE mood AS ENUM ('sad')",
    ] {
        let (statement, resolved) = stock(quiet);
        local.note(&statement, &resolved);
        assert!(local.is_empty(), "{quiet}: {resolved:?}");
    }
    for sql in ["ALTER TABLE a RENAME TO c", "ALTER VIEW d SET SCHEMA e"] {
        let (statement, resolved) = stock(sql);
        local.note(&statement, &resolved);
    }
    let applied = |local: &LocalNames, sql: &str| {
        let (statement, mut resolved) = stock(sql);
        local.apply(&statement, &mut resolved);
        is_read(&resolved)
    };
    assert!(applied(&local, "SELECT 1 FROM b"));
    for changed in ["s.a", "c", "d", "e.d"] {
        assert!(!applied(&local, &format!("SELECT 1 FROM {changed}")));
    }
    for (opaque, after) in [
        ("DO 'x'", "SELECT 1 FROM b"),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'x'",
            "SELECT lower('a')",
        ),
    ] {
        let mut local = LocalNames::default();
        let (statement, resolved) = stock(opaque);
        local.note(&statement, &resolved);
        assert!(!applied(&local, after), "{opaque}");
    }
}
