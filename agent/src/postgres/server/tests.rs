use std::{net::SocketAddr, sync::LazyLock};

use proptest::prelude::*;
use serde_json::json;
use tokio::net::TcpListener;

use super::*;
use crate::postgres::{
    catalog::tests::{credentials, credentials_from, entry},
    testing::{Postgres, TOKEN},
};
use crate::upstream::testing::{TestServer, json as answer};

async fn try_to(entry: &Entry) -> Result<ServerLink, ConnectError> {
    connect(entry, "orders", &Settings::called("a test")).await
}

async fn query(link: &mut ServerLink, sql: &str) -> Vec<backend::Message> {
    let mut message = BytesMut::new();
    frontend::query(sql, &mut message).expect("short");
    link.stream.write_all(&message).await.expect("sent");
    let mut answers = Vec::new();
    loop {
        let answer = read_message(&mut link.stream).await.expect("an answer");
        let is_last = matches!(answer, backend::Message::ReadyForQuery(_));
        answers.push(answer);
        if is_last {
            return answers;
        }
    }
}

#[tokio::test]
async fn it_logs_in_by_whatever_the_server_asks_for() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let certificate = format!(
        "certificate_file = '{0}/client.crt'\nkey_file = '{0}/client.key'",
        server.dir.path().display()
    );
    for (user, more) in [
        ("scram", "tls = 'verify-full'"),
        (
            "scram",
            "tls = 'verify-ca'\nserver_name = 'another.example'",
        ),
        ("scram", "tls = 'unverified'"),
        ("md5", ""),
        ("clear", ""),
        ("clear", "tls = 'verify-ca'"),
        ("cert", &certificate),
    ] {
        let mut link = try_to(&server.entry(user, more))
            .await
            .unwrap_or_else(|error| panic!("{user} {more}: {error}\n{}", server.log()));
        assert_eq!(&*link.user, user);
        assert_eq!(link.parameters["client_encoding"], "UTF8");
        assert_eq!(link.parameters["application_name"], "a test");
        assert!(link.parameters.contains_key("server_version"));
        let answers = query(&mut link, "select 1").await;
        assert!(
            matches!(answers[1], backend::Message::DataRow(_)),
            "it is in step"
        );
    }
    let log = server.log();
    assert!(
        log.contains("authorized: user=scram database=orders application_name=a test SSL enabled"),
        "{log}"
    );
    let plain = server
        .toml("scram", "tls = 'off'")
        .replace("ca_file", "# ca_file");
    try_to(&entry(&plain, &credentials()))
        .await
        .expect("without TLS");
}

/// With the binding of a TLS connection that is another, the server says no: so it does look at it.
#[tokio::test]
async fn channels_are_bound() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let entry = server.entry("scram", "");
    let (stream, peer) = open(&entry).await.expect("TLS");
    let Peer::Verified(mut certificate) = peer else {
        panic!("{peer:?}")
    };
    let last = certificate.len() - 1;
    certificate[last] ^= 1;
    let settings = Settings::default();
    let refused = log_in(
        stream,
        Peer::Verified(certificate),
        &entry,
        "orders",
        &settings,
    );
    let Err(ConnectError::Server { code, message }) = refused.await else {
        panic!("let in")
    };
    assert_eq!(code, "28000", "{message}");
    assert!(message.contains("channel binding"), "{message}");
}

#[tokio::test]
async fn no_password_goes_in_clear_to_who_may_be_anybody() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let off = server
        .toml("clear", "tls = 'off'")
        .replace("ca_file", "# ca_file");
    for toml in [server.toml("clear", "tls = 'unverified'"), off] {
        let refused = try_to(&entry(&toml, &credentials())).await;
        assert!(matches!(refused, Err(ConnectError::NotGiven(_))), "{toml}");
    }
    let nothing = server
        .toml("scram", "")
        .replace("password_file", "# password_file");
    let refused = try_to(&entry(&nothing, &credentials())).await;
    assert!(matches!(refused, Err(ConnectError::NotGiven(_))));
}

#[tokio::test]
async fn failures_tell_the_agent_little_and_the_operator_what_to_do() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let wrong = server.dir.path().join("wrong");
    std::fs::write(&wrong, "wrong").expect("written");
    let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&wrong, mode).expect("changed");
    let toml = server.toml("scram", "").replace("/password'", "/wrong'");
    let error = try_to(&entry(&toml, &credentials()))
        .await
        .err()
        .expect("refused");
    assert!(error.to_string().contains("28P01"), "{error}");
    let complaint = error.complaint("a");
    assert_eq!(complaint.code, "28000");
    assert!(!complaint.message.contains("scram"), "{complaint:?}");
    assert!(complaint.hint.expect("one").contains("[[connection]]"));

    let missing = connect(&server.entry("scram", ""), "nowhere", &Settings::default()).await;
    let complaint = missing.err().expect("none").complaint("a");
    assert_eq!(complaint.code, "3D000");
    assert_eq!(complaint.message, "database \"nowhere\" does not exist");

    let other = crate::postgres::testing::ca("another CA");
    std::fs::write(server.dir.path().join("other.pem"), other.pem()).expect("written");
    for (toml, problem) in [
        (
            server.toml("scram", "").replace("/ca.pem", "/other.pem"),
            "UnknownIssuer",
        ),
        (
            server.toml("scram", "server_name = 'db.example'"),
            "NotValidForName",
        ),
    ] {
        let error = try_to(&entry(&toml, &credentials()))
            .await
            .err()
            .expect("refused");
        assert!(matches!(error, ConnectError::Tls(_)), "{error}");
        let said = error.to_string();
        assert!(
            said.contains("ca_file")
                && (said.contains(problem) || said.contains("not valid for name")),
            "{said}"
        );
        assert_eq!(error.complaint("a").code, "08001");
    }

    let entry = server.entry("scram", "");
    drop(server);
    let error = try_to(&entry).await.err().expect("stopped");
    assert!(matches!(error, ConnectError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn what_runs_is_cancelled_by_the_servers_key() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let entry = server.entry("scram", "");
    let mut link = try_to(&entry).await.expect("in");
    let cancel = ServerCancel::new(entry, link.key.clone());
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cancel.send().await.expect("asked");
    };
    let running = timeout(
        Duration::from_secs(20),
        query(&mut link, "select pg_sleep(60)"),
    );
    let (answers, ()) = tokio::join!(running, cancelling);
    let answers = answers.expect("in time");
    let cancelled = answers.iter().any(|answer| match answer {
        backend::Message::ErrorResponse(error) => {
            matches!(ConnectError::server(error), ConnectError::Server { code, .. } if code == "57014")
        }
        _ => false,
    });
    assert!(cancelled, "query_canceled");
    query(&mut link, "select 1").await;
}

/// An access token is sent as a password in clear, in verified TLS only.
#[tokio::test]
async fn with_iam_the_password_is_an_access_token() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let metadata = TestServer::plain(|_| {
        let token = json!({"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"});
        let mut answer = answer(200, &token);
        (answer.headers_mut()).insert("metadata-flavor", http::HeaderValue::from_static("Google"));
        answer
    })
    .await;
    let credentials = credentials_from(&metadata.address.to_string());
    let toml = server
        .toml("", "iam = true")
        .replace("user =", "# user =")
        .replace("password_file", "# password_file");
    let link = try_to(&entry(&toml, &credentials)).await.expect("let in");
    assert_eq!(&*link.user, "agent@p.iam");
    let md5 = toml.replace("# user = ''", "user = 'md5'");
    let error = try_to(&entry(&md5, &credentials))
        .await
        .err()
        .expect("refused");
    assert!(error.to_string().contains("no access token is"), "{error}");
}

/// Somebody who answers each connection with these bytes and reads on.
async fn somebody(answers: &'static [&'static [u8]]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            for answer in answers {
                let mut read = [0; 512];
                let _ = stream.read(&mut read).await;
                let _ = stream.write_all(answer).await;
            }
            let _ = stream.read(&mut [0; 512]).await;
        }
    });
    address
}

fn entry_at(address: SocketAddr, more: &str) -> Entry {
    let toml = format!("name = 'a'\naddresses = ['d:1']\ndial = '{address}'\nuser = 'u'\n{more}");
    entry(&toml, &credentials())
}

#[tokio::test]
async fn who_is_no_postgresql_is_found_out() {
    let cases: [(&'static [&'static [u8]], &str, &str); 7] = [
        (&[b"N"], "", "does not speak TLS"),
        (
            &[b"E\0\0\0\x08Mx\0\0"],
            "",
            "answered SSLRequest with an error",
        ),
        (&[b"HTTP/1.1 400 Bad Request\r\n\r\n"], "", "no PostgreSQL"),
        (
            &[b"HTTP/1.1 400 Bad Request\r\n\r\n"],
            "tls = 'off'",
            "no PostgreSQL",
        ),
        (
            &[b"R\0\0\0\x08\0\0\0\x07"],
            "tls = 'off'",
            "kind of authentication",
        ),
        (&[b"R\xff\xff\xff\xff"], "tls = 'off'", "no PostgreSQL"),
        (&[b""], "", ""),
    ];
    for (answers, more, part) in cases {
        let address = somebody(answers).await;
        let entry = entry_at(address, more);
        let error = timeout(Duration::from_secs(5), try_to(&entry));
        match error.await {
            Ok(error) => {
                let error = error.err().expect("refused").to_string();
                assert!(error.contains(part), "{error}");
            }
            Err(_) => assert!(part.is_empty(), "only who is silent is waited for"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_answers_is_not_waited_for_for_ever() {
    let address = somebody(&[b""]).await;
    let error = try_to(&entry_at(address, "")).await.err().expect("refused");
    assert!(matches!(error, ConnectError::Late(_)), "{error}");
    assert_eq!(error.complaint("a").code, "08001");
}

/// A server that says "you are in" in the middle of SCRAM has not proved that it knows the password.
#[tokio::test]
async fn scram_cannot_be_cut_short() {
    const OFFER: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
    const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("password");
    std::fs::write(&file, "secret").expect("written");
    let mode: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).expect("changed");
    let address = somebody(&[OFFER, OK]).await;
    let more = format!("tls = 'off'\npassword_file = '{}'", file.display());
    let error = try_to(&entry_at(address, &more))
        .await
        .err()
        .expect("refused");
    assert!(error.to_string().contains("breaks SCRAM off"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_a_server_says_is_read_or_refused(
        bytes in proptest::collection::vec(prop_oneof![
            any::<u8>().prop_map(|it| vec![it]),
            Just(b"R\0\0\0\x08\0\0\0\0".to_vec()),
            Just(b"R\0\0\0\x0c\0\0\0\x05abcd".to_vec()),
            Just(b"S\0\0\0\x08a\0b\0".to_vec()),
            Just(b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x02".to_vec()),
            Just(b"K\0\0\0\x04".to_vec()),
            Just(b"E\0\0\0\x09CX\0\0\0".to_vec()),
            Just(b"Z\0\0\0\x05I".to_vec()),
        ], 0..12),
        piece in 1_usize..40,
    ) {
        let bytes = bytes.concat();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (near, far) = tokio::io::duplex(piece);
            let (mut reader, mut writer) = tokio::io::split(far);
            static ENTRY: LazyLock<Entry> =
                LazyLock::new(|| entry_at(([127, 0, 0, 1], 1).into(), "tls = 'off'"));
            let settings = Settings::default();
            let logging_in = log_in(near, Peer::InClear, &ENTRY, "d", &settings);
            let writing = async {
                let _ = writer.write_all(&bytes).await;
                let _ = writer.shutdown().await;
            };
            let reading = async { while reader.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {} };
            tokio::select! {
                _ = logging_in => {}
                _ = async { tokio::join!(writing, reading) } => {}
            }
        });
    }
}
