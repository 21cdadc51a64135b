//! A session outlives its daemon, without a network, and the next daemon takes it over.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use holdpoint_tests::{
    reviewer::{self, session_id},
    sandbox::{Ran, Running, Sandbox},
    world::World,
};

const HOST: &str = "sqladmin.googleapis.com";
const PATH: &str = "/sql/v1beta4/projects/lab-project/instances/staging-db";
const PROD_DB_URL: &str =
    "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/prod-db";
const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";
const LIMIT: Duration = Duration::from_secs(30);

/// A client that asks again and again, and keeps an account of it.
struct Steady<'a> {
    world: &'a World,
    agent: &'a Sandbox<'a>,
    running: Running,
}

impl<'a> Steady<'a> {
    fn start(world: &'a World, agent: &'a Sandbox<'a>) -> Self {
        let end = agent.home().join("end");
        let end = end.to_str().expect("a plain path");
        let running = agent.start_python("steady.py", &[HOST, PATH, end]);
        let mut steady = Self {
            world,
            agent,
            running,
        };
        steady.gets_on();
        steady
    }

    /// Waits until more of its requests have arrived.
    fn gets_on(&mut self) {
        let (before, started) = (self.world.count("GET", PATH), Instant::now());
        while self.world.count("GET", PATH) < before + 5 {
            assert!(self.running.is_running(), "it ended");
            assert!(
                started.elapsed() < LIMIT,
                "nothing arrives:\n{}",
                self.world.daemon_log()
            );
            sleep(Duration::from_millis(20));
        }
    }

    /// What it has to say: how it ended, and for each try what came of it and after how many milliseconds.
    fn finish(self) -> (Ran, Vec<(String, u64)>) {
        fs::write(self.agent.home().join("end"), "").expect("a file");
        let ran = self.running.finish();
        assert_eq!(ran.status.code(), Some(23), "{ran}");
        assert!(ran.stdout.contains("at last 200"), "{ran}");
        let tries = ran.stdout.lines().filter_map(|line| {
            let (outcome, took) = line.split_once(' ')?;
            Some((outcome.to_owned(), took.parse().ok()?))
        });
        let tries = tries.collect();
        (ran, tries)
    }
}

/// Nothing has come of those while there was no daemon, and that was said at once.
fn assert_refused_quickly(ran: &Ran, tries: &[(String, u64)], at_least: usize) {
    let failed: Vec<_> = tries
        .iter()
        .filter(|(outcome, _)| outcome != "200")
        .collect();
    assert!(failed.len() >= at_least, "{ran}");
    for (outcome, took) in failed {
        let known = [
            "ConnectionRefusedError",
            "ConnectionResetError",
            "RemoteDisconnected",
            "SSLEOFError",
            "SSLZeroReturnError",
        ];
        assert!(known.contains(&outcome.as_str()), "{outcome}: {ran}");
        assert!(*took < 2000, "{outcome} after {took} ms: {ran}");
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// How many sessions could be adopted.
fn doors(world: &World) -> usize {
    let doors = fs::read_dir(world.dir().join("run/sessions"));
    doors.expect("sessions were opened").count()
}

fn open_sessions(world: &World) -> Vec<String> {
    let sessions = reviewer::sessions(world).expect("lists");
    let open = sessions.iter().filter(|session| session["live"] == true);
    open.map(|session| session_id(session).to_owned()).collect()
}

fn events(world: &World, session: &str) -> Vec<String> {
    let events = reviewer::events(world, session).expect("shows");
    let names = events.iter().map(|event| event["event"].as_str());
    names
        .map(|name| name.unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_session_outlives_daemons_that_are_killed() {
    let world = World::start();
    let agent = world.sandbox();
    let mut client = Steady::start(&world, &agent);
    let before = open_sessions(&world);
    assert_eq!(before.len(), 1);
    for _ in 0..3 {
        world.kill_daemon().expect("it was running");
        sleep(Duration::from_millis(500));
        world.start_daemon().expect("it starts again");
        assert_eq!(open_sessions(&world), before);
        client.gets_on();
    }
    let (ran, tries) = client.finish();
    assert_refused_quickly(&ran, &tries, 3 * 5);
    eventually("its end is recorded", || {
        events(&world, &before[0]).contains(&"session_closed".to_owned())
    });
    let events = events(&world, &before[0]);
    let count = |event: &str| events.iter().filter(|it| *it == event).count();
    assert_eq!(count("session_opened"), 1);
    assert_eq!(count("session_adopted"), 3);
    assert_eq!(count("session_closed"), 1, "{events:?}");
    let addresses = ran.stdout.lines().last().expect("addresses");
    let mut addresses = addresses.split(' ').skip(1);
    assert_ne!(addresses.next(), addresses.next(), "{ran}");
}

#[test]
fn under_a_launcher_of_its_own_a_session_outlives_daemons_that_are_told_to_stop() {
    let world = World::start();
    world.stop_daemon().expect("it ends");
    world.start_launcher().expect("it starts");
    world.start_daemon().expect("it starts again");
    let agent = world.sandbox();
    let mut client = Steady::start(&world, &agent);
    let before = open_sessions(&world);
    for round in 0..3 {
        world.stop_daemon().expect("it ends");
        sleep(Duration::from_millis(500));
        if round == 1 {
            world.stop_launcher().expect("it ends");
            world.start_launcher().expect("it starts again");
        }
        world.start_daemon().expect("it starts again");
        assert_eq!(open_sessions(&world), before);
        client.gets_on();
        world.assert_daemon_works("a restart");
    }
    let (ran, tries) = client.finish();
    assert_refused_quickly(&ran, &tries, 3 * 5);
    eventually("the session is gone", || {
        open_sessions(&world).is_empty() && doors(&world) == 0
    });
}

#[test]
fn a_daemon_by_hand_takes_everything_along() {
    let world = World::start();
    let agent = world.sandbox();
    let client = Steady::start(&world, &agent);
    let pids = processes_of(&world);
    assert!(
        pids.len() >= 4,
        "daemon, launcher, shim and client: {pids:?}"
    );
    world.stop_daemon().expect("it ends");
    let ran = client.running.finish().failed();
    assert!(ran.says("the session was ended"), "{ran}");
    eventually("nothing runs any more", || processes_of(&world).is_empty());
    assert_eq!(doors(&world), 0);
    assert!(!world.dir().join("run/launcher-temporary.sock").exists());
}

/// The processes that run this world's program.
fn processes_of(world: &World) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("reads").flatten();
    let ours = all.filter(|entry| {
        fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == world.binary())
    });
    ours.map(|entry| {
        let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        line.replace('\0', " ")
    })
    .collect()
}

#[test]
fn who_waits_for_a_person_is_told_to_ask_again_and_the_question_stays() {
    let world = World::start();
    world.stop_daemon().expect("it ends");
    world.start_launcher().expect("it starts");
    world.start_daemon().expect("it starts again");
    let agent = world.sandbox();
    let delete = ["curl", "-sS", "-X", "DELETE", PROD_DB_URL];
    let mut asked_before: Option<String> = None;
    for http in ["--http1.1", "--http2"] {
        let held = agent.start(&[&delete[..], &[http]].concat());
        let hold = world.wait_for_hold("sql.instances.delete");
        assert_eq!(asked_before.get_or_insert(hold.id().to_owned()), hold.id());
        eventually("it waits", || {
            world.wait_for_hold("sql.instances.delete").0["waiting"] == 1
        });
        let asked = Instant::now();
        world.stop_daemon().expect("it ends");
        let ran = held.finish().succeeded();
        assert!(asked.elapsed() < Duration::from_secs(5), "{ran}");
        assert!(ran.stdout.contains(hold.id()), "{ran}");
        assert!(ran.stdout.contains("run it again"), "{ran}");
        world.start_daemon().expect("it starts again");
    }
    assert_eq!(world.count("DELETE", PROD_DB), 0);
}

#[test]
fn a_session_that_ended_in_between_is_closed_in_the_record() {
    let world = World::start();
    let agent = world.sandbox();
    let running = agent.start(&["sleep", "1000"]);
    eventually("there is a session", || !open_sessions(&world).is_empty());
    let before = open_sessions(&world);
    world.kill_daemon().expect("it was running");
    drop(running);
    eventually("it ends", || doors(&world) == 0);
    world.start_daemon().expect("it starts again");
    assert!(open_sessions(&world).is_empty());
    assert_eq!(
        events(&world, &before[0]),
        ["session_opened", "session_closed"]
    );
}
