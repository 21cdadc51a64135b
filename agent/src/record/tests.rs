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

use super::{chain::Head, *};
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

pub(super) fn opened(session: &SessionId) -> Event {
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
        binary: None,
    }
}

fn denied(session: &SessionId) -> Event {
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

fn all(dir: &Path) -> Vec<StoredEvent> {
    let (store, head) = closed_store(dir);
    let read = |seq| store.read(seq).expect("reads").expect("is there");
    (1..=head.seq).map(read).collect()
}

/// The store itself, once the thread of a dropped record has let go of it.
fn closed_store(dir: &Path) -> (Store, Head) {
    for _ in 0..500 {
        if let Ok((store, head, _)) = Store::open(dir) {
            return (store, head);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the store stays locked");
}

/// Opens a record, retrying while the last writer's thread still holds the lock.
fn reopen(dir: &Path) -> Record {
    for _ in 0..500 {
        match Record::open(dir) {
            Ok(record) => return record,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    Record::open(dir).expect("opens")
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

/// Changes one stored event behind the record's back.
#[tokio::test]
async fn operations_that_a_killed_daemon_left_get_an_outcome() {
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
    let record = reopen(dir.path());
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

    let record = reopen(dir.path());
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

fn tamper(dir: &Path, change: impl FnOnce(&sled::Db)) {
    for _ in 0..500 {
        if let Ok(db) = sled::open(dir) {
            change(&db);
            db.flush().expect("flushed");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the store stays locked");
}

async fn tampered(change: impl FnOnce(&sled::Db)) -> String {
    let dir = TempDir::new().expect("a directory");
    let record = Record::open(dir.path()).expect("opens");
    for text in ["a", "b", "c"] {
        record.append(event(text)).await.expect("recorded");
    }
    drop(record);
    tamper(dir.path(), change);
    let Err(error) = Record::open(dir.path()) else {
        panic!("a damaged record was opened");
    };
    format!("{error:#}")
}

#[tokio::test]
async fn a_damaged_record_is_not_opened() {
    let key = 2_u64.to_be_bytes();
    let removed = tampered(|db| drop(db.remove(key).expect("removed"))).await;
    assert!(removed.contains("event 2 is missing"), "{removed}");
    let torn = tampered(|db| drop(db.insert(key, "{\"seq\":2").expect("written"))).await;
    assert!(torn.contains("event 2 is unreadable"), "{torn}");
    let edited = tampered(|db| {
        let old = db.get(key).expect("read").expect("there");
        let text = String::from_utf8(old.to_vec()).expect("JSON");
        db.insert(key, text.replace("\"b\"", "\"x\"").as_bytes())
            .expect("written");
    });
    let edited = edited.await;
    assert!(edited.contains("event 3 does not follow"), "{edited}");
}

fn filled(dir: &Path, events: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(async {
        let record = Record::open(dir).expect("opens");
        for at in 0..events {
            record
                .append(event(&format!("{at}")))
                .await
                .expect("recorded");
        }
    });
    drop(closed_store(dir));
}

#[test]
fn an_emptied_or_foreign_store_is_not_taken_for_a_new_one() {
    for contents in ["", "garbage"] {
        let dir = TempDir::new().expect("a directory");
        filled(dir.path(), 3);
        std::fs::write(dir.path().join("db"), contents).expect("written");
        let Err(error) = Record::open(dir.path()) else {
            panic!("a damaged record was opened");
        };
        assert!(format!("{error:#}").contains("is damaged"), "{error:#}");
    }
    for file in ["db", "synced"] {
        let dir = TempDir::new().expect("a directory");
        filled(dir.path(), 3);
        std::fs::remove_file(dir.path().join(file)).expect("removed");
        let Err(error) = Record::open(dir.path()) else {
            panic!("a record without its {file} was opened");
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
    let intact = std::fs::read(dir.path().join("db")).expect("read");
    let used = intact
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("not empty");
    let mut noticed = 0;
    for step in 0..60 {
        let copy = TempDir::new().expect("a directory");
        for name in ["conf", "synced"] {
            std::fs::copy(dir.path().join(name), copy.path().join(name)).expect("copied");
        }
        let mut bytes = intact.clone();
        bytes[used * step / 60] ^= 1 << (step % 8);
        std::fs::write(copy.path().join("db"), bytes).expect("written");
        let path = copy.path().to_owned();
        match std::thread::spawn(move || all_if_opened(&path)).join() {
            Ok(Some(after)) => assert_eq!(after, before),
            Ok(None) | Err(_) => noticed += 1,
        }
    }
    assert!(noticed > 10, "only {noticed} of 60 flips mattered");
}

fn all_if_opened(dir: &Path) -> Option<Vec<StoredEvent>> {
    let (store, head, _) = Store::open(dir).ok()?;
    let read = |seq| store.read(seq).expect("reads").expect("is there");
    Some((1..=head.seq).map(read).collect())
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
    let record = Record::open(&child_dir()).expect("opens");
    for who in 0..4 {
        let record = record.clone();
        tokio::spawn(async move {
            for at in 0.. {
                let text = format!("{who}/{at}");
                let seq = record.append(event(&text)).await.expect("recorded");
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

#[tokio::test]
#[ignore = "the child of a_full_disk_denies_and_space_lets_it_go_on"]
async fn child_that_runs_out_of_space() {
    // SAFETY: no handler is installed, the signal is ignored: write(2) then fails with EFBIG instead.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.expect("ignored");
    let dir = child_dir();
    let record = Record::open(&dir).expect("opens");
    let mut acknowledged = Vec::new();
    for at in 0..20 {
        let text = format!("before/{at}");
        let seq = record.append(event(&text)).await.expect("recorded");
        acknowledged.push((seq, text));
    }
    let size = std::fs::metadata(dir.join("db")).expect("a file").len();
    limit_file_size(size + 100_000);
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
    println!("went on");
}

#[test]
fn a_full_disk_denies_and_space_lets_it_go_on() {
    let dir = TempDir::new().expect("a directory");
    let output = child("child_that_runs_out_of_space", dir.path())
        .output()
        .expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("went on"),
        "{text}"
    );
}
