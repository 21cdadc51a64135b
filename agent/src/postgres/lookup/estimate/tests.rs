use super::*;

fn written(sql: &str) -> Result<Option<String>, String> {
    let parsed = parse(sql);
    let statement = &parsed.statements[0];
    let mut resolved = Resolved::as_parsed(statement);
    for effect in &mut resolved.effects {
        if let Some(name) = &mut effect.relation {
            name.schema.get_or_insert_with(|| "shop".to_owned());
        }
    }
    match Planned::of(sql, statement, &resolved, &[]) {
        None => Ok(None),
        Some(planned) => planned.map(|it| it.explained),
    }
}

#[test]
fn exactly_the_statement_is_explained_and_nothing_else() {
    let update = "UPDATE orders SET total = 0 WHERE id < 5";
    assert_eq!(written(update), Ok(Some(format!("{EXPLAIN} {update}"))));
    let second = "SELECT 1; DELETE FROM orders WHERE id = 1";
    assert_eq!(written(second), Ok(None), "the first touches nothing");
    assert_eq!(
        written("TRUNCATE orders"),
        Ok(None),
        "only its rows are counted"
    );
    for sql in [
        "PREPARE p AS DELETE FROM orders",
        "EXPLAIN ANALYZE DELETE FROM orders",
        "COPY (DELETE FROM orders RETURNING id) TO STDOUT",
        "DELETE FROM pg_temp.orders",
        "DO $$ BEGIN DELETE FROM orders; END $$",
    ] {
        let told = written(sql);
        assert!(!matches!(told, Ok(Some(_))), "{sql}: {told:?}");
    }
}

#[test]
fn a_name_that_may_mean_two_relations_is_not_planned() {
    let sql = "DELETE FROM orders";
    let parsed = parse(sql);
    let mut resolved = Resolved::as_parsed(&parsed.statements[0]);
    let effect = resolved.effects[0].clone();
    resolved.effects = ["a", "b"]
        .map(|schema| Effect {
            relation: Some(Name::within(schema, "orders")),
            ..effect.clone()
        })
        .to_vec();
    let planned = Planned::of(sql, &parsed.statements[0], &resolved, &[]);
    assert!(planned.expect("it writes").is_err());
    for effect in &mut resolved.effects {
        effect.opaque = Some("who knows".into());
    }
    let planned = Planned::of(sql, &parsed.statements[0], &resolved, &[]);
    let why = planned.expect("it writes").expect_err("it is opaque");
    assert!(why.contains("see through"), "{why}");
}

#[test]
fn names_are_quoted() {
    let schemas = ["a\"b", "public"].into();
    assert_eq!(
        search_path(&schemas),
        r#"SET search_path = "public", "a""b""#
    );
}

#[test]
fn a_plan_says_what_is_written() {
    let plan = br#"[{"Plan": {"Node Type": "ModifyTable", "Operation": "Insert", "Parallel Aware": false, "Relation Name": "log",
        "Schema": "shop", "Plan Rows": 0, "Plans": [
          {"Node Type": "ModifyTable", "Operation": "Delete", "Parent Relationship": "InitPlan", "Relation Name": "orders", "Schema": "shop",
           "Plan Rows": 40, "Plans": [{"Node Type": "Seq Scan", "Parent Relationship": "Outer", "Plan Rows": 40.4}]},
          {"Node Type": "Append", "Parent Relationship": "Outer", "Plan Rows": 41}]}}]"#;
    let told = plan::writes(plan).expect("a plan");
    let told: Vec<_> = told
        .iter()
        .map(|it| (it.does, it.relation.to_string(), it.rows))
        .collect();
    assert_eq!(
        told,
        [
            ("insert", "shop.log".to_owned(), 41),
            ("delete", "shop.orders".to_owned(), 40)
        ]
    );
    for bad in [&b"[]"[..], b"{}", b"[{\"Plan\": 1}]", b"\xff"] {
        assert!(plan::writes(bad).is_none() && plan::rows(bad).is_none());
    }
}
