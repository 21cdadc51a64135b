//! `holdpoint run` behaves as if the command had been run directly.

use std::{
    fs,
    io::Write as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::Stdio,
    time::{Duration, Instant},
};

use holdpoint_tests::world::{Settings, World};
use nix::sys::signal::Signal;

#[test]
fn exit_codes_come_through() {
    let world = World::start();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255)] {
        let ran = world.sandbox().run(&["sh", "-c", script]);
        assert_eq!(ran.status.code(), Some(code), "{ran}");
    }
    let killed = world.sandbox().run(&["sh", "-c", "kill -TERM $$"]);
    assert_eq!(killed.status.signal(), Some(libc::SIGTERM), "{killed}");
    let missing = world.sandbox().run(&["no-such-program-anywhere"]);
    assert_eq!(missing.status.code(), Some(127), "{missing}");
    assert!(
        missing.stderr.contains("no-such-program-anywhere"),
        "{missing}"
    );
}

#[test]
fn the_command_is_the_caller_and_gains_nothing() {
    let world = World::start();
    let script = "id -u; id -g; id -G; pwd; umask; echo $MARK; grep -E '^(NoNewPrivs|Seccomp|CapEff):' /proc/self/status; \
                  ls /proc/self/fd | wc -l";
    let agent = world.sandbox().env("MARK", "kept");
    let ran = agent.run(&["sh", "-c", script]).succeeded();
    let lines: Vec<&str> = ran.stdout.lines().map(str::trim).collect();
    assert_eq!(lines[..3], ["65534", "65534", "65534"], "{ran}");
    assert_eq!(
        lines[3],
        agent.home().to_str().expect("a plain path"),
        "{ran}"
    );
    assert_eq!(lines[5], "kept", "{ran}");
    assert!(ran.stdout.contains("NoNewPrivs:\t1"), "{ran}");
    assert!(ran.stdout.contains("Seccomp:\t2"), "{ran}");
    assert!(ran.stdout.contains("CapEff:\t0000000000000000"), "{ran}");
    // stdin, stdout, stderr, and the directory that ls itself reads.
    assert_eq!(lines.last(), Some(&"4"), "descriptors leaked: {ran}");
}

#[test]
fn pipes_carry_what_goes_in_and_out() {
    let world = World::start();
    let input: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut child = world
        .sandbox()
        .command(&["cat"])
        .stdin(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("holdpoint run starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let copy = input.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy));
    let output = child.wait_with_output().expect("it ends");
    writer
        .join()
        .expect("no panic")
        .expect("cat reads everything");
    assert!(output.status.success());
    assert!(
        output.stdout == input,
        "cat returned {} bytes",
        output.stdout.len()
    );
}

#[test]
fn signals_reach_the_command() {
    let world = World::start();
    let agent = world.sandbox();
    for (signal, name) in [
        (Signal::SIGINT, "INT"),
        (Signal::SIGTERM, "TERM"),
        (Signal::SIGHUP, "HUP"),
    ] {
        let script = format!(
            "trap 'echo got {name}; exit 3' {name}; touch ready-{name}; while :; do sleep 0.1; done"
        );
        let running = agent.start(&["sh", "-c", &script]);
        wait_for(&agent.home().join(format!("ready-{name}")));
        running.signal(signal);
        let ran = running.finish();
        assert!(ran.stdout.contains(&format!("got {name}")), "{ran}");
        assert_eq!(ran.status.code(), Some(3), "{ran}");
    }
}

#[test]
fn a_terminal_stays_a_terminal() {
    let world = World::start();
    let run = world.sandbox().command(&[
        "sh",
        "-c",
        "tty; stty size; test -t 0 && test -t 1 && echo all",
    ]);
    let words: Vec<String> = std::iter::once(run.get_program())
        .chain(run.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut script = std::process::Command::new("script");
    script
        .args(["-qec", &words.join(" "), "/dev/null"])
        .stdin(Stdio::null());
    for (name, value) in run.get_envs() {
        script.env(name, value.unwrap_or_default());
    }
    script.uid(65534).gid(65534);
    script.env("SHELL", "/bin/sh").current_dir("/");
    let output = script.output().expect("script (bsdutils) is there");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("/dev/pts/") && text.contains("all"), "{text}");
}

#[test]
fn a_session_ends_at_its_limit() {
    let settings = Settings {
        max_seconds: Some(3),
        ..Settings::default()
    };
    let world = World::with(&settings).expect("a world");
    let started = Instant::now();
    let ran = world.sandbox().run(&["sleep", "60"]).failed();
    assert!(started.elapsed() < Duration::from_secs(20), "{ran}");
    wait_until_empty(&world);
}

#[test]
fn a_session_leaves_no_process_behind() {
    let world = World::start();
    let script =
        "setsid sh -c 'while :; do sleep 1; done' >/dev/null 2>&1 </dev/null & echo started";
    let mut running = world.sandbox().start(&["sh", "-c", script]);
    let started = Instant::now();
    while running.is_running() && started.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(50));
    }
    running_sessions_are_visible(&world);
    drop(running);
    world.stop_daemon().expect("it ends");
    wait_until_empty(&world);
    world.start_daemon().expect("it starts again");
    world.assert_daemon_works("a session that left processes behind");
}

fn running_sessions_are_visible(world: &World) {
    let count = fs::read_dir(world.agents_cgroup())
        .expect("the agents' cgroup")
        .flatten();
    let sessions = count.filter(|entry| entry.path().is_dir()).count();
    assert!(sessions <= 1, "{sessions} session cgroups for one session");
}

fn wait_until_empty(world: &World) {
    let started = Instant::now();
    loop {
        let entries = fs::read_dir(world.agents_cgroup())
            .expect("the agents' cgroup")
            .flatten();
        let left: Vec<_> = entries.filter(|entry| entry.path().is_dir()).collect();
        if left.is_empty() {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "sessions left over: {left:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn wait_for(path: &std::path::Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{} never appeared",
            path.display()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
