//! Nothing gets out round the proxy, and nothing gets out without the daemon.

use std::{thread::sleep, time::Duration};

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
