//! How sessions end, and what is left of them: nothing.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::Stdio,
};

use crate::{
    Case,
    world::{World, eventually},
};

pub const CASES: &[Case] = &[
    (
        "a_killed_client_ends_its_session",
        a_killed_client_ends_its_session,
    ),
    (
        "the_command_outlives_the_daemon",
        the_command_outlives_the_daemon,
    ),
    ("leftovers_are_ended", leftovers_are_ended),
    (
        "a_killed_shim_ends_its_session",
        a_killed_shim_ends_its_session,
    ),
    ("escapees_are_ended_too", escapees_are_ended_too),
    ("fifty_sessions_leave_nothing", fifty_sessions_leave_nothing),
];

fn processes(cgroup: &std::path::Path) -> Vec<String> {
    let procs = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    procs.lines().map(str::to_owned).collect()
}

fn a_killed_client_ends_its_session(world: &World) {
    let mut client = world
        .client(&["sh", "-c", "trap '' HUP TERM; sleep 1000; sleep 1000"])
        .spawn()
        .expect("starts");
    eventually("the session is there", || {
        world
            .sessions()
            .first()
            .is_some_and(|cgroup| processes(cgroup).len() == 3)
    });
    client.kill().expect("kills");
    client.wait().expect("waits");
    world.all_ended();
}

fn the_command_outlives_the_daemon(world: &World) {
    let script = "echo ready; read line; bash -c 'read x < /dev/tcp/127.0.0.1/15001' 2>/dev/null && echo open || echo closed; exit 6";
    let mut client = world
        .client(&["bash", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(client.stdout.take().expect("is piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("reads"), "ready");
    world.kill_daemon();
    client
        .stdin
        .take()
        .expect("is piped")
        .write_all(b"go\n")
        .expect("writes");
    assert_eq!(lines.next().expect("a line").expect("reads"), "closed");
    assert_eq!(client.wait().expect("ends").code(), Some(6));
    world.restart_daemon();
    world.all_ended();
    assert!(world.sh("true").status.success());
}

fn leftovers_are_ended(world: &World) {
    let mut client = world
        .client(&["sh", "-c", "sleep 1000"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    eventually("the session is there", || {
        world
            .sessions()
            .first()
            .is_some_and(|cgroup| processes(cgroup).len() >= 2)
    });
    world.kill_daemon();
    world.restart_daemon();
    assert!(world.sessions().is_empty());
    assert_eq!(client.wait().expect("ends").code(), Some(125));
}

fn a_killed_shim_ends_its_session(world: &World) {
    let mut client = world
        .client(&["sleep", "1000"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    eventually("the session is there", || {
        world
            .sessions()
            .first()
            .is_some_and(|cgroup| processes(cgroup).len() == 2)
    });
    let children = fs::read_dir(format!("/proc/{}/task", world.daemon_pid()))
        .expect("reads")
        .flat_map(|task| {
            let path = task.expect("a task").path().join("children");
            let children = fs::read_to_string(path).unwrap_or_default();
            children
                .split_whitespace()
                .map(|pid| pid.parse::<i32>().expect("a number"))
                .collect::<Vec<_>>()
        });
    let shims: Vec<_> = children.collect();
    assert_eq!(shims.len(), 1);
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shims[0]),
        nix::sys::signal::SIGKILL,
    )
    .expect("kills");
    assert_eq!(client.wait().expect("ends").code(), Some(125));
    world.all_ended();
}

/// A session of their own does not take processes out of the session, and nested namespaces are not to be had.
fn escapees_are_ended_too(world: &World) {
    let script = "setsid sleep 1000 >/dev/null 2>&1 & (setsid sleep 1000 >/dev/null 2>&1 &); \
                  unshare -Upf true 2>/dev/null && echo nested; echo ready; wait";
    let mut client = world
        .client(&["sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    BufReader::new(client.stdout.take().expect("is piped"))
        .read_line(&mut line)
        .expect("reads");
    assert_eq!(line, "ready\n");
    let cgroup = world.sessions().pop().expect("a session");
    eventually("they run", || processes(&cgroup).len() >= 4);
    client.kill().expect("kills");
    client.wait().expect("waits");
    world.all_ended();
}

fn fifty_sessions_leave_nothing(world: &World) {
    let count = |what: &str| {
        fs::read_dir(format!("/proc/{}/{what}", world.daemon_pid()))
            .expect("reads")
            .count()
    };
    world.sh("true");
    world.all_ended();
    // The tests' daemon closes a session's listeners a moment after its cgroup is gone.
    let mut before = count("fd");
    eventually("descriptors settle", || {
        let now = count("fd");
        std::mem::replace(&mut before, now) == now
    });
    for _ in 0..5 {
        let clients: Vec<_> = (0..10)
            .map(|index| {
                world
                    .client(&["sh", "-c", &format!("exit {index}")])
                    .spawn()
                    .expect("starts")
            })
            .collect();
        for (index, mut client) in clients.into_iter().enumerate() {
            assert_eq!(client.wait().expect("ends").code(), Some(index as i32));
        }
    }
    world.all_ended();
    eventually("no descriptor is left", || count("fd") <= before);
}
