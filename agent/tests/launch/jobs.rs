//! Exit codes, signals and pipes: as if the command had been run directly.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    Case,
    world::{World, eventually},
};

pub const CASES: &[Case] = &[
    ("exit_codes", exit_codes),
    ("death_by_signal", death_by_signal),
    ("not_found_and_not_executable", not_found_and_not_executable),
    (
        "scripts_without_interpreter_line",
        scripts_without_interpreter_line,
    ),
    ("pipes_carry_ten_megabytes", pipes_carry_ten_megabytes),
    ("stdout_and_stderr_are_apart", stdout_and_stderr_are_apart),
    ("signals_are_forwarded", signals_are_forwarded),
    ("stop_and_continue", stop_and_continue),
    ("nohup", nohup),
    ("left_running", left_running),
];

fn exit_codes(world: &World) {
    for code in [0, 1, 7, 125, 255] {
        assert_eq!(world.sh(&format!("exit {code}")).status.code(), Some(code));
    }
}

fn death_by_signal(world: &World) {
    for signal in [
        Signal::SIGTERM,
        Signal::SIGKILL,
        Signal::SIGSEGV,
        Signal::SIGINT,
        Signal::SIGPIPE,
    ] {
        let status = world.sh(&format!("kill -{} $$", signal as i32)).status;
        assert_eq!(status.signal(), Some(signal as i32), "{signal}");
        assert!(!status.core_dumped());
    }
}

fn not_found_and_not_executable(world: &World) {
    for (command, code, said) in [
        (
            "no-such-command",
            127,
            "holdpoint: no-such-command: command not found\n",
        ),
        (
            "/no/such/file",
            127,
            "holdpoint: /no/such/file: command not found\n",
        ),
        (
            "/etc/passwd",
            126,
            "holdpoint: /etc/passwd: cannot be executed: Permission denied\n",
        ),
        (
            "/tmp",
            126,
            "holdpoint: /tmp: cannot be executed: Permission denied\n",
        ),
    ] {
        let output = world.client(&[command]).output().expect("runs");
        assert_eq!(output.status.code(), Some(code), "{command}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), said);
    }
}

fn scripts_without_interpreter_line(world: &World) {
    let script = world.dir().join("script");
    fs::write(&script, "echo $1; exit 3\n").expect("writes");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("permissions");
    let output = world
        .client(&[script.to_str().expect("UTF-8"), "one"])
        .output()
        .expect("runs");
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(3), &b"one\n"[..])
    );
}

fn pipes_carry_ten_megabytes(world: &World) {
    let data: Vec<u8> = (0..10_000_000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut client = world
        .client(&["cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = client.stdin.take().expect("is piped");
    let sent = data.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).expect("writes"));
    let mut back = Vec::new();
    client
        .stdout
        .take()
        .expect("is piped")
        .read_to_end(&mut back)
        .expect("reads");
    writer.join().expect("has written");
    assert!(
        back == data,
        "{} of {} bytes came back, or others",
        back.len(),
        data.len()
    );
    assert!(client.wait().expect("ends").success());
}

fn stdout_and_stderr_are_apart(world: &World) {
    let output = world.sh("echo out; echo err >&2");
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"out\n"[..], &b"err\n"[..])
    );
}

/// Starts a script that says `ready` when it is.
fn ready(world: &World, script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut client = world
        .client(&["bash", "-c", script])
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdout = BufReader::new(client.stdout.take().expect("is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("reads");
    assert_eq!(line, "ready\n");
    (client, stdout)
}

fn send(client: &Child, signal: Signal) {
    kill(Pid::from_raw(client.id() as i32), signal).expect("is there");
}

fn signals_are_forwarded(world: &World) {
    for signal in ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2"] {
        // Not bash itself: where SIGINT comes just as it begins to wait for a child, it sends that to itself again and again
        // (`wait_sigint_handler`).
        let script = format!(
            "exec sh -c \"trap 'echo got {signal}; exit 9' {signal}; echo ready; while :; do sleep 0.05; done\""
        );
        let (mut client, mut stdout) = ready(world, &script);
        send(&client, format!("SIG{signal}").parse().expect("a signal"));
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).expect("reads");
        assert_eq!(rest, format!("got {signal}\n"));
        assert_eq!(client.wait().expect("ends").code(), Some(9));
    }
    let (mut client, _stdout) = ready(world, "echo ready; sleep 1000");
    send(&client, Signal::SIGTERM);
    assert_eq!(client.wait().expect("ends").signal(), Some(libc::SIGTERM));
    world.all_ended();
}

fn stop_and_continue(world: &World) {
    let (mut client, mut stdout) =
        ready(world, "echo ready; kill -STOP $$; echo continued; exit 4");
    let state = || fs::read_to_string(format!("/proc/{}/stat", client.id())).expect("reads");
    eventually("the client stops as its command does", || {
        state().contains(") T ")
    });
    send(&client, Signal::SIGCONT);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("reads");
    assert_eq!(rest, "continued\n");
    assert_eq!(client.wait().expect("ends").code(), Some(4));
}

fn nohup(world: &World) {
    let mut client = world.client(&["sh", "-c", "kill -HUP $$; echo lives"]);
    let ignore = || {
        // SAFETY: sets no handler.
        unsafe { nix::sys::signal::signal(Signal::SIGHUP, nix::sys::signal::SigHandler::SigIgn) }?;
        Ok(())
    };
    // SAFETY: signal may be called after fork.
    unsafe { std::os::unix::process::CommandExt::pre_exec(&mut client, ignore) };
    assert_eq!(client.output().expect("runs").stdout, b"lives\n");
}

fn left_running(world: &World) {
    let file = world.dir().join("work/left");
    let output = world.sh("(sleep 0.5; echo done > left) >/dev/null 2>&1 & exit 5");
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(
        world.sessions().len(),
        1,
        "the session lives as long as its processes"
    );
    eventually("what was left running goes on", || {
        fs::read_to_string(&file).is_ok_and(|text| text == "done\n")
    });
    world.all_ended();
}
