//! `holdpoint doctor` finds a sound host sound, a broken one broken, and its own sandbox tight.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::Duration,
};

use holdpoint_tests::{
    files::holdpoint_binary,
    host,
    postgres::{Connection, Postgres, Role},
    world::{Settings, World},
};
use serde_json::Value;

/// The doctor's answer, and whether it is content.
fn doctor(mut command: Command) -> (Value, bool) {
    let doctor = command
        .args(["--output", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the doctor runs");
    let own = format!("holdpoint-doctor-{}", doctor.id());
    let output = doctor.wait_with_output().expect("it was ours");
    assert!(!remnants().contains(&own), "its cgroup is left over");
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    });
    (said, output.status.success())
}

fn checks(world: &World) -> (Value, bool) {
    doctor(world.holdpoint(&["doctor", "--only", "checks"]))
}

/// The attacks need neither configuration nor daemon.
fn attacks(arguments: &[&str]) -> (Value, bool) {
    host::require().unwrap_or_else(|error| panic!("{error:#}"));
    let mut command = Command::new(holdpoint_binary().expect("the binary is built"));
    command
        .args(["doctor", "--only", "attacks"])
        .args(arguments);
    doctor(command)
}

fn pins(world: &World) -> PathBuf {
    let agents = world.agents_cgroup();
    let name = agents.file_name().expect("a name");
    Path::new("/sys/fs/bpf").join(name).join("links")
}

/// What was found about `subject`, worst first.
fn found<'a>(said: &'a Value, subject: &str) -> Vec<(&'a str, &'a str)> {
    let all = said["checks"].as_array().expect("checks");
    let of = all.iter().filter(|finding| finding["subject"] == subject);
    of.map(|finding| {
        let text = |field: &str| finding[field].as_str().expect("text");
        (text("grade"), text("says"))
    })
    .collect()
}

fn assert_failed(said: &Value, subject: &str, part: &str) {
    let found = found(said, subject);
    assert!(
        found
            .iter()
            .any(|(grade, says)| *grade == "fail" && says.contains(part)),
        "{subject}, {part}: {said:#}"
    );
}

fn verdicts<'a>(said: &'a Value, verdict: &str) -> Vec<&'a str> {
    let rows = said["attacks"].as_array().expect("attacks");
    let with = rows.iter().filter(|row| row["verdict"] == verdict);
    with.map(|row| row["attack"].as_str().expect("a name"))
        .collect()
}

#[test]
fn a_sound_host_is_found_sound() {
    let world = World::start();
    let (said, well) = checks(&world);
    assert!(well, "{said:#}");
    for subject in [
        "kernel",
        "cgroup2",
        "bpffs",
        "configuration",
        "policies",
        "reviewers",
        "daemon",
        "record",
        "BPF programs",
        "enforcement",
        "state",
        "CA",
        "CA bundle",
        "issuer",
        "credential",
        "disk",
    ] {
        let found = found(&said, subject);
        assert!(!found.is_empty(), "{subject}: {said:#}");
        assert!(
            found.iter().all(|(grade, _)| *grade == "ok"),
            "{subject}: {found:?}"
        );
    }
}

#[test]
fn a_host_without_a_daemon_is_no_failure() {
    let world = World::start();
    world.stop_daemon().expect("it ends");
    let (said, well) = checks(&world);
    assert!(well, "{said:#}");
    assert_eq!(found(&said, "daemon")[0].0, "warn");
    // The pins outlive the daemon, and the programs enforce.
    assert_eq!(found(&said, "enforcement")[0].0, "ok");
}

#[test]
fn a_detached_program_is_found() {
    let world = World::start();
    // While it lives, a daemon holds them, and ends when one is taken away.
    world.kill_daemon().expect("it was running");
    fs::remove_file(pins(&world).join("sendmsg4")).expect("it is pinned");
    let (said, well) = checks(&world);
    assert!(!well);
    assert_failed(&said, "BPF programs", "sendmsg4 is not pinned");
    // Its pin was the last thing that held it.
    assert_failed(&said, "enforcement", "UDP over IPv4 was not refused");
}

#[test]
fn files_that_others_may_read_are_found() {
    let world = World::start();
    for (file, mode, subject) in [
        ("state", 0o755, "state"),
        ("state/ca.key", 0o644, "CA"),
        ("holdpoint.toml", 0o666, "configuration"),
        ("run/ca-bundle.pem", 0o666, "CA bundle"),
    ] {
        let path = world.dir().join(file);
        let before = fs::metadata(&path).expect("is there").permissions();
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("our own");
        let (said, well) = checks(&world);
        assert!(!well, "{file}");
        assert_failed(&said, subject, "others than root");
        fs::set_permissions(&path, before).expect("our own");
    }
}

#[test]
fn what_is_elsewhere_is_asked() {
    let settings = Settings {
        // Nobody listens there.
        issuers: vec!["http://127.0.0.1:1".into()],
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let (said, well) = checks(&world);
    assert!(!well);
    assert_failed(&said, "issuer", "http://127.0.0.1:1");
    assert!(found(&said, "issuer").iter().any(|it| it.0 == "ok"));
}

#[test]
fn databases_are_logged_in_to() {
    let postgres = Postgres::start();
    let sound = postgres.connection(Role::App);
    let elsewhere = |name: &str| Connection {
        name: name.to_owned(),
        addresses: vec![format!("{name}.internal:5432")],
        ..sound.clone()
    };
    let settings = Settings {
        connections: vec![
            sound.clone(),
            // Nobody listens there.
            Connection {
                dial: Some("127.0.0.1:1".to_owned()),
                ..elsewhere("down")
            },
            Connection {
                user: "nobody".to_owned(),
                ..elsewhere("unknown")
            },
            Connection {
                tls: "unverified",
                ca_file: None,
                ..elsewhere("open")
            },
        ],
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let (said, well) = checks(&world);
    assert!(!well);
    let found = found(&said, "database");
    let has = |grade: &str, parts: &[&str]| {
        let mut found = found.iter();
        found.any(|(its, says)| *its == grade && parts.iter().all(|part| says.contains(part)))
    };
    assert!(has("ok", &["\"shop\": logged in as app"]), "{found:?}");
    assert!(
        has("fail", &["\"down\"", "cannot be reached", "Check `dial`"]),
        "{found:?}"
    );
    assert!(
        has("fail", &["\"unknown\"", "28P01", "password_file"]),
        "{found:?}"
    );
    assert!(has("warn", &["\"open\"", "in between"]), "{found:?}");
}

#[test]
fn reviewers_who_do_not_exist_are_found() {
    let world = World::start();
    let text = fs::read_to_string(world.config()).expect("a configuration");
    let users = "users = [\"root\", \"nobody\"]";
    assert!(text.contains(users));
    let text = text.replace(users, "users = [\"no-such-user\"]");
    fs::write(world.config(), text).expect("our own");
    let (said, well) = checks(&world);
    assert!(!well);
    assert_failed(&said, "reviewers", "no-such-user");
    fs::write(world.dir().join("policies/broken.cedar"), "permit(").expect("our own");
    assert_failed(&checks(&world).0, "policies", "broken.cedar");
}

#[test]
fn nothing_gets_out() {
    // Beside a running daemon, which must not notice.
    let world = World::start();
    let (said, well) = attacks(&[]);
    assert!(well, "{said:#}");
    assert!(verdicts(&said, "contained").len() >= 180, "{said:#}");
    assert_eq!(verdicts(&said, "works"), ["allowed-read"]);
    // What this kernel lacks proves nothing, so there must not be much of it.
    assert!(verdicts(&said, "not-here").len() <= 30, "{said:#}");
    // And nothing hangs: a refusal is quick.
    let rows = said["attacks"].as_array().expect("attacks");
    let slow = rows.iter().filter(|row| row["ms"].as_u64() > Some(5000));
    assert_eq!(slow.count(), 0, "{said:#}");
    world.assert_daemon_works("an examination by the doctor");
}

#[test]
fn the_daemon_attacks_itself_before_it_is_ready() {
    let world = World::start();
    let log = world.daemon_log();
    let held = log.find("a sandbox was attacked from inside, and held");
    let ready = log.find("ready: sessions can be opened");
    assert!(held.is_some() && held < ready, "{log}");
    // Nothing of it is left to be seen.
    let status = world.holdpoint_json(&["status"]).expect("a status");
    assert_eq!(status["refused"], serde_json::json!([]), "{status:#}");
    let sessions = world
        .holdpoint_json(&["sessions", "list"])
        .expect("sessions");
    assert_eq!(sessions, serde_json::json!([]));
    let left = fs::read_dir(world.agents_cgroup())
        .expect("a cgroup")
        .flatten();
    let left = left.filter(|entry| {
        entry.path().is_dir() && entry.file_name().to_string_lossy().starts_with("s-")
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn a_missing_program_lets_something_out() {
    for (program, attack) in [
        ("connect4", "handed-tcp4"),
        ("connect6", "handed-udp-connect6"),
        ("sendmsg4", "handed-udp4"),
        ("sendmsg6", "handed-udp6"),
        ("sock_create", "mptcp-socket"),
    ] {
        let (said, well) = attacks(&["--without", program]);
        assert!(!well, "{program}");
        let out = verdicts(&said, "got-out");
        assert!(out.contains(&attack), "{program}: {out:?}");
    }
}

#[test]
fn a_killed_doctor_leaves_nothing_behind() {
    host::require().unwrap_or_else(|error| panic!("{error:#}"));
    let mut doctor = Command::new(holdpoint_binary().expect("the binary is built"))
        .args(["doctor", "--only", "attacks"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the doctor runs");
    let own = format!("holdpoint-doctor-{}", doctor.id());
    while !remnants().contains(&own) {
        assert!(matches!(doctor.try_wait(), Ok(None)), "it has ended");
        sleep(Duration::from_millis(10));
    }
    sleep(Duration::from_millis(1500));
    doctor.kill().expect("it runs");
    doctor.wait().expect("it was ours");
    let cgroup = host::cgroup2_root().expect("cgroup2").join(&own);
    let populated = || {
        fs::read_to_string(cgroup.join("cgroup.events"))
            .is_ok_and(|events| events.contains("populated 1"))
    };
    for _ in 0..200 {
        if !populated() {
            break;
        }
        sleep(Duration::from_millis(50));
    }
    assert!(!populated(), "a session outlived the doctor");
    // The empty cgroup is taken away by the next one.
    assert!(attacks(&[]).1);
    assert!(!remnants().contains(&own));
}

/// Cgroups of doctors.
fn remnants() -> Vec<String> {
    let root = host::cgroup2_root().expect("cgroup2");
    let entries = fs::read_dir(root).expect("cgroup2 can be read").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with("holdpoint-doctor-"))
        .collect()
}
