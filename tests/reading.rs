//! What happened can be found, watched again, watched live and handed to others in forms that readers of their own accept.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use holdpoint_tests::{
    database::agent,
    files::repository,
    host,
    postgres::Postgres,
    python,
    reviewer::{events, session_id, sessions},
    world::{INSTANCES_URL, Settings, World},
};
use serde_json::{Value, json};

const PROD_DB_URL: &str =
    "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/prod-db";
const STAGING_DB_URL: &str =
    "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/staging-db";
/// A user of every host that no agent runs as.
const BIN: u32 = 2;
/// What an agent puts where it can, and what a terminal or a browser must not obey.
const HOSTILE: &str = "</script><script>window.hacked=1</script>";
/// The same where it has to be encoded.
const ENCODED: &str = "%3C%2Fscript%3E%3Cscript%3Ewindow.hacked=1%3C%2Fscript%3E";

/// A session with a read, an approved and a denied delete.
fn lively() -> (World, String) {
    let world = World::start();
    let script = format!(
        ": '{HOSTILE}'\n\
         curl -sS --fail '{INSTANCES_URL}?filter={ENCODED}' >/dev/null\n\
         curl -sS --fail -X DELETE {PROD_DB_URL} >/dev/null\n\
         curl -sS -X DELETE {STAGING_DB_URL} >/dev/null\n"
    );
    let running = world.sandbox().start(&["sh", "-c", &script]);
    let hold = world.wait_for_hold("prod-db");
    world.approve(hold.id()).expect("root may approve");
    let hold = world.wait_for_hold("staging-db");
    world.deny(hold.id()).expect("root may deny");
    let _ = running.finish().succeeded();
    let id = only_session(&world);
    (world, id)
}

/// When it is over.
fn only_session(world: &World) -> String {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        let all = sessions(world).expect("a list");
        if !all[0]["closed_at"].is_null() {
            return session_id(&all[0]).to_owned();
        }
        assert!(Instant::now() < limit, "the session does not end: {all:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

const DATABASES: &str = r#"
@id("databases") @record("bodies")
permit(principal, action in Action::"postgres.*", resource);
@id("no-deletes") @reason("it would delete every row")
forbid(principal, action == Action::"postgres.delete", resource);
@id("drops") @hold("reviewers")
forbid(principal, action == Action::"postgres.drop_table", resource);
"#;

/// A session with a read, a denied delete and an approved drop in a database.
fn of_a_database() -> (Postgres, World, String) {
    let postgres = Postgres::start();
    let world = Settings::with_database(&postgres)
        .policies(DATABASES)
        .start();
    let running = agent(&world).start_psql(&[
        "SELECT count(*) FROM scratch",
        "DELETE FROM scratch",
        "DROP TABLE scratch",
    ]);
    let hold = world.wait_for_hold("scratch");
    world.approve(hold.id()).expect("root may approve");
    let _ = running.finish().succeeded();
    let id = only_session(&world);
    (postgres, world, id)
}

fn told(world: &World, args: &[&str]) -> String {
    let output = world.holdpoint(args).output().expect("starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn exported(world: &World, session: &str, format: &str) -> PathBuf {
    let out = world.dir().join(format!("export.{format}"));
    let path = out.to_str().expect("a plain path");
    let args = [
        "sessions", "export", session, "--format", format, "--out", path,
    ];
    told(world, &args);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(&out).expect("written").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    out
}

#[test]
fn sessions_are_found_shown_and_replayed() {
    let (world, id) = lively();
    let found = |args: &[&str]| {
        let args: Vec<_> = ["sessions", "list"].iter().chain(args).copied().collect();
        let found = world.holdpoint_json(&args).expect("a list");
        found.as_array().expect("a list").len()
    };
    assert_eq!(
        found(&["--action", "sql.instances.delete", "--decision", "hold"]),
        1
    );
    assert_eq!(
        found(&["--action", "sql.instances.delete", "--decision", "deny"]),
        0
    );
    assert_eq!(found(&["--resource", "staging-db"]), 1);
    assert_eq!(found(&["--text", "no such text anywhere"]), 0);
    assert_eq!(found(&["--since", "2999-01-01"]), 0);
    let mut asked = world
        .holdpoint(&["sessions", "list", "--seen-secret-stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = asked.stdin.take().expect("a pipe");
    stdin.write_all(b"approve by the test\n").expect("written");
    drop(stdin);
    let answer = asked.wait_with_output().expect("ends");
    assert!(String::from_utf8_lossy(&answer.stdout).contains(&id));

    let shown = told(&world, &["sessions", "show", &id, "--bodies"]);
    assert!(shown.contains("sql.instances.delete") && shown.contains("approved by root"));
    let started = Instant::now();
    let replayed = told(&world, &["sessions", "replay", &id, "--speed", "1000"]);
    assert!(started.elapsed() < Duration::from_secs(20));
    let count = events(&world, &id).expect("events").len();
    let lines = replayed.lines().filter(|line| line.starts_with('+'));
    assert_eq!(lines.count(), count, "{replayed}");
    let args = ["sessions", "replay", &id, "--step"];
    let stepped = world.holdpoint(&args).stdin(Stdio::null()).output();
    assert!(stepped.expect("runs").status.success());

    let report = told(&world, &["audit", "report", "--output", "json"]);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let ended: Vec<_> = report
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| &it["ended"]["how"])
        .collect();
    assert_eq!(ended, ["used", "denied"]);
    assert_eq!(report[0]["answers"][0]["reviewer"], "root");
    assert_eq!(report[0]["request"]["method"], "DELETE");
    assert!(told(&world, &["audit", "report", "--output", "markdown"]).contains("prod-db"));
    assert!(told(&world, &["audit", "report"]).contains("approve by the test"));
}

#[test]
fn only_reviewers_read_the_whole_host() {
    let (world, id) = lively();
    for args in [
        &["sessions", "show", &id][..],
        &["sessions", "export", "--format", "ndjson"],
        &["sessions", "export", &id, "--format", "ndjson"],
        &["audit", "report"],
    ] {
        let refused = world.holdpoint(args).uid(BIN).output().expect("starts");
        assert!(!refused.status.success(), "{args:?}");
        assert!(refused.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn following_goes_on_over_a_restart() {
    let world = World::start();
    let mut follower = world
        .holdpoint(&["sessions", "follow", "--after", "0", "--output", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let stdout = BufReader::new(follower.stdout.take().expect("a pipe"));
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            let event: Value = serde_json::from_str(&line).expect("JSON");
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    let next = |kind: &str| loop {
        let event = lines
            .recv_timeout(Duration::from_secs(30))
            .expect("an event");
        if event["event"] == kind {
            return event["seq"].as_u64().expect("a number");
        }
    };
    let read = ["curl", "-sS", "--fail", INSTANCES_URL];
    let _ = world.sandbox().run(&read).succeeded();
    let first = next("session_opened");
    world.kill_daemon().expect("killed");
    world.start_daemon().expect("started");
    let _ = world.sandbox().run(&read).succeeded();
    assert!(next("session_opened") > first);
    follower.kill().expect("killed");
    let _ = follower.wait();
}

#[test]
fn ndjson_is_the_record_itself() {
    let (world, id) = lively();
    let file = fs::read_to_string(exported(&world, &id, "ndjson")).expect("UTF-8");
    let shown = events(&world, &id).expect("events");
    let read: Vec<Value> = file
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(read, shown);
}

/// Runs a Python program with these packages, which were not written here.
fn python_reads(packages: &[&str], program: &str, file: &Path) -> String {
    let place = tempfile::tempdir().expect("a directory");
    let path = python::packages("reading", packages, place.path());
    let path = path.unwrap_or_else(|error| panic!("{error:#}"));
    let output = Command::new(python::PYTHON)
        .env("PYTHONPATH", path)
        .args(["-c", program])
        .arg(file)
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

const PACKAGES: [&str; 3] = [
    "duckdb==2.0.0",
    "ocsf-json-schema==1.2.0",
    "jsonschema==4.26.0",
];

#[test]
fn duckdb_reads_parquet() {
    let (world, id) = lively();
    let file = exported(&world, &id, "parquet");
    let program = "
import duckdb, json, sys
rows = duckdb.sql(f\"SELECT action, decision, hold_ended, answered_by, status, held_us, time FROM '{sys.argv[1]}' WHERE action LIKE 'sql.%' ORDER BY seq\").fetchall()
print(json.dumps(rows, default=str))
";
    let rows: Value = serde_json::from_str(&python_reads(&PACKAGES, program, &file)).expect("JSON");
    let rows = rows.as_array().expect("rows");
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert_eq!(rows[0][0], "sql.instances.list");
    assert_eq!(rows[0][2], Value::Null);
    let delete = json!(["sql.instances.delete", "hold", "used", "root", 200]);
    assert_eq!(
        rows[1].as_array().expect("a row")[..5],
        *delete.as_array().expect("five")
    );
    assert!(rows[1][5].as_i64().expect("held") > 0);
    assert_eq!(rows[2][2], "denied");
}

#[test]
fn ocsf_is_valid_by_its_schema() {
    let (world, id) = lively();
    assert!(valid_ocsf(&exported(&world, &id, "ocsf")) >= 3);
    let (_postgres, world, id) = of_a_database();
    assert!(valid_ocsf(&exported(&world, &id, "ocsf")) >= 3);
}

/// How many events there are.
fn valid_ocsf(file: &Path) -> usize {
    let program = "
import json, sys, jsonschema
from ocsf_json_schema import get_ocsf_schema, OcsfJsonSchemaEmbedded
schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version='1.8.0')).get_class_schema('api_activity', ['security_control'])
validator = jsonschema.Draft202012Validator(schema)
events = [json.loads(line) for line in open(sys.argv[1])]
problems = [f'{list(e.absolute_path)}: {e.message[:200]}' for event in events for e in validator.iter_errors(event)]
broken = dict(events[0], class_uid=1)
assert list(validator.iter_errors(broken)), 'the schema refuses nothing'
assert not problems, problems
print(len(events))
";
    let count = python_reads(&PACKAGES, program, file);
    count.trim().parse().expect("a number")
}

#[test]
fn har_is_valid_by_its_schema() {
    host::require_program("npm", "npm").unwrap_or_else(|error| panic!("{error}"));
    let (world, id) = lively();
    assert_eq!(valid_har(&exported(&world, &id, "har")), 3);
    let (_postgres, world, id) = of_a_database();
    // Statements are no requests. Whatever is told of them, the file stays valid.
    let _ = valid_har(&exported(&world, &id, "har"));
}

/// How many entries there are.
fn valid_har(file: &Path) -> usize {
    let cache = repository().join("target/test-cache/har-validator");
    if !cache.join("node_modules/har-validator").exists() {
        fs::create_dir_all(&cache).expect("target/ can be written");
        let installed = Command::new("npm")
            .args(["install", "--silent", "--no-fund", "--no-audit", "--prefix"])
            .arg(&cache)
            .arg("har-validator@5.1.5")
            .status();
        assert!(
            installed.expect("npm runs").success(),
            "npm cannot install har-validator"
        );
    }
    let program = "
const har = require('har-validator/lib/promise');
const file = JSON.parse(require('fs').readFileSync(process.argv[1]));
har.har({ log: { ...file.log, version: 1 } }).then(
  () => { throw new Error('the schema refuses nothing'); },
  () => har.har(file).then(() => console.log(file.log.entries.length), (e) => { console.error(JSON.stringify(e.errors)); process.exit(1); }));
";
    let output = Command::new("node")
        .env("NODE_PATH", cache.join("node_modules"))
        .args(["-e", program])
        .arg(file)
        .output()
        .expect("node runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let count = String::from_utf8_lossy(&output.stdout).into_owned();
    count.trim().parse().expect("a number")
}

/// A browser that does as it is told.
struct Browser {
    child: Child,
    to: ChildStdin,
    of: BufReader<ChildStdout>,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn start() -> Self {
        let program = "chromium-headless-shell";
        host::require_program(program, program).unwrap_or_else(|error| panic!("{error}"));
        let profile = tempfile::tempdir().expect("a directory");
        let mut child = Command::new(python::PYTHON)
            .arg(repository().join("tests/clients/browse.py"))
            .arg(program)
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let to = child.stdin.take().expect("a pipe");
        let of = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            child,
            to,
            of,
            _profile: profile,
        }
    }

    fn does(&mut self, what: &Value) -> Value {
        writeln!(self.to, "{what}").expect("written");
        let mut line = String::new();
        self.of.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{what}: {line}"))
    }

    fn eval(&mut self, expression: &str) -> Value {
        self.does(&json!(["eval", expression]))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_browser_shows_the_page_and_runs_nothing_of_the_agents() {
    let (world, id) = lively();
    let page = exported(&world, &id, "html");
    let url = format!("file://{}", page.display());
    let mut browser = Browser::start();
    browser.does(&json!(["open", url]));
    assert_eq!(
        browser.eval("document.getElementById('title').textContent"),
        format!("Session {id}")
    );
    let drawn = browser.eval("[document.querySelectorAll('#chart rect.wait').length, document.querySelectorAll('#chart path.hold').length]");
    assert_eq!(drawn, json!([2, 2]));
    let filter = |words: &str| {
        format!(
            "(document.getElementById('filter').value = '{words}', document.getElementById('bar').dispatchEvent(new Event('input')), document.querySelectorAll('#list > li').length)"
        )
    };
    let all = browser.eval(&filter("")).as_u64().expect("a number");
    assert_eq!(browser.eval(&filter("staging-db delete")), 1);
    assert_eq!(browser.eval(&filter("no such thing")), 0);
    assert_eq!(browser.eval(&filter("")), all);
    browser.eval("document.querySelectorAll('#list details').forEach((it) => { it.open = true; })");
    let said =
        browser.eval("new Promise((done) => setTimeout(() => done(document.body.innerText), 300))");
    let said = said.as_str().expect("text");
    assert!(
        said.contains("Approved by root") && said.contains("Denied by root"),
        "{said}"
    );
    assert!(said.contains(HOSTILE), "{said}");
    assert_eq!(
        browser.eval("window.hacked === undefined && document.images.length === 0"),
        true
    );
    // Nothing was logged, thrown, refused by the page's own policy, or asked of a network.
    assert_eq!(browser.does(&json!(["heard"])), json!([["request", url]]));
    if let Some(keep) = std::env::var_os("HOLDPOINT_KEEP_PICTURE") {
        browser.eval("document.querySelectorAll('#list details').forEach((it) => { it.open = false; }), document.querySelectorAll('#list details')[1].open = true, window.scrollTo(0, 0)");
        browser.does(&json!(["shoot", keep.to_string_lossy()]));
    }
}
