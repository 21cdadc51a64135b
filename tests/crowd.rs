//! Crowds of sessions and of connections come and go, and leave nothing behind.

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use holdpoint_tests::{
    footprint::{Footprint, memory, processor_time},
    network,
    sandbox::{Ran, Running},
    world::{INSTANCES_URL, Settings, World},
};
use serde_json::Value;

/// Sessions that are open at once.
const AT_ONCE: usize = 100;
/// Crowds of them.
const CROWDS: usize = 5;
/// What the daemon may have grown by, after a first crowd has shown how much it wants. Its allocator and its store's cache keep some.
const GROWTH: usize = 24 << 20;
/// How long what has ended may take to be gone.
const SETTLE: Duration = Duration::from_secs(20);

/// Seconds of every storm of connections; `HOLDPOINT_STORM_SECONDS` says otherwise.
const STORM_SECONDS: u64 = 10;
/// Rounds of five seconds that filling the store's cache may take.
const ROUNDS_TO_FILL: usize = 60;
/// Operations that make some eight megabytes of events.
const BATCH: u64 = 4000;
/// A batch that makes the daemon grow by less, in bytes, finds the cache full.
const FILLED: usize = 2 << 20;

/// Connects a second.
const RATE: u64 = 10_000;

/// They measure, so one at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn silent_world() -> World {
    network::keep_mounts_apart().expect("root may");
    let settings = Settings {
        silent: true,
        ..Settings::default()
    };
    World::with(&settings).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn a_crowd_of_sessions_leaves_nothing_behind() {
    let _alone = alone();
    let world = silent_world();
    for _ in 0..5 {
        let alone = Instant::now();
        let _ = world.sandbox().run(&["true"]).succeeded();
        println!("one session, from start to end: {:?}", alone.elapsed());
    }
    crowd(&world);
    let before = settled(&world, None);
    let memory_before = memory(&world).expect("it lives");
    for _ in 0..CROWDS {
        crowd(&world);
    }
    let after = settled(&world, Some(&before));
    let grown = memory(&world)
        .expect("it lives")
        .saturating_sub(memory_before);
    println!(
        "{} sessions: {} KiB more memory than {} KiB",
        AT_ONCE * CROWDS,
        grown >> 10,
        memory_before >> 10
    );
    assert_eq!(after, before);
    assert!(grown < GROWTH, "grown by {} KiB", grown >> 10);
    world.assert_daemon_works("a crowd");
}

/// Opens [`AT_ONCE`] sessions, each of which is served, and has them end when all are there.
fn crowd(world: &World) {
    let script =
        "curl -sS --fail -o /dev/null \"$1\" && echo served; while [ ! -e go ]; do sleep 0.2; done";
    let agents: Vec<_> = (0..AT_ONCE).map(|_| world.sandbox()).collect();
    let begin = Instant::now();
    let mut running: Vec<Running> = agents
        .iter()
        .map(|agent| agent.start(&["sh", "-c", script, "sh", INSTANCES_URL]))
        .collect();
    let sessions = || {
        let status = world
            .holdpoint_json(&["status"])
            .expect("the daemon answers");
        status["sessions"].as_u64().unwrap_or_default() as usize
    };
    while sessions() < AT_ONCE {
        assert!(
            begin.elapsed() < Duration::from_secs(60),
            "{}",
            world.daemon_log()
        );
        assert!(
            running.iter_mut().all(Running::is_running),
            "{}",
            world.daemon_log()
        );
        sleep(Duration::from_millis(50));
    }
    let open = begin.elapsed();
    for agent in &agents {
        fs::write(agent.home().join("go"), "").expect("our own");
    }
    let ran: Vec<Ran> = running.into_iter().map(Running::finish).collect();
    assert!(ran.iter().all(|ran| ran.stdout == "served\n"), "{}", ran[0]);
    println!(
        "{AT_ONCE} sessions at once: all open after {open:?}, all gone after {:?}",
        begin.elapsed()
    );
}

#[test]
fn a_storm_of_connections_leaves_nothing_behind() {
    let _alone = alone();
    let world = silent_world();
    let seconds = std::env::var("HOLDPOINT_STORM_SECONDS").ok();
    let seconds = seconds.map_or(STORM_SECONDS, |text| text.parse().expect("a number"));
    storm(&world, "tcp", 2);
    fill_the_cache(&world);
    let before = settled(&world, None);
    let memory_before = memory(&world).expect("it lives");
    for kind in ["tcp", "udp", "refused"] {
        let beside = steady(&world, seconds);
        let said = storm(&world, kind, seconds);
        println!("{kind}: {said}");
        println!(
            "another session meanwhile: {}",
            beside.finish().succeeded().stdout.trim()
        );
        println!("memory: {} KiB", memory(&world).expect("it lives") >> 10);
    }
    let after = settled(&world, Some(&before));
    let grown = memory(&world)
        .expect("it lives")
        .saturating_sub(memory_before);
    println!(
        "{} KiB more memory than {} KiB",
        grown >> 10,
        memory_before >> 10
    );
    assert_eq!(after, before);
    assert!(grown < GROWTH, "grown by {} KiB", grown >> 10);
    world.assert_daemon_works("a storm");
}

/// Connects from a session, as often as it can, up to [`RATE`] times a second.
fn storm(world: &World, kind: &str, seconds: u64) -> Value {
    let (agent, seconds, rate) = (world.sandbox(), seconds.to_string(), RATE.to_string());
    let program = agent.program("storm");
    let command = [&program, kind, "--rate", &rate, "--seconds", &seconds];
    let used = || processor_time(world.daemon_pid()).expect("it lives");
    let before = used();
    let ran = agent.run(&command).succeeded();
    let used = used() - before;
    let said: Value = serde_json::from_str(&ran.stdout).expect("a line of JSON");
    let attempts = said["attempts"].as_f64().expect("a number");
    println!(
        "{kind}: {:.1} us of the daemon's processor time for each, all else it did included",
        used.as_secs_f64() * 1e6 / attempts
    );
    said
}

/// A session that asks Google, one request after another, and measures.
fn steady(world: &World, seconds: u64) -> Running {
    let (agent, seconds) = (world.sandbox(), seconds.to_string());
    let program = agent.program("load-generator");
    agent.start(&[&program, INSTANCES_URL, "--seconds", &seconds])
}

/// The record's store fills its cache as operations come. Batch after batch of them, until one makes next to no difference.
fn fill_the_cache(world: &World) {
    let (mut before, mut asked) = (memory(world).expect("it lives"), 0);
    for _ in 0..ROUNDS_TO_FILL {
        let said = steady(world, 5).finish().succeeded().stdout;
        println!("another session, before: {}", said.trim());
        let said: Value = serde_json::from_str(&said).expect("a line of JSON");
        asked += said["requests"].as_u64().unwrap_or_default();
        if asked < BATCH {
            continue;
        }
        let now = memory(world).expect("it lives");
        if now.saturating_sub(before) < FILLED {
            return;
        }
        (before, asked) = (now, 0);
    }
    panic!("the daemon grows with every operation, without a bound");
}

/// What is taken up once all that has ended is gone: what is wanted, or what there is after a while.
fn settled(world: &World, wanted: Option<&Footprint>) -> Footprint {
    let begin = Instant::now();
    loop {
        let now = Footprint::of(world).expect("the daemon lives");
        let done = match wanted {
            Some(wanted) => now == *wanted,
            None => begin.elapsed() > SETTLE / 4,
        };
        if done || begin.elapsed() > SETTLE {
            return now;
        }
        sleep(Duration::from_millis(100));
    }
}
