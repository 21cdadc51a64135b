//! What happened is off the host before the host is gone: over failures, kill -9 and a bucket that nobody can reach; and whoever takes
//! something out of what lies there, or changes it, is found out.

use std::{
    fs::{self, Permissions},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use holdpoint_tests::{
    files::repository,
    stand_in::Authority,
    world::{INSTANCES_URL, Settings, World},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// How often the daemon is killed.
const KILLS: u64 = 6;

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

fn world(configuration: String) -> World {
    let settings = Settings {
        extra_configuration: configuration,
        ..Settings::default()
    };
    World::with(&settings).unwrap_or_else(|error| panic!("{error:#}"))
}

fn work(world: &World) {
    let ran = world
        .sandbox()
        .run(&["curl", "-sS", "--fail", INSTANCES_URL]);
    let _ = ran.succeeded();
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Exit code and report of `audit verify --shipped`.
fn verify(world: &World, dir: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let key = fs::read_to_string(world.dir().join("run/record.vkey")).expect("there");
    let mut command = Command::new(world.binary());
    command.args(["audit", "verify", "--output", "json", "--key", key.trim()]);
    let output = command.args(["--shipped", text(dir)]).args(more).output();
    let output = output.expect("it can be started");
    let report = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        report.unwrap_or_else(|error| panic!("{error}: {output:?}")),
    )
}

/// All that was recorded is there, signed to the last event. The daemon has stopped.
fn assert_complete(world: &World, dir: &Path) -> Value {
    let (code, report) = verify(world, dir, &[]);
    assert_eq!(code, Some(0), "{report}\n{}", world.daemon_log());
    assert_eq!(report["events"], report["signed"], "{report}");
    let export = world.dir().join(format!("export-{}", free_port()));
    let mut command = Command::new(world.binary());
    command.args(["audit", "export", "--store"]);
    command.arg(world.dir().join("state")).arg("--out");
    let output = command.arg(&export).output().expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    let lines = fs::read_to_string(&export).expect("there").lines().count();
    assert_eq!(report["events"].as_u64(), u64::try_from(lines).ok());
    report
}

fn objects(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let logs: Vec<_> = fs::read_dir(dir).expect("there").collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    let log = logs.into_iter().flatten().next().expect("a log").path();
    let all = fs::read_dir(log.join(kind)).expect("there");
    let mut all: Vec<_> = all.map(|it| it.expect("reads").path()).collect();
    all.sort();
    all
}

fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < limit, "{what} after {limit:?}");
        sleep(Duration::from_millis(50));
    }
}

fn shipping(world: &World) -> Value {
    let status = world.holdpoint_json(&["status"]).expect("it says");
    status["shipping"].clone()
}

/// The daemon is told to stop; its exit code.
fn stopped(world: &World) -> Option<i32> {
    let pid = Pid::from_raw(world.daemon_pid().cast_signed());
    kill(pid, Signal::SIGTERM).expect("it runs");
    let ended = world.daemon_ends_within(Duration::from_secs(30));
    ended.expect("it ends").code()
}

/// A stand-in for Cloud Storage; it ends when dropped.
struct Bucket {
    child: Option<Child>,
    port: u16,
    dir: TempDir,
}

impl Bucket {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let bucket = Self {
            child: None,
            port: free_port(),
            dir,
        };
        bucket.fails("none");
        bucket
    }

    fn started() -> Self {
        let mut bucket = Self::new();
        bucket.start();
        bucket
    }

    fn start(&mut self) {
        let program = repository().join("tests/clients/bucket.py");
        let place = |name: &str| self.dir.path().join(name);
        let child = Command::new("/usr/bin/python3")
            .arg(program)
            .arg(self.port.to_string())
            .args([place("objects"), place("faults"), place("journal")])
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("python3 runs"));
        until("no bucket", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    fn fails(&self, how: &str) {
        fs::write(self.dir.path().join("faults"), how).expect("written");
    }

    fn configuration(&self, more: &str) -> String {
        format!(
            "[record]\nbodies = \"all\"\n[record.ship]\nbucket = \"gs://evidence/ci\"\nendpoint = \"http://127.0.0.1:{}\"\nevery_seconds = 1\n{more}\n",
            self.port
        )
    }

    /// What an auditor copies out of it.
    fn copy(&self) -> PathBuf {
        self.dir.path().join("objects/evidence/ci")
    }

    fn requests(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("journal")).unwrap_or_default();
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("JSON")
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_directory_has_it_all_and_what_is_taken_from_it_is_named() {
    let mount = TempDir::new().expect("a directory");
    let configuration = format!(
        "[record.ship]\ndirectory = \"{}\"\nevery_seconds = 1\n",
        mount.path().display()
    );
    let world = world(configuration);
    for _ in 0..3 {
        work(&world);
        let output = world.holdpoint(&["audit", "ship"]).output();
        let output = output.expect("it can be started");
        assert!(output.status.success(), "{output:?}");
    }
    let status = shipping(&world);
    assert!(status["events"].as_u64() > Some(10), "{status}");
    assert_eq!(status["trouble"], Value::Null, "{status}");
    let metrics = world.holdpoint(&["status"]).output().expect("it says");
    let told = String::from_utf8_lossy(&metrics.stdout).into_owned();
    assert!(told.contains("the record is shipped to"), "{told}");
    assert_eq!(stopped(&world), Some(0), "{}", world.daemon_log());
    assert_complete(&world, mount.path());

    let events = objects(mount.path(), "events");
    assert!(events.len() >= 3, "{events:?}");
    let mode = fs::metadata(events[0].parent().and_then(Path::parent).expect("a log"));
    assert_eq!(mode.expect("there").permissions().mode() & 0o777, 0o700);
    let middle = &events[1];
    let bytes = fs::read(middle).expect("there");
    fs::remove_file(middle).expect("removed");
    let (code, report) = verify(&world, mount.path(), &[]);
    assert_eq!((code, &report["result"]), (Some(1), &"incomplete".into()));
    assert_eq!(
        report["missing"].as_array().map(Vec::len),
        Some(1),
        "{report}"
    );
    let mut other = bytes.clone();
    let place = other.len() / 2;
    other[place] ^= 1;
    fs::write(middle, other).expect("written");
    let (code, report) = verify(&world, mount.path(), &[]);
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(
        report["altered"].as_array().map(Vec::len),
        Some(1),
        "{report}"
    );
    fs::write(middle, bytes).expect("written");
    let last = events.last().expect("some");
    let bytes = fs::read(last).expect("there");
    fs::remove_file(last).expect("removed");
    let (code, report) = verify(&world, mount.path(), &[]);
    assert_eq!(
        (code, &report["result"]),
        (Some(1), &"altered".into()),
        "{report}"
    );
    fs::write(last, bytes).expect("written");
    assert_complete(&world, mount.path());
}

#[test]
fn a_bucket_gets_each_event_over_failures_and_kills() {
    gets_each_event("some", "none");
}

/// Who may create objects and nothing else is refused where another is told that there is one already.
#[test]
fn an_account_that_may_only_create_is_enough() {
    let requests = gets_each_event("create-only-some", "create-only");
    let refused = requests.iter().filter(|it| it["code"] == 403).count();
    assert!(refused > 0, "nothing was there already");
}

fn gets_each_event(failing: &str, at_last: &str) -> Vec<Value> {
    let bucket = Bucket::started();
    let world = world(bucket.configuration("bodies = true"));
    bucket.fails(failing);
    for kill in 0..KILLS {
        work(&world);
        sleep(Duration::from_millis(211 * kill));
        world.kill_daemon().expect("it was running");
        world.start_daemon().expect("it starts again");
    }
    work(&world);
    bucket.fails(at_last);
    assert_eq!(stopped(&world), Some(0), "{}", world.daemon_log());
    let report = assert_complete(&world, &bucket.copy());
    assert!(report["bodies"]["checked"].as_u64() > Some(0), "{report}");

    let requests = bucket.requests();
    assert!(requests.iter().all(|it| it["once"] == true), "written over");
    assert!(
        requests.iter().any(|it| it["code"] == 503),
        "nothing failed"
    );
    // Nothing is there twice: what was being sent was sent again under the same name.
    let events = objects(&bucket.copy(), "events");
    let first = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        name[..20].to_owned()
    };
    let mut firsts: Vec<_> = events.iter().map(first).collect();
    firsts.dedup();
    assert_eq!(firsts.len(), events.len(), "{events:?}");
    requests
}

#[test]
fn a_daemon_says_what_it_could_not_ship_and_the_next_one_does() {
    let mut bucket = Bucket::new();
    let world = world(bucket.configuration("stop_seconds = 2"));
    work(&world);
    until("it fails", Duration::from_secs(10), || {
        shipping(&world)["trouble"].is_string()
    });
    // It is on nobody's way.
    work(&world);
    let asked = Instant::now();
    let code = stopped(&world);
    assert!(asked.elapsed() < Duration::from_secs(12), "{asked:?}");
    assert_eq!(code, Some(1), "{}", world.daemon_log());
    let log = world.daemon_log();
    assert!(
        log.contains("were not shipped to gs://evidence/ci"),
        "{log}"
    );

    bucket.start();
    world.start_daemon().expect("it starts again");
    assert_eq!(stopped(&world), Some(0), "{}", world.daemon_log());
    assert_complete(&world, &bucket.copy());
}

#[test]
fn retention_waits_for_what_is_not_shipped() {
    let mut bucket = Bucket::new();
    let configuration = bucket.configuration("stop_seconds = 0");
    let configuration = configuration.replace("[record]", "[record]\nsegment_bytes = 4096");
    let world = world(format!(
        "{configuration}[record.retention]\nmetadata = \"0s\"\n"
    ));
    (0..4).for_each(|_| work(&world));
    let retention = |args: &[&str]| {
        let args = [&["audit", "retention"], args].concat();
        world.holdpoint_json(&args).expect("an answer")
    };
    let report = retention(&[]);
    assert_eq!(report["due"]["segments"], 0, "{report}");
    assert!(report.to_string().contains("not_shipped"), "{report}");
    bucket.start();
    until("not shipped", Duration::from_secs(30), || {
        let _ = world.holdpoint(&["audit", "ship"]).output();
        shipping(&world)["behind"] == 0
    });
    let report = retention(&[]);
    assert!(report["due"]["segments"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_webhook_gets_checkpoints_that_prove_what_was_there() {
    let files = TempDir::new().expect("a directory");
    let put = |name: &str, content: &str| {
        let path = files.path().join(name);
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
        path
    };
    let authority = Authority::new("receivers").expect("an authority");
    let (certificate, key) = authority.leaf_pem("127.0.0.1").expect("a certificate");
    let (certificate, key) = (put("certificate.pem", &certificate), put("key.pem", &key));
    let (ca, secret) = (put("ca.pem", authority.pem()), put("secret", SECRET));
    let journal = files.path().join("journal");
    let port = free_port();
    let mut receiver = Command::new("/usr/bin/python3")
        .arg(repository().join("tests/clients/webhook_receiver.py"))
        .arg(port.to_string())
        .args([&certificate, &key])
        .arg(SECRET)
        .arg(&journal)
        .args(["503", "reset", "200"])
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 runs");
    let world = world(format!(
        "[record.checkpoints.webhook]\nurl = \"https://127.0.0.1:{port}/\"\nsecret_file = \"{}\"\nca_file = \"{}\"\n",
        secret.display(),
        ca.display()
    ));
    work(&world);
    let told = || -> Vec<Value> {
        let text = fs::read_to_string(&journal).unwrap_or_default();
        text.lines()
            .filter_map(|it| serde_json::from_str(it).ok())
            .collect()
    };
    let taken = || told().into_iter().find(|it| it["step"] == "200");
    until("not told", Duration::from_secs(30), || taken().is_some());
    let requests = told();
    assert!(requests.len() >= 3, "{requests:?}");
    assert!(
        requests.iter().all(|it| it["signed"] == true),
        "{requests:?}"
    );
    assert_eq!(requests[0]["id"], requests[1]["id"], "the same again");
    let message = &taken().expect("there")["body"];
    assert_eq!(message["type"], "holdpoint.checkpoint");
    let note = put("note", message["data"]["note"].as_str().expect("a note"));

    // Whoever keeps it can tell that an older record was put back.
    assert_eq!(stopped(&world), Some(0), "{}", world.daemon_log());
    let key = fs::read_to_string(world.dir().join("run/record.vkey")).expect("there");
    let mut command = Command::new(world.binary());
    command.args(["audit", "verify", "--key", key.trim(), "--checkpoint"]);
    command
        .arg(&note)
        .arg("--store")
        .arg(world.dir().join("state"));
    let output = command.output().expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    let _ = receiver.kill();
    let _ = receiver.wait();
}
