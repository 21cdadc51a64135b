//! PostgreSQL's own regression tests, statement by statement: none that writes is taken for a read.

use std::collections::BTreeMap;

use pg_query::protobuf::Token;

use super::*;

/// Words that begin, or hide in, statements that write.
const WRITE: &[Token] = &[
    Token::Insert,
    Token::DeleteP,
    Token::Merge,
    Token::Truncate,
    Token::Drop,
    Token::Alter,
    Token::Create,
    Token::Grant,
    Token::Revoke,
    Token::Do,
    Token::Call,
    Token::Vacuum,
    Token::Reindex,
    Token::Cluster,
    Token::Comment,
    Token::Notify,
    Token::Refresh,
    Token::Reassign,
    Token::Load,
    Token::Into,
];

fn statements() -> Vec<(String, String)> {
    let all = zstd::decode_all(&include_bytes!("postgresql/regress.sql.zst")[..]).expect("zstd");
    let all = String::from_utf8(all).expect("UTF-8");
    let mut found = Vec::new();
    for file in all.split('\x0c').skip(1) {
        let (name, text) = file.split_once('\n').expect("a name");
        // What cannot be split, because it is meant to fail, is taken line by line.
        let pieces =
            pg_query::split_with_scanner(text).unwrap_or_else(|_| text.split(";\n").collect());
        found.extend(
            pieces
                .into_iter()
                .map(|it| (name.to_owned(), it.to_owned())),
        );
    }
    found
}

/// Told by its words alone, without the grammar: an independent opinion. What EXPLAIN does not run is no write.
fn may_write(text: &str) -> bool {
    let Ok(scanned) = pg_query::scan(text) else {
        return true;
    };
    let tokens: Vec<Token> = scanned
        .tokens
        .iter()
        .filter_map(|it| Token::try_from(it.token).ok())
        .filter(|it| !matches!(it, Token::SqlComment | Token::CComment))
        .collect();
    let explained = tokens.first() == Some(&Token::Explain) && !tokens.contains(&Token::Analyze);
    let prepared = tokens.first() == Some(&Token::Prepare);
    let updates = |at: usize| {
        // FOR [NO KEY] UPDATE locks.
        tokens[at] == Token::Update
            && !tokens[..at]
                .iter()
                .rev()
                .take(3)
                .any(|it| *it == Token::For)
    };
    !explained
        && !prepared
        && ((0..tokens.len()).any(updates)
            || tokens.iter().enumerate().any(|(at, it)| {
                // A word in the place of a column's name or alias is no command.
                WRITE.contains(it)
                    && (at == 0
                        || *it != Token::Comment
                            && matches!(
                                tokens[at - 1],
                                Token::Ascii40 | Token::As | Token::Materialized
                            ))
            })
            || tokens.contains(&Token::Into))
}

#[test]
fn nothing_of_postgresqls_own_tests_that_writes_is_taken_for_a_read() {
    let (mut reads, mut writes, mut opaque, mut unparsed) = (0, 0, 0, 0);
    let mut wrong = Vec::new();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for (file, text) in statements() {
        for statement in &parse(&text).statements {
            let found = offline(statement);
            let first = &found.effects[0];
            let is_read = found.effects.iter().all(Effect::only_reads);
            if first.action == UNPARSED {
                unparsed += 1;
            } else if let Some(why) = found.effects.iter().find_map(|it| it.opaque.clone()) {
                opaque += 1;
                *reasons
                    .entry(why.split(' ').skip(1).collect::<Vec<_>>().join(" "))
                    .or_default() += 1;
            } else if is_read {
                reads += 1;
            } else {
                writes += 1;
            }
            if is_read && may_write(&text) {
                wrong.push(format!("{file}: {text}"));
            }
        }
    }
    println!("{reads} reads, {writes} writes, {opaque} opaque, {unparsed} do not parse");
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (why, count) in reasons.iter().take(25) {
        println!("{count} {why}");
    }
    assert!(
        reads > 5_000 && writes > 10_000,
        "{reads} reads, {writes} writes"
    );
    let unknown = reasons
        .iter()
        .filter(|(why, _)| why.contains("Holdpoint does not know"));
    let unknown: Vec<_> = unknown.collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}
