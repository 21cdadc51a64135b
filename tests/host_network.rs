//! A service in the host's network namespace is held as tightly as any session, by the BPF programs alone.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            fs::MetadataExt as _,
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};

use holdpoint_tests::{
    canary::Canary,
    files::repository,
    network,
    reviewer::{events, session_id, sessions},
    sandbox::{Ran, Running},
    stand_in::now,
    world::{INSTANCES_URL, Settings, World},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const SERVICES: &str = r#"
[[service]]
name = "backup"
user = "nobody"
hosts = ["sqladmin.googleapis.com"]
network = "host"

[[service]]
name = "other"
user = "nobody"
hosts = ["sqladmin.googleapis.com"]
network = "host"
"#;

const GOOGLE: &str = "sqladmin.googleapis.com";
const INSTANCES: &str = "/sql/v1beta4/projects/lab-project/instances";
/// Where the first service's proxy is: the first port there is.
const PROXY: u16 = 15_100;

/// A host of this test's own, with a way out.
fn host() -> World {
    network::enter_own().expect("a network");
    let settings = Settings {
        extra_configuration: SERVICES.to_owned(),
        ..Settings::default()
    };
    World::with(&settings).unwrap_or_else(|error| panic!("{error:#}"))
}

/// The same with a launcher beside the daemon, so that sessions outlive that.
fn lasting_host() -> World {
    let world = host();
    world.stop_daemon().expect("it ends on SIGTERM");
    world.start_launcher().expect("a launcher starts");
    world.start_daemon().expect("a daemon starts beside it");
    world
}

fn run(world: &World, service: &str, command: &[&str]) -> Ran {
    world.sandbox().service(service).run(command)
}

#[test]
fn it_is_in_the_hosts_network_and_policy_decides() {
    let world = host();
    let script = format!(
        "readlink /proc/self/ns/net; cat /proc/net/dev; curl -sS -m 20 -w '\\nstatus %{{http_code}}\\n' {INSTANCES_URL}
         curl -sS -m 20 -o denied -w 'status %{{http_code}}\\n' https://storage.googleapis.com/storage/v1/b; cat denied
         getent ahostsv4 {GOOGLE}; getent ahostsv4 nobody.knows.example || echo unknown $?"
    );
    let own = fs::read_link("/proc/thread-self/ns/net").expect("procfs");
    let ran = run(&world, "backup", &["sh", "-c", &script]).succeeded();
    assert!(
        ran.says(&own.display().to_string()),
        "another network: {ran}"
    );
    assert!(ran.says("out:"), "{ran}");
    assert!(ran.says("staging-db") && ran.says("status 200"), "{ran}");
    assert!(ran.says("status 403"), "{ran}");
    assert!(ran.says("198.18.") && ran.says("unknown 2"), "{ran}");
    let all = sessions(&world).expect("a list");
    let events = events(&world, session_id(&all[0])).expect("events");
    assert_eq!(events[0]["principal"]["subject"], "backup", "{events:#?}");
    let action = |it: &serde_json::Value| it["operation"]["action"] == "sql.instances.list";
    assert!(events.iter().any(action), "{events:#?}");
}

#[test]
fn two_of_them_share_the_host_and_nothing_else() {
    let world = host();
    let call = format!("while :; do curl -sS -m 20 -o /dev/null {INSTANCES_URL}; sleep 0.1; done");
    let mut first = world
        .sandbox()
        .service("backup")
        .start(&["sh", "-c", &call]);
    await_arrivals(&world, &mut first, 1);
    let ran = run(&world, "other", &["curl", "-sS", INSTANCES_URL]).succeeded();
    assert!(ran.says("staging-db"), "{ran}");
    let server = world.sandbox().service("backup");
    let serve = "import socket\ns = socket.create_server(('127.0.0.1', 8099))\nwhile 1:\n c = s.accept()[0]\n c.send(b'HOST')\n c.close()";
    let mut server = server.start(&["python3", "-c", serve]);
    let own = format!("tcp:127.0.0.1:{PROXY}");
    let targets = ["tcp:127.0.0.1:8099", own.as_str()];
    await_listener(&mut server, 8099);
    let ran = neighbours(&world, "other", &targets);
    assert_closed_at_once(&ran, targets.len());
    let outsider = outsider("neighbours.py", &["tcp:127.0.0.1:8099"]);
    assert!(outsider.contains("closed"), "{outsider}");
}

#[test]
fn no_way_out_goes_round_the_proxy() {
    let world = host();
    let canary = Canary::start().unwrap_or_else(|error| panic!("{error:#}"));
    let (ip, port) = (
        canary.address().ip().to_string(),
        canary.address().port().to_string(),
    );
    let baseline = outsider("escape.py", &[&ip, &port]);
    for way in ["tcp open", "udp open", "raw open", "packet open"] {
        assert!(baseline.contains(way), "{way}: {baseline}");
    }
    let visits = canary.visits();
    let sandbox = world.sandbox().service("backup");
    let ran = sandbox.python("escape.py", &[&ip, &port]).succeeded();
    assert_eq!(canary.visits(), visits, "{ran}");
    assert_closed_at_once(&ran, 18);
}

#[test]
fn the_hosts_loopback_is_the_hosts() {
    let world = host();
    let greeted = Arc::new(AtomicUsize::new(0));
    let targets = servers(&greeted);
    let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
    let baseline = outsider("neighbours.py", &targets);
    assert_eq!(
        baseline.matches(" open").count(),
        targets.len(),
        "{baseline}"
    );
    let before = greeted.load(Ordering::SeqCst);
    let ran = neighbours(&world, "backup", &targets);
    assert_closed_at_once(&ran, targets.len());
    assert_eq!(greeted.load(Ordering::SeqCst), before, "{ran}");
}

#[test]
fn what_is_in_the_slice_without_a_session_reaches_nothing() {
    let world = host();
    let greeted = Arc::new(AtomicUsize::new(0));
    let targets = servers(&greeted);
    let targets: Vec<&str> = targets
        .iter()
        .map(String::as_str)
        .filter(|it| !it.starts_with("abstract"))
        .collect();
    let sandbox = world.sandbox().service("backup");
    let loop_client = sandbox.start_python("loop.py", &[GOOGLE, INSTANCES]);
    let mut loop_client = loop_client;
    await_arrivals(&world, &mut loop_client, 3);
    let mut before = None;
    for round in 0..3 {
        let unit = Unit::make(&world);
        assert_ne!(before, Some(unit.slice_id()), "it is the same slice");
        before = Some(unit.slice_id());
        // The daemon looks ten times a second. systemd's own filter, which comes with the cgroup, is not there in this test.
        sleep(Duration::from_millis(500));
        let stray = unit.run("neighbours.py", &targets);
        let closed = stray.matches(" closed [Errno 1]").count();
        assert_eq!(closed, targets.len(), "round {round}: {stray}");
        // Sessions are elsewhere, and whatever becomes of the slice is nothing to them.
        drop(unit);
        let count = world.count("GET", INSTANCES);
        await_arrivals(&world, &mut loop_client, count + 3);
    }
    let ran = neighbours(&world, "backup", &targets);
    assert_closed_at_once(&ran, targets.len());
}

#[test]
fn nothing_passes_without_the_daemon_and_the_next_one_takes_over() {
    let world = lasting_host();
    let sandbox = world.sandbox().service("backup");
    let mut loop_client = sandbox.start_python("loop.py", &[GOOGLE, INSTANCES]);
    await_arrivals(&world, &mut loop_client, 5);
    let session = session_id(&sessions(&world).expect("a list")[0]).to_owned();
    world.kill_daemon().expect("it was running");
    let killed = now();
    // Whoever takes the listener's place meets nobody.
    let squatter = TcpListener::bind((Ipv4Addr::LOCALHOST, PROXY)).expect("nobody listens");
    squatter.set_nonblocking(true).expect("a listener");
    sleep(Duration::from_secs(3));
    assert!(squatter.accept().is_err(), "a service came in");
    drop(squatter);
    let late: Vec<_> = world
        .arrivals()
        .into_iter()
        .filter(|it| it.t > killed + 50)
        .collect();
    assert!(late.is_empty(), "{late:?}");
    world.start_daemon().expect("it starts again");
    let count = world.count("GET", INSTANCES);
    await_arrivals(&world, &mut loop_client, count + 5);
    let all = sessions(&world).expect("a list");
    assert_eq!(all.len(), 1, "{all:#?}");
    assert_eq!(session_id(&all[0]), session);
    assert_eq!(all[0]["live"], true);
}

#[test]
fn a_session_whose_ports_are_taken_ends_rather_than_moves() {
    let world = lasting_host();
    let sandbox = world.sandbox().service("backup");
    let mut loop_client = sandbox.start_python("loop.py", &[GOOGLE, INSTANCES]);
    await_arrivals(&world, &mut loop_client, 3);
    world.kill_daemon().expect("it was running");
    let squatter = TcpListener::bind((Ipv4Addr::LOCALHOST, PROXY)).expect("nobody listens");
    squatter.set_nonblocking(true).expect("a listener");
    world.start_daemon().expect("it starts again");
    let _ = loop_client.finish().failed();
    assert!(squatter.accept().is_err(), "the service came in");
    let ran = run(&world, "backup", &["curl", "-sS", INSTANCES_URL]).succeeded();
    assert!(ran.says("staging-db"), "{ran}");
}

#[test]
fn a_frozen_daemon_is_an_error_at_once() {
    let world = host();
    let (services, own) = (world.sandbox().service("backup"), world.sandbox());
    let knocking: Vec<_> = [services, own]
        .into_iter()
        .map(|sandbox| {
            let log = sandbox.home().join("knock.log");
            let running = sandbox.start_python("knock.py", &["192.0.2.1", "443", "knock.log"]);
            (running, log)
        })
        .collect();
    for (_, log) in &knocking {
        await_line(log, 0, "connected");
    }
    let daemon = Pid::from_raw(world.daemon_pid().cast_signed());
    kill(daemon, Signal::SIGSTOP).expect("it was running");
    sleep(Duration::from_millis(2500));
    for (_, log) in &knocking {
        let frozen = lines(log).len();
        await_line(log, frozen, "EPERM");
        sleep(Duration::from_millis(500));
        for line in &lines(log)[frozen..] {
            let took: f64 = line
                .split(' ')
                .nth(1)
                .expect("two words")
                .parse()
                .expect("seconds");
            assert!(line.starts_with("EPERM") && took < 1.0, "{line}");
        }
    }
    kill(daemon, Signal::SIGCONT).expect("it was running");
    for (_, log) in &knocking {
        await_line(log, lines(log).len(), "connected");
    }
    // One that is dead is a listener that is gone, as ever.
    world.kill_daemon().expect("it was running");
    sleep(Duration::from_millis(2500));
    for (_, log) in &knocking {
        await_line(log, lines(log).len(), "ECONNREFUSED");
    }
    drop(knocking);
    world.start_daemon().expect("it starts again");
}

/// A unit in the slice that opens no session.
struct Unit {
    slice: PathBuf,
    cgroup: PathBuf,
}

impl Unit {
    fn make(world: &World) -> Self {
        let slice = world.agents_slice();
        let cgroup = slice.join("stray.service");
        fs::create_dir_all(&cgroup).expect("a slice can be made");
        Self { slice, cgroup }
    }

    fn slice_id(&self) -> u64 {
        fs::metadata(&self.slice).expect("it is there").ino()
    }

    fn run(&self, client: &str, arguments: &[&str]) -> String {
        let script = format!(
            "echo 0 >{}/cgroup.procs && exec python3 \"$@\"",
            self.cgroup.display()
        );
        let client = repository().join("tests/clients").join(client);
        let output = Command::new("sh")
            .args(["-c", &script, "sh"])
            .arg(client)
            .args(arguments)
            .stdin(Stdio::null())
            .output();
        let output = output.expect("it runs");
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        for cgroup in [&self.cgroup, &self.slice] {
            let _gone = fs::remove_dir(cgroup);
        }
    }
}

/// Servers of the host's, which count whom they greet; their targets.
fn servers(greeted: &Arc<AtomicUsize>) -> Vec<String> {
    let mut targets = Vec::new();
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let ip: std::net::IpAddr = ip;
        let tcp = TcpListener::bind((ip, 0)).expect("loopback");
        let udp = UdpSocket::bind((ip, 0)).expect("loopback");
        let (tcp_port, udp_port) = (port(tcp.local_addr()), port(udp.local_addr()));
        targets.push(format!("tcp:{ip}:{tcp_port}"));
        targets.push(format!("udp:{ip}:{udp_port}"));
        if ip.is_ipv4() {
            targets.push(format!("tcp:0.0.0.0:{tcp_port}"));
            targets.push(format!("tcp:::ffff:127.0.0.1:{tcp_port}"));
        }
        let count = greeted.clone();
        thread::spawn(move || {
            for mut stream in tcp.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HOST");
            }
        });
        let count = greeted.clone();
        thread::spawn(move || {
            while let Ok((_, from)) = udp.recv_from(&mut [0; 8]) {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = udp.send_to(b"HOST", from);
            }
        });
    }
    let name = format!("holdpoint-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let abstracted = UnixListener::bind_addr(&address).expect("nobody else's name");
    targets.push(format!("abstract:{name}"));
    let count = greeted.clone();
    thread::spawn(move || {
        for mut stream in abstracted.incoming().flatten() {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"HOST");
        }
    });
    targets
}

fn port(address: std::io::Result<std::net::SocketAddr>) -> u16 {
    address.expect("it is bound").port()
}

fn neighbours(world: &World, service: &str, targets: &[&str]) -> Ran {
    let sandbox = world.sandbox().service(service);
    sandbox.python("neighbours.py", targets).succeeded()
}

/// What anybody else on this host gets.
fn outsider(client: &str, arguments: &[&str]) -> String {
    let client = repository().join("tests/clients").join(client);
    let mut child = Command::new("python3")
        .arg(client)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut text = String::new();
    let mut stdout = child.stdout.take().expect("it is piped");
    stdout.read_to_string(&mut text).expect("text");
    assert!(child.wait().expect("it ends").success(), "{text}");
    text
}

fn assert_closed_at_once(ran: &Ran, count: usize) {
    assert_eq!(ran.stdout.lines().count(), count, "{ran}");
    for line in ran.stdout.lines() {
        assert!(line.contains(" closed "), "{ran}");
        assert!(!line.contains("timed out"), "refused, but too late: {ran}");
    }
}

fn await_arrivals(world: &World, client: &mut Running, count: usize) {
    let started = Instant::now();
    while world.count("GET", INSTANCES) < count {
        let alive = client.is_running() && started.elapsed() < Duration::from_secs(60);
        assert!(alive, "nothing arrives\n{}", world.daemon_log());
        sleep(Duration::from_millis(50));
    }
}

/// Until somebody listens on this port of the host's loopback, which others cannot ask by connecting.
fn await_listener(server: &mut Running, port: u16) {
    let started = Instant::now();
    let wanted = format!("0100007F:{port:04X} 00000000:0000 0A");
    while !fs::read_to_string("/proc/thread-self/net/tcp").is_ok_and(|it| it.contains(&wanted)) {
        let alive = server.is_running() && started.elapsed() < Duration::from_secs(30);
        assert!(alive, "nobody listens");
        sleep(Duration::from_millis(20));
    }
}

fn lines(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn await_line(log: &Path, from: usize, start: &str) {
    let started = Instant::now();
    let is_there = || lines(log).iter().skip(from).any(|it| it.starts_with(start));
    while !is_there() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "no {start} in {:#?}",
            lines(log)
        );
        sleep(Duration::from_millis(20));
    }
}
