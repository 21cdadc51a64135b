//! What the record costs: `cargo xtask bench record [EVENTS] [DIRECTORY]`.
//!
//! Requests as the gate and the relay record them: an intent that is waited for, and three events that nobody waits for. In the
//! directory for temporary files unless told otherwise; it should be on the disk that the state directory is on.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use holdpoint::{
    record::{
        DecisionRecord, DecisionVerdict, Event, OperationId, OperationRecord, OutcomeResult, Pairs,
        PrincipalRecord, Record, Settings, Texts,
    },
    session::{SessionId, User},
};
use holdpoint_core::operation::{Action, Operation};
use nix::sys::resource::{UsageWho, getrusage};

/// Requests that wait for the record at once, when it is saturated.
const AT_ONCE: u64 = 64;
/// Requests of a session.
const OF_A_SESSION: u64 = 50;
/// Events of a request.
const OF_A_REQUEST: u64 = 4;
/// Requests a second, when latency is measured.
const RATE: u32 = 500;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).filter(|it| !it.starts_with("--"));
    let events = arguments.next().map_or(Ok(1_000_000), |it| it.parse())?;
    let place = arguments
        .next()
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::TempDir::new_in(place)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(measure(&dir.path().join("record"), events))
}

async fn measure(dir: &Path, events: u64) -> anyhow::Result<()> {
    let record = Record::open_with(dir, Settings::default())?;
    let (requests, started, cpu) = (events / OF_A_REQUEST, Instant::now(), cpu()?);
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|_| tokio::spawn(saturate(record.clone(), requests / AT_ONCE)))
        .collect();
    let mut some = None;
    for task in tasks {
        some = Some(task.await??);
    }
    record.settled().await;
    let (took, cpu) = (started.elapsed(), self::cpu()? - cpu);
    println!(
        "saturated: {:.0} events/s, {:.1} us CPU a request of {OF_A_REQUEST} events",
        events as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / requests as f64
    );
    latency(&record, "reads (written, synced within 50 ms)", false).await?;
    latency(&record, "writes (synced)", true).await?;
    record.complete_segment().await?;
    drop(record);

    let (record, took) = reopened(dir).await?;
    println!("start with {events} events: {took:?}");
    let time = |what: &str, took: Duration| println!("{what}: {took:?}");
    let started = Instant::now();
    let newest = record.sessions(100, |_| true).len();
    time(
        &format!("list the newest {newest} sessions"),
        started.elapsed(),
    );
    let started = Instant::now();
    let none = record.sessions(100, |it| it.operations == u64::MAX).len();
    time(
        &format!("filter all sessions for {none}"),
        started.elapsed(),
    );
    let started = Instant::now();
    let some = some.context("a session")?;
    let found = record.events_of(&some, 0, usize::MAX).await?.len();
    time(
        &format!("read a session of {found} events"),
        started.elapsed(),
    );
    let bytes = size(dir)?;
    println!(
        "on disk: {:.0} bytes an event",
        bytes as f64 / events as f64
    );
    Ok(())
}

async fn reopened(dir: &Path) -> anyhow::Result<(Record, Duration)> {
    loop {
        let started = Instant::now();
        match Record::open(dir) {
            Ok(record) => return Ok((record, started.elapsed())),
            // The threads of the last one are still at it.
            Err(error) if format!("{error:#}").contains("in use") => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn saturate(record: Record, requests: u64) -> anyhow::Result<SessionId> {
    let mut session = SessionId::random();
    for number in 0..requests {
        if number % OF_A_SESSION == 0 {
            if number > 0 {
                record.note(closed(&session));
                session = SessionId::random();
            }
            record.append_unsynced(opened(&session)).await?;
        }
        request(&record, &session, false).await?;
    }
    Ok(session)
}

async fn request(record: &Record, session: &SessionId, synced: bool) -> anyhow::Result<Duration> {
    let (id, started) = (OperationId::random(), Instant::now());
    let intent = intent(session, &id);
    if synced {
        record.append(intent).await?;
    } else {
        record.append_unsynced(intent).await?;
    }
    let took = started.elapsed();
    let (session, operation) = (session.clone(), id);
    record.note(Event::Forwarded {
        session: session.clone(),
        operation: operation.clone(),
    });
    record.note(Event::Answered {
        session: session.clone(),
        operation: operation.clone(),
        status: 200,
        headers: [("content-type", "application/json"), ("server", "ESF")]
            .into_iter()
            .collect(),
        after_us: 1234,
    });
    record.note(Event::Outcome {
        session,
        operation,
        status: Some(200),
        result: OutcomeResult::Completed,
        request_bytes: 0,
        response_bytes: 2048,
        statement: None,
    });
    Ok(took)
}

async fn latency(record: &Record, what: &str, synced: bool) -> anyhow::Result<()> {
    let session = SessionId::random();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RATE);
    let mut took = Vec::new();
    for _ in 0..5 * RATE {
        ticks.tick().await;
        took.push(request(record, &session, synced).await?);
    }
    took.sort_unstable();
    let at = |share: usize| took[took.len() * share / 100];
    println!(
        "{what} at {RATE} a second: p50 {:?}, p99 {:?}",
        at(50),
        at(99)
    );
    Ok(())
}

fn intent(session: &SessionId, id: &OperationId) -> Event {
    let mut operation = Operation::on_host(Action::NET_CONNECT, "sqladmin.googleapis.com", None);
    operation.method = "GET".into();
    operation.path = "/sql/v1beta4/projects/lab-project/instances/prod-db".into();
    operation.query = vec![
        ("alt".into(), "json".into()),
        ("fields".into(), "name,state".into()),
    ];
    Event::Intent {
        session: session.clone(),
        connection: 1,
        operation: OperationRecord::new(id.clone(), &operation),
        decision: DecisionRecord {
            verdict: DecisionVerdict::Allow,
            policies: Vec::new(),
            reason: None,
            in_force: Some(operation.digest),
            observed: false,
        },
    }
}

fn opened(session: &SessionId) -> Event {
    Event::SessionOpened {
        session: session.clone(),
        principal: PrincipalRecord {
            issuer: "https://token.actions.example".into(),
            subject: "repo:acme/shop:ref:refs/heads/main".into(),
            groups: Texts::default(),
            claims: Pairs::default(),
        },
        user: User {
            uid: 1000,
            gid: 1000,
            name: "runner".into(),
        },
        command: ["sh", "-c", "terraform apply"].into_iter().collect(),
        cgroup_id: 7,
        service: None,
        within: None,
        binaries: Vec::new(),
    }
}

fn closed(session: &SessionId) -> Event {
    Event::SessionClosed {
        session: session.clone(),
        reason: "its processes ended".into(),
    }
}

/// Of this process, in all threads.
fn cpu() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let of = |time: nix::sys::time::TimeVal| {
        let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
        Duration::from_micros(u64::try_from(micros).unwrap_or_default())
    };
    Ok(of(usage.user_time()) + of(usage.system_time()))
}

/// Bytes that the files below take up.
fn size(dir: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() {
            size(&entry.path())?
        } else {
            metadata.blocks() * 512
        };
    }
    Ok(bytes)
}
