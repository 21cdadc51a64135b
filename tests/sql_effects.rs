//! Every statement of the table in `agent/core/src/sql/tests/statements.toml`, through the whole product and against a real server:
//! nothing of what is held or denied reaches it before its decision, by the server's own log and by a fingerprint of all that is in
//! it; what is approved reaches it once, as it was written; and what passes for a read changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    time::{Duration, Instant},
};

use holdpoint_tests::{
    database,
    files::repository,
    postgres::{DATABASE, LOOKUP, Log, Options, Postgres, Role},
    sandbox::Running,
    world::{Settings, World},
};
use serde::Deserialize;
use serde_json::Value;

/// How many statements wait for people at a time.
const WAVE: usize = 120;
/// How many are sent at a time that do not wait: each is looked up, and what is not told in 2 s is held.
const FEW: usize = 40;
const LIMIT: Duration = Duration::from_secs(60);
/// How long the look-ups of Holdpoint take an answer for true, and a little more.
const FRESH: Duration = Duration::from_secs(6);

/// What stands behind the names of the table, so that it has effects where it runs.
const SCENE: &str = "
SET client_min_messages = warning; DROP SCHEMA shadow CASCADE;
SET ROLE app;
CREATE TABLE witness (at timestamptz DEFAULT now());
CREATE FUNCTION evil(x int) RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.witness DEFAULT VALUES; RETURN x; END';
CREATE FUNCTION my_function(int) RETURNS int LANGUAGE sql AS 'SELECT public.evil($1)';
CREATE AGGREGATE my_aggregate (int) (sfunc = int4_sum, stype = bigint);
CREATE DOMAIN evil_type AS int CHECK (public.evil(VALUE) > 0);
CREATE TABLE t (id int PRIMARY KEY, a int, b text, c int, d date, name text, t_id int);
INSERT INTO t SELECT n, n, 'x' || n, n, '2026-01-01', 'name ' || n, n FROM generate_series(1, 5) n;
CREATE FUNCTION evil(t) RETURNS int LANGUAGE sql AS 'SELECT public.evil(1)';
CREATE TABLE u (id int, a int, b text, t_id int);
INSERT INTO u SELECT n, n, 'y', n FROM generate_series(1, 5) n;
CREATE TABLE archive (LIKE t);
CREATE TABLE \"Weird Table\" (a int); CREATE TABLE \"drop\" (a int); CREATE TABLE dat (a int); CREATE TABLE \"from\" (\"select\" int, \"where\" text);
CREATE TABLE x (a int); CREATE TABLE \"t; DROP TABLE t\" (a int);
CREATE VIEW v AS SELECT * FROM t; CREATE MATERIALIZED VIEW m AS SELECT * FROM t; CREATE INDEX i ON t (a);
CREATE SEQUENCE s; CREATE SEQUENCE \"S\";
CREATE SCHEMA shop; CREATE TABLE shop.customers (a int);
CREATE PROCEDURE p(int) LANGUAGE sql AS 'DELETE FROM public.t'; CREATE PROCEDURE p() LANGUAGE sql AS 'DELETE FROM public.t';
RESET ROLE;
CREATE SERVER srv FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '1'); GRANT USAGE ON FOREIGN SERVER srv TO app;
SET ROLE app; CREATE FOREIGN TABLE ft (a int) SERVER srv;
RESET ROLE; SELECT lo_create(1); ALTER LARGE OBJECT 1 OWNER TO app;";

/// What is called like PostgreSQL's own, so that wherever that name stands it may be meant.
const SHADOWS: &str = "
SET ROLE app;
CREATE SCHEMA evil;
CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS 'SELECT public.evil(1)::text';
CREATE FUNCTION evil.nextval(text) RETURNS bigint LANGUAGE sql AS 'SELECT public.evil(1)::bigint';
CREATE FUNCTION evil.\"Lower\"(text) RETURNS text LANGUAGE sql AS 'SELECT public.evil(1)::text';
CREATE FUNCTION evil.\"DELETE\"(int) RETURNS int LANGUAGE sql AS 'SELECT public.evil(1)';
CREATE FUNCTION evil.pg_input_is_valid(text, text) RETURNS int LANGUAGE sql AS 'SELECT public.evil(1)';
CREATE FUNCTION evil.pg_file_write(text, text, boolean) RETURNS int LANGUAGE sql AS 'SELECT public.evil(1)';
CREATE FUNCTION evil.pg_file_unlink(text) RETURNS int LANGUAGE sql AS 'SELECT public.evil(1)';
CREATE FUNCTION evil.crosstab(text) RETURNS SETOF record LANGUAGE sql AS 'SELECT public.evil(1)';
CREATE FUNCTION evil.same(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT public.evil($1) = $2';
CREATE FUNCTION evil.sum(int, int) RETURNS int LANGUAGE sql AS 'SELECT public.evil($1)';
CREATE OPERATOR evil.= (leftarg = int, rightarg = int, function = evil.same);
CREATE OPERATOR evil.< (leftarg = int, rightarg = int, function = evil.same);
CREATE OPERATOR evil.+ (leftarg = int, rightarg = int, function = evil.sum);
CREATE OPERATOR public.+ (leftarg = int, rightarg = int, function = evil.sum);";
const NO_SHADOWS: &str = "SET client_min_messages = warning; DROP SCHEMA evil CASCADE";

/// What is a read without a server, and is held with this one: a cursor nobody declared, a function written like a column, a foreign table.
const ONLY_THE_SERVER_KNOWS: [&str; 4] = [
    "FETCH ALL FROM c",
    "FETCH FORWARD 10 FROM c",
    "SELECT t.evil FROM t",
    "SELECT * FROM ft",
];

#[derive(Deserialize)]
struct Table {
    statement: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    sql: String,
}

/// A text, and what is to become of it.
#[derive(Clone, Debug)]
struct Case {
    sql: String,
    decision: String,
    writes: bool,
    statements: usize,
    /// It takes a transaction number, though it changes nothing: a lock on rows is written into them.
    is_numbered: bool,
}

/// The table, and what `holdpoint recognise` makes of it under the shipped policies.
fn cases(world: &World) -> Vec<Case> {
    let file = repository().join("agent/core/src/sql/tests/statements.toml");
    let table: Table = toml::from_str(&fs::read_to_string(file).expect("a file")).expect("TOML");
    let lines = world.dir().join("statements.jsonl");
    let said: String = table
        .statement
        .iter()
        .map(|row| serde_json::json!({ "sql": row.sql }).to_string() + "\n")
        .collect();
    fs::write(&lines, said).expect("a file");
    let recognised = Command::new(world.binary())
        .args(["recognise", "--sql", "--policies"])
        .arg(world.dir().join("policies"))
        .arg(lines)
        .output()
        .expect("it runs");
    assert!(recognised.status.success(), "{recognised:?}");
    let recognised = String::from_utf8(recognised.stdout).expect("UTF-8");
    let verdicts = recognised
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let cases: Vec<_> = table
        .statement
        .into_iter()
        .zip(verdicts)
        .map(|(row, verdict)| case(row.sql, &verdict))
        .collect();
    assert!(cases.len() >= 150, "{}", cases.len());
    cases
}

fn case(sql: String, verdict: &Value) -> Case {
    let statements = verdict["statements"].as_array().expect("statements");
    let is = |key: &str| statements.iter().any(|it| it[key] == true);
    let numbered = ["lock_rows", "txid_current", "pg_current_xact_id"];
    let is_numbered = numbered.iter().any(|it| verdict.to_string().contains(it));
    let effects = statements.iter().flat_map(|it| it["effects"].as_array());
    let misleads = effects.flatten().any(|it| {
        let read_by = ["standard_conforming_strings", "client_encoding"];
        let setting = it["relation"].as_str().unwrap_or_default();
        it["action"] == "postgres.set" && it["opaque"].is_string() && read_by.contains(&setting)
    });
    let decision = match misleads {
        // On a connection nobody can allow what changes how it is read.
        true => "deny",
        false if ONLY_THE_SERVER_KNOWS.contains(&sql.as_str()) => "hold",
        false => verdict["decision"].as_str().expect("a decision"),
    };
    Case {
        decision: decision.to_owned(),
        writes: is("writes"),
        statements: statements.len(),
        is_numbered,
        sql,
    }
}

fn world(postgres: &Postgres, role: Role) -> World {
    Settings::with_connection(postgres.connection(role))
        .silent()
        .start()
}

/// What the client says came of each: the SQLSTATE of its error, if it had one, and the message.
type Answers = BTreeMap<usize, (Option<String>, String)>;

struct Asking {
    running: Running,
}

impl Asking {
    fn start(world: &World, cases: &[Case], protocol: &str) -> Self {
        let texts: Vec<_> = cases.iter().map(|it| &it.sql).collect();
        let agent = database::agent(world).limit(LIMIT);
        let file = agent.file("texts.json", serde_json::to_vec(&texts).expect("JSON"));
        let file = file.to_str().expect("a plain path");
        let source = repository().join("tests/clients/postgres/statements.py");
        let client = agent.file("statements.py", fs::read(source).expect("a client"));
        let client = client.to_str().expect("a plain path");
        let running = agent.start(&["/usr/bin/python3", client, file, protocol]);
        Self { running }
    }

    fn finish(self, cases: &[Case]) -> Answers {
        let ran = self.running.finish().succeeded();
        let answers: Answers = ran
            .stdout
            .lines()
            .map(|line| {
                let answer: Value = serde_json::from_str(line).expect("JSON");
                let at = answer["at"].as_u64().expect("a place");
                let code = answer["code"].as_str().map(str::to_owned);
                let said = answer["said"].as_str().unwrap_or_default().to_owned();
                (usize::try_from(at).expect("a place"), (code, said))
            })
            .collect();
        assert_eq!(answers.len(), cases.len(), "each is answered: {ran}");
        answers
    }
}

fn pending(world: &World) -> BTreeSet<String> {
    let pending = world.pending().expect("the daemon answers");
    pending.iter().map(|it| it.id().to_owned()).collect()
}

/// The ids of all that is pending, once so many are and no more come. A statement with several effects has several.
fn settled(world: &World, expected: usize, asking: &mut Asking) -> BTreeSet<String> {
    let begun = Instant::now();
    let mut before = BTreeSet::new();
    loop {
        let now = pending(world);
        let is_all = now.len() >= expected && now == before;
        if is_all || begun.elapsed() > LIMIT / 2 || !asking.running.is_running() {
            return now;
        }
        before = now;
        std::thread::sleep(Duration::from_millis(700));
    }
}

fn answer(world: &World, verb: &str, ids: &BTreeSet<String>) {
    let mut arguments = vec!["approvals", verb, "--comment", "by the test"];
    arguments.extend(ids.iter().map(String::as_str));
    let answered = world.holdpoint_text(&arguments);
    let _ = answered.expect("root may answer");
}

fn shown(world: &World, id: &str) -> String {
    let shown = world.holdpoint_text(&["approvals", "show", id]);
    shown.expect("root may look")
}

/// What reached the server that Holdpoint did not ask itself.
fn arrived(log: &Log) -> Vec<String> {
    let entries = log.entries().iter();
    let forwarded = entries.filter(|it| it.application != LOOKUP);
    forwarded
        .filter_map(|it| it.sql().map(str::to_owned))
        .collect()
}

/// How often a text reached the server: what fails to parse is written down with its error alone.
fn arrivals(log: &Log, sql: &str) -> usize {
    let count = |severity: &str| {
        let entries = log.entries().iter();
        let of = entries.filter(|it| it.severity == severity && it.application != LOOKUP);
        of.filter(|it| it.sql().map(str::trim) == Some(sql.trim()))
            .count()
    };
    match count("LOG") {
        0 => count("STATEMENT"),
        some => some,
    }
}

fn scene() -> Postgres {
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let options = Options {
        settings: vec![set("autovacuum", "off"), set("max_connections", "500")],
        ..Options::default()
    };
    let postgres = options.start();
    let _ = postgres.query(DATABASE, SCENE);
    postgres
}

/// The agent is a superuser there, so that nothing but Holdpoint stands in its way.
#[test]
fn nothing_has_an_effect_before_its_decision_and_reads_have_none() {
    let postgres = scene();
    let world = world(&postgres, Role::Superuser);
    let cases = cases(&world);
    let of = |decision: &str| -> Vec<Case> {
        let found = cases.iter().filter(|it| it.decision == decision);
        found.cloned().collect()
    };
    let (denied, held) = (of("deny"), of("hold"));
    let _ = postgres.query(DATABASE, SHADOWS);
    let untouched = postgres.fingerprint();
    let number = postgres.next_transaction();
    let begun = postgres.log();
    for protocol in ["simple", "extended"] {
        // Of more than one statement the server itself takes none in the extended protocol.
        let fits = |it: &&Case| protocol == "simple" || it.statements == 1;
        let denied: Vec<_> = denied.iter().filter(fits).cloned().collect();
        refused(&world, &denied, protocol);
        let held: Vec<_> = held.iter().filter(fits).cloned().collect();
        for wave in held.chunks(WAVE) {
            held_back(&world, &postgres, &begun, wave, protocol);
        }
        let early = arrived(&postgres.log().since(&begun));
        assert!(early.is_empty(), "{protocol}: {early:#?}");
        assert_eq!(postgres.next_transaction(), number, "{protocol}");
    }
    untouched.assert_same(&postgres.fingerprint(), "denied and held");

    let _ = postgres.query(DATABASE, NO_SHADOWS);
    std::thread::sleep(FRESH);
    let untouched = postgres.fingerprint();
    let number = postgres.next_transaction();
    let reads: Vec<Case> = of("allow").into_iter().filter(|it| !it.writes).collect();
    let (numbered, silent): (Vec<_>, Vec<_>) = reads.into_iter().partition(|it| it.is_numbered);
    assert!(silent.len() > 100, "{}", silent.len());
    for few in silent.chunks(FEW) {
        passed(&world, &postgres, few);
    }
    assert_eq!(postgres.next_transaction(), number, "a read wrote");
    passed(&world, &postgres, &numbered);
    untouched.assert_same(&postgres.fingerprint(), "reads");
}

/// Each is answered at once, with the right error.
fn refused(world: &World, cases: &[Case], protocol: &str) {
    let answers = Asking::start(world, cases, protocol).finish(cases);
    for (at, (code, said)) in &answers {
        let sql = &cases[*at].sql;
        let code = code.as_deref().unwrap_or_default();
        assert!(
            ["42501", "22023"].contains(&code),
            "{protocol}: {sql}: {code} {said}"
        );
    }
}

/// Each waits, and then is denied by a person.
fn held_back(world: &World, postgres: &Postgres, begun: &Log, wave: &[Case], protocol: &str) {
    let mut asking = Asking::start(world, wave, protocol);
    let ids = settled(world, wave.len(), &mut asking);
    let early = arrived(&postgres.log().since(begun));
    assert!(
        early.is_empty(),
        "{protocol}, before its decision: {early:#?}"
    );
    answer(world, "deny", &ids);
    let answers = asking.finish(wave);
    let wrong: Vec<_> = answers
        .iter()
        .filter(|(_, (code, _))| code.as_deref() != Some("42501"))
        .map(|(at, answer)| (&wave[*at].sql, answer))
        .collect();
    assert!(wrong.is_empty(), "{protocol}, not denied: {wrong:#?}");
    assert!(ids.len() >= wave.len(), "{protocol}: each is held");
}

/// Each reaches the server, once and as it was written.
fn passed(world: &World, postgres: &Postgres, cases: &[Case]) {
    let before = postgres.log();
    let mut asking = Asking::start(world, cases, "simple");
    while asking.running.is_running() {
        let ids = pending(world);
        let held: Vec<_> = ids.iter().map(|id| shown(world, id)).collect();
        if !held.is_empty() {
            answer(world, "deny", &ids);
        }
        assert!(held.is_empty(), "a read is held: {}", held.concat());
    }
    let answers = asking.finish(cases);
    let log = postgres.log().since(&before);
    let wrong: Vec<_> = cases
        .iter()
        .enumerate()
        .filter(|(_, it)| arrivals(&log, &it.sql) != 1)
        .map(|(at, it)| (&it.sql, &answers[&at]))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let failed: Vec<_> = answers
        .iter()
        .filter_map(|(at, (code, said))| Some((&cases[*at].sql, code.as_ref()?, said)))
        .collect();
    println!("{} of {} read fail: {failed:#?}", failed.len(), cases.len());
    assert!(failed.len() * 2 < cases.len() + 20, "{failed:#?}");
}

/// As a user who owns what is there, and may do no more than that. Each wave has a server of its own: what is approved changes it.
#[test]
fn what_is_approved_reaches_the_server_once_and_as_it_was_written() {
    let held: Vec<Case> = {
        let postgres = scene();
        let cases = cases(&world(&postgres, Role::App));
        // It would end what the others run on.
        let is_held = |it: &Case| it.decision == "hold" && !it.sql.contains("pg_stat_activity");
        cases.into_iter().filter(is_held).collect()
    };
    assert!(held.len() > 200, "{}", held.len());
    let mut effects = 0;
    for wave in held.chunks(WAVE) {
        let postgres = scene();
        let _ = postgres.query(DATABASE, SHADOWS);
        approved(&world(&postgres, Role::App), &postgres, wave);
        let witnessed = postgres.query(DATABASE, "SELECT count(*) FROM witness");
        effects += witnessed.parse::<usize>().expect("a number");
    }
    assert!(effects > 20, "what was held had effects: {effects}");
}

fn approved(world: &World, postgres: &Postgres, wave: &[Case]) {
    let before = postgres.log();
    let mut asking = Asking::start(world, wave, "simple");
    let ids = settled(world, wave.len(), &mut asking);
    let early = arrived(&postgres.log().since(&before));
    assert!(early.is_empty(), "before its decision: {early:#?}");
    assert!(ids.len() >= wave.len(), "each is held");
    answer(world, "approve", &ids);
    let answers = asking.finish(wave);
    let log = postgres.log().since(&before);
    let wrong: Vec<_> = wave
        .iter()
        .enumerate()
        .filter(|(_, it)| arrivals(&log, &it.sql) != 1)
        .map(|(at, it)| (&it.sql, arrivals(&log, &it.sql), &answers[&at]))
        .collect();
    assert!(wrong.is_empty(), "not once: {wrong:#?}");
}
