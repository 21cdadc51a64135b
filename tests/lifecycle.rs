//! Whatever becomes of the daemon, no packet of a session goes anywhere but to the session's own listeners.

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use holdpoint_tests::{
    network::{self, BEYOND},
    restless::Restless,
    sniffer::{Rule, Sniffers},
    tally::Tally,
    world::{Settings, World},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

const CLIENTS: usize = 20;
/// How often something happens to the daemon; `HOLDPOINT_ROUNDS` says otherwise.
const ROUNDS: usize = 100;
/// An error rather than a time-out: what a refused connection may take at most, on a host whose processors are all busy.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);
/// How long clients may take to be served again.
const SERVED_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn sniffers_see_what_leaves() {
    network::enter_own().expect("a network");
    let world = World::start();
    let sniffers = Sniffers::start();
    let rule = Rule::Host(world.services());
    sniffers.watch_here("host", rule).expect("a sniffer");
    let mut running = world.sandbox().start(&["sleep", "60"]);
    let (_, pid) = wait_for(&mut || one_session(&world)).expect("a session");
    sniffers
        .watch_process("session", pid, Rule::Session)
        .expect("a sniffer");
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket
        .send_to(b"out", (BEYOND, 9))
        .expect("there is a way out");
    in_the_network_of(pid, || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket
            .send_to(b"out", "127.0.0.1:9")
            .expect("there is a loopback");
    });
    sleep(Duration::from_millis(300));
    assert!(running.is_running());
    let strangers = sniffers.finish().strangers;
    for (place, to) in [("host", "203.0.113.9:9"), ("session", "127.0.0.1:9")] {
        let found = strangers
            .iter()
            .any(|it| it.starts_with(place) && it.ends_with(to));
        assert!(found, "{place}: {strangers:?}");
    }
}

#[test]
fn no_packet_leaves_whatever_becomes_of_the_daemon() {
    let rounds = rounds();
    let report = torment(&Torment::ALL, rounds, true);
    // With a launcher beside it, sessions have nothing to do with what becomes of the daemon.
    assert_eq!(report.sessions, CLIENTS as u64, "sessions ended");
}

#[test]
fn no_packet_leaves_when_sessions_end_with_the_daemon() {
    let torments = [Torment::Restarted, Torment::Killed, Torment::Upgraded];
    let rounds = torments.len().max(rounds() / 10);
    let report = torment(&torments, rounds, false);
    assert!(report.sessions > CLIENTS as u64, "they went on");
}

/// Rounds of what may happen, under load.
fn torment(torments: &[Torment], rounds: usize, with_launcher: bool) -> Report {
    network::enter_own().expect("a network");
    let world = World::with(&Settings {
        silent: true,
        ..Settings::default()
    });
    let world = world.unwrap_or_else(|error| panic!("{error:#}"));
    if with_launcher {
        // Whoever was started before has one of its own.
        world.stop_daemon().expect("it ends on SIGTERM");
        world.start_launcher().expect("a launcher starts");
        world.start_daemon().expect("a daemon starts beside it");
    }
    let sniffers = Sniffers::start();
    let rule = Rule::Host(world.services());
    sniffers.watch_here("host", rule).expect("a sniffer");
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| Restless::new(&world, &format!("session {number}")))
        .collect();
    let stop = Stop::default();
    let mut report = Report::default();
    thread::scope(|scope| {
        // Dropped when a round fails too, so that the clients end.
        let _stop = stop.guard();
        for client in &clients {
            scope.spawn(|| keep_running(client, &sniffers, &stop));
        }
        await_answers(&clients, &world);
        for round in 0..rounds {
            let torment = torments[round % torments.len()];
            let happened = torment.happen(&world, round);
            let started =
                happened.unwrap_or_else(|error| panic!("round {round}, {torment:?}: {error:#}"));
            report.starts.extend(started);
            let served = await_answers(&clients, &world);
            if served > Duration::from_secs(5) {
                println!("round {round}, {torment:?}: the last client was served after {served:?}");
            }
            report.served_again.push(served);
        }
    });
    report.sessions = clients.iter().map(Restless::sessions).sum();
    let seen = sniffers.finish();
    let tally = sum(&clients);
    println!("{report}\n{tally:#?}\n{} packets seen", seen.packets);

    assert!(seen.strangers.is_empty(), "{:#?}", seen.strangers);
    assert_eq!(
        seen.missed, 0,
        "too fast for the sniffers, so this proves nothing"
    );
    assert!(seen.packets > 1000, "{} packets", seen.packets);
    assert!(tally.leaks.is_empty(), "{:?}", tally.leaks);
    let slowest = Duration::from_micros(tally.slowest_refusal_us);
    assert!(slowest < REFUSED_WITHIN, "a refusal took {slowest:?}");
    let refused = tally.how_often("connect elsewhere", "connection refused");
    assert!(refused > 0, "nobody noticed that there was no daemon");
    report
}

/// What happens to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Torment {
    Killed,
    Frozen,
    Upgraded,
    Restarted,
    KilledWhileStarting,
    FrozenThenKilled,
    KilledWithItsLauncher,
}

impl Torment {
    const ALL: [Self; 7] = [
        Self::Killed,
        Self::Frozen,
        Self::Upgraded,
        Self::Restarted,
        Self::KilledWhileStarting,
        Self::FrozenThenKilled,
        Self::KilledWithItsLauncher,
    ];

    /// Does it; a daemon runs afterwards. How long the last start took, if there was one.
    fn happen(self, world: &World, round: usize) -> anyhow::Result<Option<Duration>> {
        // Not always the same moment.
        let moment = Duration::from_millis(20 + 37 * (round as u64 % 8));
        match self {
            Self::Killed => world.kill_daemon()?,
            Self::Frozen => {
                signal(world, Signal::SIGSTOP)?;
                sleep(moment * 2);
                signal(world, Signal::SIGCONT)?;
                return Ok(None);
            }
            Self::Upgraded => {
                world.stop_daemon()?;
                replace(&world.binary())?;
            }
            Self::Restarted => world.stop_daemon()?,
            Self::KilledWhileStarting => {
                world.kill_daemon()?;
                let mut daemon = world.holdpoint(&["daemon"]).spawn()?;
                sleep(moment / 2);
                daemon.kill()?;
                daemon.wait()?;
            }
            Self::KilledWithItsLauncher => {
                world.kill_daemon()?;
                world.stop_launcher()?;
                world.start_launcher()?;
            }
            Self::FrozenThenKilled => {
                signal(world, Signal::SIGSTOP)?;
                sleep(moment);
                world.kill_daemon()?;
            }
        }
        sleep(moment);
        let begin = Instant::now();
        world.start_daemon()?;
        Ok(Some(begin.elapsed()))
    }
}

fn signal(world: &World, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(world.daemon_pid().cast_signed());
    Ok(kill(pid, signal)?)
}

/// As a package manager does it: another file in its place.
fn replace(binary: &Path) -> anyhow::Result<()> {
    let new = binary.with_extension("new");
    // Not by this process: what it forks meanwhile would have the new file open for writing, and nobody could run it.
    let copied = Command::new("cp").arg(binary).arg(&new).status()?;
    anyhow::ensure!(copied.success(), "cp failed");
    Ok(fs::rename(new, binary)?)
}

/// Restarts the program for as long as the test runs: sessions end with daemons that had no launcher beside them.
fn keep_running(client: &Restless<'_>, sniffers: &Sniffers, stop: &Stop) {
    while !stop.asked() {
        match client.start(sniffers) {
            Ok(Some(mut session)) => {
                while session.running.is_running() && !stop.asked() {
                    sleep(Duration::from_millis(20));
                }
                drop(session);
                sniffers.forget(client.name());
            }
            // There is no daemon just now.
            Ok(None) => sleep(Duration::from_millis(20)),
            Err(error) => println!("{}: {error:#}", client.name()),
        }
    }
}

fn one_session(world: &World) -> Option<(String, u32)> {
    fs::read_dir(world.agents_cgroup())
        .ok()?
        .flatten()
        .find_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let pid = world.process_of(&name)?;
            Some((name, pid))
        })
}

fn wait_for<T>(what: &mut dyn FnMut() -> Option<T>) -> Option<T> {
    (0..500).find_map(|_| {
        let found = what();
        if found.is_none() {
            sleep(Duration::from_millis(10));
        }
        found
    })
}

fn in_the_network_of(pid: u32, doing: impl FnOnce() + Send) {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/net")).expect("the session lives");
    thread::scope(|scope| {
        scope.spawn(|| {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may");
            doing();
        });
    });
}

fn answers(client: &Restless<'_>) -> u64 {
    client.tally().how_often("ask", "200")
}

fn sum(clients: &[Restless<'_>]) -> Tally {
    let mut sum = Tally::default();
    for client in clients {
        sum.add(&client.tally());
    }
    sum
}

/// Until every client has got another answer. How long that took.
fn await_answers(clients: &[Restless<'_>], world: &World) -> Duration {
    let before: Vec<u64> = clients.iter().map(answers).collect();
    let begin = Instant::now();
    while clients
        .iter()
        .zip(&before)
        .any(|(client, before)| answers(client) <= *before)
    {
        assert!(
            begin.elapsed() < SERVED_WITHIN,
            "clients are not served:\n{:#?}\n{}",
            sum(clients),
            world.daemon_log()
        );
        sleep(Duration::from_millis(20));
    }
    begin.elapsed()
}

fn rounds() -> usize {
    let wanted = std::env::var("HOLDPOINT_ROUNDS").ok();
    wanted.map_or(ROUNDS, |rounds| {
        rounds.parse().expect("HOLDPOINT_ROUNDS is a number")
    })
}

#[derive(Default)]
struct Stop(AtomicBool);

impl Stop {
    fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn guard(&self) -> impl Drop {
        struct Asks<'a>(&'a AtomicBool);
        impl Drop for Asks<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        Asks(&self.0)
    }
}

/// How long everything took.
#[derive(Debug, Default)]
struct Report {
    starts: Vec<Duration>,
    served_again: Vec<Duration>,
    sessions: u64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spread = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort_unstable();
            let at = |share: usize| {
                times
                    .get((times.len().saturating_sub(1)) * share / 100)
                    .copied()
            };
            format!(
                "{:?} median, {:?} at most",
                at(50).unwrap_or_default(),
                at(100).unwrap_or_default()
            )
        };
        writeln!(
            f,
            "{} rounds, {} sessions",
            self.served_again.len(),
            self.sessions
        )?;
        writeln!(f, "the daemon's start: {}", spread(&self.starts))?;
        write!(
            f,
            "until every client had another answer: {}",
            spread(&self.served_again)
        )
    }
}
