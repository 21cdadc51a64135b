use std::{
    process::Stdio,
    sync::{Arc, LazyLock},
};

use proptest::prelude::*;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tokio::{net::TcpListener, process::Command};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    postgres::{
        answer::welcome,
        cancel::Cancels,
        catalog::Entry,
        server::{self, ServerCancel},
        startup::is_postgres,
        testing::{Postgres, said},
    },
    session::SessionId,
    tls::{Authority, Leaves},
};

struct Host {
    acceptor: DatabaseAcceptor,
    dir: tempfile::TempDir,
}

static HOST: LazyLock<Host> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::open(dir.path()).expect("a CA");
    let leaves = Leaves::new(authority).expect("a key");
    let acceptor = DatabaseAcceptor::new(Arc::new(leaves)).expect("TLS");
    Host { acceptor, dir }
});

fn ca_file() -> String {
    HOST.dir.path().join("ca.pem").display().to_string()
}

/// What is between a client and a server for these tests: everything is let in, and everything is passed on.
async fn corridor(entry: Arc<Entry>, host: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let port = listener.local_addr().expect("bound").port();
    let (cancels, session) = (Cancels::default(), SessionId::random());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("accepted");
            let (entry, cancels, session) = (entry.clone(), cancels.clone(), session.clone());
            tokio::spawn(async move {
                let mut first = [0];
                stream.peek(&mut first).await.expect("a byte");
                let begins = Begins::by(first[0]);
                let Ok(greeting) = greet(stream, begins, &HOST.acceptor, host).await else {
                    return;
                };
                let mut client = greeting.stream;
                let startup = match greeting.guest {
                    Ok(Guest::User(startup)) => startup,
                    Ok(Guest::Canceller(key)) => {
                        assert!(cancels.ask(&session, &entry, &key).await, "a known key");
                        return;
                    }
                    Err(complaint) => {
                        let _ = client.write_all(&complaint.fatal()).await;
                        let _ = client.shutdown().await;
                        return;
                    }
                };
                let link = server::connect(&entry, &startup.database, &startup.settings).await;
                let mut link = link.expect("let in");
                let (key, mut cancelled) = cancels
                    .register(&session, &entry, startup.protocol.minor > 0)
                    .expect("a key");
                let welcome = welcome(&startup, &link.parameters, &key);
                client.write_all(&welcome).await.expect("sent");
                client.flush().await.expect("sent");
                let cancel = ServerCancel::new(entry, link.key.clone());
                let passing = tokio::io::copy_bidirectional(&mut client, &mut link.stream);
                tokio::pin!(passing);
                loop {
                    tokio::select! {
                        _ = &mut passing => return,
                        _asked = cancelled.next() => cancel.send().await.expect("asked"),
                    }
                }
            });
        }
    });
    port
}

async fn psql(server: &Postgres, port: u16, options: &str, sql: &str) -> (bool, String) {
    let mut command = Command::from(server.psql(options));
    command
        .env("PGPORT", port.to_string())
        .env("PGPASSWORD", "whatever the agent believes")
        .args(["-c", sql])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(Duration::from_secs(30), command.output());
    let output = output.await.expect("it ends").expect("psql");
    (output.status.success(), said(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_gets_in_by_whatever_dress_and_knows_no_password() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let port = corridor(server.entry("scram", ""), "127.0.0.1").await;
    let named = corridor(server.entry("scram", ""), "localhost").await;
    let ca = ca_file();
    const ASK: &str = "select current_user || ' ' || current_database()";
    for (port, options) in [
        (port, "host=127.0.0.1 sslmode=disable".to_owned()),
        (port, "host=127.0.0.1 sslmode=prefer gssencmode=prefer".to_owned()),
        (port, "host=127.0.0.1 sslmode=require sslrootcert=/nonexistent".to_owned()),
        (port, format!("host=127.0.0.1 sslmode=verify-full sslrootcert={ca}")),
        (named, format!("host=localhost sslmode=verify-full sslrootcert={ca}")),
        (named, format!("host=localhost sslmode=verify-full sslrootcert={ca} sslsni=0")),
        (named, "host=localhost options='-c search_path=public -c statement_timeout=9s' application_name=x".to_owned()),
    ] {
        let options = format!("user=anybody dbname=orders {options}");
        let (worked, said) = psql(&server, port, &options, ASK).await;
        assert!(worked, "{options}: {said}");
        assert_eq!(said.trim(), "scram orders");
    }
    for (options, part) in [
        ("client_encoding=LATIN1", "PGCLIENTENCODING=UTF8"),
        ("replication=database", "replication connections"),
        ("options='-c role=postgres'", "use SET ROLE"),
        (
            "channel_binding=require sslmode=require sslrootcert=/nonexistent",
            "channel binding required",
        ),
    ] {
        let options = format!("user=anybody dbname=orders host=127.0.0.1 {options}");
        let (worked, said) = psql(&server, port, &options, ASK).await;
        assert!(!worked && said.contains(part), "{options}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_cancels_by_our_key() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let port = corridor(server.entry("scram", ""), "127.0.0.1").await;
    let mut command =
        Command::from(server.psql("user=x dbname=orders host=127.0.0.1 sslmode=require"));
    let running = command
        .env("PGPORT", port.to_string())
        .args(["-c", "select pg_sleep(60)"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("psql");
    let pid = running
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .expect("it runs");
    let interrupt = async {
        let limit = std::time::Instant::now() + Duration::from_secs(20);
        let is_running =
            "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'";
        let own = "host=127.0.0.1 user=postgres dbname=postgres sslmode=disable";
        while psql(&server, server.port, own, is_running).await.1.trim() != "1" {
            assert!(std::time::Instant::now() < limit, "it does not begin");
        }
        // psql asks to cancel on SIGINT.
        let pid = nix::unistd::Pid::from_raw(pid);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("sent");
    };
    let waiting = timeout(Duration::from_secs(40), running.wait_with_output());
    let (output, ()) = tokio::join!(waiting, interrupt);
    let output = output.expect("it ends").expect("psql");
    let said = said(&output);
    assert!(
        said.contains("canceling statement due to user request"),
        "{said}"
    );
}

fn connector(alpn: &[&[u8]]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(ca_file()).expect("there");
    roots
        .add(CertificateDer::from_pem_slice(&pem).expect("PEM"))
        .expect("a CA");
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|it| it.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

const STARTUP: &[u8] = b"\0\0\0\x15\0\x03\0\x02user\0app\0a\0\0\0";
const USER: &[u8] = b"\0\0\0\x12\0\x03\0\x02user\0app\0\0";
const SSL: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const GSSENC: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";

/// What comes of a client that begins with TLS.
async fn direct(
    alpn: &[&[u8]],
    inside: &[u8],
) -> Result<Result<(String, Vec<u8>), Complaint>, String> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let serving = greet(far, Begins::WithTls, &HOST.acceptor, "10.1.2.3");
    let talking = async {
        let name = "10.1.2.3".try_into().expect("an address");
        let mut tls = connector(alpn).connect(name, near).await.ok()?;
        tls.write_all(inside).await.ok()?;
        tls.flush().await.ok()?;
        let mut said = Vec::new();
        let _ = timeout(Duration::from_millis(200), tls.read_to_end(&mut said)).await;
        Some(said)
    };
    let (greeting, said) = tokio::join!(serving, talking);
    Ok(greeting?.guest.map(|guest| match guest {
        Guest::User(startup) => (startup.user, said.unwrap_or_default()),
        Guest::Canceller(_) => panic!("it logs in"),
    }))
}

#[tokio::test]
async fn direct_tls_says_what_it_is_for() {
    let (user, said) = direct(&[b"postgresql"], USER)
        .await
        .expect("greeted")
        .expect("taken");
    assert_eq!((&*user, &said[..]), ("app", &b""[..]));
    let twice = [SSL, GSSENC, USER].concat();
    let (user, said) = direct(&[b"postgresql"], &twice)
        .await
        .expect("greeted")
        .expect("taken");
    assert_eq!(
        (&*user, &said[..]),
        ("app", &b"NN"[..]),
        "TLS in TLS there is none"
    );
    let complaint = direct(&[], USER)
        .await
        .expect("greeted")
        .expect_err("no ALPN");
    assert!(complaint.message.contains("without ALPN"));
    direct(&[b"h2"], USER).await.expect_err("another protocol");
    let over_and_over = [SSL; 7].concat();
    direct(&[b"postgresql"], &over_and_over)
        .await
        .expect_err("an end to it");
}

/// Whatever the pieces, and nothing beyond the first message is read.
#[tokio::test]
async fn greetings_come_in_any_pieces() {
    let (mut near, far) = tokio::io::duplex(1);
    let writing = async {
        near.write_all(&[GSSENC, USER, b"Q and more"].concat())
            .await
            .expect("read");
        near
    };
    let greeting = async {
        let greeting = greet(far, Begins::Plain, &HOST.acceptor, "a")
            .await
            .expect("greeted");
        let Ok(Guest::User(startup)) = greeting.guest else {
            panic!("a startup")
        };
        let mut stream = greeting.stream;
        let mut rest = [0; 10];
        stream.read_exact(&mut rest).await.expect("left alone");
        (startup.user, rest, stream)
    };
    // A pipe of one byte: the answer to GSSENCRequest is in the way of nothing.
    let ((user, rest, _stream), _near) = tokio::join!(greeting, writing);
    assert_eq!((&*user, &rest), ("app", b"Q and more"));
    assert!(is_postgres(*STARTUP.first_chunk().expect("eight")));
}

/// What was sent before TLS began must not count as said in TLS.
#[tokio::test]
async fn nothing_is_slipped_in_before_tls() {
    let (mut near, far) = tokio::io::duplex(1 << 16);
    near.write_all(&[SSL, USER].concat()).await.expect("sent");
    let greeting = timeout(
        Duration::from_secs(5),
        greet(far, Begins::Plain, &HOST.acceptor, "a"),
    );
    assert!(greeting.await.expect("at once").is_err());
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_not_waited_for() {
    for said in [&b""[..], &USER[..7], SSL, &USER[..10]] {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        near.write_all(said).await.expect("sent");
        let greeting = greet(far, Begins::Plain, &HOST.acceptor, "a").await;
        assert!(greeting.is_err(), "{said:?}");
    }
}

proptest! {
    #[test]
    fn whatever_a_client_says_is_read_or_refused(
        parts in proptest::collection::vec(prop_oneof![
            any::<u8>().prop_map(|it| vec![it]),
            Just(SSL.to_vec()), Just(GSSENC.to_vec()), Just(USER.to_vec()), Just(STARTUP.to_vec()),
        ], 0..8),
        piece in 1_usize..64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let (near, far) = tokio::io::duplex(piece);
            let (mut reader, mut writer) = tokio::io::split(near);
            let writing = async move {
                let _ = writer.write_all(&parts.concat()).await;
                let _ = writer.shutdown().await;
            };
            let reading = async { while reader.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {} };
            tokio::select! {
                _ = greet(far, Begins::Plain, &HOST.acceptor, "a") => {}
                _ = async { tokio::join!(writing, reading) } => {}
            }
        });
    }
}
