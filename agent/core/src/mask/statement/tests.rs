use super::{super::Masks, *};

fn set() -> Arc<MaskSet> {
    let masks = Masks::new(&[], [7; 32]).expect("built-in sets");
    masks.union(["secrets", "pii"]).expect("sets")
}

#[test]
fn passwords_are_not_shown_wherever_they_stand() {
    for statement in [
        "ALTER ROLE bob PASSWORD 'hunter2'",
        "CREATE USER bob WITH ENCRYPTED PASSWORD 'hunter2' LOGIN",
        "ALTER ROLE bob PASSWORD E'hunter\\x32'",
        "ALTER ROLE bob PASSWORD U&'hunter\\0032'",
        "ALTER ROLE bob PASSWORD $x$hunter2$x$",
        "CREATE USER MAPPING FOR bob SERVER s OPTIONS (user 'bob', password 'hunter2')",
        "CREATE SUBSCRIPTION s CONNECTION 'host=h user=u password=hunter2 dbname=d' PUBLICATION p",
        "SELECT * FROM dblink('host=h password=''hunter2'' user=u', 'select 1') AS t(a int)",
        "SELECT dblink_connect('postgres://u:hunter2@h/d')",
        "INSERT INTO users (id, password, name) VALUES (1, 'hunter2', 'bob'), (2, 'hunter2', 'x')",
        "INSERT INTO users (id, api_token) SELECT 1, 'hunter2'",
        "INSERT INTO users (password) VALUES (crypt('hunter2', gen_salt('bf')))",
        "UPDATE users SET password = 'hunter2' WHERE id = 1",
        "UPDATE users SET (name, password) = ('bob', 'hunter2')",
        "SELECT 1 FROM users WHERE u.password = 'hunter2'",
        "SELECT 1 FROM users WHERE 'hunter2' = u.password",
        "SELECT pgp_sym_encrypt('hunter2', 'key')",
        "DO $$ BEGIN EXECUTE 'ALTER ROLE bob PASSWORD ''hunter2'''; END $$",
        "SET app.password = 'hunter2'",
        "SET app.password TO 'hunter2'",
        "/* password: hunter2 */ SELECT 1",
        "ALTER ROLE bob PASSWORD 'hunter2",
        "SELECT $q$ hunter2",
        "SELECT '{\"password\":\"hunter2\"}'::jsonb",
    ] {
        let shown = set().shown_statement(statement);
        assert!(!shown.contains("hunter"), "{statement}\n{shown}");
        assert!(shown.contains("[masked:"), "{statement}\n{shown}");
    }
}

#[test]
fn what_is_no_secret_is_shown_as_it_is() {
    for statement in [
        "",
        "SELECT name, 'it''s' FROM users WHERE id = 12345678 -- all",
        "ALTER ROLE bob PASSWORD NULL",
        "INSERT INTO t (a, b) VALUES ('x', $1)",
        "DO $$ BEGIN PERFORM 'a' || E'\\n'; END $$",
        "UPDATE t SET a = 'b' WHERE page_token = 'x'",
    ] {
        assert_eq!(set().shown_statement(statement), statement);
    }
}

#[test]
fn secrets_are_found_by_form() {
    let shown = set().shown_statement(
        "INSERT INTO t VALUES ('jane@example.com', 'it''s ghp_0123456789abcdefghijABCDEFGHIJ012345')",
    );
    assert_eq!(
        shown,
        "INSERT INTO t VALUES ('[masked:email]', 'it''s [masked:github-token]')"
    );
}

#[test]
fn a_masked_statement_still_lexes() {
    for statement in [
        "INSERT INTO users (id, password) VALUES (1, E'hunt\\'er2')",
        "ALTER ROLE bob PASSWORD 'x'",
        "SELECT 'it''s jane@example.com'",
    ] {
        let shown = set().shown_statement(statement);
        assert!(pg_query::scan(&shown).is_ok(), "{shown}");
        assert_ne!(shown, statement);
    }
}

#[test]
fn parameters_are_masked_for_where_they_stand() {
    let bound = |type_oid, format, value: &'static [u8]| Bound {
        type_oid,
        format,
        value: Some(value),
    };
    let shown = set().shown_parameters(
        "INSERT INTO users (id, password, mail, raw, n) VALUES ($1, $2, $3, $4, $5)",
        &[
            bound(23, 1, &[0, 0, 0, 7]),
            bound(25, 1, b"hunter2"),
            bound(0, 0, b"jane@example.com"),
            bound(17, 1, b"\0jane@example.com"),
            Bound {
                type_oid: 0,
                format: 0,
                value: None,
            },
        ],
    );
    let shown: Vec<Option<&str>> = shown.iter().map(Option::as_deref).collect();
    let bytes = format!("\\x00{}", hex::encode("[masked:email]"));
    assert_eq!(
        shown,
        [
            Some("7"),
            Some("[masked:secret-field]"),
            Some("[masked:email]"),
            Some(bytes.as_str()),
            None
        ]
    );
    let shown = set().shown_parameters("UPDATE t SET password = $1", &[bound(0, 0, b"hunter2")]);
    assert_eq!(shown[0].as_deref(), Some("[masked:secret-field]"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_shown_without_what_is_planted(before in "\\PC{0,20}", after in "\\PC{0,20}") {
        let secret = "ghp_0123456789abcdefghijABCDEFGHIJ012345";
        let shown = set().shown_statement(&format!("{before} {secret} {after}"));
        proptest::prop_assert!(!shown.contains(secret), "{}", shown);
    }

    #[test]
    fn any_literal_is_read(raw in "[uUeExX]?&?'[ -~]{0,30}'?") {
        let _ = literal::content(&raw);
    }
}
