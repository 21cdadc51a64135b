use proptest::prelude::*;

use super::*;

/// Effects as `verb relation`, with `?` where opaque and `!` where all rows are meant.
fn told(text: &str) -> Vec<String> {
    let show = |effect: &Effect| {
        let opaque = if effect.opaque.is_some() { "?" } else { "" };
        let all = if effect.without_where { "!" } else { "" };
        format!("{}{opaque}{all} {}", effect.verb, effect.relation.join("."))
            .trim()
            .to_owned()
    };
    effects(text).0.iter().map(show).collect()
}

#[test]
fn statements_are_known_by_what_they_do() {
    for (text, expected) in [
        ("select 1", &["select"][..]),
        (
            "select net.host(u), hll_count.init(u) from d.t",
            &["select d.t"],
        ),
        (
            "SELECT a, count(*) FROM `p.d.t` WHERE x = 'DROP TABLE t' GROUP BY a -- ; DROP",
            &["select p.d.t"],
        ),
        (
            "select * from d.a join my-project.d.b using (id)",
            &["select d.a", "select my-project.d.b"],
        ),
        (
            "with x as (select * from d.t) select * from x",
            &["select d.t", "select x"],
        ),
        (
            "insert into d.t (a) select a from d.s",
            &["insert d.t", "select d.s"],
        ),
        ("insert d.t (a) values (1)", &["insert d.t"]),
        (
            "insert into d.t (a) select a from d.t",
            &["insert d.t", "select d.t"],
        ),
        ("update d.t set a = 1 where b = 2", &["update d.t"]),
        ("update d.t set a = 1 where true", &["update! d.t"]),
        (
            "delete from d.t where id in (select id from d.s)",
            &["delete d.t", "select d.s"],
        ),
        ("delete d.t where 1 = 1", &["delete! d.t"]),
        ("delete from d.t where (true)", &["delete! d.t"]),
        (
            "merge d.t using d.s on t.id = s.id when matched then delete",
            &["merge d.t", "select d.s"],
        ),
        ("truncate table d.t", &["truncate d.t"]),
        ("drop table if exists d.t", &["drop_table d.t"]),
        ("drop schema d", &["drop_schema d"]),
        ("drop view d.v", &["drop_view d.v"]),
        (
            "create table d.t as select * from d.s",
            &["create_table d.t", "select d.s"],
        ),
        (
            "create or replace table d.t (a int64)",
            &["create_table d.t", "drop_table d.t"],
        ),
        (
            "create view d.v as select * from d.s",
            &["create_view d.v", "select d.s"],
        ),
        (
            "alter table d.t drop column a",
            &["alter_table d.t", "drop_column d.t"],
        ),
        (
            "select 1; drop table d.t; select 2",
            &["drop_table d.t", "select"],
        ),
    ] {
        assert_eq!(told(text), expected, "{text}");
    }
}

#[test]
fn what_the_text_does_not_tell_is_opaque() {
    for text in [
        "execute immediate 'drop table d.t'",
        "call d.p()",
        "begin delete from d.t where true; end",
        "declare x int64 default 1",
        "if true then drop table d.t; end if",
        "select d.remote(x) from d.t",
        "select mine(1)",
        // Data sets may be called like name spaces of BigQuery's.
        "select net.mine(1)",
        "select safe.mine(1)",
        "select bit.mine(1)",
        "select hll_count.mine(1)",
        "select keys.keyset_chain('gcp-kms://k', b'x')",
        "select ai.generate('x')",
        "select * from external_query('c', 'delete from t')",
        "select * from ml.predict(model d.m, table d.t)",
        "select * from d.function(1)",
        "export data options (uri = 'gs://b/*') as select * from d.t",
        "load data into d.t from files (uris = ['gs://b/x'])",
        "grant `roles/x` on schema d to 'user:m@example.com'",
        "create function d.f(x int64) returns int64 remote with connection p.us.c options (endpoint = 'e')",
        "create procedure d.p() begin select 1; end",
        "from d.t |> where true",
        "create external table d.t options (uris = ['x'])",
        "select * from",
        "",
        "  -- nothing",
        "select 'never ends",
        "select \\",
        "select \u{2028} 1",
        "select 1 -- a\rdrop table d.t",
        "select `a``b`",
    ] {
        assert!(
            effects(text).0.iter().any(|effect| effect.opaque.is_some()),
            "{text}: {:?}",
            effects(text)
        );
    }
}

/// Strings in which others find other ends than GoogleSQL does.
#[test]
fn a_string_ends_where_googlesql_says() {
    for text in [
        r"select r'\', '; drop table d.t; --'",
        r"select '\\', '\''; drop table d.t; -- '",
        r"select 'a' 'b'; drop table d.t",
        "select '''a'''; drop table d.t; -- '''",
        "select ''; drop table d.t; -- ''",
        "select /* ' */ 1; drop table d.t -- '",
        "select 1 # '\n; drop table d.t -- '",
        "select /* /* */ 1; drop table d.t -- */",
        "select \"\"\"\"a\"\"\"; drop table d.t -- \"",
    ] {
        let told = told(text);
        let drops = told.iter().any(|effect| effect == "drop_table d.t");
        assert!(
            drops || told.iter().any(|effect| effect.contains('?')),
            "{text}: {told:?}"
        );
    }
    assert_eq!(told(r"select r'\'; drop table d.t; --'"), ["select"]);
    assert_eq!(told("select '''it's; drop table d.t'''"), ["select"]);
}

#[test]
fn nothing_exhausts_the_stack() {
    let deep = |open: &str, middle: &str, close: &str, times: usize| {
        format!(
            "select {}{middle}{}",
            open.repeat(times),
            close.repeat(times)
        )
    };
    let texts = [
        deep("(", "1", ")", 100_000),
        deep("", "1", " + 1", 100_000),
        deep("", "1", " + 1", MAX_TOKENS / 4 - 10),
        deep("", "1", "[0]", MAX_TOKENS / 3 - 10),
        deep("not ", "1", "", MAX_TOKENS / 2 - 10),
        deep("-", "1", "", MAX_TOKENS - 10),
        deep("", "1", " union all select 1", MAX_TOKENS / 8 - 10),
        deep("array<", "int64", ">", 1_000),
        deep("case when ", "1", " then 1 end", 1_000),
        deep("", "1 from a", " join a", 1_000),
    ];
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let thread = small.spawn(move || texts.iter().for_each(|text| drop(effects(text))));
    thread
        .expect("a thread")
        .join()
        .expect("its stack is enough");
}

proptest! {
    #[test]
    fn any_text_is_read_or_opaque(text in "(?s).{0,200}") {
        prop_assert!(!effects(&text).0.is_empty());
    }

    /// Whatever goes before it, a statement of its own that drops a table is seen, or the text is opaque, or it lies in a string or comment
    /// that was open.
    #[test]
    fn a_drop_behind_anything_whole_is_seen(before in "([a-z0-9 ,()+*/.]|'[a-z;-]*'|\"\"\"[a-z;' -]*\"\"\"|r'[a-z\\\\;]*[a-z]'|--[a-z']*\n|#[a-z']*\n|/\\*[a-z' ]*\\*/){0,12}") {
        let told = told(&format!("select {before} ; drop table d.t"));
        let open = lexical::statements(&before).is_err();
        prop_assert!(open || told.iter().any(|it| it.contains("drop_table d.t") || it.contains('?')), "{told:?}");
    }

    #[test]
    fn no_string_says_what_is_done(content in "[a-zA-Z;()'\" -]{0,40}") {
        let content = content.replace('\'', "\\'");
        prop_assert_eq!(told(&format!("select '{content}' from d.t")), ["select d.t"]);
    }
}
