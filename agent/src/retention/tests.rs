use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::record::reading;

mod bench;

use bench::Bench;

#[tokio::test]
async fn each_class_goes_when_it_is_old_enough() {
    let bench = Bench::new().await;
    let (plain, denied) = (bench.allowed().await, bench.denied().await);
    bench.newest().await;
    let fates = async |text: &str| {
        let retention = bench.retention(text);
        let report = retention.report().await.expect("reads");
        let due = |first: u64| {
            let found = report.segments.iter().find(|it| it.first == first);
            let segment = found.expect("it is there");
            let bodies = segment.bodies.as_ref().map(|it| it.due);
            (segment.events.due, bodies)
        };
        (due(plain), due(denied))
    };
    let kept = (false, Some(false));
    assert_eq!(fates("").await, (kept, kept));
    assert_eq!(fates("metadata = '1h'").await, (kept, kept));
    let bodies = (false, Some(true));
    assert_eq!(fates("bodies = '0s'").await, (bodies, bodies));
    let both = (true, Some(true));
    assert_eq!(fates("metadata = '0s'").await, (both, both));
    let mixed = fates("bodies = '0s'\nmetadata = '0s'\ndenied = '1h'").await;
    assert_eq!(mixed, (both, bodies));
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_says_what_goes() {
    let bench = Bench::new().await;
    let first = bench.allowed().await;
    bench.newest().await;
    let before = bench.files();
    let retention = bench.retention("metadata = '0s'");
    let report = retention.report().await.expect("reads");
    assert_eq!(bench.files(), before);
    assert!(report.due.bytes > 0, "{report:?}");
    let gone = retention.run().await.expect("purges");
    assert_eq!(gone, report.due);
    assert_eq!(gone.segments, 1);
    assert_ne!(bench.files(), before);
    assert!(
        retention
            .report()
            .await
            .expect("reads")
            .segments
            .iter()
            .all(|it| it.first != first)
    );
}

#[tokio::test]
async fn nothing_goes_unless_it_is_said() {
    let bench = Bench::new().await;
    bench.denied().await;
    bench.newest().await;
    let before = bench.files();
    assert_eq!(
        bench.retention("").run().await.expect("runs"),
        Sum::default()
    );
    assert_eq!(bench.files(), before);
}

#[tokio::test]
async fn a_legal_hold_keeps_its_session_over_a_restart_until_it_is_released() {
    let mut bench = Bench::new().await;
    let other = bench.allowed().await;
    let (session, held, body) = bench.held_session().await;
    let later = bench.allowed().await;
    bench.newest().await;
    let retention = bench.retention("metadata = '0s'");
    let nobody = retention.hold(&SessionId::random(), "kim", "suit 7").await;
    assert!(matches!(nobody, Err(HoldError::NoSession)));
    retention
        .hold(&session, "kim", "suit 7")
        .await
        .expect("held");
    drop(retention);
    bench.restart().await;

    bench.newest().await;
    let retention = bench.retention("metadata = '0s'");
    let report = retention.report().await.expect("reads");
    assert_eq!(report.legal_holds[0].session, session);
    assert_eq!(report.legal_holds[0].reason.as_str(), "suit 7");
    retention.run().await.expect("purges");
    let left = bench.left();
    assert!(!left.contains(&other) && !left.contains(&later), "{left:?}");
    assert!(left.contains(&held), "{left:?}");
    let kept = bench.record().body(&body).await.expect("reads");
    assert_eq!(kept.as_deref(), Some(&b"a body"[..]));
    // What was open and what was purged in between is known after a restart, too.
    drop(retention);
    bench.restart().await;
    assert!(bench.record().session(&session).is_some());

    let retention = bench.retention("metadata = '0s'");
    retention
        .release(&session, "kim", "settled")
        .await
        .expect("released");
    let again = retention.release(&session, "kim", "settled").await;
    assert!(matches!(again, Err(HoldError::NotHeld)));
    bench.newest().await;
    retention.run().await.expect("purges");
    assert!(!bench.left().contains(&held));
    assert_eq!(bench.record().body(&body).await.expect("reads"), None);
    drop(retention);
    bench.restart().await;
    bench.assert_verifies();
}

#[tokio::test]
async fn what_is_still_in_force_stays() {
    let bench = Bench::new().await;
    let (session, first) = bench.open_session().await;
    bench.newest().await;
    let retention = bench.retention("metadata = '0s'");
    retention.run().await.expect("purges");
    assert!(bench.left().contains(&first));
    bench.close(&session).await;
    bench.newest().await;
    retention.run().await.expect("purges");
    assert!(!bench.left().contains(&first));
}

#[tokio::test]
async fn a_damaged_index_keeps_its_segment() {
    let bench = Bench::new().await;
    let first = bench.allowed().await;
    bench.newest().await;
    let index = bench.dir().join(format!("{first:020}.index"));
    let mut bytes = std::fs::read(&index).expect("reads");
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    // The daemon has it open.
    let file = std::fs::File::options().write(true).open(&index);
    std::os::unix::fs::FileExt::write_all_at(&file.expect("opens"), &bytes, 0).expect("written");
    let retention = bench.retention("metadata = '0s'");
    retention.run().await.expect("runs");
    assert!(bench.left().contains(&first));
}

/// Rounds of purging with a legal hold in the middle, so that rows of purged events lie apart and what announced them is purged as well.
#[tokio::test]
async fn every_row_of_purged_events_stays_announced() {
    let mut bench = Bench::new().await;
    bench.allowed().await;
    let (session, held, _) = bench.held_session().await;
    bench.newest().await;
    let retention = bench.retention("metadata = '0s'");
    retention
        .hold(&session, "kim", "suit 7")
        .await
        .expect("held");
    drop(retention);
    for _ in 0..5 {
        for _ in 0..2 {
            bench.allowed().await;
        }
        bench.newest().await;
        bench
            .retention("metadata = '0s'")
            .run()
            .await
            .expect("purges");
        bench.restart().await;
        bench.assert_verifies();
    }
    assert!(bench.left().contains(&held));
    let first = reading::places(bench.dir()).expect("reads").next();
    assert!(matches!(first, Some(Ok(reading::Place::Purged(1, _)))));
}

#[tokio::test]
async fn what_a_killed_daemon_left_of_a_purge_is_swept_away() {
    let mut bench = Bench::new().await;
    let (one, two) = (bench.allowed().await, bench.allowed().await);
    bench.newest().await;
    // As if it had been killed when the hashes were written, and in the middle of removing bodies.
    let copies = [
        format!("{one:020}"),
        format!("{one:020}.index"),
        format!("{one:020}.bodies"),
    ];
    let aside = TempDir::new().expect("a directory");
    copies
        .iter()
        .for_each(|it| copy(&bench.dir().join(it), &aside.path().join(it)));
    bench.record().purge(one, "too old").await.expect("purged");
    copies
        .iter()
        .for_each(|it| copy(&aside.path().join(it), &bench.dir().join(it)));
    let bodies = bench.dir().join(format!("{two:020}.bodies"));
    std::fs::rename(&bodies, bodies.with_extension("bodies.purged")).expect("renamed");
    bench.restart().await;
    bench.assert_verifies();
    bench.retention("").run().await.expect("sweeps");
    let files = bench.files();
    for name in copies {
        assert!(
            !files
                .iter()
                .any(|(file, _)| file.starts_with(&name) && !file.contains("links")),
            "{name}: {files:?}"
        );
    }
    assert!(
        !files.iter().any(|(file, _)| file.contains("purged")),
        "{files:?}"
    );
    bench.restart().await;
    bench.assert_verifies();
}

fn copy(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status();
    assert!(done.expect("cp is there").success());
}
