//! What is refused.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::Output,
    time::{Duration, Instant},
};

use crate::{
    Case,
    world::{UID, World, connect_as_nobody},
};

pub const CASES: &[Case] = &[
    ("root_is_refused", root_is_refused),
    ("tokens", tokens),
    ("a_socket_as_stdio_is_refused", a_socket_as_stdio_is_refused),
    (
        "a_directory_as_stdio_is_refused",
        a_directory_as_stdio_is_refused,
    ),
    ("no_nesting", no_nesting),
    ("no_daemon", no_daemon),
    ("garbage", garbage),
    ("oversize", oversize),
    (
        "a_slow_client_holds_up_nobody",
        a_slow_client_holds_up_nobody,
    ),
];

fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(
        said.starts_with("holdpoint: ") && said.contains(why),
        "{said}"
    );
    assert!(output.stdout.is_empty());
}

fn root_is_refused(world: &World) {
    refused(
        &world
            .client_as_root(&["echo", "started"])
            .output()
            .expect("runs"),
        "root can leave every sandbox",
    );
}

fn tokens(world: &World) {
    let mut client = world.client(&["echo", "started"]);
    refused(
        &client
            .env("HOLDPOINT_TOKEN", "another")
            .output()
            .expect("runs"),
        "the token is not valid",
    );
    let mut client = world.client(&["echo", "started"]);
    refused(
        &client.env_remove("HOLDPOINT_TOKEN").output().expect("runs"),
        "no token: name a file",
    );
}

fn a_socket_as_stdio_is_refused(world: &World) {
    let (near, _far) = UnixStream::pair().expect("a pair");
    let mut client = world.client(&["echo", "started"]);
    refused(
        &client.stdin(OwnedFd::from(near)).output().expect("runs"),
        "stdin is a socket",
    );
}

fn a_directory_as_stdio_is_refused(world: &World) {
    let mut client = world.client(&["echo", "started"]);
    refused(
        &client
            .stdin(File::open("/").expect("opens"))
            .output()
            .expect("runs"),
        "stdin is neither",
    );
}

fn no_nesting(world: &World) {
    // Where the session sees it.
    let client = world.dir().join("work/launch");
    std::fs::copy(world.dir().join("launch"), &client).expect("copies");
    let nested = |unset: &str| {
        let script = format!(
            "{unset} HOLDPOINT_TOKEN=x {} client --socket {} -- echo started",
            client.display(),
            world.socket().display()
        );
        world.sh(&script)
    };
    refused(&nested(""), "sessions do not nest");
    refused(
        &nested("env -u HOLDPOINT_SESSION"),
        "cannot reach the Holdpoint daemon",
    );

    world.all_ended();

    // A process that was moved into the agents' cgroup from outside.
    let mut keeper = world.client(&["sleep", "1000"]).spawn().expect("starts");
    crate::world::eventually("the session is there", || !world.sessions().is_empty());
    let procs = world.sessions()[0].join("cgroup.procs");
    let mut client = world.client(&["echo", "started"]);
    let enter = move || std::fs::write(&procs, "0");
    // SAFETY: the tests fork from one thread.
    unsafe { client.pre_exec(enter) };
    client.uid(0).gid(0);
    let output = {
        // uid() takes effect before pre_exec, so the change of user has to come last.
        // SAFETY: setresuid may be called after fork.
        unsafe {
            client.pre_exec(|| {
                nix::unistd::setresgid(UID.into(), UID.into(), UID.into())?;
                nix::unistd::setresuid(UID.into(), UID.into(), UID.into())?;
                Ok(())
            })
        };
        client.output().expect("runs")
    };
    refused(&output, "sessions do not nest");
    keeper.kill().expect("kills");
    keeper.wait().expect("waits");
    world.all_ended();
}

fn no_daemon(world: &World) {
    world.kill_daemon();
    refused(
        &world.client(&["echo", "started"]).output().expect("runs"),
        "cannot reach the Holdpoint daemon",
    );
    world.restart_daemon();
}

/// As an unprivileged client: what the daemon answers to raw bytes.
fn answer(world: &World, bytes: &[u8], finish: bool) -> String {
    let stream = connect_as_nobody(&world.socket()).expect("connects");
    let mut stream = &stream;
    let _ = stream.write_all(bytes);
    if finish {
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("shuts down");
    }
    let mut answer = Vec::new();
    // A daemon that closes with bytes unread resets the connection, after its answer.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn garbage(world: &World) {
    for (bytes, why) in [
        (&b"\0\0\0\x0bgarbage, no"[..], "cannot be understood"),
        (b"\0\0\0\x02{}", "cannot be understood"),
        (b"GET / HTTP/1.1\r\n\r\n", "at most 1048576 are accepted"),
        (b"\xff\xff\xff\xff", "at most 1048576 are accepted"),
        (b"\0\0\0\x20short", "failed"),
    ] {
        let answer = answer(world, bytes, true);
        assert!(answer.contains(why), "{bytes:?}: {answer}");
    }
    // Well-formed, but without descriptors.
    let request = br#"{"version":2,"command":["true"],"environment":[],"token":null,"service":null,"umask":18,"ignored":[],"terminal":null}"#;
    let frame = [&(request.len() as u32).to_be_bytes(), &request[..]].concat();
    let said = answer(world, &frame, true);
    assert!(
        said.contains("0 descriptors came with the request instead of 4"),
        "{said}"
    );
    // With many more descriptors than it has use for: they are closed again.
    let count = || {
        std::fs::read_dir(format!("/proc/{}/fd", world.daemon_pid()))
            .expect("reads")
            .count()
    };
    let before = count();
    let stream = connect_as_nobody(&world.socket()).expect("connects");
    let many = [stream.as_fd().as_raw_fd(); 200];
    let rights = [nix::sys::socket::ControlMessage::ScmRights(&many)];
    nix::sys::socket::sendmsg::<()>(
        stream.as_raw_fd(),
        &[std::io::IoSlice::new(&frame)],
        &rights,
        nix::sys::socket::MsgFlags::empty(),
        None,
    )
    .expect("sends");
    let mut answer = Vec::new();
    let _ = (&stream).read_to_end(&mut answer);
    assert!(String::from_utf8_lossy(&answer).contains("more than 8 descriptors"));
    drop(stream);
    crate::world::eventually("they are closed", || count() <= before);
    assert!(world.sh("true").status.success());
}

fn oversize(world: &World) {
    let argument = "x".repeat(100_000);
    let command: Vec<_> = std::iter::once("true")
        .chain([argument.as_str(); 11])
        .collect();
    refused(&world.client(&command).output().expect("runs"), "too large");
    let command: Vec<_> = std::iter::once("true")
        .chain([argument.as_str(); 9])
        .collect();
    assert!(world.client(&command).status().expect("runs").success());
}

fn a_slow_client_holds_up_nobody(world: &World) {
    let slow: Vec<_> = (0..20)
        .map(|_| connect_as_nobody(&world.socket()).expect("connects"))
        .collect();
    for mut stream in &slow {
        stream.write_all(b"\0").expect("writes");
    }
    let started = Instant::now();
    assert!(world.sh("true").status.success());
    assert!(started.elapsed() < Duration::from_secs(4));
    let mut said = String::new();
    (&slow[0]).read_to_string(&mut said).expect("is sent away");
    assert!(said.contains("no complete message in time"), "{said}");
}
