//! What happened is provable, offline and with the public key alone: over kill -9, and against whoever puts an older record back.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use holdpoint_tests::world::{INSTANCES_URL, World};
use serde_json::Value;

fn work(world: &World) {
    let _ = world
        .sandbox()
        .run(&["curl", "-sS", "--fail", INSTANCES_URL])
        .succeeded();
}

fn audit(world: &World, args: &[&str]) -> Output {
    let mut command = Command::new(world.binary());
    command.arg("audit").args(args);
    command.output().expect("it can be started")
}

/// Exit code and report of `audit verify`.
fn verify(world: &World, args: &[&str]) -> (Option<i32>, Value) {
    let output = audit(world, &[&["verify", "--output", "json"], args].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text);
    let report = report.unwrap_or_else(|error| panic!("{error}: {text} {output:?}"));
    (output.status.code(), report)
}

fn key(world: &World) -> String {
    let output = world.holdpoint(&["audit", "key"]).output();
    let output = output.expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .into()
}

fn checkpoint(world: &World) -> String {
    let output = world.holdpoint(&["audit", "checkpoint"]).output();
    let output = output.expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn copied(from: &Path, to: PathBuf) -> PathBuf {
    let done = Command::new("cp").arg("-a").arg(from).arg(&to).status();
    assert!(done.expect("cp is there").success());
    to
}

fn export(world: &World, name: &str) -> PathBuf {
    let file = world.dir().join(name);
    let args = ["audit", "export", "--out", text(&file)];
    let output = world.holdpoint(&args).output().expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    file
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn a_record_is_verified_offline_over_kill_9() {
    let world = World::start();
    work(&world);
    world.kill_daemon().expect("it was running");
    world.start_daemon().expect("it starts again");
    work(&world);
    let key = key(&world);
    let elsewhere = world.dir().join("elsewhere");
    fs::write(&elsewhere, checkpoint(&world)).expect("written");
    let file = export(&world, "export.ndjson");

    let (code, report) = verify(
        &world,
        &[
            "--export",
            text(&file),
            "--key",
            &key,
            "--checkpoint",
            text(&elsewhere),
        ],
    );
    assert_eq!(
        (code, &report["result"]),
        (Some(0), &"verified".into()),
        "{report}"
    );
    assert_eq!(report["signed"], report["events"]);
    assert!(report["checkpoints"].as_u64() >= Some(3), "{report}");

    // A copy of the state directory does as well, with nothing beside it that ran since.
    world.stop_daemon().expect("it stops");
    let copy = copied(&world.dir().join("state"), world.dir().join("copy"));
    let (code, report) = verify(
        &world,
        &[
            "--store",
            text(&copy),
            "--key",
            &key,
            "--checkpoint",
            text(&elsewhere),
        ],
    );
    assert_eq!(code, Some(0), "{report}");

    // What the journal has is a checkpoint, too.
    let log = world.dir().join("journal");
    fs::write(&log, world.daemon_log()).expect("written");
    let (code, report) = verify(
        &world,
        &[
            "--store",
            text(&copy),
            "--key",
            &key,
            "--checkpoint",
            text(&log),
        ],
    );
    assert_eq!(code, Some(0), "{report}");
}

#[test]
fn the_first_event_that_was_altered_is_named() {
    let world = World::start();
    work(&world);
    let key = key(&world);
    let file = export(&world, "export.ndjson");
    let original = fs::read_to_string(&file).expect("there");
    let lines: Vec<_> = original.lines().collect();
    let victim = lines
        .iter()
        .position(|it| it.contains("\"intent\""))
        .expect("there is one");
    let altered = original.replacen(lines[victim], &lines[victim].replace("allow", "allaw"), 1);
    assert_ne!(altered, original);
    fs::write(&file, altered).expect("written");
    let (code, report) = verify(&world, &["--export", text(&file), "--key", &key]);
    assert_eq!(
        (code, &report["result"]),
        (Some(1), &"altered".into()),
        "{report}"
    );
    assert_eq!(report["first_bad"], victim as u64 + 1, "{report}");

    fs::write(&file, lines[..lines.len() - 1].join("\n") + "\n").expect("written");
    let (code, report) = verify(&world, &["--export", text(&file), "--key", &key]);
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(report["first_bad"], lines.len() as u64, "{report}");

    // Another key says nothing about this record.
    fs::write(&file, &original).expect("written");
    let stranger = audit(
        &world,
        &["key", "--new", text(&world.dir().join("stranger"))],
    );
    let stranger = String::from_utf8(stranger.stdout).expect("text");
    let (code, report) = verify(&world, &["--export", text(&file), "--key", stranger.trim()]);
    assert_eq!(
        (code, &report["result"]),
        (Some(2), &"unknown".into()),
        "{report}"
    );
}

#[test]
fn an_older_copy_that_was_put_back_is_found() {
    let world = World::start();
    work(&world);
    world.stop_daemon().expect("it stops");
    let older = copied(&world.dir().join("state"), world.dir().join("older"));
    world.start_daemon().expect("it starts again");
    work(&world);
    let key = key(&world);
    let elsewhere = world.dir().join("elsewhere");
    fs::write(&elsewhere, checkpoint(&world)).expect("written");
    world.stop_daemon().expect("it stops");

    // By itself the older copy is in order; the newer checkpoint tells.
    let (code, report) = verify(&world, &["--store", text(&older), "--key", &key]);
    assert_eq!(code, Some(0), "{report}");
    let events = report["events"].as_u64().expect("a number");
    let (code, report) = verify(
        &world,
        &[
            "--store",
            text(&older),
            "--key",
            &key,
            "--checkpoint",
            text(&elsewhere),
        ],
    );
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(report["first_bad"], events + 1, "{report}");

    // The daemon does not go on from it either.
    fs::remove_dir_all(world.dir().join("state/record")).expect("removed");
    copied(&older.join("record"), world.dir().join("state/record"));
    let refused = world
        .start_daemon()
        .expect_err("it must not start")
        .to_string();
    assert!(refused.contains("not the one that was signed"), "{refused}");
}

#[test]
fn one_event_is_proved_without_the_record() {
    let world = World::start();
    work(&world);
    let key = key(&world);
    let early = world.dir().join("early");
    fs::write(&early, checkpoint(&world)).expect("written");
    work(&world);
    let file = export(&world, "export.ndjson");
    let proof = world.dir().join("proof");
    let args = [
        "prove",
        "--export",
        text(&file),
        "--key",
        &key,
        "--event",
        "3",
        "--out",
        text(&proof),
    ];
    let made = audit(&world, &args);
    assert!(made.status.success(), "{made:?}");
    let (code, report) = verify(&world, &["--proof", text(&proof), "--key", &key]);
    assert_eq!(
        (code, &report["proved"]),
        (Some(0), &"inclusion".into()),
        "{report}"
    );
    let line = fs::read_to_string(&file).expect("there");
    assert_eq!(report["event"].as_str(), line.lines().nth(2));

    let growth = world.dir().join("growth");
    let args = [
        "prove",
        "--export",
        text(&file),
        "--key",
        &key,
        "--from",
        text(&early),
        "--out",
        text(&growth),
    ];
    let made = audit(&world, &args);
    assert!(made.status.success(), "{made:?}");
    let (code, report) = verify(&world, &["--proof", text(&growth), "--key", &key]);
    assert_eq!(
        (code, &report["proved"]),
        (Some(0), &"consistency".into()),
        "{report}"
    );
    let forged =
        fs::read_to_string(&growth)
            .expect("there")
            .replacen("\"old\": \"", "\"old\": \"x", 1);
    fs::write(&growth, forged).expect("written");
    let (code, report) = verify(&world, &["--proof", text(&growth), "--key", &key]);
    assert_eq!(code, Some(1), "{report}");
}
