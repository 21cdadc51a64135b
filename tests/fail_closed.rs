//! Nothing gets out round the proxy, and nothing gets out without the daemon.

use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

use holdpoint_tests::{canary::Canary, sandbox::Running, stand_in::now, world::World};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const PROD_DB_URL: &str =
    "https://sqladmin.googleapis.com/sql/v1beta4/projects/lab-project/instances/prod-db";
const PROD_DB: &str = "/sql/v1beta4/projects/lab-project/instances/prod-db";
const LOOP_PATH: &str = "/sql/v1beta4/projects/lab-project/instances/staging-db";

#[test]
fn a_sandbox_has_loopback_and_no_route() {
    let world = World::start();
    let script = "cat /proc/net/dev | tail -n +3; echo ROUTES; tail -n +2 /proc/net/route; \
                  grep -v ' lo$' /proc/net/ipv6_route || true";
    let ran = world.sandbox().run(&["sh", "-c", script]).succeeded();
    let (devices, routes) = ran.stdout.split_once("ROUTES").expect("two parts");
    let devices: Vec<&str> = devices
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()))
        .collect();
    assert_eq!(devices, ["lo"], "{ran}");
    assert_eq!(routes.trim(), "", "{ran}");
}

#[test]
fn no_way_out_goes_round_the_proxy() {
    let world = World::start();
    let canary = Canary::start().unwrap_or_else(|error| panic!("{error:#}"));
    let (ip, port) = (
        canary.address().ip().to_string(),
        canary.address().port().to_string(),
    );
    let ran = world
        .sandbox()
        .python("escape.py", &[&ip, &port])
        .succeeded();
    assert_eq!(canary.visits(), 0, "{ran}");
    assert_eq!(ran.stdout.lines().count(), 18, "{ran}");
    for line in ran.stdout.lines() {
        assert!(line.contains(" closed "), "{ran}");
        assert!(!line.contains("timed out"), "refused, but too late: {ran}");
    }
}

#[test]
fn nothing_leaves_from_the_moment_the_daemon_is_killed() {
    let world = World::start();
    let loop_client = asking_again_and_again(&world, 10);
    world.kill_daemon().expect("it was running");
    let killed = now();
    sleep(Duration::from_secs(3));
    assert_silent_since(&world, killed);
    drop(loop_client);
    world.start_daemon().expect("it starts again");
    world.assert_daemon_works("kill -9");
}

#[test]
fn a_frozen_daemon_opens_nothing() {
    let world = World::start();
    let mut loop_client = asking_again_and_again(&world, 10);
    let canary = Canary::start().unwrap_or_else(|error| panic!("{error:#}"));
    let ip = canary.address().ip().to_string();
    let port = canary.address().port().to_string();
    let escaping = world.sandbox().start_python("escape.py", &[&ip, &port]);
    let daemon = Pid::from_raw(world.daemon_pid().cast_signed());
    kill(daemon, Signal::SIGSTOP).expect("it was running");
    let frozen = now();
    sleep(Duration::from_secs(5));
    assert_silent_since(&world, frozen);
    assert!(loop_client.is_running(), "{}", loop_client.finish());
    let before = world.count("GET", LOOP_PATH);
    kill(daemon, Signal::SIGCONT).expect("it was running");
    let loop_client = await_requests(&world, loop_client, before + 5);
    let _ = escaping.finish();
    assert_eq!(canary.visits(), 0);
    drop(loop_client);
    world.assert_daemon_works("SIGSTOP and SIGCONT");
}

#[test]
fn a_second_daemon_is_turned_away_and_the_first_goes_on() {
    let world = World::start();
    let mut loop_client = asking_again_and_again(&world, 3);
    let second = world.holdpoint(&["daemon"]).output().expect("it starts");
    let complaint = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success(), "{complaint}");
    assert!(
        complaint.contains("another Holdpoint daemon runs"),
        "{complaint}"
    );
    let count = world.count("GET", LOOP_PATH);
    let still = await_requests(&world, loop_client, count + 5);
    loop_client = still;
    assert!(loop_client.is_running());
    world.assert_daemon_works("a second one");
}

#[test]
fn a_killed_launcher_is_started_again_and_sessions_go_on() {
    let world = World::start();
    let loop_client = asking_again_and_again(&world, 3);
    let launcher = launcher_of(world.daemon_pid()).expect("a launcher");
    kill(launcher, Signal::SIGKILL).expect("it was running");
    let killed = Instant::now();
    while launcher_of(world.daemon_pid()).is_none_or(|it| it == launcher) {
        assert!(
            killed.elapsed() < Duration::from_secs(10),
            "no other launcher"
        );
        sleep(Duration::from_millis(20));
    }
    world.assert_daemon_works("a killed launcher");
    let count = world.count("GET", LOOP_PATH);
    drop(await_requests(&world, loop_client, count + 5));
    world
        .stop_daemon()
        .expect("it ends with its second launcher");
}

/// The launcher that a daemon has started for itself.
fn launcher_of(daemon: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children"));
    let others = fs::read_dir(format!("/proc/{daemon}/task")).expect("procfs");
    let others = others
        .flatten()
        .map(|task| fs::read_to_string(task.path().join("children")));
    let children: Vec<String> = others.chain([children]).flatten().collect();
    let is_launcher = |pid: &&str| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).nth(1) == Some(b"launcher".as_slice())
    };
    let pid = children
        .iter()
        .flat_map(|it| it.split_whitespace())
        .find(is_launcher);
    Some(Pid::from_raw(pid?.parse().ok()?))
}

#[test]
fn a_held_operation_does_not_outlive_the_daemon() {
    let world = World::start();
    let running = world
        .sandbox()
        .start(&["curl", "-sS", "-X", "DELETE", PROD_DB_URL]);
    let hold = world.wait_for_hold("sql.instances.delete");
    world.kill_daemon().expect("it was running");
    world.start_daemon().expect("it starts again");
    // Whether the old id is still known or not: approving it must not send anything.
    let _ = world.approve(hold.id());
    sleep(Duration::from_secs(2));
    assert_eq!(world.count("DELETE", PROD_DB), 0);
    drop(running);
    world.assert_daemon_works("kill -9 with a hold pending");
}

#[test]
fn a_stopped_daemon_closes_the_way_too() {
    let world = World::start();
    let loop_client = asking_again_and_again(&world, 3);
    world.stop_daemon().expect("it ends on SIGTERM");
    let stopped = now();
    sleep(Duration::from_secs(2));
    assert_silent_since(&world, stopped);
    drop(loop_client);
    world.start_daemon().expect("it starts again");
    world.assert_daemon_works("SIGTERM");
}

/// A client of a session that asks again and again, and has been answered so often.
fn asking_again_and_again(world: &World, answered: usize) -> Running {
    let client = world
        .sandbox()
        .start_python("loop.py", &["sqladmin.googleapis.com", LOOP_PATH]);
    await_requests(world, client, answered)
}

fn await_requests(world: &World, mut client: Running, count: usize) -> Running {
    while world.count("GET", LOOP_PATH) < count {
        assert!(client.is_running(), "{}", client.finish());
        sleep(Duration::from_millis(50));
    }
    client
}

/// What was on its way into the stand-in at that moment may still be written down.
fn assert_silent_since(world: &World, moment: u64) {
    let late: Vec<_> = world
        .arrivals()
        .into_iter()
        .filter(|it| it.t > moment + 50)
        .collect();
    assert!(late.is_empty(), "{late:?}");
}
