use proptest::prelude::*;

use super::*;

fn packet(code: u32, rest: &[u8]) -> ([u8; 8], Vec<u8>) {
    let length = u32::try_from(8 + rest.len()).expect("short");
    let mut first = [0; 8];
    first[..4].copy_from_slice(&length.to_be_bytes());
    first[4..].copy_from_slice(&code.to_be_bytes());
    (first, rest.to_vec())
}

fn startup_of(code: u32, pairs: &[(&str, &str)]) -> Result<Startup, Complaint> {
    let mut rest: Vec<u8> = pairs
        .iter()
        .flat_map(|(name, value)| [name, "\0", value, "\0"].concat().into_bytes())
        .collect();
    rest.push(0);
    let (first, rest) = packet(code, &rest);
    match read(first, &rest)? {
        First::Startup(startup) => Ok(*startup),
        other => panic!("not a startup: {other:?}"),
    }
}

const V3: u32 = 3 << 16;

fn startup(pairs: &[(&str, &str)]) -> Result<Startup, Complaint> {
    startup_of(V3, pairs)
}

fn settings(startup: &Startup) -> Vec<(&str, &str)> {
    startup.settings.iter().collect()
}

#[test]
fn what_clients_send_is_taken() {
    let read = startup(&[
        ("user", "app"),
        ("database", "orders"),
        ("application_name", "psql"),
        ("client_encoding", "utf-8"),
        ("DateStyle", "ISO"),
        (
            "options",
            "-c search_path=a,b --statement-timeout=5s -cwork_mem=4\\ MB",
        ),
        ("replication", "false"),
    ])
    .expect("taken");
    assert_eq!((&*read.user, &*read.database), ("app", "orders"));
    assert_eq!(
        settings(&read),
        [
            ("application_name", "psql"),
            ("client_encoding", "UTF8"),
            ("datestyle", "ISO"),
            ("search_path", "a,b"),
            ("standard_conforming_strings", "on"),
            ("statement_timeout", "5s"),
            ("work_mem", "4 MB"),
        ]
    );
    let plain = startup(&[("user", "app")]).expect("taken");
    assert_eq!(plain.database, "app", "as the server has it");
    assert_eq!(
        settings(&plain),
        [
            ("client_encoding", "UTF8"),
            ("standard_conforming_strings", "on"),
        ],
        "whatever the database's own is"
    );
}

#[test]
fn what_changes_the_meaning_of_sql_is_refused() {
    for (name, value) in [
        ("client_encoding", "SJIS"),
        ("client_encoding", "SQL_ASCII"),
        ("client_encoding", ""),
        ("role", "postgres"),
        ("Session_Authorization", "postgres"),
        ("standard_conforming_strings", "off"),
        ("backslash_quote", "on"),
        ("session_replication_role", "replica"),
        ("row_security", "off"),
        ("session_preload_libraries", "x"),
        ("my.own", "x"),
        ("options", "-c role=postgres"),
        ("options", "-crole=postgres"),
        ("options", "--role=postgres"),
        ("options", "--standard-conforming-strings=off"),
        ("options", "-c\\ role=postgres"),
        ("options", "-c application_name=a -c ro\\le=postgres"),
        ("options", "-c"),
        ("options", "-c role"),
        ("options", "-S 1"),
        ("options", "-v 3"),
        ("options", "-f h"),
        ("options", "geqo=off"),
        ("replication", "database"),
        ("replication", "true"),
        ("replication", "on"),
        ("replication", ""),
        ("user", "again"),
        ("", "x"),
    ] {
        let refused = startup(&[("user", "app"), (name, value)]);
        let complaint = refused.expect_err(&format!("{name}={value}"));
        assert!(
            ["0A000", "08P01"].contains(&&*complaint.code),
            "{complaint:?}"
        );
    }
    assert_eq!(startup(&[]).expect_err("no user").code, "28000");
    assert_eq!(startup(&[("user", "")]).expect_err("no user").code, "28000");
}

#[test]
fn versions_are_negotiated_as_postgresql_18_does() {
    let user = [("user", "u"), ("_pq_.compression", "on")];
    for (minor, given) in [(0, 0), (1, 0), (2, 2), (3, 2), (9999, 2)] {
        let read = startup_of(V3 | minor, &user).expect("taken");
        assert_eq!(u32::from(read.offered.minor), minor);
        assert_eq!(read.protocol.minor, given);
        assert_eq!(read.unknown, ["_pq_.compression"]);
    }
    for version in [2 << 16, 4 << 16, 0, u32::MAX] {
        let (first, rest) = packet(version, b"user\0u\0\0");
        assert_eq!(read(first, &rest).expect_err("no").code, "0A000");
    }
}

#[test]
fn special_requests_have_their_lengths() {
    assert!(matches!(read(packet(SSL, b"").0, b""), Ok(First::Ssl)));
    assert!(matches!(
        read(packet(GSSENC, b"").0, b""),
        Ok(First::Gssenc)
    ));
    assert!(read(packet(SSL, b"x").0, b"x").is_err());
    for length in 0..300 {
        let secret = vec![7; length];
        let (first, rest) = packet(CANCEL, &[&42_i32.to_be_bytes()[..], &secret].concat());
        let key = match read(first, &rest) {
            Ok(First::Cancel(key)) => Some(key),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        };
        assert_eq!(key.is_some(), SECRETS.contains(&length), "{length}");
        if let Some(key) = key {
            assert_eq!((key.process, key.secret.len()), (42, length));
        }
    }
    for length in [0_u32, 4, 7, 10_005, u32::MAX] {
        let mut first = packet(V3, b"").0;
        first[..4].copy_from_slice(&length.to_be_bytes());
        assert!(rest(first).is_err(), "{length}");
    }
}

#[test]
fn postgresql_is_known_by_its_first_bytes() {
    assert!(is_postgres(packet(SSL, b"").0));
    assert!(is_postgres(packet(GSSENC, b"").0));
    assert!(is_postgres(packet(CANCEL, &[0; 8]).0));
    assert!(is_postgres(packet(V3, b"user\0u\0\0").0));
    assert!(!is_postgres(*b"GET / HT"));
    assert!(!is_postgres(*b"\x16\x03\x01\x02\x00\x01\x00\x01"));
    assert!(!is_postgres([0; 8]));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        code in prop_oneof![any::<u32>(), Just(V3), Just(V3 | 2), Just(CANCEL), Just(SSL)],
        rest in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(b'=')], 0..200),
    ) {
        let (first, rest) = packet(code, &rest);
        prop_assert_eq!(super::rest(first).expect("short enough"), rest.len());
        let _ = is_postgres(first);
        if let Ok(First::Startup(startup)) = read(first, &rest) {
            prop_assert!(!startup.user.is_empty());
            prop_assert!(startup.settings.iter().any(|it| it == ("client_encoding", "UTF8")));
        }
    }

    /// Whatever is in `options` by name and value comes out so, however it is quoted.
    #[test]
    fn options_are_split_as_the_server_does(values in proptest::collection::vec("[ -~]{0,12}", 0..6)) {
        let options: String = values
            .iter()
            .map(|value| {
                let quoted: String = value.chars().flat_map(|it| ['\\', it]).collect();
                format!("  -c application_name={quoted}\t")
            })
            .collect();
        let read = startup(&[("user", "u"), ("options", &options)]).expect("allowed");
        let name = settings(&read).into_iter().find(|(name, _)| *name == "application_name");
        prop_assert_eq!(name.map(|(_, value)| value), values.last().map(String::as_str));
    }
}
