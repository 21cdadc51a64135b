//! A statement counts as a read only where the server says that everything in it is harmless: for each way to hide an effect in
//! a SELECT, the effect is real, and Holdpoint calls the statement opaque; and what people and tools ordinarily ask is a read.

mod traps;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Context as _;
use bytes::{BufMut as _, BytesMut};
use holdpoint::postgres::{
    frame,
    lookup::{Dial, Place},
};
use holdpoint_core::{
    mask::Origin,
    sql::{Name, Resolved, Statement, facts::LocalNames, parse},
};
use holdpoint_tests::{
    files::repository,
    postgres::{ADMIN, DATABASE, Postgres, Role},
};
use tokio::net::UnixStream;
use tokio_postgres::error::SqlState;

use traps::{TRAPS, Trap, UNDO, WITNESS};

/// Over the server's own socket, so that nothing but the look-up is tested.
struct Socket {
    path: PathBuf,
    dialled: AtomicUsize,
}

impl Socket {
    fn of(postgres: &Postgres) -> Self {
        Self {
            path: postgres.socket(),
            dialled: AtomicUsize::new(0),
        }
    }
}

impl Dial for Socket {
    type Stream = UnixStream;

    async fn dial(&self) -> anyhow::Result<UnixStream> {
        self.dialled.fetch_add(1, Ordering::SeqCst);
        let mut stream = UnixStream::connect(&self.path).await?;
        let mut body = BytesMut::new();
        // Protocol 3.0.
        body.put_i32(196_608);
        for text in ["user", ADMIN, "database", DATABASE, ""] {
            frame::put_text(&mut body, text);
        }
        let mut startup = BytesMut::new();
        startup.put_i32(i32::try_from(body.len() + 4)?);
        startup.extend_from_slice(&body);
        tokio::io::AsyncWriteExt::write_all(&mut stream, &startup).await?;
        loop {
            let message = frame::read_message(&mut stream, 65536).await?;
            match message.context("the server closed")?.tag {
                b'Z' => return Ok(stream),
                b'E' => anyhow::bail!("the server refused"),
                _ => {}
            }
        }
    }
}

async fn client(postgres: &Postgres) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(postgres.dir().join("run"))
        .port(postgres.address.port())
        .user(ADMIN)
        .dbname(DATABASE);
    let (client, connection) = config
        .connect(tokio_postgres::NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    client
}

fn only(sql: &str) -> Statement {
    let parsed = parse(sql);
    assert_eq!(parsed.statements.len(), 1, "{sql}");
    parsed.statements[0].clone()
}

async fn resolve(socket: &Socket, sql: &str) -> Resolved {
    Place::new().resolve(socket, &only(sql)).await
}

fn is_read(resolved: &Resolved) -> bool {
    resolved.needs.is_empty()
        && resolved
            .effects
            .iter()
            .all(holdpoint_core::sql::Effect::only_reads)
}

fn why(resolved: &Resolved) -> Vec<&str> {
    resolved
        .effects
        .iter()
        .filter_map(|effect| effect.opaque.as_deref())
        .collect()
}

#[tokio::test]
async fn hidden_effects_are_no_reads() {
    let postgres = Postgres::start();
    let socket = Socket::of(&postgres);
    let client = client(&postgres).await;
    let run = postgres.dir().join("run");
    let back = format!(
        "CREATE SERVER back FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{}', port '{}', dbname '{DATABASE}');
         CREATE USER MAPPING FOR {ADMIN} SERVER back OPTIONS (user '{ADMIN}')",
        run.display(),
        postgres.address.port()
    );
    client.batch_execute(&back).await.expect("a foreign server");
    let mut wrong = Vec::new();
    for Trap {
        name,
        setup,
        before,
        sql,
        harmless_without,
    } in TRAPS
    {
        client.batch_execute(WITNESS).await.expect("the witness");
        let without = resolve(&socket, sql).await;
        let writes = sql.starts_with("INSERT");
        if *harmless_without && !is_read(&without) && !(writes && why(&without).is_empty()) {
            wrong.push(format!(
                "{name}: is opaque without the trap: {:?}",
                why(&without)
            ));
        }
        client
            .batch_execute(setup)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        // What making the trap itself set off: an index is built.
        let planted = witnessed(&client).await;
        let resolved = resolve(&socket, sql).await;
        if why(&resolved).is_empty() {
            wrong.push(format!("{name}: passes: {resolved:?}"));
        }
        assert_eq!(
            witnessed(&client).await,
            planted,
            "{name}: looking had an effect"
        );
        let before_it = witnessed(&client).await;
        client
            .batch_execute(before)
            .await
            .expect("what comes before");
        client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        client
            .batch_execute("RESET ROLE; RESET search_path")
            .await
            .expect("reset");
        if witnessed(&client).await <= before_it {
            wrong.push(format!("{name}: has no effect, so it proves nothing"));
        }
        client
            .batch_execute(UNDO)
            .await
            .unwrap_or_else(|error| panic!("undoing {name}: {error:?}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn witnessed(client: &tokio_postgres::Client) -> i64 {
    let row = client
        .query_one("SELECT count(*) FROM trap.witness", &[])
        .await;
    row.expect("the witness").get(0)
}

const READS: &[&str] = &[
    "SELECT abalance FROM pgbench_accounts WHERE aid = 1",
    "SELECT count(*), sum(a), max(b), string_agg(b, ',' ORDER BY a) FROM lab.t WHERE b LIKE 'x%' AND a BETWEEN 1 AND 9 GROUP BY a HAVING count(*) > 1",
    "SELECT a.b, z.v FROM lab.t AS a JOIN lab.u AS z USING (a) WHERE z.mood = 'glad' AND z.mail = 'a@b.example'",
    "SELECT * FROM lab.mailing ORDER BY 1 LIMIT 10",
    "SELECT * FROM lab.totals",
    "SELECT 'a@b.example'::lab.mail, '[1,2]'::int4range, '{1,2}'::integer[]",
    "SELECT h -> 'a', h || 'b=>1'::hstore, encode(digest(b, 'sha256'), 'hex') FROM lab.h",
    "SELECT word, similarity(word, 'abc') FROM lab.words WHERE word % 'abc' ORDER BY word <-> 'abc'",
    "SELECT upper(word), word = 'ABC'::citext, replace(word, 'a', 'b') FROM lab.ci WHERE word = 'abc'",
    "SELECT now(), clock_timestamp(), random(), gen_random_uuid(), current_user, current_schema(), version()",
    "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT n FROM t",
    "SELECT jsonb_path_query(j, '$.a'), j ->> 'b', j @> '{}' FROM lab.j, jsonb_array_elements(j) AS e",
    "SELECT row_number() OVER (PARTITION BY a ORDER BY b), lag(a) OVER w FROM lab.t WINDOW w AS (ORDER BY a)",
    "SELECT date_trunc('day', now()), extract(epoch FROM now()), now() - interval '1 day', timezone('UTC', now())",
    "SELECT to_tsvector('english', b) @@ plainto_tsquery('x') FROM lab.t",
    "SELECT * FROM lab.secured",
    "SELECT * FROM lab.parts",
    "EXPLAIN SELECT * FROM lab.t",
    "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT pg_size_pretty(pg_total_relation_size('lab.t'))",
    "SELECT current_setting('server_version_num')::int",
    "COPY (SELECT a, b FROM lab.t) TO STDOUT",
];

const LAB: &str = "
CREATE EXTENSION pg_trgm; CREATE EXTENSION citext;
CREATE SCHEMA lab;
CREATE TABLE lab.t (a integer PRIMARY KEY, b text DEFAULT 'x', CHECK (a > 0), UNIQUE (b));
CREATE INDEX ON lab.t (lower(b));
CREATE TYPE lab.mood AS ENUM ('glad', 'sad');
CREATE DOMAIN lab.mail AS text CHECK (VALUE ~ '^[^@]+@[^@]+$');
CREATE TABLE lab.u (a integer REFERENCES lab.t, v numeric(10,2), mood lab.mood, mail lab.mail, moods lab.mood[]);
CREATE VIEW lab.mailing AS SELECT a, lower(mail) AS mail FROM lab.u WHERE mood = 'glad' AND mail ~* 'example';
CREATE MATERIALIZED VIEW lab.totals AS SELECT a, count(*) FROM lab.u GROUP BY a;
CREATE TABLE lab.h (h hstore, b text);
CREATE TABLE lab.words (word text); CREATE INDEX ON lab.words USING gin (word gin_trgm_ops);
CREATE TABLE lab.ci (word citext PRIMARY KEY);
CREATE TABLE lab.j (j jsonb);
CREATE TABLE lab.secured (owner text); ALTER TABLE lab.secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON lab.secured USING (owner = current_user OR owner = current_setting('app.user', true));
CREATE TABLE lab.parts (a integer) PARTITION BY HASH (a);
CREATE TABLE lab.parts0 PARTITION OF lab.parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE pgbench_accounts (aid integer PRIMARY KEY, bid integer, abalance integer, filler char(84));
";

#[tokio::test]
async fn ordinary_queries_are_reads() {
    let postgres = Postgres::start();
    let socket = Socket::of(&postgres);
    let client = client(&postgres).await;
    client.batch_execute(LAB).await.expect("the lab");
    let mut wrong = Vec::new();
    for sql in READS {
        let resolved = resolve(&socket, sql).await;
        if !is_read(&resolved) {
            wrong.push(format!("{sql}\n  {:?}", why(&resolved)));
        }
        if !sql.starts_with("COPY") {
            client
                .batch_execute(sql)
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let resolved = resolve(&socket, "SELECT mail FROM mailing").await;
    let relations: Vec<Name> = resolved
        .effects
        .iter()
        .filter_map(|effect| effect.relation.clone())
        .collect();
    assert_eq!(
        relations,
        [Name::within("lab", "mailing"), Name::within("lab", "u")]
    );
}

/// Runs a program, and tells what it asked the server.
fn asked_by(postgres: &Postgres, program: &str, arguments: &[&str]) -> Vec<String> {
    let earlier = postgres.log();
    let output = postgres
        .client(program, Role::Superuser)
        .args(arguments)
        .output()
        .expect("the program runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let log = postgres.log().since(&earlier);
    let asked: Vec<String> = log.statements().map(str::to_owned).collect();
    assert!(!asked.is_empty(), "{program} asked nothing: {said}");
    asked
}

#[tokio::test]
async fn what_psql_and_pg_dump_ask_is_read() {
    let postgres = Postgres::start();
    let socket = Socket::of(&postgres);
    let client = client(&postgres).await;
    client.batch_execute(LAB).await.expect("the lab");
    let mut asked = asked_by(&postgres, "pg_dump", &["-s"]);
    for describe in [
        "\\d",
        "\\d+ lab.*",
        "\\d+ lab.t",
        "\\dt *.*",
        "\\dv+ *.*",
        "\\di+ *.*",
        "\\ds",
        "\\df+ *.*",
        "\\da",
        "\\do+",
        "\\dT+ *.*",
        "\\dD+ *.*",
        "\\dn+",
        "\\du+",
        "\\l+",
        "\\db+",
        "\\dx+",
        "\\dp *.*",
        "\\dC+",
        "\\dc",
        "\\dO",
        "\\dF+",
        "\\des+",
        "\\dRp+",
        "\\dy",
        "\\dL+",
        "\\dconfig",
        "\\sf lower(text)",
        "\\sv lab.mailing",
        "\\drds",
        "\\dew+",
        "\\dX",
        "\\dA+",
        "\\dAc",
        "\\dAo",
        "\\dAf",
        "\\dAp",
    ] {
        asked.extend(asked_by(&postgres, "psql", &["-X", "-c", describe]));
    }
    let place = Place::new();
    let mut wrong = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    // EXECUTE was judged with its PREPARE. The other one sets what it reads, so that it is the policy's to let pass.
    asked.retain(|text| {
        !text.starts_with("EXECUTE ") && !text.contains("restrict_nonsystem_relation_kind")
    });
    for text in asked {
        for statement in &parse(&text).statements {
            let resolved = place.resolve(&socket, statement).await;
            let locks_only = statement
                .effects
                .iter()
                .any(|effect| effect.action == "postgres.lock");
            if !is_read(&resolved) && !locks_only && seen.insert(text.clone()) {
                wrong.push(format!("{text}\n  {:?}", why(&resolved)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}: {}", wrong.len(), wrong.join("\n\n"));
}

#[tokio::test]
async fn what_tools_ask_a_server_about_itself_is_read() {
    let postgres = Postgres::start();
    let socket = Socket::of(&postgres);
    let client = client(&postgres).await;
    client.batch_execute(LAB).await.expect("the lab");
    let own = client.batch_execute("DROP SCHEMA shadow CASCADE").await;
    own.expect("no function is called like one of PostgreSQL's own");
    let file = repository().join("agent/core/src/sql/tests/introspection.sql");
    let asked = std::fs::read_to_string(file).expect("a file");
    let place = Place::new();
    let mut wrong = Vec::new();
    for text in asked.split("\n\n").skip(1) {
        let resolved = place.resolve(&socket, &only(text)).await;
        if !is_read(&resolved) {
            wrong.push(format!("{text}\n  {:?}", why(&resolved)));
        }
        // It is what a server takes. Names of the tools' own tables are not there.
        match client.prepare(text).await {
            Err(error) if error.code() != Some(&SqlState::UNDEFINED_TABLE) => {
                wrong.push(format!("{text}\n  {error:?}"));
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}: {}", wrong.len(), wrong.join("\n\n"));
}

#[tokio::test]
async fn a_crowd_that_asks_the_same_asks_once() {
    let postgres = Postgres::start();
    let socket = Arc::new(Socket::of(&postgres));
    let place = Place::new();
    let asking = (0..200).map(|_| {
        let (socket, place) = (socket.clone(), place.clone());
        tokio::spawn(async move {
            is_read(
                &place
                    .resolve(&*socket, &only("SELECT upper('x'), 1 = 2"))
                    .await,
            )
        })
    });
    for answer in asking.collect::<Vec<_>>() {
        assert!(answer.await.expect("an answer"));
    }
    assert_eq!(socket.dialled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_changed_is_seen_and_what_cannot_be_asked_is_opaque() {
    let mut postgres = Postgres::start();
    let socket = Socket::of(&postgres);
    let client = client(&postgres).await;
    client.batch_execute(WITNESS).await.expect("the witness");
    let place = Place::new();
    let sql = only("SELECT * FROM trap.report");
    assert!(is_read(&place.resolve(&socket, &sql).await));
    client
        .batch_execute("CREATE VIEW trap.report AS SELECT trap.evil(1)")
        .await
        .expect("a view");
    place.changed();
    assert!(!is_read(&place.resolve(&socket, &sql).await));

    // In a transaction of the agent's own it is not to be seen from outside.
    let mut local = LocalNames::default();
    let made = only("CREATE VIEW trap.later AS SELECT 1");
    local.note(&made, &place.resolve(&socket, &made).await);
    let later = only("SELECT * FROM trap.later");
    let mut resolved = place.resolve(&socket, &later).await;
    assert!(is_read(&resolved));
    local.apply(&later, &mut resolved);
    assert!(!is_read(&resolved));
    local.ended();
    assert!(local.is_empty());

    // A lock that an agent's transaction holds must not hold up others for longer than the deadline.
    client
        .batch_execute("BEGIN; LOCK TABLE trap.witness; ALTER VIEW trap.report RENAME TO gone")
        .await
        .expect("a lock");
    place.changed();
    let begun = std::time::Instant::now();
    assert!(!is_read(&place.resolve(&socket, &sql).await));
    assert!(begun.elapsed().as_millis() < 3000, "{:?}", begun.elapsed());
    client.batch_execute("ROLLBACK").await.expect("no lock");

    postgres.crash();
    place.changed();
    let resolved = place.resolve(&socket, &only("SELECT 1 + 1")).await;
    assert!(
        why(&resolved)[0].contains("cannot be looked up"),
        "{resolved:?}"
    );
}

#[tokio::test]
async fn columns_have_names() {
    let postgres = Postgres::start();
    let socket = Socket::of(&postgres);
    let place = Place::new();
    let columns = place
        .columns(&socket, &[(1259, 1), (1, 1), (1259, 2)])
        .await;
    let named = |column: &str| {
        Some(Origin {
            schema: Some("pg_catalog".to_owned()),
            relation: "pg_class".to_owned(),
            attribute: column.to_owned(),
            ..Origin::default()
        })
    };
    let expected = vec![named("oid"), None, named("relname")];
    assert_eq!(columns, Some(expected));
}
