//! A container that a session starts is the session with another root file system: it reaches what the session reaches, and has no
//! more rights.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use holdpoint_tests::{
    engine::{Engine, IMAGE, Place},
    files::repository,
    reviewer::{events, session_id, sessions},
    sandbox::{AGENT_UID, Ran, Running, Sandbox},
    world::{INSTANCES_URL, Settings, World},
};
use serde_json::Value;

struct Scene {
    // Before the world: what is left of containers is the daemon's to have removed.
    engine: Engine,
    world: World,
}

impl Scene {
    fn start() -> Self {
        let place = Place::new().unwrap_or_else(|error| panic!("{error:#}"));
        let settings = Settings {
            extra_configuration: place.configuration(),
            ..Settings::default()
        };
        let world = World::with(&settings).unwrap_or_else(|error| panic!("{error:#}"));
        let engine = place
            .start(&world)
            .unwrap_or_else(|error| panic!("{error:#}"));
        Self { engine, world }
    }

    /// Runs a script in a session, in which `$run` starts a container with the host's programs and the home at /work.
    fn run(&self, script: &str) -> Ran {
        shell(&self.world.sandbox(), script).finish()
    }
}

fn shell(sandbox: &Sandbox<'_>, script: &str) -> Running {
    let prologue = format!(
        "run='docker run --rm -v /usr:/usr:ro -v {}:/work -w /work {IMAGE}'\n",
        sandbox.home().display()
    );
    sandbox.start(&["sh", "-c", &(prologue + script)])
}

/// What of a command's output comes after a word.
fn after<'a>(ran: &'a Ran, word: &str) -> &'a str {
    let rest = ran.stdout.split_once(word);
    rest.unwrap_or_else(|| panic!("no {word}: {ran}"))
        .1
        .lines()
        .next()
        .unwrap_or_default()
}

#[test]
fn a_container_acts_for_its_session_and_ends_with_it() {
    let scene = Scene::start();
    let ran = scene
        .run(&format!(
            "$run curl -sS -w '\\nlist %{{http_code}}\\n' {INSTANCES_URL}
             $run curl -sS -X DELETE -w '\\nplain %{{http_code}}\\n' https://storage.googleapis.com/storage/v1/b/a/iam
             $run curl -sS http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token -H Metadata-Flavor:Google
             $run sh -c 'echo made > made; id -u'
             echo input | docker run -i --rm -v /usr:/usr:ro {IMAGE} sh -c 'sed s/^/echoed-/'
             docker run -d --name kept -v /usr:/usr:ro {IMAGE} sleep 1000 > /dev/null
             docker exec kept sh -c 'echo exec-$(id -u)-$(grep -c CapEff:.0000000000000000 /proc/self/status)'
             echo names $(docker ps --format '{{{{.Names}}}}')
             docker logs kept; docker run --name loud -v /usr:/usr:ro {IMAGE} echo loud; echo logged-$(docker logs loud)
             docker run -t --rm -v /usr:/usr:ro {IMAGE} sh -c 'test -t 0 && echo a terminal'
             $run sh -c 'exit 7'; echo code $?"
        ))
        .succeeded();
    assert_eq!(after(&ran, "list "), "200", "{ran}");
    assert!(ran.stdout.contains("staging-db"), "{ran}");
    assert_eq!(after(&ran, "plain "), "403", "{ran}");
    assert!(ran.stdout.contains("ya29."), "{ran}");
    assert!(ran.stdout.contains("echoed-input"), "{ran}");
    assert_eq!(after(&ran, "exec-"), format!("{AGENT_UID}-1"), "{ran}");
    assert_eq!(after(&ran, "names "), "kept", "{ran}");
    assert_eq!(after(&ran, "logged-"), "loud", "{ran}");
    assert!(ran.stdout.contains("a terminal"), "{ran}");
    assert_eq!(after(&ran, "code "), "7", "{ran}");

    let all = sessions(&scene.world).expect("a list");
    let events = events(&scene.world, session_id(&all[0])).expect("events");
    let made: Vec<_> = events
        .iter()
        .filter(|it| it["event"] == "container_created")
        .collect();
    assert_eq!(made.len(), 9, "{events:#?}");
    assert_eq!(made[0]["image"], IMAGE);
    assert!(
        made[0]["command"].to_string().contains("curl"),
        "{:#?}",
        made[0]
    );
    let listed = events
        .iter()
        .filter(|it| it["operation"]["action"] == "sql.instances.list");
    assert_eq!(listed.count(), 1, "{events:#?}");

    let started = Instant::now();
    while !scene.engine.says(&["ps", "-aq"]).is_empty() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "containers outlive their session"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let left = fs::read_dir(scene.world.agents_cgroup())
        .expect("a cgroup")
        .flatten();
    let left: Vec<_> = left.filter(|it| it.path().is_dir()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn files_it_makes_are_the_sessions_users() {
    let scene = Scene::start();
    let sandbox = scene.world.sandbox();
    let ran = shell(
        &sandbox,
        "$run sh -c 'echo made > made'; echo own > /tmp/own; docker run --rm -v /usr:/usr:ro -v /tmp/own:/given:ro empty:1 cat /given
         docker run --rm -v /usr:/usr:ro -v /tmp/own:/given:ro empty:1 sh -c 'echo x > /given'; echo read-only $?",
    )
    .finish()
    .succeeded();
    let made = fs::metadata(sandbox.home().join("made")).expect("it was made");
    assert_eq!(made.uid(), AGENT_UID);
    assert!(
        ran.stdout.contains("own\n"),
        "the session's own /tmp: {ran}"
    );
    assert_ne!(after(&ran, "read-only "), "0", "{ran}");
}

#[test]
fn a_container_reaches_nothing_else() {
    let scene = Scene::start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream
                .read(&mut [0; 100])
                .and_then(|_| stream.write_all(b"the host"));
        }
    });
    let client = repository().join("tests/clients/reach.py");
    let engine = scene.engine.socket();
    let arguments = format!("127.0.0.1 {port} {}", engine.display());

    // The baseline: root on the host can nearly all of it.
    let outside = std::process::Command::new("/usr/bin/python3")
        .arg(&client)
        .args(arguments.split(' '))
        .output()
        .expect("python runs");
    let outside = outcomes(&String::from_utf8_lossy(&outside.stdout));
    for name in [
        "tcp to the host's loopback",
        "raw",
        "packet",
        "netfilter",
        "user namespace",
        "the engine",
    ] {
        let outcome = outside["outcomes"][name].as_str().unwrap_or_default();
        assert!(outcome.starts_with("done"), "{name}: {outside:#}");
    }

    let sandbox = scene.world.sandbox();
    let _ = sandbox.file("reach.py", fs::read(client).expect("a client"));
    let script = format!("        docker run -d --name kept -v /usr:/usr:ro -v $PWD:/work -w /work {IMAGE} sleep 1000 >/dev/null
        $run python3 reach.py {arguments}; docker exec kept python3 reach.py {arguments}");
    let ran = shell(&sandbox, &script).finish().succeeded();
    assert_eq!(ran.stdout.lines().count(), 2, "{ran}");
    for line in ran.stdout.lines() {
        let inside = outcomes(line);
        for (name, outcome) in inside["outcomes"].as_object().expect("outcomes") {
            let outcome = outcome.as_str().expect("text");
            assert!(
                !outcome.starts_with("done"),
                "{name} leads out: {inside:#}\n{}",
                scene.engine.log()
            );
        }
        let facts = &inside["facts"];
        assert_eq!(facts["uid"], AGENT_UID);
        assert_eq!(facts["bounding"], "0000000000000000");
        assert_eq!(facts["effective"], "0000000000000000");
        assert_eq!(
            (&facts["no_new_privs"], &facts["seccomp"]),
            (&"1".into(), &"2".into())
        );
        assert_eq!(facts["interfaces"], serde_json::json!(["lo"]));
        assert!(facts["processes"].as_u64() < Some(6), "{facts:#}");
        assert!(!facts["devices"].to_string().contains("kvm"), "{facts:#}");
        for (name, expected) in [
            ("user namespace", "EPERM"),
            ("io_uring", "ENOSYS"),
            ("clone3", "ENOSYS"),
            ("packet", "EAFNOSUPPORT"),
        ] {
            assert_eq!(inside["outcomes"][name], expected, "{inside:#}");
        }
    }
    assert!(scene.world.arrivals().is_empty());
}

fn outcomes(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn what_asks_for_more_is_refused_in_words() {
    let scene = Scene::start();
    let attempts = [
        ("run --privileged", "rights of its session"),
        ("run --cap-add NET_ADMIN", "rights of its session"),
        (
            "run --security-opt seccomp=unconfined",
            "rights of its session",
        ),
        ("run --userns host", "rights of its session"),
        ("run --group-add 0", "rights of its session"),
        ("run --user 0", "as the session's user"),
        ("run --network host", "session's own network"),
        ("run --network container:x", "session's own network"),
        (
            "run --add-host metadata.google.internal:127.0.0.1",
            "session's own network",
        ),
        ("run --dns 198.51.100.7", "session's own network"),
        ("run -p 8080:80", "127.0.0.1 of the session"),
        ("run --pid host", "in its session's cgroup"),
        ("run --ipc host", "in its session's cgroup"),
        ("run --uts host", "in its session's cgroup"),
        ("run --cgroup-parent /", "in its session's cgroup"),
        ("run --runtime runc", "Holdpoint's runtime"),
        ("run --device /dev/null", "no devices"),
        ("run --device-cgroup-rule 'c 1:3 rwm'", "no devices"),
        ("run -v /:/host", "not shown to containers"),
        (
            "run -v /var/run/docker.sock:/var/run/docker.sock",
            "not shown to containers",
        ),
        ("run -v /proc:/p", "not shown to containers"),
        (
            "run --mount type=bind,source=/,target=/host",
            "not shown to containers",
        ),
        ("run -v data:/data", "no volumes"),
        ("run --volumes-from x", "no volumes"),
        ("run --tmpfs /x", "no volumes"),
        ("run -v ENGINE:/engine", "neither a directory nor a file"),
        ("run -v $PWD/to-root:/r", "not shown to containers"),
        ("run -v $PWD/to-proc:/r", "not shown to containers"),
        ("run -v $PWD/to-run:/r", "not shown to containers"),
        ("run -v $PWD/missing:/r", "it is not there"),
        ("run --restart always", "--restart"),
        ("run --sysctl net.ipv4.ip_forward=1", "--sysctl"),
        ("run --ulimit core=-1", "session's limits"),
        (
            "run --label dev.holdpoint.session=s-other",
            "are Holdpoint's",
        ),
        ("run -w /proc/self/fd/8", "working directory"),
    ];
    let commands = [
        ("docker pull alpine", "Ask the operator"),
        ("docker build .", "outside of sessions"),
        ("docker network create x", "no other"),
        ("docker volume create x", "no volumes"),
        ("docker cp /tmp/x own:/", "mount a directory"),
        ("docker commit own", "outside of sessions"),
        ("docker update --pids-limit 7 own", "not among"),
        ("docker exec --privileged own true", "rights of its session"),
        ("docker exec --user 0 own true", "as the session's user"),
        ("docker plugin install x", "not among"),
        ("docker swarm init", "not among"),
        (
            "curl -sS -H 'Host: rebound.example' http://holdpoint.internal:2375/version",
            "the Host is",
        ),
        (
            "curl -sS -H 'Origin: http://x' http://holdpoint.internal:2375/version",
            "web pages",
        ),
    ];
    let engine = scene.engine.socket().display().to_string();
    let mut script = format!(
        "docker run -d --name own -v /usr:/usr:ro {IMAGE} sleep 1000\nmkdir -p /tmp/x; echo > Dockerfile; for it in proc run; do ln -s /$it to-$it; done; ln -s / to-root\n"
    );
    let runs = attempts.map(|(options, says)| {
        (
            format!("docker {} {IMAGE} sh", options.replace("ENGINE", &engine)),
            says,
        )
    });
    let all: Vec<_> = commands
        .map(|(command, says)| (command.to_owned(), says))
        .into_iter()
        .chain(runs)
        .collect();
    for (index, (command, _)) in all.iter().enumerate() {
        script += &format!("out=$({command} 2>&1); echo \"<{index}> $out code $?\"\n");
    }
    let ran = scene.run(&script).succeeded();
    for (index, (command, says)) in all.iter().enumerate() {
        let rest = ran
            .stdout
            .split_once(&format!("<{index}> "))
            .unwrap_or_else(|| panic!("{ran}"))
            .1;
        let answer = rest.split_once(" code ").map_or(rest, |(answer, _)| answer);
        assert!(answer.contains(says), "{command}: {answer}");
        let code = rest
            .split_once(" code ")
            .and_then(|(_, code)| code.lines().next());
        assert!(
            code != Some("0") || command.starts_with("curl"),
            "{command}: {answer}"
        );
    }
}

#[test]
fn containers_of_others_are_out_of_reach() {
    let scene = Scene::start();
    let hosts = scene.engine.says(&[
        "run",
        "-d",
        "--name",
        "hosts",
        "--network",
        "none",
        "-v",
        "/usr:/usr:ro",
        IMAGE,
        "sleep",
        "1000",
    ]);
    let other = scene.world.sandbox();
    let mut others = shell(
        &other,
        &format!(
            "docker run -d --name others -v /usr:/usr:ro {IMAGE} sleep 1000; docker create --name made {IMAGE} sh; touch ready; sleep 1000"
        ),
    );
    let started = Instant::now();
    while !other.home().join("ready").exists() {
        assert!(
            started.elapsed() < Duration::from_secs(60) && others.is_running(),
            "{}",
            scene.world.daemon_log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut script = String::new();
    for name in ["hosts", "others", "made", &hosts, &hosts[..12]] {
        for command in [
            "container inspect NAME",
            "exec NAME true",
            "logs NAME",
            "stop NAME",
            "kill NAME",
            "start NAME",
            "restart NAME",
            "rm -f NAME",
            "attach NAME",
            "top NAME",
            "wait NAME",
        ] {
            script += &format!(
                "echo \"<$(docker {} 2>&1 >/dev/null)>\"\n",
                command.replace("NAME", name)
            );
        }
    }
    script += &format!(
        "echo list $(docker ps -aq)
         curl -sS -m 5 --unix-socket {engine} http://x/version; echo engine $?
         docker -H unix://{engine} version; echo client $?",
        engine = scene.engine.socket().display()
    );
    let ran = scene.run(&script);
    let answers = ran.stdout.lines().filter(|line| line.starts_with('<'));
    for answer in answers {
        let no = answer.to_lowercase().contains("no such");
        assert!(no, "{answer}");
    }
    assert_eq!(after(&ran, "list"), "", "{ran}");
    assert_ne!(after(&ran, "engine "), "0", "{ran}");
    assert_ne!(after(&ran, "client "), "0", "{ran}");
    let running = scene.engine.says(&["ps", "--format", "{{.Names}}"]);
    assert!(
        running.contains("hosts") && running.contains("others"),
        "{running}"
    );

    // Nobody in a session waits for this one.
    let behind = scene.engine.docker(&["start", "made"]);
    let said = String::from_utf8_lossy(&behind.stderr).into_owned();
    assert!(
        said.contains("no session has asked"),
        "{said}\n{}",
        scene.engine.log()
    );
    let behind = scene.engine.docker(&["exec", "others", "true"]);
    assert!(!behind.status.success());
    let foreign = scene.engine.docker(&[
        "run",
        "--rm",
        "--runtime",
        "holdpoint",
        "--network",
        "none",
        IMAGE,
        "true",
    ]);
    assert!(String::from_utf8_lossy(&foreign.stderr).contains("no session has asked"));
}

#[test]
fn without_the_daemon_no_container_starts_and_none_has_a_network() {
    let scene = Scene::start();
    scene.world.start_launcher().expect("a launcher");
    scene.world.kill_daemon().expect("a daemon");
    scene.world.start_daemon().expect("a daemon");
    let sandbox = scene.world.sandbox();
    let running = shell(
        &sandbox,
        &format!(
            "docker run -d --name kept -v /usr:/usr:ro -v $PWD:/work -w /work {IMAGE} sh -c '
                 until test -e gone; do sleep 0.05; done
                 curl -sS -m 5 {INSTANCES_URL} > answer 2>&1; echo $? > code; touch tried; sleep 1000'
             docker create --name made {IMAGE} sh; touch ready
             until test -e back; do sleep 0.05; done
             echo running $(docker ps --format '{{{{.Names}}}}'); docker stop -t 1 kept; docker start kept; echo again $?"
        ),
    );
    let wait = |name: &str| {
        let started = Instant::now();
        while !sandbox.home().join(name).exists() {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "no {name}: {}\n{}",
                scene.world.daemon_log(),
                scene.engine.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    wait("ready");
    scene.world.kill_daemon().expect("a daemon");
    let started = scene.engine.docker(&["start", "made"]);
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert!(said.contains("without the daemon"), "{said}");
    fs::write(sandbox.home().join("gone"), "").expect("our own directory");
    wait("tried");
    let code = fs::read_to_string(sandbox.home().join("code")).expect("a code");
    assert_ne!(code.trim(), "0");
    scene.world.start_daemon().expect("a daemon");
    fs::write(sandbox.home().join("back"), "").expect("our own directory");
    let ran = running.finish().succeeded();
    assert_eq!(after(&ran, "running "), "kept", "{ran}");
    assert_eq!(after(&ran, "again "), "0", "{ran}");
}
