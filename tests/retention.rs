//! What is old enough goes, what is held stays, and what is left is still proved: also when the daemon is killed in the middle of it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::Duration,
};

use holdpoint_tests::{
    reviewer::{events, session_id, sessions},
    world::{INSTANCES_URL, Settings, World},
};
use serde_json::Value;

/// How often the daemon is killed.
const KILLS: u64 = 6;

/// A world in which everything is old enough at once, but for what was denied.
fn forgetful(retention: &str) -> World {
    let settings = Settings {
        extra_configuration: format!(
            "[record]\nbodies = \"all\"\nsegment_bytes = 4096\n[record.retention]\n{retention}\n"
        ),
        ..Settings::default()
    };
    World::with(&settings).unwrap_or_else(|error| panic!("{error:#}"))
}

/// A session that reads something; its name.
fn work(world: &World) -> String {
    let known = names(world);
    let _ = world
        .sandbox()
        .run(&["curl", "-sS", "--fail", INSTANCES_URL])
        .succeeded();
    let new: Vec<_> = names(world).difference(&known).cloned().collect();
    assert_eq!(new.len(), 1, "{new:?}");
    new[0].clone()
}

fn names(world: &World) -> BTreeSet<String> {
    let all = sessions(world).expect("a list");
    all.iter().map(|it| session_id(it).to_owned()).collect()
}

fn json(world: &World, args: &[&str]) -> Value {
    let args = [&["audit"], args].concat();
    world.holdpoint_json(&args).expect("an answer")
}

/// Names of what lies in the record's directory, without the journals, to which the daemon writes all the time.
fn segments(world: &World) -> BTreeSet<String> {
    let all = fs::read_dir(world.dir().join("state/record")).expect("there");
    let names = all.map(|it| {
        it.expect("reads")
            .file_name()
            .to_string_lossy()
            .into_owned()
    });
    names.filter(|it| !it.contains("journal")).collect()
}

fn kinds(world: &World, session: &str) -> BTreeSet<String> {
    let all = events(world, session).expect("reads");
    let kinds = all.iter().filter_map(|it| it["event"].as_str());
    kinds.map(str::to_owned).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Exit code and report of `audit verify`.
fn verify(world: &World, args: &[&str]) -> (Option<i32>, Value) {
    let key = fs::read_to_string(world.dir().join("run/record.vkey")).expect("there");
    let mut command = Command::new(world.binary());
    command.args(["audit", "verify", "--output", "json", "--key", key.trim()]);
    let output = command.args(args).output().expect("it can be started");
    let report = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        report.unwrap_or_else(|error| panic!("{error}: {output:?}")),
    )
}

fn verify_export(world: &World, name: &str) -> Value {
    let file: PathBuf = world.dir().join(name);
    let args = ["audit", "export", "--out", text(&file)];
    let output = world.holdpoint(&args).output().expect("it can be started");
    assert!(output.status.success(), "{output:?}");
    let (code, report) = verify(world, &["--export", text(&file)]);
    assert_eq!(code, Some(0), "{report}");
    report
}

/// The daemon has stopped.
fn verify_store(world: &World) -> Value {
    let (code, report) = verify(world, &["--store", text(&world.dir().join("state"))]);
    assert_eq!(code, Some(0), "{report}");
    report
}

#[test]
fn a_held_session_stays_and_the_others_go() {
    let world = forgetful("metadata = \"0s\"");
    // A segment has room for little more than one session.
    let before = [(); 3].map(|()| work(&world));
    let held = work(&world);
    let after = [(); 4].map(|()| work(&world));
    let told = kinds(&world, &held);
    let hold = json(&world, &["hold", &held, "--reason", "suit 7"]);
    assert_eq!(hold["reason"], "suit 7", "{hold}");
    let nobody = world.holdpoint(&["audit", "hold", "s-0000000000", "--reason", "suit 7"]);
    let nobody = { nobody }.output().expect("it can be started");
    assert!(!nobody.status.success(), "{nobody:?}");
    work(&world);

    let files = segments(&world);
    let dry = json(&world, &["retention"]);
    assert!(dry["due"]["bytes"].as_u64() > Some(0), "{dry}");
    // Journals become segments meanwhile.
    let now = segments(&world);
    assert!(
        files.is_subset(&now),
        "a dry run changes nothing: {files:?} {now:?}"
    );
    let gone = json(&world, &["retention", "--now"]);
    assert!(
        gone["segments"].as_u64() >= dry["due"]["segments"].as_u64(),
        "{gone} {dry}"
    );

    assert!(
        kinds(&world, &held).is_superset(&told),
        "{:?}",
        kinds(&world, &held)
    );
    let left = names(&world);
    assert!(
        !left.contains(&before[0]) && !left.contains(&after[2]),
        "{left:?}"
    );
    let report = verify_export(&world, "held.ndjson");
    let rows = report["purged"].as_array().expect("rows").len();
    assert!(rows >= 2, "purged before and after what is held: {report}");

    world.kill_daemon().expect("it was running");
    world.start_daemon().expect("it starts again");
    let again = json(&world, &["retention"]);
    assert_eq!(again["legal_holds"][0]["session"], held.as_str(), "{again}");
    let show = kinds(&world, &held);
    assert!(
        show.is_superset(&told) && show.contains("legal_hold"),
        "{show:?}"
    );

    json(&world, &["release", &held, "--reason", "settled"]);
    work(&world);
    json(&world, &["retention", "--now"]);
    assert!(!names(&world).contains(&held));
    verify_export(&world, "released.ndjson");
    world.stop_daemon().expect("it stops");
    verify_store(&world);
}

#[test]
fn bodies_go_before_the_events_that_tell_of_them() {
    let world = forgetful("bodies = \"0s\"\nmetadata = \"400d\"");
    let session = work(&world);
    work(&world);
    let told = kinds(&world, &session);
    assert!(told.contains("body"), "{told:?}");
    let gone = json(&world, &["retention", "--now"]);
    assert_eq!(gone["segments"], 0, "{gone}");
    assert!(gone["bodies"].as_u64() > Some(0), "{gone}");
    assert_eq!(kinds(&world, &session), told);
    let report = verify_export(&world, "bodies.ndjson");
    assert_eq!(report["purged"], serde_json::json!([]), "{report}");
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_of_it_leaves_what_can_be_verified() {
    let world = forgetful("metadata = \"0s\"");
    let held = work(&world);
    let told = kinds(&world, &held);
    json(&world, &["hold", &held, "--reason", "suit 7"]);
    for kill in 0..KILLS {
        work(&world);
        work(&world);
        let mut purge = world.holdpoint(&["audit", "retention", "--now"]);
        let mut purge = purge.spawn().expect("it can be started");
        sleep(Duration::from_millis(15 + 12 * kill));
        world.kill_daemon().expect("it was running");
        let _ = purge.wait();
        world.start_daemon().expect("it starts again");
    }
    work(&world);
    json(&world, &["retention", "--now"]);
    assert!(kinds(&world, &held).is_superset(&told));
    verify_export(&world, "killed.ndjson");
    let left = segments(&world);
    for links in left.iter().filter_map(|it| it.strip_suffix(".links")) {
        let of_it = left.iter().filter(|it| it.starts_with(links));
        assert_eq!(of_it.count(), 1, "only hashes are left: {left:?}");
    }
    world.stop_daemon().expect("it stops");
    let report = verify_store(&world);
    assert!(
        !report["purged"].as_array().expect("rows").is_empty(),
        "{report}"
    );
}
