use std::{fmt::Write as _, sync::Mutex};

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

mod regression;

#[derive(Deserialize)]
struct Table {
    statement: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    sql: String,
    effects: Vec<String>,
    #[serde(default)]
    writes: bool,
    #[serde(default)]
    opaque: bool,
    #[serde(default)]
    without_where: bool,
}

#[test]
fn every_statement_of_the_table_does_what_stands_there() {
    let table: Table = toml::from_str(include_str!("tests/statements.toml")).expect("a table");
    assert!(table.statement.len() >= 600);
    let mut wrong = String::new();
    for row in &table.statement {
        let found = offline_text(&parse(&row.sql));
        let found: Vec<Effect> = found.into_iter().flat_map(|(_, it)| it.effects).collect();
        let effects: Vec<_> = found
            .iter()
            .map(|it| match &it.relation {
                Some(relation) => format!("{} {relation}", it.action),
                None => it.action.to_owned(),
            })
            .collect();
        let any = |is: fn(&Effect) -> bool| found.iter().any(is);
        let flags = (
            any(|it| !it.only_reads()),
            any(|it| it.opaque.is_some()),
            any(|it| it.without_where),
        );
        if effects != row.effects || flags != (row.writes, row.opaque, row.without_where) {
            let whys: Vec<_> = found.iter().filter_map(|it| it.opaque.as_ref()).collect();
            writeln!(wrong, "{}\n  {effects:?} {flags:?} {whys:?}", row.sql).expect("a string");
        }
    }
    assert!(
        wrong.is_empty(),
        "(writes, opaque, without where) differ:\n{wrong}"
    );
}

#[test]
fn statements_of_one_text_are_told_apart() {
    let text = "SELECT 1; /* ; */ DELETE FROM t WHERE a = ';' ;; ";
    let parsed = parse(text);
    let spans: Vec<_> = parsed
        .statements
        .iter()
        .map(|it| text[it.span.clone()].trim())
        .collect();
    assert_eq!(spans, ["SELECT 1", "DELETE FROM t WHERE a = ';'"]);
    assert!(parse(" ; -- nothing\n").statements.is_empty());
}

#[test]
fn what_is_wrong_anywhere_makes_all_of_a_text_opaque() {
    let parsed = parse("SELECT 1; SELEC 2");
    assert_eq!(parsed.statements.len(), 1);
    assert!(!parsed.statements[0].only_reads());
    assert_eq!(parsed.statements[0].effects[0].action, UNPARSED);
}

#[test]
fn what_is_long_or_deep_is_opaque_and_kills_nothing() {
    let long = format!("SELECT '{}'", "x".repeat(MAX_TEXT));
    let deep = [
        format!("SELECT {}1", "- ".repeat(400_000)),
        format!("SELECT {}1", "1 + ".repeat(200_000)),
        format!("SELECT {}1{}", "(".repeat(400_000), ")".repeat(400_000)),
        format!(
            "SELECT {}1{}",
            "ARRAY[".repeat(100_000),
            "]".repeat(100_000)
        ),
        format!("{}SELECT 1{}", "(".repeat(400_000), ")".repeat(400_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(60_000)),
        format!("SELECT {}1{}", "f(".repeat(200_000), ")".repeat(200_000)),
        format!("SELECT {}1", "NOT ".repeat(200_000)),
        format!(
            "SELECT * FROM {}t{}",
            "(SELECT * FROM ".repeat(40_000),
            ") x".repeat(40_000)
        ),
        format!("SELECT a{}", "[1]".repeat(300_000)),
        format!("SELECT a{}", "::int".repeat(200_000)),
        format!(
            "{}{} DROP TABLE t",
            "/*".repeat(250_000),
            "*/".repeat(250_000)
        ),
        format!("{}SELECT 1", "EXPLAIN ".repeat(100_000)),
        long,
    ];
    for text in deep {
        let parsed = parse(&text);
        let start: String = text.chars().take(30).collect();
        // Parentheses alone leave nothing in the tree, and a list of indexes is flat.
        let flat = start.contains("((") || start.contains("[1]");
        assert!(
            flat || !parsed.statements.iter().all(Statement::only_reads),
            "{start}"
        );
    }
}

#[test]
fn a_prepared_statement_does_when_executed_what_it_says() {
    let parsed = parse("PREPARE p AS DELETE FROM t; EXECUTE p");
    let Control::Prepare { name, inner } = &parsed.statements[0].control else {
        panic!("it prepares");
    };
    assert_eq!(name, "p");
    let executed = parsed.statements[1].executing(inner);
    let actions: Vec<_> = executed.effects.iter().map(|it| it.action).collect();
    assert_eq!(actions, ["postgres.execute", "postgres.delete"]);
    assert!(executed.effects.iter().all(|it| it.opaque.is_none()));
    assert!(executed.effects[1].without_where);
}

#[test]
fn a_field_may_be_a_function() {
    let parsed = parse("SELECT t.evil, (u).worse FROM t, u");
    let names = &parsed.statements[0].names;
    assert!(names.attributes.iter().eq(["evil"]) && names.methods.iter().eq(["worse"]));
    let parsed = parse("SELECT t.evil FROM t, unnest(u) AS v");
    let names = &parsed.statements[0].names;
    assert!(names.attributes.is_empty() && names.methods.iter().eq(["evil"]));
}

#[test]
fn copy_says_what_moves_over_the_connection() {
    let parsed = parse("COPY s.t (a, b) TO STDOUT WITH (FORMAT csv, HEADER)");
    let Control::CopyOut(copy) = &parsed.statements[0].control else {
        panic!("it copies");
    };
    assert_eq!(copy.relation, Some(Name::within("s", "t")));
    assert_eq!(copy.columns, ["a", "b"]);
    let format = ("format".to_owned(), Some("csv".to_owned()));
    assert_eq!(copy.options, [format, ("header".to_owned(), None)]);
    assert_eq!(
        parse("COPY t TO PROGRAM 'x'").statements[0].control,
        Control::None
    );
}

#[test]
fn operations_are_told_apart_and_bound_to_everything() {
    let at = Database {
        entry: "shop".into(),
        instance: Some("example.com:p:europe-west1:db".into()),
        host: "10.1.2.3".into(),
        port: 5432,
        database: "crm".into(),
        user: "agent".into(),
    };
    let text = "WITH d AS (DELETE FROM s.t WHERE true) SELECT * FROM u WHERE id = $1";
    let made = |at: &Database, value: &[u8], format| {
        let parsed = parse(text);
        let resolved = Resolved::as_parsed(&parsed.statements[0]);
        let parameters = [Parameter {
            type_oid: 23,
            format,
            value: Some(value.to_vec()),
        }];
        operations(
            at,
            text,
            &parsed.statements[0],
            &resolved,
            &parameters,
            true,
        )
    };
    let one = made(&at, b"1", 0);
    assert_eq!(one.len(), 2);
    assert_eq!(one[0].action.id(), "postgres.select");
    assert_eq!(
        one[1].resource.name,
        "//sqladmin.googleapis.com/projects/example.com:p/instances/db/databases/crm/schemas/s/relations/t"
    );
    assert_eq!(one[1].resource.project.as_deref(), Some("example.com:p"));
    assert!(
        one[1]
            .traits
            .contains(&crate::operation::Trait::WithoutWhere)
    );
    assert_ne!(one[0].digest, one[1].digest);
    assert_eq!(one[0].digest, made(&at, b"1", 0)[0].digest);
    let elsewhere = Database {
        user: "admin".into(),
        ..at.clone()
    };
    for other in [
        made(&at, b"2", 0),
        made(&at, b"1", 1),
        made(&elsewhere, b"1", 0),
    ] {
        assert_ne!(one[0].digest, other[0].digest);
    }
}

#[test]
fn the_cache_forgets_the_oldest_and_keeps_within_bounds() {
    let cache = Mutex::new(Cache::new(2, 1 << 20));
    let first = Cache::parse(&cache, "SELECT 1");
    assert!(Arc::ptr_eq(&first, &Cache::parse(&cache, "SELECT 1")));
    Cache::parse(&cache, "SELECT 2");
    Cache::parse(&cache, "SELECT 3");
    assert!(!Arc::ptr_eq(&first, &Cache::parse(&cache, "SELECT 1")));
    let small = Mutex::new(Cache::new(10, 1));
    let first = Cache::parse(&small, "SELECT 1");
    assert!(!Arc::ptr_eq(&first, &Cache::parse(&small, "SELECT 1")));
}

proptest! {
    #[test]
    fn any_text_is_read_or_opaque(text in "\\PC{0,80}") {
        for statement in &parse(&text).statements {
            prop_assert!(!statement.effects.is_empty());
            prop_assert!(text.get(statement.span.clone()).is_some());
            prop_assert!(statement.effects.iter().all(|it| ACTIONS.contains_key(it.action)));
        }
    }

    #[test]
    fn any_words_of_sql_are_read_or_opaque(words in proptest::collection::vec(
        prop::sample::select(vec!["SELECT", "WITH", "x", "AS", "(", ")", "DELETE", "FROM", "t", "WHERE", "1", "=", ",", ";", "$$", "'", "\"",
            "EXPLAIN", "ANALYZE", "PREPARE", "p", "EXECUTE", "INSERT", "INTO", "VALUES", "COPY", "TO", "STDOUT", "--", "/*", "*/", "DO", "SET"]), 0..24)) {
        let text = words.join(" ");
        for statement in &parse(&text).statements {
            prop_assert!(!statement.effects.is_empty());
            let deletes = statement.effects.iter().any(|it| it.action == "postgres.delete");
            prop_assert!(!deletes || !statement.only_reads());
        }
    }
}

#[test]
fn what_tools_ask_a_server_about_itself_is_read() {
    let asked = include_str!("tests/introspection.sql")
        .split("\n\n")
        .skip(1);
    let mut wrong = String::new();
    let mut count = 0;
    for text in asked {
        for statement in &parse(text).statements {
            count += 1;
            let found = offline(statement);
            if !found.effects.iter().all(Effect::only_reads) {
                writeln!(wrong, "{text}\n  {:?}", found.effects).expect("a string");
            }
        }
    }
    assert!(count > 60, "{count}");
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_text_that_does_very_much_is_opaque_before_it_costs_much() {
    let many = |one: fn(usize) -> String, count| -> String { (0..count).map(one).collect() };
    let costly = [
        many(|at| format!("DELETE FROM t{at};"), 40_000),
        format!("SELECT * FROM {} t", many(|at| format!("t{at},"), 100_000)),
        format!("SELECT {} 1", many(|at| format!("f{at}(),"), 80_000)),
        format!("DROP TABLE {} t", many(|at| format!("t{at},"), 100_000)),
        format!(
            "-- {}\n{}",
            "x".repeat(900_000),
            "DELETE FROM t;".repeat(200)
        ),
    ];
    for text in costly {
        assert!(text.len() < MAX_TEXT, "{}", text.len());
        let parsed = parse(&text);
        let start: String = text.chars().take(30).collect();
        assert_eq!(parsed.statements.len(), 1, "{start}");
        assert_eq!(parsed.statements[0].effects[0].action, UNPARSED, "{start}");
    }
    // What is large but does little is read.
    for text in [
        format!("INSERT INTO t VALUES {} (1)", "(1,'x'),".repeat(100_000)),
        format!("SELECT 1 WHERE 1 IN ({}1)", "1,".repeat(400_000)),
        format!("SELECT '{}'", "x".repeat(1_000_000)),
    ] {
        let parsed = parse(&text);
        assert_ne!(parsed.statements[0].effects[0].action, UNPARSED);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Statements of the table, cut, doubled and mixed: the parser in C and what reads its trees survive them.
    #[test]
    fn mangled_statements_are_read_or_opaque(
        pieces in proptest::collection::vec((any::<prop::sample::Index>(), 0.0..1.0_f64, 0.0..1.0_f64), 1..6)) {
        let table = include_str!("tests/statements.toml");
        let all: Vec<&str> = table.lines().filter_map(|it| it.strip_prefix("sql = ")).collect();
        let mut text = String::new();
        for (which, from, to) in pieces {
            let one: Vec<char> = which.get(&all).trim_matches('\'').chars().collect();
            let place = |at: f64| (at * one.len() as f64) as usize;
            let (from, to) = (place(from.min(to)), place(from.max(to)));
            text.extend(&one[from..to]);
            text.push(' ');
        }
        for statement in &parse(&text).statements {
            prop_assert!(!statement.effects.is_empty());
            prop_assert!(statement.effects.iter().all(|it| ACTIONS.contains_key(it.action)));
            let _ = offline(statement);
        }
    }
}
