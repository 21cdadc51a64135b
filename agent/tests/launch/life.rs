//! How sessions end, and what is left of them: nothing.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    path::Path,
    process::Stdio,
};

use crate::{
    Case,
    world::{World, connect_as_nobody, eventually},
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
    (
        "a_new_daemon_adopts_what_it_finds",
        a_new_daemon_adopts_what_it_finds,
    ),
    (
        "nobody_in_a_session_adopts_one",
        nobody_in_a_session_adopts_one,
    ),
    (
        "a_killed_shim_ends_its_session",
        a_killed_shim_ends_its_session,
    ),
    ("escapees_are_ended_too", escapees_are_ended_too),
    ("fifty_sessions_leave_nothing", fifty_sessions_leave_nothing),
];

fn processes(cgroup: &Path) -> Vec<String> {
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
    world.all_ended();
    world.restart_daemon();
    assert!(world.sh("true").status.success());
}

fn a_new_daemon_adopts_what_it_finds(world: &World) {
    let script = "echo ready; while read line; do bash -c 'read x < /dev/tcp/127.0.0.1/15001 && echo $x' 2>/dev/null || echo closed; done; exit 9";
    let mut client = world
        .client(&["bash", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = client.stdin.take().expect("is piped");
    let mut lines = BufReader::new(client.stdout.take().expect("is piped")).lines();
    let mut next = || lines.next().expect("a line").expect("reads");
    assert_eq!(next(), "ready");
    for _ in 0..3 {
        writeln!(stdin, "again").expect("writes");
        assert_eq!(next(), "the proxy");
        world.kill_daemon();
        writeln!(stdin, "again").expect("writes");
        assert_eq!(next(), "closed");
        world.restart_daemon();
    }
    // One that nobody answers on any more.
    let dead = world.dir().join("run/sessions/s-dead.sock");
    drop(UnixListener::bind(&dead).expect("binds"));
    world.kill_daemon();
    world.restart_daemon();
    assert!(!dead.exists());
    assert_eq!(world.sessions().len(), 1);
    drop(stdin);
    assert_eq!(client.wait().expect("ends").code(), Some(9));
    world.all_ended();
}

fn nobody_in_a_session_adopts_one(world: &World) {
    let run = world.dir().join("run");
    let inside = world.says(&format!("ls -A {}", run.display()));
    assert_eq!(inside, "ca-bundle.pem\nresolv.conf\n");
    world.all_ended();
    let sockets = run.join("sessions");
    let mut client = world.client(&["sleep", "1000"]).spawn().expect("starts");
    eventually("the session is there", || world.doors() == 1);
    // Outside of it, the user it runs as may not either.
    let door = fs::read_dir(&sockets)
        .expect("reads")
        .next()
        .expect("one")
        .expect("reads")
        .path();
    assert_eq!(as_nobody(&door), Err(std::io::ErrorKind::PermissionDenied));
    fs::set_permissions(&sockets, fs::Permissions::from_mode(0o755)).expect("permissions");
    assert_eq!(as_nobody(&door), Err(std::io::ErrorKind::PermissionDenied));
    fs::set_permissions(&door, fs::Permissions::from_mode(0o666)).expect("permissions");
    assert_eq!(as_nobody(&door), Ok(String::new()), "it is told something");
    fs::set_permissions(&sockets, fs::Permissions::from_mode(0o700)).expect("permissions");
    assert_eq!(world.sessions().len(), 1, "it was ended by a stranger");
    client.kill().expect("kills");
    client.wait().expect("waits");
    world.all_ended();
}

/// What a shim answers to a user's demand that it end its session.
fn as_nobody(door: &Path) -> Result<String, std::io::ErrorKind> {
    let demand = br#"{"demand":"end"}"#;
    let mut stream = connect_as_nobody(door).map_err(|error| error.kind())?;
    let _ = stream.write_all(&(demand.len() as u32).to_be_bytes());
    let _ = stream.write_all(demand);
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    Ok(answer)
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
    let init: i32 = processes(&world.sessions()[0])[0]
        .parse()
        .expect("a number");
    let stat = fs::read_to_string(format!("/proc/{init}/stat")).expect("reads");
    // proc_pid_stat(5): the parent is the second field after the name.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let shim = fields.split_whitespace().nth(1).expect("a parent");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shim.parse().expect("a number")),
        nix::sys::signal::SIGKILL,
    )
    .expect("kills");
    assert_eq!(client.wait().expect("ends").code(), Some(125));
    eventually("all of it is gone", || world.sessions().is_empty());
    // Its socket is the next daemon's to remove.
    world.kill_daemon();
    world.restart_daemon();
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
