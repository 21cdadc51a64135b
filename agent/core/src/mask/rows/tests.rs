mod copy;
mod shapes;

use super::{
    super::{Masks, SetSource},
    *,
};

const TOML: &str = r#"
name = "own"
columns = ["public.users.email", "*.ssn", "users.salary", "whole"]
"#;

pub(super) fn set(toml: &str, names: &[&str]) -> Arc<MaskSet> {
    let source: SetSource = toml::from_str(toml).expect("TOML");
    let masks = Masks::new(&[source], [7; 32]).expect("a set");
    masks.union(names.iter().copied()).expect("sets")
}

pub(super) fn column(name: &str, type_oid: u32, format: i16) -> Column {
    Column {
        name: name.to_owned(),
        origin: None,
        type_oid,
        format,
    }
}

fn of_users(name: &str, attribute: &str, type_oid: u32) -> Column {
    Column {
        origin: Some(Origin {
            schema: Some("public".into()),
            relation: "users".into(),
            attribute: attribute.into(),
            ..Origin::default()
        }),
        ..column(name, type_oid, 0)
    }
}

/// The body of a `DataRow`.
pub(super) fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = u16::try_from(values.len())
        .expect("few")
        .to_be_bytes()
        .to_vec();
    for value in values {
        match value {
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some(value) => {
                let length = i32::try_from(value.len()).expect("short");
                body.extend_from_slice(&length.to_be_bytes());
                body.extend_from_slice(value);
            }
        }
    }
    body
}

/// The values of a `DataRow`'s body.
pub(super) fn values(body: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut values = Vec::new();
    let mut rest = &body[2..];
    while !rest.is_empty() {
        let (value, after) = binary::value(rest).expect("a row");
        values.push(value.map(<[u8]>::to_vec));
        rest = after;
    }
    assert_eq!(
        values.len(),
        usize::from(u16::from_be_bytes([body[0], body[1]]))
    );
    values
}

fn masked(set: &Arc<MaskSet>, column: Column, value: &[u8]) -> Vec<u8> {
    let mut masker = RowMasker::new(set.clone(), &[column], Some("SELECT"));
    let mut out = Vec::new();
    masker
        .row(&row(&[Some(value)]), &mut out)
        .expect("it can be masked");
    values(&out).remove(0).expect("no NULL")
}

fn text(set: &Arc<MaskSet>, column: Column, value: &str) -> String {
    String::from_utf8(masked(set, column, value.as_bytes())).expect("UTF-8")
}

#[test]
fn a_column_is_masked_for_where_it_is_and_others_stay() {
    let set = set(TOML, &["own"]);
    let columns = [
        of_users("id", "id", 23),
        of_users("mail", "email", 25),
        of_users("salary", "salary", 1700),
        column("ssn", 1043, 0),
    ];
    let mut masker = RowMasker::new(set, &columns, Some("SELECT"));
    let mut out = Vec::new();
    let clean = row(&[Some(b"1"), Some(b"bob"), Some(b"1234.5"), Some(b"x")]);
    masker.row(&clean, &mut out).expect("a row");
    assert_eq!(
        out,
        row(&[
            Some(b"1"),
            Some(b"[masked:own]"),
            Some(b"0"),
            Some(b"[masked:own]"),
        ])
    );
    out.clear();
    let nulls = row(&[None, None, None, None]);
    masker.row(&nulls, &mut out).expect("a row");
    assert_eq!(out, nulls);
}

#[test]
fn what_is_computed_from_a_column_is_masked() {
    let set = set(TOML, &["own"]);
    let masked = |statement, oid| {
        let columns = [column("upper", oid, 0)];
        !RowMasker::new(set.clone(), &columns, statement).is_idle()
    };
    assert!(masked(Some("SELECT upper(email) FROM users"), 25));
    assert!(masked(None, 25));
    assert!(masked(Some("SELECT row_to_json(u) FROM users u"), 114));
    assert!(!masked(Some("SELECT count(email) FROM users"), 20));
    assert!(!masked(Some("SELECT upper(name) FROM users"), 25));
}

#[test]
fn names_that_say_secret_are_rules() {
    let set = set(TOML, &["secrets"]);
    assert_eq!(
        text(&set, column("api_token", 25, 0), "abc"),
        "[masked:secret-field]"
    );
    assert_eq!(text(&set, column("pin_password", 23, 0), "1234"), "0");
    assert_eq!(text(&set, column("next_page_token", 25, 0), "abc"), "abc");
    let aliased = of_users("x", "password_hash_password", 25);
    assert_eq!(text(&set, aliased, "abc"), "[masked:secret-field]");
    assert_eq!(text(&set, column("password", 16, 0), "t"), "t");
}

#[test]
fn what_is_in_text_json_and_arrays_is_found() {
    let set = set(TOML, &["secrets", "pii"]);
    assert_eq!(
        text(&set, column("note", 25, 0), "mail jane@example.com now"),
        "mail [masked:email] now"
    );
    assert_eq!(
        text(
            &set,
            column("doc", 3802, 0),
            r#"{"a": {"password": "x"}, "n": 1}"#
        ),
        r#"{"a": {"password": "[masked:secret-field]"}, "n": 1}"#
    );
    // JSON in text, and in a string of it.
    assert_eq!(
        text(
            &set,
            column("note", 25, 0),
            r#"{"a":"{\"password\":\"x\"}"}"#
        ),
        r#"{"a":"{\"password\":\"[masked:secret-field]\"}"}"#
    );
    assert_eq!(
        text(
            &set,
            column("mails", 1009, 0),
            r#"{a,"jane@example.com",NULL,bob@example.com}"#
        ),
        r#"{a,"[masked:email]",NULL,"[masked:email]"}"#
    );
    assert_eq!(
        text(
            &set,
            column("h", 99_999, 0),
            r#""a"=>"1", "password"=>"p\"q", "c"=>NULL"#
        ),
        r#""a"=>"1", "password"=>"[masked:secret-field]", "c"=>NULL"#
    );
    assert_eq!(
        text(
            &set,
            column("r", 2249, 0),
            r#"(1,"a ""b"", jane@example.com",)"#
        ),
        r#"(1,"a ""b"", [masked:email]",)"#
    );
    assert_eq!(text(&set, column("n", 20, 0), "4111111111111111"), "0");
    assert_eq!(
        text(
            &set,
            column("b", 17, 0),
            &format!("\\x{}", hex::encode("jane@example.com"))
        ),
        format!("\\x{}", hex::encode("[masked:email]"))
    );
    let card = masked(
        &set,
        column("n", 20, 1),
        &4_111_111_111_111_111_i64.to_be_bytes(),
    );
    assert_eq!(card, [0; 8]);
}

#[test]
fn nothing_to_look_for_is_idle() {
    let set = set(TOML, &["secrets", "pii"]);
    let idle = |oid| RowMasker::new(set.clone(), &[column("x", oid, 1)], Some("")).is_idle();
    for oid in [
        16, 21, 1082, 1083, 1114, 1184, 2950, 869, 600, 3904, 1005, 2951,
    ] {
        assert!(idle(oid), "{oid}");
    }
    for oid in [25, 114, 3802, 17, 20, 1700, 1009, 2249, 99_999] {
        assert!(!idle(oid), "{oid}");
    }
    let nothing = Masks::new(&[], [0; 32]).expect("masks");
    let minted = nothing.union([]).expect("no set");
    assert!(RowMasker::new(minted, &[column("x", 25, 0)], None).is_idle());
}

#[test]
fn rows_that_are_none_are_refused_and_leave_nothing() {
    let set = set(TOML, &["secrets"]);
    let columns = [column("x", 25, 0), column("y", 25, 0)];
    let mut masker = RowMasker::new(set, &columns, Some(""));
    let mut out = b"before".to_vec();
    let whole = row(&[Some(b"a"), Some(b"password=hunter22")]);
    for bad in [
        &b""[..],
        &whole[..whole.len() - 1],
        &[&whole[..], b"x"].concat(),
        &row(&[Some(b"a")]),
    ] {
        assert_eq!(masker.row(bad, &mut out), Err(Unreadable::Row));
        assert_eq!(out, b"before");
    }
    let long = vec![0; MAX_ROW + 1];
    assert_eq!(masker.row(&long, &mut out), Err(Unreadable::TooLong));
}

#[test]
fn modes_are_as_for_json() {
    let value = "1234567890123456";
    for (mode, stands) in [
        ("replace", "[masked:own]"),
        ("keep-last4", "[masked:own:..3456]"),
        ("drop", ""),
    ] {
        let set = set(&format!("{TOML}mode = \"{mode}\"\n"), &["own"]);
        assert_eq!(text(&set, column("ssn", 25, 0), value), stands);
    }
    let set = set(&format!("{TOML}mode = \"hash\"\n"), &["own"]);
    let (text_of, binary) = (
        masked(&set, column("ssn", 23, 0), b"42"),
        masked(&set, column("ssn", 23, 1), &42_i32.to_be_bytes()),
    );
    let number: i32 = String::from_utf8(text_of)
        .expect("digits")
        .parse()
        .expect("an int4");
    assert_eq!(binary, number.to_be_bytes());
    assert_ne!(number, 0);
}
