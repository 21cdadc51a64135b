use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

use holdpoint_core::{operation::Action, operation::Operation, policy::Denial};
use nix::{
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, Signal, signal},
    },
    unistd::Pid,
};
use tempfile::TempDir;

use super::{chain::Head, layout::Layout, *};
use crate::session::User;

fn event(text: &str) -> Event {
    Event::SessionRefused {
        user: User {
            uid: 1000,
            gid: 1000,
            name: "ci".into(),
        },
        reason: text.into(),
    }
}

pub(crate) fn opened(session: &SessionId) -> Event {
    Event::SessionOpened {
        session: session.clone(),
        principal: PrincipalRecord {
            issuer: "https://issuer".into(),
            subject: "repo:a/b".into(),
            groups: Texts::default(),
            claims: Pairs::default(),
        },
        user: User {
            uid: 1000,
            gid: 1000,
            name: "ci".into(),
        },
        command: ["gcloud", "sql"].into_iter().collect(),
        cgroup_id: 7,
        service: None,
        within: None,
        binaries: Vec::new(),
    }
}

pub(crate) fn denied(session: &SessionId) -> Event {
    let mut operation = Operation::on_host(Action::NET_CONNECT, "example.com", Some(443));
    operation.query = vec![("upload_id".into(), "secret".into())];
    let denial = holdpoint_core::policy::Decision::Deny(Denial {
        reason: "no".into(),
        policies: Vec::new(),
    });
    Event::Intent {
        session: session.clone(),
        connection: 1,
        operation: OperationRecord::new(OperationId::random(), &operation),
        decision: (&denial).into(),
    }
}

/// Everything goes to segments soon, and segments are small.
fn tiny() -> Settings {
    Settings {
        journal_bytes: 2000,
        segment_events: 20,
        ..Settings::default()
    }
}

/// What is in the files, without a daemon.
fn all(dir: &Path) -> Vec<StoredEvent> {
    drop(closed_store(dir));
    let events = reading::events(dir).expect("reads");
    let mut head = Head::default();
    let follow = |event: anyhow::Result<(u64, Vec<u8>)>| {
        let (seq, bytes) = event.expect("reads");
        head.follow(seq, &bytes).expect("follows")
    };
    events.map(follow).collect()
}

/// The store itself, once the threads of a dropped record have let go of it.
fn closed_store(dir: &Path) -> start::Opened {
    for _ in 0..500 {
        if let Ok(opened) = start::open(dir) {
            return opened;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!(
        "the store stays locked: {:#}",
        start::open(dir).err().expect("an error")
    );
}

/// Opens a record, retrying while the last one's threads still hold the lock.
fn reopen(dir: &Path) -> Record {
    reopen_with(dir, Settings::default())
}

fn reopen_with(dir: &Path, settings: Settings) -> Record {
    for _ in 0..500 {
        match Record::open_with(dir, settings) {
            Ok(record) => return record,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    Record::open_with(dir, settings).expect("opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_one_task_records_keeps_its_order_whoever_writes_it() {
    let dir = TempDir::new().expect("a directory");
    let record = Record::open_with(dir.path(), tiny()).expect("opens");
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let record = record.clone();
            tokio::spawn(async move {
                for number in (0..150).step_by(3) {
                    let event = |number: usize| event(&format!("{task} {number}"));
                    let written = match number % 15 {
                        0 => record.append(event(number)).await,
                        _ => record.append_unsynced(event(number)).await,
                    };
                    let _ = written.expect("is recorded");
                    record.note(event(number + 1));
                    record.note(event(number + 2));
                    if number % 9 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panics");
    }
    record.settled().await;
    drop(record);
    let mut next = [0; 8];
    for stored in all(dir.path()) {
        let Event::SessionRefused { reason, .. } = stored.event else {
            continue;
        };
        let (task, number) = reason.as_str().split_once(' ').expect("two numbers");
        let place: usize = task.parse().expect("a number");
        assert_eq!(number.parse(), Ok(next[place]), "of task {task}");
        next[place] += 1;
    }
    assert_eq!(next, [150; 8]);
}

#[tokio::test]
async fn what_a_caller_writes_is_synced_soon_though_nobody_asks() {
    let dir = TempDir::new().expect("a directory");
    let record = Record::open(dir.path()).expect("opens");
    let id = SessionId::random();
    for _ in 0..3 {
        let written = record.append_unsynced(denied(&id)).await;
        let _ = written.expect("is recorded");
        let started = std::time::Instant::now();
        while record.leaves().take().1.is_empty() {
            assert!(started.elapsed() < Duration::from_secs(10), "never synced");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn events_are_numbered_chained_and_found_again() {
    let dir = TempDir::new().expect("a directory");
    let record = Record::open(dir.path()).expect("opens");
    let (one, two) = (SessionId::random(), SessionId::random());
    for (at, event) in [opened(&one), opened(&two), denied(&one), event("x")]
        .into_iter()
        .enumerate()
    {
        let seq = record.append(event).await.expect("recorded");
        assert_eq!(seq, at as u64 + 1);
    }
    drop(record);
    let record = reopen(dir.path());
    let newest_first: Vec<_> = record
        .sessions(9, |_| true)
        .into_iter()
        .map(|it| it.id)
        .collect();
    assert_eq!(newest_first, [two, one.clone()]);
    let summary = record.session(&one).expect("known");
    assert_eq!(
        (summary.operations, summary.denied, summary.held),
        (1, 1, 0)
    );
    let events = record.events_of(&one, 0, 9).await.expect("events");
    let seqs: Vec<_> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, [1, 3]);
    let json = serde_json::to_string(&events[1]).expect("JSON");
    assert!(json.contains(r#"["upload_id","[masked]"]"#) && !json.contains("secret"));
    let later = record.events_of(&one, 1, 9).await.expect("events");
    assert_eq!(later.len(), 1);
    assert_eq!(record.append(event("y")).await.expect("recorded"), 5);
}

#[tokio::test]
async fn what_nobody_waits_for_is_synced_all_the_same() {
    let dir = TempDir::new().expect("a directory");
    let record = Record::open(dir.path()).expect("opens");
    let session = SessionId::random();
    record
        .append_unsynced(opened(&session))
        .await
        .expect("written");
    for _ in 0..100 {
        if record.session(&session).is_some() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not synced within a second");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_appenders_make_one_chain() {
    let dir = TempDir::new().expect("a directory");
    let record = Record::open(dir.path()).expect("opens");
    let appender = |who: usize| {
        let record = record.clone();
        tokio::spawn(async move {
            for at in 0..100 {
                let event = event(&format!("{who}/{at}"));
                let result = match at % 2 {
                    0 => record.append(event).await,
                    _ => record.append_unsynced(event).await,
                };
                result.expect("recorded");
            }
        })
    };
    let appenders: Vec<_> = (0..32).map(appender).collect();
    for appender in appenders {
        appender.await.expect("no panic");
    }
    drop(record);
    assert_eq!(all(dir.path()).len(), 3200);
}

#[tokio::test]
async fn operations_that_a_killed_daemon_left_get_an_outcome() {
    for segment_events in [100_000, 3, 1] {
        leave_operations(Settings {
            segment_events,
            ..Settings::default()
        })
        .await;
    }
}

async fn leave_operations(settings: Settings) {
    let dir = tempfile::tempdir().expect("a directory");
    let session = SessionId::random();
    let asked = |verdict: DecisionVerdict| {
        let Event::Intent {
            session,
            connection,
            operation,
            mut decision,
        } = denied(&session)
        else {
            panic!("an intent")
        };
        decision.verdict = verdict;
        let id = operation.id.clone();
        let intent = Event::Intent {
            session,
            connection,
            operation,
            decision,
        };
        (id, intent)
    };
    let outcome = |operation: &OperationId, result| Event::Outcome {
        session: session.clone(),
        operation: operation.clone(),
        status: None,
        result,
        request_bytes: 0,
        response_bytes: 0,
        statement: None,
    };
    let (allowed, held) = (asked(DecisionVerdict::Allow), asked(DecisionVerdict::Hold));
    let (refused, used) = (asked(DecisionVerdict::Deny), asked(DecisionVerdict::Hold));
    let finished = asked(DecisionVerdict::Allow);
    let mut expected = vec![
        outcome(&allowed.0, OutcomeResult::Unknown),
        outcome(&held.0, OutcomeResult::NotSent),
        outcome(&refused.0, OutcomeResult::Refused),
        outcome(&used.0, OutcomeResult::Unknown),
    ];
    let use_up = Event::ApprovalUsed {
        session: session.clone(),
        approval: crate::approvals::ApprovalId::named("ap-1"),
        operation: used.0.clone(),
    };
    let end = outcome(&finished.0, OutcomeResult::Completed);
    let record = reopen_with(dir.path(), settings);
    for event in [
        opened(&session),
        allowed.1,
        held.1,
        refused.1,
        used.1,
        finished.1,
        use_up,
        end,
    ] {
        record.append(event).await.expect("recorded");
    }
    drop(record);

    let record = reopen_with(dir.path(), settings);
    assert_eq!(record.finish_leftovers().await.expect("recorded"), 4);
    assert_eq!(record.finish_leftovers().await.expect("recorded"), 0);
    drop(record);
    let events = all(dir.path());
    let mut found: Vec<_> = events
        .into_iter()
        .skip(8)
        .map(|stored| stored.event)
        .collect();
    let by_text = |event: &Event| format!("{event:?}");
    found.sort_by_key(by_text);
    expected.sort_by_key(by_text);
    assert_eq!(found, expected);
}

/// Where a change was not to be noticed.
async fn tampered(settings: Settings, change: impl FnOnce(&Path)) -> String {
    let dir = TempDir::new().expect("a directory");
    let record = Record::open_with(dir.path(), settings).expect("opens");
    for text in ["a", "b", "c"] {
        record.append(event(text)).await.expect("recorded");
    }
    drop(record);
    drop(closed_store(dir.path()));
    change(dir.path());
    let Err(error) = Record::open(dir.path()) else {
        panic!("a damaged record was opened");
    };
    format!("{error:#}")
}

/// Changes a segment behind the record's back. Every event has a frame of its own.
async fn tampered_segment(change: impl FnOnce(&sled::Db)) -> String {
    let settings = Settings {
        journal_bytes: 1,
        ..Settings::default()
    };
    let change = |dir: &Path| {
        let db = sled::open(layout::segment(dir, 1)).expect("opens");
        change(&db);
        db.flush().expect("flushed");
    };
    tampered(settings, change).await
}

fn edited(value: &[u8], from: &str, to: &str) -> Vec<u8> {
    let events = frame::unpack(value).expect("a frame");
    let [event] = events.as_slice() else {
        panic!("one event in a frame")
    };
    let text = String::from_utf8(event.clone()).expect("JSON");
    let text = text.replace(from, to);
    let length = u32::try_from(text.len()).expect("short");
    let raw = [&length.to_le_bytes(), text.as_bytes()].concat();
    let compressed = zstd::bulk::compress(&raw, 1).expect("compresses");
    [&[1], compressed.as_slice()].concat()
}

#[tokio::test]
async fn a_damaged_segment_is_not_opened() {
    let key = 1_u64.to_be_bytes();
    let removed = tampered_segment(|db| drop(db.remove(key).expect("removed"))).await;
    assert!(removed.contains("event 1 is missing"), "{removed}");
    let torn = tampered_segment(|db| drop(db.insert(key, "{").expect("written"))).await;
    assert!(
        torn.contains("the frame of event 1 is unreadable"),
        "{torn}"
    );
    let changed = tampered_segment(|db| {
        let old = db.get(key).expect("read").expect("there");
        let new = edited(&old, "\"a\"", "\"x\"");
        db.insert(key, new).expect("written");
    });
    let changed = changed.await;
    assert!(changed.contains("event 2 does not follow"), "{changed}");
}

#[tokio::test]
async fn a_damaged_journal_is_not_opened() {
    for (from, to) in [("\"b\"", "\"x\""), ("\"c\"", "\"x\"")] {
        let change = |dir: &Path| {
            let path = layout::journal(dir, 1);
            let bytes = std::fs::read(&path).expect("read");
            let at = bytes
                .windows(from.len())
                .rposition(|window| window == from.as_bytes());
            let mut bytes = bytes;
            let at = at.expect("there");
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
            std::fs::write(path, bytes).expect("written");
        };
        let error = tampered(Settings::default(), change).await;
        assert!(error.contains("event 3 was synced to disk"), "{error}");
    }
}

#[tokio::test]
async fn a_record_of_before_there_were_segments_is_refused() {
    let change = |dir: &Path| std::fs::write(dir.join("db"), "").expect("written");
    let error = tampered(Settings::default(), change).await;
    assert!(error.contains("older version"), "{error}");
}

fn filled(dir: &Path, events: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(async {
        let record = Record::open_with(dir, one_segment()).expect("opens");
        for at in 0..events {
            let event = event(&format!("{at}"));
            record.append(event).await.expect("recorded");
        }
    });
    drop(closed_store(dir));
}

/// Segments are never complete, and get events soon.
fn one_segment() -> Settings {
    Settings {
        journal_bytes: 2000,
        ..Settings::default()
    }
}

#[test]
fn an_emptied_or_foreign_store_is_not_taken_for_a_new_one() {
    let segment = |dir: &Path| layout::segment(dir, 1).join("db");
    let synced = |dir: &Path| dir.join("synced");
    let last_journal = |dir: &Path| {
        let layout = Layout::read(dir).expect("reads");
        layout::journal(dir, *layout.journals.last().expect("one"))
    };
    type File = fn(&Path) -> std::path::PathBuf;
    let files: [File; 3] = [segment, synced, last_journal];
    for (file, contents) in files
        .into_iter()
        .flat_map(|file| [Some(""), Some("garbage"), None].map(|it| (file, it)))
    {
        let dir = TempDir::new().expect("a directory");
        filled(dir.path(), 100);
        let path = file(dir.path());
        match contents {
            Some(contents) => std::fs::write(&path, contents).expect("written"),
            None => std::fs::remove_file(&path).expect("removed"),
        }
        let Err(error) = Record::open(dir.path()) else {
            panic!(
                "a record with {contents:?} for {} was opened",
                path.display()
            );
        };
        let error = format!("{error:#}");
        let said = error.contains("is damaged") || error.contains("missing or damaged");
        assert!(said, "{error}");
    }
}

#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    let dir = TempDir::new().expect("a directory");
    filled(dir.path(), 200);
    let before = all(dir.path());
    let mut noticed = 0;
    for file in ["journal", "segment"] {
        for step in 0..40 {
            let copy = TempDir::new().expect("a directory");
            copy_all(dir.path(), copy.path());
            let layout = Layout::read(copy.path()).expect("reads");
            let path = match file {
                "journal" => layout::journal(copy.path(), *layout.journals.last().expect("one")),
                _ => layout::segment(copy.path(), 1).join("db"),
            };
            let mut bytes = std::fs::read(&path).expect("read");
            let used = bytes.iter().rposition(|byte| *byte != 0);
            bytes[used.expect("not empty") * step / 40] ^= 1 << (step % 8);
            std::fs::write(&path, bytes).expect("written");
            let path = copy.path().to_owned();
            match std::thread::spawn(move || all_if_opened(&path)).join() {
                Ok(Some(after)) => assert_eq!(after, before),
                Ok(None) | Err(_) => noticed += 1,
            }
        }
    }
    assert!(noticed > 40, "only {noticed} of 80 flips mattered");
}

fn copy_all(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("reads") {
        let entry = entry.expect("reads");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).expect("made");
            copy_all(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("copied");
        }
    }
}

fn all_if_opened(dir: &Path) -> Option<Vec<StoredEvent>> {
    drop(start::open(dir).ok()?);
    Some(all(dir))
}

const CHILD_DIR: &str = "HOLDPOINT_TEST_RECORD_DIR";

/// This test binary again, running one ignored test of this module, with the record in `dir`.
fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["--exact", "--ignored", "--nocapture"])
        .arg(format!("record::tests::{test}"))
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped());
    command
}

fn child_dir() -> std::path::PathBuf {
    std::env::var_os(CHILD_DIR)
        .expect("started by another test")
        .into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of kill_9_loses_nothing_acknowledged"]
async fn child_that_appends() {
    let record = Record::open_with(&child_dir(), tiny()).expect("opens");
    for who in 0..4 {
        let record = record.clone();
        tokio::spawn(async move {
            for at in 0.. {
                let text = format!("{who}/{at}");
                let recorded = match who % 2 {
                    0 => record.append(event(&text)).await,
                    // Reads, which are not synced: they outlive the process all the same.
                    _ => record.append_unsynced(event(&text)).await,
                };
                let seq = recorded.expect("recorded");
                let mut out = std::io::stdout().lock();
                writeln!(out, "ack {seq} {text}").expect("a reader");
            }
        });
    }
    std::future::pending::<()>().await;
}

#[test]
fn kill_9_loses_nothing_acknowledged() {
    let dir = TempDir::new().expect("a directory");
    let mut acknowledged = Vec::new();
    for round in 1..=3 {
        let mut child = child("child_that_appends", dir.path())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let pid = Pid::from_raw(child.id().try_into().expect("a pid"));
        let wanted = acknowledged.len() + 200 * round;
        for line in lines {
            // What was printed before the kill was acknowledged before it, and is read here to the end.
            let line = line.expect("text");
            if let Some(ack) = line.strip_prefix("ack ") {
                acknowledged.push(ack.to_owned());
            }
            if acknowledged.len() == wanted {
                nix::sys::signal::kill(pid, Signal::SIGKILL).expect("killed");
            }
        }
        child.wait().expect("reaped");
        assert!(acknowledged.len() >= wanted);
        let stored = all(dir.path());
        for ack in &acknowledged {
            let (seq, text) = ack.split_once(' ').expect("two words");
            let seq: usize = seq.parse().expect("a number");
            assert_eq!(stored[seq - 1].event, event(text));
        }
    }
}

/// A file size limit stands in for a full disk: writes fail in the middle of it.
fn limit_file_size(bytes: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    setrlimit(Resource::RLIMIT_FSIZE, bytes.min(hard), hard).expect("limited");
}

/// Whether segments do not fit, or the journal.
const CHILD_SETTINGS: &str = "HOLDPOINT_TEST_RECORD_SEGMENTS";

#[tokio::test]
#[ignore = "the child of a_full_disk_denies_and_space_lets_it_go_on"]
async fn child_that_runs_out_of_space() {
    // SAFETY: no handler is installed, the signal is ignored: write(2) then fails with EFBIG instead.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.expect("ignored");
    let dir = child_dir();
    let settings = match std::env::var_os(CHILD_SETTINGS) {
        Some(_) => Settings {
            journal_bytes: 32 << 10,
            ..Settings::default()
        },
        None => Settings::default(),
    };
    let record = Record::open_with(&dir, settings).expect("opens");
    let mut acknowledged = Vec::new();
    for at in 0..20 {
        let text = format!("before/{at}");
        let seq = record.append(event(&text)).await.expect("recorded");
        acknowledged.push((seq, text));
    }
    limit_file_size(100_000);
    let filler = "x".repeat(2000);
    let mut failures = 0;
    while failures < 5 {
        match record.append(event(&filler)).await {
            Ok(seq) => acknowledged.push((seq, filler.clone())),
            Err(RecordError::Store(_)) => failures += 1,
            Err(RecordError::Closed) => panic!("the writer died"),
        }
        assert!(acknowledged.len() < 2000, "the disk never fills");
    }
    record.note(event("noted"));
    limit_file_size(u64::MAX);
    let again = (0..50).map(|at| format!("after/{at}"));
    let mut recovered = 0;
    for text in again {
        match record.append(event(&text)).await {
            Ok(seq) => {
                acknowledged.push((seq, text));
                recovered += 1;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    assert!(
        recovered > 10,
        "only {recovered} after there was space again"
    );
    drop(record);
    let stored = all(&dir);
    for (seq, text) in acknowledged {
        let at = usize::try_from(seq).expect("small") - 1;
        assert_eq!(stored[at].event, event(&text));
    }
    let noted = |stored: &StoredEvent| stored.event == event("noted");
    assert!(
        stored.iter().any(noted),
        "what nobody waited for is missing"
    );
    println!("went on");
}

#[test]
fn a_full_disk_denies_and_space_lets_it_go_on() {
    for segments in [false, true] {
        let dir = TempDir::new().expect("a directory");
        let mut child = child("child_that_runs_out_of_space", dir.path());
        if segments {
            child.env(CHILD_SETTINGS, "1");
        }
        let output = child.output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("went on"),
            "{text}"
        );
    }
}

/// A record of many small segments with 12 sessions of 40 events each, some open.
async fn rotated(dir: &Path) -> (Record, Vec<SessionId>) {
    let record = Record::open_with(dir, tiny()).expect("opens");
    let sessions: Vec<_> = (0..12).map(|_| SessionId::random()).collect();
    for session in &sessions {
        record.append(opened(session)).await.expect("recorded");
    }
    for _ in 0..38 {
        for session in &sessions {
            let unsynced = record.append_unsynced(denied(session));
            unsynced.await.expect("recorded");
        }
    }
    for (place, session) in sessions.iter().enumerate() {
        let last = match place % 3 {
            0 => denied(session),
            _ => Event::SessionClosed {
                session: session.clone(),
                reason: "over".into(),
            },
        };
        record.append(last).await.expect("recorded");
    }
    (record, sessions)
}

/// What readers are told, in one text.
async fn told(record: &Record, sessions: &[SessionId]) -> String {
    record.settled().await;
    let mut told = format!("{:?}", record.sessions(5, |_| true));
    told += &format!("{:?}", record.sessions(99, |it| it.closed_at.is_none()));
    for session in sessions {
        let summary = record.session(session).expect("known");
        let all = record.events_of(session, 0, 999).await.expect("reads");
        assert_eq!(all.len(), 40);
        let last = record.last_events_of(session, 7).await.expect("reads");
        assert_eq!(last, all[33..]);
        let some = record.events_of(session, all[9].seq, 20).await;
        assert_eq!(some.expect("reads"), all[10..30]);
        told += &format!("{summary:?}{all:?}");
    }
    told
}

#[tokio::test]
async fn segments_rotate_and_readers_do_not_notice() {
    let dir = TempDir::new().expect("a directory");
    let (record, sessions) = rotated(dir.path()).await;
    let before = told(&record, &sessions).await;
    let newest_first: Vec<_> = record.sessions(99, |_| true);
    let ids: Vec<_> = newest_first.iter().rev().map(|it| it.id.clone()).collect();
    assert_eq!(ids, sessions);
    assert!(newest_first.iter().all(|it| it.operations >= 38));
    assert!(record.segments().len() > 10);
    drop(record);
    assert_eq!(all(dir.path()).len(), 480);
    let record = reopen_with(dir.path(), tiny());
    assert_eq!(told(&record, &sessions).await, before);
    drop(record);
    drop(closed_store(dir.path()));
    // An index is made anew when it is gone or damaged.
    let layout = Layout::read(dir.path()).expect("reads");
    let indexes: Vec<_> = layout.indexes.into_iter().collect();
    assert!(indexes.len() > 10, "{indexes:?}");
    std::fs::remove_file(layout::index(dir.path(), indexes[3])).expect("removed");
    std::fs::write(layout::index(dir.path(), indexes[5]), "garbage").expect("written");
    let last = indexes.last().expect("some");
    std::fs::write(layout::index(dir.path(), *last), "").expect("written");
    let record = reopen_with(dir.path(), tiny());
    assert_eq!(told(&record, &sessions).await, before);
}

#[tokio::test]
async fn a_purged_segment_leaves_its_hashes() {
    let dir = TempDir::new().expect("a directory");
    let (record, sessions) = rotated(dir.path()).await;
    record.complete_segment().await.expect("complete");
    // The archiver is on it.
    for _ in 0..500 {
        if !dir.path().join(format!("{:020}", 481)).exists()
            && Layout::read(dir.path()).expect("reads").journals.len() == 1
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before: Vec<_> = reading::events(dir.path())
        .expect("reads")
        .map(|event| event.expect("reads"))
        .collect();
    let segments = record.segments();
    let first = &segments[0];
    let newest = segments.last().expect("there is one");
    let refused = record.purge(newest.first, "too old").await;
    assert!(refused.expect_err("refused").to_string().contains("newest"));
    record.purge(first.first, "too old").await.expect("purged");
    assert!(record.purge(first.first, "again").await.is_err());
    let check = async |record: &Record| {
        let session = record.session(&sessions[0]).expect("it is open");
        assert_eq!(session.operations, 39);
        let left = record.events_of(&session.id, 0, 999).await.expect("reads");
        assert!(left.len() < 40 && left.iter().all(|event| event.seq > first.last));
        let open = record.sessions(99, |it| it.closed_at.is_none());
        assert_eq!(open.len(), 4);
        assert_eq!(record.segments()[0].span, None);
    };
    check(&record).await;
    drop(record);
    let record = reopen_with(dir.path(), tiny());
    check(&record).await;
    drop(record);
    drop(closed_store(dir.path()));
    let mut places = reading::places(dir.path()).expect("reads");
    for (seq, bytes) in &before {
        let place = places.next().expect("more").expect("reads");
        let expected = if *seq <= first.last {
            reading::Place::Purged(*seq, Link::of(bytes))
        } else {
            reading::Place::Event(*seq, bytes.clone())
        };
        assert_eq!(place, expected);
    }
    let last = places.last().expect("more").expect("reads");
    let reading::Place::Event(_, bytes) = last else {
        panic!("an event")
    };
    let last: StoredEvent = serde_json::from_slice(&bytes).expect("an event");
    assert!(matches!(
        last.event,
        Event::RecordPurged {
            what: Purged::Events,
            first: 1,
            ..
        }
    ));
}
