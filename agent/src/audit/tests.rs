use std::{fs, path::Path, sync::OnceLock};

use holdpoint_core::{
    checkpoint::{Checkpoint, note::Signer},
    merkle::{Node, Tree},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    bundle::{Bundle, Proved},
    check::{Checker, Finding, Problem, Promise, Verified},
    evidence::{self, Source},
    keeper::Checkpoints,
    keys, ledger, lines,
};
use crate::{
    config::record,
    record::{Event, Record},
    session::User,
};

const EVENTS: usize = 120;
/// Where the sample was signed.
const SIGNED: [usize; 4] = [17, 40, 64, EVENTS];

fn event(text: &str) -> Event {
    let user = User {
        uid: 1000,
        gid: 1000,
        name: "ci".into(),
    };
    let reason = text.into();
    Event::SessionRefused { user, reason }
}

/// What the daemon of the sample has written.
struct Sample {
    lines: Vec<Vec<u8>>,
    checkpoints: Vec<Checkpoint>,
}

/// A record as the daemon keeps one: written and exported by its own code.
fn sample() -> &'static (Sample, Sample) {
    static SAMPLES: OnceLock<(Sample, Sample)> = OnceLock::new();
    SAMPLES.get_or_init(|| (recorded("one"), recorded("other")))
}

fn recorded(name: &str) -> Sample {
    let dir = TempDir::new().expect("a directory");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (lines, signer) = runtime.block_on(async {
        let record = Record::open(&dir.path().join("record")).expect("opens");
        for number in 0..EVENTS {
            let text = format!("{name} {number} {}", "x".repeat(number % 50));
            record
                .append_unsynced(event(&text))
                .await
                .expect("recorded");
        }
        record.settled().await;
        let lines = record.lines(0, usize::MAX).expect("read");
        (lines, keys::make(&dir.path().join("key")).expect("a key"))
    });
    let mut tree = Tree::default();
    let mut checkpoints = Vec::new();
    for (place, line) in (1..).zip(&lines) {
        tree.push(Node::leaf(line));
        if SIGNED.contains(&place) {
            checkpoints.push(Checkpoint::of(&tree, signer.verifier().name()));
        }
    }
    Sample { lines, checkpoints }
}

fn promises(checkpoints: &[Checkpoint]) -> Vec<Promise> {
    let promise = |it: &Checkpoint| Promise {
        checkpoint: it.clone(),
        elsewhere: false,
    };
    checkpoints.iter().map(promise).collect()
}

/// With the links that the daemon left beside the record, or without.
fn checked(lines: &[Vec<u8>], sample: &Sample, with_links: bool) -> Result<Verified, Finding> {
    let links: Vec<_> = sample.lines.iter().map(|it| Node::leaf(it)).collect();
    let links = with_links.then(|| Box::new(links.into_iter()) as _);
    let mut checker = Checker::new(promises(&sample.checkpoints), links);
    for line in lines {
        checker.push(line)?;
    }
    checker.finish()
}

/// The number of the first event that is not on its place as it was.
fn first_bad(original: &[Vec<u8>], mutated: &[Vec<u8>]) -> Option<u64> {
    let longest = original.len().max(mutated.len());
    let differs = |at: &usize| original.get(*at) != mutated.get(*at);
    (0..longest).find(differs).map(|at| at as u64 + 1)
}

#[derive(Clone, Debug)]
enum Mutation {
    /// A bit of a byte.
    Edit {
        line: usize,
        at: usize,
        bit: u8,
    },
    /// A value, so that it stays JSON.
    Reword {
        line: usize,
    },
    Number {
        line: usize,
        seq: u64,
    },
    Drop {
        line: usize,
        count: usize,
    },
    Swap {
        one: usize,
        other: usize,
    },
    Duplicate {
        line: usize,
        to: usize,
    },
    Move {
        line: usize,
        to: usize,
    },
    Truncate {
        lines: usize,
    },
    CutLast {
        bytes: usize,
    },
    /// From a record of another host.
    Splice {
        from: usize,
    },
    SpliceOne {
        line: usize,
    },
    /// An edited event, and all that follow made to fit.
    Rechain {
        line: usize,
    },
    /// Events taken away, and all that follow made to fit.
    DropAndRechain {
        line: usize,
        count: usize,
    },
    Insert {
        line: usize,
    },
    Purge {
        line: usize,
    },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let line = || 0..EVENTS;
    let arms: Vec<(u32, BoxedStrategy<Mutation>)> = vec![
        (
            3,
            (line(), any::<usize>(), 0u8..8)
                .prop_map(|(line, at, bit)| Edit { line, at, bit })
                .boxed(),
        ),
        (1, line().prop_map(|line| Reword { line }).boxed()),
        (
            1,
            (line(), 0u64..200)
                .prop_map(|(line, seq)| Number { line, seq })
                .boxed(),
        ),
        (
            1,
            (line(), 1usize..9)
                .prop_map(|(line, count)| Drop { line, count })
                .boxed(),
        ),
        (
            1,
            (line(), line())
                .prop_map(|(one, other)| Swap { one, other })
                .boxed(),
        ),
        (
            1,
            (line(), line())
                .prop_map(|(line, to)| Duplicate { line, to })
                .boxed(),
        ),
        (
            1,
            (line(), line())
                .prop_map(|(line, to)| Move { line, to })
                .boxed(),
        ),
        (1, line().prop_map(|lines| Truncate { lines }).boxed()),
        (1, (1usize..60).prop_map(|bytes| CutLast { bytes }).boxed()),
        (1, line().prop_map(|from| Splice { from }).boxed()),
        (1, line().prop_map(|line| SpliceOne { line }).boxed()),
        (2, line().prop_map(|line| Rechain { line }).boxed()),
        (
            1,
            (line(), 1usize..9)
                .prop_map(|(line, count)| DropAndRechain { line, count })
                .boxed(),
        ),
        (1, line().prop_map(|line| Insert { line }).boxed()),
        (1, line().prop_map(|line| Purge { line }).boxed()),
    ];
    proptest::strategy::Union::new_weighted(arms)
}

impl Mutation {
    fn apply(&self, original: &[Vec<u8>], other: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut lines = original.to_vec();
        match *self {
            Self::Edit { line, at, bit } => {
                let at = at % lines[line].len();
                lines[line][at] ^= 1 << bit;
            }
            Self::Reword { line } => {
                reword(&mut lines[line], |it| it["reason"] = "harmless".into())
            }
            Self::Number { line, seq } => reword(&mut lines[line], |it| it["seq"] = seq.into()),
            Self::Drop { line, count } => drop(lines.drain(line..(line + count).min(EVENTS))),
            Self::Swap { one, other } => lines.swap(one, other),
            Self::Duplicate { line, to } => lines.insert(to, original[line].clone()),
            Self::Move { line, to } => {
                let moved = lines.remove(line);
                lines.insert(to.min(EVENTS - 1), moved);
            }
            Self::Truncate { lines: left } => lines.truncate(left),
            Self::CutLast { bytes } => {
                let last = lines.last_mut().expect("there are some");
                last.truncate(last.len().saturating_sub(bytes));
            }
            Self::Splice { from } => lines[from..].clone_from_slice(&other[from..]),
            Self::SpliceOne { line } => lines[line].clone_from(&other[line]),
            Self::Rechain { line } => {
                reword(&mut lines[line], |it| it["reason"] = "harmless".into());
                rechain(&mut lines, line + 1);
            }
            Self::DropAndRechain { line, count } => {
                lines.drain(line..(line + count).min(EVENTS));
                rechain(&mut lines, line);
            }
            Self::Insert { line } => {
                lines.insert(line, other[line].clone());
                rechain(&mut lines, line);
            }
            Self::Purge { line } => {
                lines[line] = lines::purged(line as u64 + 1, Node::leaf(&original[line]));
            }
        }
        lines
    }
}

fn reword(line: &mut Vec<u8>, change: impl FnOnce(&mut Value)) {
    let mut value: Value = serde_json::from_slice(line).expect("JSON");
    change(&mut value);
    *line = value.to_string().into_bytes();
}

/// Numbers and links made right from this line on, as whoever knows the format would.
fn rechain(lines: &mut [Vec<u8>], from: usize) {
    for at in from..lines.len() {
        let prev = match at {
            0 => Node::from([0; 32]),
            _ => Node::leaf(&lines[at - 1]),
        };
        reword(&mut lines[at], |it| {
            it["seq"] = (at as u64 + 1).into();
            it["prev"] = json!(prev);
        });
    }
}

#[test]
fn what_was_recorded_is_verified() {
    let (sample, _) = sample();
    for with_links in [true, false] {
        let verified = checked(&sample.lines, sample, with_links).expect("nothing is wrong");
        assert_eq!(
            (verified.events, verified.signed),
            (EVENTS as u64, EVENTS as u64)
        );
        assert_eq!(verified.checkpoints, SIGNED.len());
    }
}

#[test]
fn what_was_removed_by_retention_is_verified_by_its_hashes() {
    let (sample, _) = sample();
    let mut lines = sample.lines.clone();
    // What retention says is in the record, like everything else.
    let purge = json!({"event": "record_purged", "what": "events", "first": 11, "last": 30});
    reword(&mut lines[100], |it| {
        let members = purge.as_object().expect("an object").clone();
        it.as_object_mut().expect("an object").extend(members);
    });
    rechain(&mut lines, 101);
    let mut tree = Tree::default();
    lines.iter().for_each(|it| tree.push(Node::leaf(it)));
    let name = "log".parse().expect("a name");
    let signed = Sample {
        lines: lines.clone(),
        checkpoints: vec![Checkpoint::of(&tree, &name)],
    };
    // Nobody knows any more who removed what is before.
    for (seq, line) in (1..=30).zip(&mut lines) {
        *line = lines::purged(seq, Node::leaf(line));
    }
    let verified = checked(&lines, &signed, false).expect("nothing is wrong");
    assert_eq!(verified.purged, [(1, 30)]);
    lines[30] = lines::purged(31, Node::leaf(&lines[30]));
    let finding = checked(&lines, &signed, true).expect_err("one too many");
    assert_eq!(
        (finding.first_bad, finding.problem),
        (31, Problem::Withheld)
    );
}

#[test]
fn a_checkpoint_from_elsewhere_tells_of_another_history() {
    let (one, other) = sample();
    // Whoever has the key signs another history, and leaves its checkpoints beside it.
    let mut promises = promises(&other.checkpoints);
    promises.push(Promise {
        checkpoint: one.checkpoints[1].clone(),
        elsewhere: true,
    });
    let mut checker = Checker::new(promises, None);
    let finding = other.lines.iter().find_map(|it| checker.push(it).err());
    let finding = finding.expect("it is another one");
    assert_eq!((finding.first_bad, finding.up_to), (1, Some(40)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// The promise: 1,000 random mutations, all found, and the first bad event named.
    #[test]
    fn every_mutation_is_found_and_the_first_bad_event_named(mutation in mutation()) {
        let (sample, other) = sample();
        let mutated = mutation.apply(&sample.lines, &other.lines);
        let Some(expected) = first_bad(&sample.lines, &mutated) else {
            return Ok(());
        };
        let finding = checked(&mutated, sample, true);
        let finding = finding.expect_err("it was found");
        prop_assert_eq!((finding.first_bad, finding.up_to), (expected, None), "{}", finding);

        // Without the links it may be one of a few; never another one.
        let finding = checked(&mutated, sample, false).expect_err("it was found");
        let named = finding.first_bad..=finding.up_to.unwrap_or(finding.first_bad);
        prop_assert!(named.contains(&expected), "{} is not {}", finding, expected);
    }

    /// One event altered, and nothing else: the chain and the next checkpoint tell which.
    #[test]
    fn one_altered_event_is_named_without_the_links(line in 0..EVENTS, at: usize, bit in 0u8..8) {
        let (sample, other) = sample();
        let mutated = Mutation::Edit { line, at, bit }.apply(&sample.lines, &other.lines);
        let finding = checked(&mutated, sample, false).expect_err("it was found");
        if line + 1 < EVENTS {
            prop_assert_eq!((finding.first_bad, finding.up_to), (line as u64 + 1, None), "{}", finding);
        }
    }
}

fn start(record: &Record, dir: &Path, signer: Signer) -> anyhow::Result<Checkpoints> {
    Checkpoints::start(record, dir, signer, record::Checkpoints::default())
}

fn signer(dir: &Path) -> Signer {
    let file = dir.join("key");
    if !file.exists() {
        return keys::make(&file).expect("a key");
    }
    let text = fs::read_to_string(file).expect("there");
    text.trim().parse().expect("a key")
}

/// Opens a record, retrying while the last writer's thread still holds the lock.
fn open(dir: &Path) -> Record {
    for _ in 0..500 {
        match Record::open(&dir.join("record")) {
            Ok(record) => return record,
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
    Record::open(&dir.join("record")).expect("opens")
}

async fn append(record: &Record, count: usize) {
    for number in 0..count {
        let event = event(&number.to_string());
        record.append_unsynced(event).await.expect("recorded");
    }
}

/// All that an auditor does with a copy of the state directory.
fn verified(dir: &Path) -> Result<Verified, anyhow::Error> {
    let source = Source::Store(dir.to_owned());
    let key = signer(dir).verifier().clone();
    let found = evidence::checkpoints(&source.checkpoints(), &key)?;
    let promises: Vec<_> = found.promises(false).collect();
    let links = evidence::vouched_links(&source.links().expect("a store has some"), &promises)?;
    assert!(links.is_some(), "the links are vouched for");
    let mut checker = Checker::new(promises, links);
    let mut lines = source.lines();
    for _ in 0..500 {
        if lines.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        lines = source.lines();
    }
    for line in lines? {
        checker.push(&line?)?;
    }
    Ok(checker.finish()?)
}

#[tokio::test]
async fn the_daemon_signs_what_is_synced_and_goes_on_after_a_restart() {
    let dir = TempDir::new().expect("a directory");
    let first = {
        let record = open(dir.path());
        let checkpoints = start(&record, dir.path(), signer(dir.path())).expect("starts");
        append(&record, 30).await;
        let note = checkpoints.now().await.expect("signed");
        assert_eq!(
            checkpoints.now().await.expect("signed"),
            note,
            "nothing is new"
        );
        append(&record, 7).await;
        record.settled().await;
        Checkpoint::open(&note, checkpoints.key()).expect("a checkpoint")
    };
    assert_eq!(first.size, 30);
    let record = open(dir.path());
    let checkpoints = start(&record, dir.path(), signer(dir.path())).expect("starts");
    let note = checkpoints.now().await.expect("signed");
    let second = Checkpoint::open(&note, checkpoints.key()).expect("a checkpoint");
    assert_eq!(second.size, 37);
    let lines = record.lines(0, usize::MAX).expect("read");
    let mut tree = Tree::default();
    lines.iter().for_each(|it| tree.push(Node::leaf(it)));
    assert_eq!(tree.root(), second.root);
    drop((checkpoints, record));
    let verified = verified(dir.path()).expect("nothing is wrong");
    assert_eq!(
        (verified.events, verified.signed, verified.checkpoints),
        (37, 37, 2)
    );
}

#[tokio::test]
async fn a_tree_that_was_not_kept_is_made_again() {
    let dir = TempDir::new().expect("a directory");
    let record = open(dir.path());
    let checkpoints = start(&record, dir.path(), signer(dir.path())).expect("starts");
    append(&record, 9).await;
    checkpoints.now().await.expect("signed");
    drop((checkpoints, record));
    let ledger = dir.path().join(ledger::DIRECTORY);
    fs::write(ledger.join("tree.json"), "{").expect("written");
    // A daemon that was killed while it wrote.
    let notes = ledger.join(ledger::CHECKPOINTS);
    let mut text = fs::read(&notes).expect("there");
    text.extend_from_slice(b"host/holdpoint/x\n12\nAAA");
    fs::write(&notes, text).expect("written");
    let record = open(dir.path());
    let checkpoints = start(&record, dir.path(), signer(dir.path())).expect("starts");
    append(&record, 1).await;
    checkpoints.now().await.expect("signed");
    drop((checkpoints, record));
    let verified = verified(dir.path()).expect("nothing is wrong");
    assert_eq!((verified.signed, verified.checkpoints), (10, 2));
}

#[tokio::test]
async fn an_older_copy_of_the_record_is_refused() {
    let dir = TempDir::new().expect("a directory");
    let record = open(dir.path());
    let checkpoints = start(&record, dir.path(), signer(dir.path())).expect("starts");
    append(&record, 9).await;
    checkpoints.now().await.expect("signed");
    drop((checkpoints, record));
    // The record alone is another one now.
    drop(open(dir.path()));
    fs::remove_dir_all(dir.path().join("record")).expect("removed");
    let record = open(dir.path());
    append(&record, 4).await;
    record.settled().await;
    let refused = start(&record, dir.path(), signer(dir.path()))
        .err()
        .expect("refused");
    assert!(
        refused.to_string().contains("not the one that was signed"),
        "{refused}"
    );
}

#[tokio::test]
async fn checkpoints_elsewhere_are_compared_at_the_start() {
    let dir = TempDir::new().expect("a directory");
    let settings = record::Checkpoints {
        copy_to: Some(dir.path().join("elsewhere")),
        ..record::Checkpoints::default()
    };
    let start = |record: &Record| {
        Checkpoints::start(record, dir.path(), signer(dir.path()), settings.clone())
    };
    let record = open(dir.path());
    let checkpoints = start(&record).expect("starts");
    append(&record, 5).await;
    let note = checkpoints.now().await.expect("signed");
    assert_eq!(
        fs::read_to_string(dir.path().join("elsewhere")).expect("there"),
        note
    );
    drop((checkpoints, record));
    // Record and checkpoints are both taken away.
    drop(open(dir.path()));
    fs::remove_dir_all(dir.path().join("record")).expect("removed");
    fs::remove_dir_all(dir.path().join(ledger::DIRECTORY)).expect("removed");
    let record = open(dir.path());
    append(&record, 4).await;
    record.settled().await;
    let refused = start(&record).err().expect("refused");
    assert!(
        refused
            .to_string()
            .contains("elsewhere has a checkpoint of 5 events"),
        "{refused}"
    );
}

#[test]
fn proofs_hold_with_the_key_alone() {
    let (sample, other) = sample();
    let signer = Signer::new("log".parse().expect("a name"), [7; 32].into());
    let signed = |size: usize, lines: &[Vec<u8>]| {
        let mut tree = Tree::default();
        lines[..size]
            .iter()
            .for_each(|it| tree.push(Node::leaf(it)));
        let checkpoint = Checkpoint::of(&tree, signer.verifier().name());
        let note = checkpoint.signed(&signer);
        (checkpoint, note)
    };
    let lines = || -> lines::Lines { Box::new(sample.lines.iter().cloned().map(Ok)) };
    let bundle =
        Bundle::of_event(33, None, signed(90, &sample.lines), lines()).expect("it is there");
    let proved = bundle.verify(signer.verifier()).expect("it holds");
    assert!(matches!(
        proved,
        Proved::Inclusion {
            seq: 33,
            of: 90,
            ..
        }
    ));
    let Bundle::Inclusion { event, .. } = &bundle else {
        panic!("{bundle:?}");
    };
    assert_eq!(event.as_bytes(), sample.lines[32]);
    let text = serde_json::to_string(&bundle).expect("JSON");
    let forged: Bundle = serde_json::from_str(&text.replace("one 32", "one 31")).expect("JSON");
    assert!(forged.verify(signer.verifier()).is_err());
    assert!(Bundle::of_event(91, None, signed(90, &sample.lines), lines()).is_err());

    let (old, new) = (signed(40, &sample.lines), signed(EVENTS, &sample.lines));
    let bundle = Bundle::of_growth(old, new.clone(), lines()).expect("it grew");
    let proved = bundle.verify(signer.verifier()).expect("it holds");
    assert_eq!(
        proved,
        Proved::Consistency {
            old: 40,
            new: EVENTS as u64
        }
    );
    let elsewhere = signed(40, &other.lines);
    assert!(Bundle::of_growth(elsewhere, new, lines()).is_err());
    let stranger = Signer::new("log".parse().expect("a name"), [8; 32].into());
    assert!(bundle.verify(stranger.verifier()).is_err());
}

#[test]
fn the_exact_request_is_proved_with_its_hold() {
    let request = r#"{"salt":"00","request":{"body":"DELETE prod-db"}}"#;
    let kept = holdpoint_core::digest::Digest::of(&[request.as_bytes()]);
    let hold = json!({"seq": 1, "prev": Node::from([0; 32]), "event": "hold", "kept": kept});
    let signer = Signer::new("log".parse().expect("a name"), [7; 32].into());
    let prove = |request: &str| {
        let line = hold.to_string().into_bytes();
        let mut tree = Tree::default();
        tree.push(Node::leaf(&line));
        let checkpoint = Checkpoint::of(&tree, signer.verifier().name());
        let note = checkpoint.signed(&signer);
        let lines: lines::Lines = Box::new(std::iter::once(Ok(line)));
        let bundle = Bundle::of_event(1, Some(request.into()), (checkpoint, note), lines);
        bundle.expect("it is there").verify(signer.verifier())
    };
    assert!(prove(request).is_ok());
    assert!(prove(&request.replace("prod", "test")).is_err());
}

fn copy_dir(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status();
    assert!(copied.expect("cp is there").success());
}

#[tokio::test]
async fn a_store_that_was_changed_on_disk_is_found() {
    let dir = TempDir::new().expect("a directory");
    let settings = crate::record::Settings {
        segment_events: 40,
        journal_bytes: 4096,
        ..crate::record::Settings::default()
    };
    let record = Record::open_with(&dir.path().join("record"), settings).expect("opens");
    let checkpoints = start(&record, dir.path(), signer(dir.path())).expect("starts");
    for _ in 0..12 {
        append(&record, 10).await;
        record.settled().await;
    }
    checkpoints.now().await.expect("signed");
    drop((checkpoints, record));
    // The writer and the archiver let go of it.
    drop(open(dir.path()));
    let good = verified(dir.path()).expect("nothing is wrong");
    assert_eq!((good.events, good.signed), (120, 120));

    let mut changed = 0;
    for entry in fs::read_dir(dir.path().join("record")).expect("there") {
        let name = entry
            .expect("there")
            .file_name()
            .into_string()
            .expect("plain");
        let is_evidence = name.len() == 20 || name.ends_with(".journal");
        if !is_evidence {
            continue;
        }
        let copy = TempDir::new().expect("a directory");
        let copied = copy.path().join("state");
        copy_dir(dir.path(), &copied);
        let victim = copied.join("record").join(&name);
        if victim.is_dir() {
            fs::remove_dir_all(&victim).expect("removed");
        } else {
            let mut bytes = fs::read(&victim).expect("there");
            let Some(middle) = bytes.len().checked_div(2).filter(|it| *it > 0) else {
                continue;
            };
            bytes[middle] ^= 1;
            fs::write(&victim, bytes).expect("written");
        }
        assert!(verified(&copied).is_err(), "{name}");
        changed += 1;
    }
    assert!(changed >= 3, "{changed}");
}
