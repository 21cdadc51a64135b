//! Who is who on the wire: files that clients pin, servers that are not who they should be, TLS at once, and newer protocols.

use holdpoint_tests::{
    database::{OBSERVE, agent, psql},
    postgres::{Connection, Entry, Options, Postgres, Role, ServerCertificate},
    python,
    world::{Settings, World},
};

/// With the newest libpq, which psycopg brings along.
const PYTHON_PACKAGES: [&str; 2] = ["psycopg[binary]==3.3.9", "pg8000==1.31.6"];

fn world(connection: Connection) -> World {
    Settings::with_connection(connection)
        .configuration(OBSERVE)
        .start()
}

#[test]
fn a_client_that_pins_the_servers_authority_finds_ours_in_that_file() {
    const PINNED: &str = "pinned/server-ca.pem";
    let postgres = Postgres::start();
    for is_configured in [true, false] {
        let mut connection = postgres.connection(Role::App);
        if is_configured {
            connection.root_files = vec![format!("~/{PINNED}").into()];
        }
        let world = world(connection);
        let agent = agent(&world);
        std::fs::create_dir(agent.home().join("pinned")).expect("a directory");
        let file = agent.home().join(PINNED);
        let real = std::fs::read_to_string(postgres.ca_file()).expect("the authority");
        std::fs::write(&file, &real).expect("it can be written");
        let agent = agent
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", &file);
        let ran = agent.start_psql(&["SELECT 'let' || 'in'"]).finish();
        assert_eq!(ran.status.success(), is_configured, "{ran}");
        assert_eq!(ran.says("letin"), is_configured, "{ran}");
        assert!(
            is_configured || ran.says("certificate verify failed"),
            "{ran}"
        );
        if !is_configured {
            // Whoever looks into it is told what to change.
            let told = world.daemon_log();
            assert!(told.contains("root_files"), "{told}");
        }
        let after = std::fs::read_to_string(&file).expect("still there");
        assert_eq!(after, real, "outside, the file is as it was");
    }
}

#[test]
fn a_server_that_is_not_who_it_should_be_gets_no_password_and_the_client_is_told() {
    for (certificate, why) in [
        (ServerCertificate::Expired, "expired"),
        (ServerCertificate::OfAnother, "elsewhere.internal"),
    ] {
        let options = Options {
            certificate,
            ..Options::default()
        };
        let postgres = options.start();
        let mut connection = postgres.connection(Role::App);
        connection.dial = Some(format!("localhost:{}", postgres.address.port()));
        let world = world(connection);
        let before = postgres.log();
        let ran = psql(&world, &["SELECT 1"]).failed();
        assert!(ran.says("certificate"), "{certificate:?}: {ran}");
        assert!(ran.says(why), "{certificate:?}: {ran}");
        let since = postgres.log().since(&before);
        let authenticates = |it: &Entry| it.message.contains("authenticated");
        assert!(!since.entries().iter().any(authenticates), "{since:?}");
    }
}

/// `sslnegotiation=direct`, protocol 3.2 with its long keys, and a cancel by one of those.
const NEWEST: &str = r#"
import psycopg, threading, time
from psycopg import errors, pq
assert pq.version() >= 180000, pq.version()
for options in ("sslmode=verify-full sslnegotiation=direct", "sslmode=require sslnegotiation=direct min_protocol_version=3.2 max_protocol_version=3.2",
                "sslmode=disable max_protocol_version=latest", "sslmode=verify-full sslnegotiation=postgres max_protocol_version=3.0"):
    with psycopg.connect(options, autocommit=True) as db:
        assert db.execute("SELECT name FROM customers WHERE id = %s", [2]).fetchone()[0] == "Charles Babbage"
        version = db.pgconn.full_protocol_version
        assert version == (30002 if "3.2" in options or "latest" in options else 30000), version
        assert db.pgconn.ssl_in_use == ("disable" not in options)
        threading.Timer(0.5, db.cancel_safe).start()
        started = time.monotonic()
        try:
            db.execute("SELECT pg_sleep(30)")
            raise SystemExit("it was not cancelled")
        except errors.QueryCanceled:
            assert time.monotonic() - started < 20
        assert db.execute("SELECT 1").fetchone() == (1,)
print("newest: well")
"#;

#[test]
fn the_newest_libpq_has_tls_at_once_and_protocol_3_2() {
    let postgres = Postgres::start();
    let world = world(postgres.connection(Role::App));
    let agent = agent(&world);
    python::packages("postgres-clients", &PYTHON_PACKAGES, agent.home()).expect("pip");
    let home = agent.home().to_owned();
    let agent = agent
        .env("PYTHONPATH", home.join("python"))
        .env("PGSSLROOTCERT", "/etc/ssl/certs/ca-certificates.crt");
    let ran = agent.run(&[python::PYTHON, "-c", NEWEST]).succeeded();
    assert!(ran.says("newest: well"), "{ran}");
}
