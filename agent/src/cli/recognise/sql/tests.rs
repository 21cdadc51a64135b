use std::collections::BTreeMap;

use holdpoint_core::{catalog::Catalog, identity::Principal, policy::Policies};
use serde_json::{Value, json};

use super::{super::judge_lines, *};
use crate::policy_dir::read_policies;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies");

fn recognised(input: &[u8]) -> (Vec<Value>, usize) {
    let sources = read_policies(SHIPPED.as_ref()).expect("they ship");
    let policies = Policies::load(&sources, Catalog::built_in()).expect("they load");
    let judge = Judge {
        sql: true,
        policies: Some(policies),
        principal: Principal {
            issuer: "i".into(),
            subject: "s".into(),
            groups: BTreeSet::new(),
            claims: BTreeMap::new(),
        },
    };
    let mut output = Vec::new();
    let bad = judge_lines(&judge, input, &mut output).expect("a vector takes it");
    let lines = output
        .split(|byte| *byte == b'\n')
        .filter(|it| !it.is_empty());
    let read = |line| serde_json::from_slice(line).expect("JSON");
    (lines.map(read).collect(), bad)
}

fn one(sql: &str) -> Value {
    let (mut lines, bad) = recognised(json!({ "sql": sql }).to_string().as_bytes());
    assert_eq!((lines.len(), bad), (1, 0), "{sql}");
    lines.remove(0)
}

#[test]
fn each_statement_says_what_it_does_and_the_text_happens_as_the_strictest_may() {
    let said = one("SELECT lower(a) FROM s.t JOIN u USING (id); DROP TABLE public.t");
    let [select, drop] = said["statements"].as_array().expect("a list").as_slice() else {
        panic!("{said}");
    };
    assert_eq!(select["action"], "postgres.select");
    assert_eq!(select["relations"], json!(["s.t", "u"]));
    assert_eq!(select["functions"], json!(["lower"]));
    assert_eq!(
        (&select["writes"], &select["opaque"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(select["decision"], "allow");
    assert_eq!(drop["relations"], json!(["public.t"]));
    assert_eq!(
        (&drop["writes"], &drop["decision"]),
        (&json!(true), &json!("hold"))
    );
    assert_eq!(said["decision"], "hold");
    assert_eq!(one("DELETE FROM t")["decision"], "deny");
    assert_eq!(one("DO 'BEGIN END'")["statements"][0]["opaque"], true);
}

#[test]
fn relations_are_relations() {
    for (sql, relations) in [
        ("SET search_path = a", json!([])),
        ("SHOW search_path", json!([])),
        ("DROP ROLE r", json!([])),
        ("DROP FUNCTION f(int)", json!([])),
        ("CREATE EXTENSION e", json!([])),
        (
            "CREATE TRIGGER g AFTER INSERT ON s.t EXECUTE FUNCTION f()",
            json!(["s.t"]),
        ),
        ("DROP TRIGGER g ON s.t", json!(["s.t"])),
        ("GRANT SELECT ON s.t TO r", json!(["s.t"])),
        ("SELECT nextval('s.q')", json!(["s.q"])),
        ("DROP SEQUENCE s.q", json!(["s.q"])),
    ] {
        assert_eq!(one(sql)["statements"][0]["relations"], relations, "{sql}");
    }
}

#[test]
fn earlier_statements_of_a_text_change_what_later_ones_mean() {
    let said = one("CREATE FUNCTION lower(int) RETURNS int LANGUAGE sql AS 'x'; SELECT lower(1)");
    assert_eq!(said["statements"][1]["opaque"], true);
    let said = one("PREPARE p AS DELETE FROM t WHERE a = 1; EXECUTE p");
    assert_eq!(said["statements"][1]["relations"], json!(["t"]));
    assert_eq!(said["statements"][1]["opaque"], false);
}

#[test]
fn every_line_has_its_answer_and_broken_ones_say_what_is_wrong() {
    let long = format!("{{\"sql\": \"{}\"}}", "x".repeat(33 << 20));
    let mut input = b"\xef\xbb\xbf{\"sql\": \"SELECT 1\"}\n\n  \n".to_vec();
    input.extend(b"{\"sql\": 1}\r\n{}\nSELECT 1\n{\"sql\": \"\xff\"}\n");
    input.extend(long.as_bytes());
    input.extend(
        b"\n{\"sql\": \" -- nothing\"}\n{\"sql\": \"SELECT \\u0000\"}\n{\"sql\": \"SELECT 2\"}",
    );
    let (lines, bad) = recognised(&input);
    assert_eq!((lines.len(), bad), (9, 5), "{lines:?}");
    let error = |at: usize| lines[at]["error"].as_str().unwrap_or_default();
    assert!(error(2).contains("missing field `sql`"), "{}", error(2));
    assert!(error(5).contains("longer than"), "{}", error(5));
    assert!((1..6).all(|at| !error(at).is_empty()));
    assert_eq!(
        (&lines[6]["statements"], &lines[6]["decision"]),
        (&json!([]), &json!("allow"))
    );
    assert_eq!(lines[7]["statements"][0]["action"], sql::UNPARSED);
    assert_eq!(lines[8]["statements"][0]["action"], "postgres.select");
}
