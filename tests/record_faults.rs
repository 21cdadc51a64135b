//! Whatever happens to the daemon or to its disk: what reached the upstream is in the record.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use holdpoint::record::{Event, StoredEvent, reading};
use holdpoint_tests::{network, world::World};

const HOST: &str = "https://sqladmin.googleapis.com";
const INSTANCES: &str = "/sql/v1beta4/projects/lab-project/instances";
/// How often the daemon is killed; `HOLDPOINT_KILLS` says otherwise.
const KILLS: u64 = 12;
/// Bytes of the small disk.
const DISK: usize = 24 << 20;

fn record_of(world: &World) -> PathBuf {
    world.dir().join("state/record")
}

/// The chain, followed from its beginning.
fn recorded(world: &World) -> Vec<StoredEvent> {
    let mut events: Vec<StoredEvent> = Vec::new();
    for event in reading::events(&record_of(world)).expect("a record") {
        let (seq, bytes) = event.expect("it can be read");
        let event: StoredEvent = serde_json::from_slice(&bytes).expect("an event");
        assert_eq!(seq, events.len() as u64 + 1, "nothing is missing");
        events.push(event);
    }
    events
}

/// How many intents there are for each path, and which of them have no outcome.
fn intents(events: &[StoredEvent]) -> (BTreeMap<String, usize>, usize) {
    let (mut paths, mut open) = (BTreeMap::<_, usize>::new(), BTreeSet::new());
    for stored in events {
        match &stored.event {
            Event::Intent { operation, .. } => {
                *paths.entry(operation.path.to_string()).or_default() += 1;
                open.insert(operation.id.clone());
            }
            Event::Outcome { operation, .. } => drop(open.remove(operation)),
            _ => {}
        }
    }
    (paths, open.len())
}

/// Asserts that whatever has reached the stand-in is in the record; how much that is.
fn assert_all_recorded(world: &World) -> usize {
    let (paths, open) = intents(&recorded(world));
    assert_eq!(open, 0, "operations without an outcome");
    let mut arrived = BTreeMap::<String, usize>::new();
    for arrival in world.arrivals() {
        *arrived.entry(arrival.path).or_default() += 1;
    }
    for (path, count) in &arrived {
        let known = paths.get(path).copied().unwrap_or_default();
        assert!(known >= *count, "{path}: {count} arrived, {known} recorded");
    }
    arrived.values().sum()
}

#[test]
fn no_kill_loses_what_has_reached_the_upstream() {
    let kills = std::env::var("HOLDPOINT_KILLS").ok();
    let kills = kills.map_or(KILLS, |text| text.parse().expect("a number"));
    let world = World::start();
    for kill in 0..kills {
        let reads = format!("{HOST}{INSTANCES}/r{kill}-[0-9999]");
        let writes = format!("{HOST}{INSTANCES}/w{kill}-[0-9999]/restart");
        let quiet = ["curl", "-s", "-m", "20", "-o", "/dev/null", "--fail-early"];
        let agents: Vec<_> = (0..2).map(|_| world.sandbox()).collect();
        let read = [&quiet[..], &[reads.as_str()]].concat();
        let write = [&quiet[..], &["-X", "POST", "-d", "", writes.as_str()]].concat();
        let running = [agents[0].start(&read), agents[1].start(&write)];
        let started = Instant::now();
        let first = format!("{INSTANCES}/r{kill}-0");
        while world.count("GET", &first) == 0 {
            assert!(started.elapsed() < Duration::from_secs(30), "no load");
            sleep(Duration::from_millis(10));
        }
        sleep(Duration::from_millis(fastrand(300)));
        world.kill_daemon().expect("it was running");
        running.into_iter().for_each(|it| drop(it.finish()));
        world.start_daemon().expect("it starts again");
    }
    world.kill_daemon().expect("it was running");
    let arrived = assert_all_recorded(&world);
    println!("{kills} kills: {arrived} operations arrived, all of them are recorded");
    assert!(arrived as u64 > 10 * kills, "too little load: {arrived}");
}

/// Some number below `end`.
fn fastrand(end: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::from(now.expect("after 1970").subsec_micros()) % end
}

#[test]
fn a_full_disk_denies_and_space_lets_it_go_on() {
    network::keep_mounts_apart().expect("root may");
    let world = World::start();
    world.stop_daemon().expect("it was running");
    let _disk = SmallDisk::under(record_of(&world));
    // What was signed is not on that disk: another record begins, with a key of its own.
    for of_the_other in ["checkpoints", "keys"] {
        fs::remove_dir_all(world.dir().join("state").join(of_the_other)).expect("it is there");
    }
    world.start_daemon().expect("it starts again");
    // What the agent was told, and whether it reached the stand-in.
    let ask = |name: &str| {
        let path = format!("{INSTANCES}/{name}/restart");
        let url = format!("{HOST}{path}");
        let ask = ["curl", "-s", "-m", "20", "-X", "POST", "-d", "", &url];
        let answer = world.sandbox().run(&ask).stdout;
        (answer, world.count("POST", &path) > 0)
    };
    let (answer, arrived) = ask("before");
    assert!(arrived, "{answer}");
    let filler = record_of(&world).join("filler");
    let full = fs::write(&filler, vec![1; DISK]);
    assert!(full.is_err(), "the disk is too large");
    // What is left of the journal's last page takes some more.
    let mut answers = (0..200).map(|at| ask(&format!("full-{at}")));
    let denied = answers.find(|(_, arrived)| !arrived);
    let (answer, _) = denied.expect("a full disk denies");
    assert!(answer.is_empty() || answer.contains("record"), "{answer}");
    fs::remove_file(&filler).expect("removed");
    let freed = Instant::now();
    for at in 0.. {
        let (answer, arrived) = ask(&format!("after-{at}"));
        if arrived {
            break;
        }
        assert!(freed.elapsed() < Duration::from_secs(20), "{answer}");
        sleep(Duration::from_millis(300));
    }
    world.stop_daemon().expect("it was running");
    assert_all_recorded(&world);
}

/// A file system in memory, in the place of a directory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn under(dir: PathBuf) -> Self {
        fs::remove_dir_all(&dir).expect("it is there");
        fs::create_dir(&dir).expect("our own");
        let size = format!("size={DISK}");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&dir)
            .status();
        assert!(mount.expect("mount runs").success());
        Self(dir)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
