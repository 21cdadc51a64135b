use std::time::Duration;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::{
    record::{Event, OperationId, Record, Settings},
    session::SessionId,
};

struct Bench {
    dir: TempDir,
    record: Record,
    session: SessionId,
}

async fn bench() -> Bench {
    let dir = TempDir::new().expect("a directory");
    let settings = Settings {
        body_bytes: 200_000,
        ..Settings::default()
    };
    let record = Record::open_with(dir.path(), settings).expect("opens");
    let session = SessionId::random();
    let opened = crate::record::tests::opened(&session);
    record.append(opened).await.expect("recorded");
    Bench {
        dir,
        record,
        session,
    }
}

impl Bench {
    fn capture(&self) -> Capture {
        let operation = OperationId::random();
        let kind = Some("text/plain");
        self.record
            .capture(&self.session, &operation, Way::Response, kind)
    }

    /// What the record was told, once it has been told of so many.
    async fn told(&self, count: usize) -> Vec<BodyRecord> {
        for _ in 0..500 {
            self.record.settled().await;
            let events = self.record.events_of(&self.session, 0, 1000).await;
            let bodies = events.expect("reads").into_iter();
            let bodies: Vec<_> = bodies
                .filter_map(|stored| match stored.event {
                    Event::Body { body, .. } => Some(body),
                    _ => None,
                })
                .collect();
            if bodies.len() >= count {
                return bodies;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the record is not told of bodies");
    }
}

#[tokio::test]
async fn a_body_comes_back_with_its_digest_and_its_pieces() {
    let bench = bench().await;
    let mut capture = bench.capture();
    capture.push(b"hello ");
    capture.push(b"world");
    capture.finish();
    let told = bench.told(1).await;
    let body = &told[0];
    assert_eq!((body.bytes, body.complete, body.cut), (11, true, false));
    let pieces: Vec<_> = body.chunks.iter().map(|chunk| chunk.bytes).collect();
    assert_eq!(pieces, [6, 5]);
    let id = body.kept.as_ref().expect("stored");
    let kept = bench.record.kept_body(id).await.expect("reads");
    let kept = kept.expect("there");
    assert_eq!(kept.bytes, b"hello world");
    let whole = Sha256::new_with_prefix(kept.salt.0).chain_update(b"hello world");
    assert_eq!(body.sha256.as_bytes()[..], whole.finalize()[..]);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_told_of() {
    let bench = bench().await;
    let mut capture = bench.capture();
    capture.push(b"hel");
    drop(capture);
    assert!(!bench.told(1).await[0].complete);
}

/// Bytes that cannot be compressed.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).expect("random bytes");
    bytes
}

impl Bench {
    async fn stored(&self, content: &[u8]) -> BodyRecord {
        let before = self.told(0).await.len();
        let mut capture = self.capture();
        content.chunks(1000).for_each(|piece| capture.push(piece));
        capture.finish();
        self.told(before + 1).await.remove(before)
    }

    async fn read(&self, body: &BodyRecord) -> Option<Vec<u8>> {
        let id = body.kept.as_ref().expect("stored");
        self.record.body(id).await.expect("reads")
    }
}

#[tokio::test]
async fn a_long_body_is_cut_and_its_digest_is_of_all_of_it() {
    let bench = bench().await;
    let content = noise(300_000);
    let body = bench.stored(&content).await;
    assert_eq!((body.bytes, body.cut), (300_000, true));
    assert_eq!(body.chunks.len(), 256);
    let sum: u32 = body.chunks.iter().map(|chunk| chunk.bytes).sum();
    assert_eq!(sum, 300_000);
    let kept = bench.record.kept_body(body.kept.as_ref().expect("stored"));
    let kept = kept.await.expect("reads").expect("there");
    assert_eq!(kept.bytes, content[..200_000]);
    let whole = Sha256::new_with_prefix(kept.salt.0).chain_update(&content);
    assert_eq!(body.sha256.as_bytes()[..], whole.finalize()[..]);
}

#[tokio::test]
async fn equal_bodies_are_stored_once_under_different_digests() {
    let bench = bench().await;
    let content = noise(50_000);
    let bodies = crate::record::layout::bodies(bench.dir.path(), 1);
    let first = bench.stored(&content).await;
    let size = std::fs::metadata(bodies.join("db")).expect("a file").len();
    for _ in 0..100 {
        let again = bench.stored(&content).await;
        assert_ne!(again.sha256, first.sha256);
        assert_eq!(bench.read(&again).await.as_ref(), Some(&content));
    }
    let after = std::fs::metadata(bodies.join("db")).expect("a file").len();
    assert!(after < size + 100 * 25_000, "{size} {after}");
}

#[tokio::test]
async fn purged_bodies_are_gone_and_the_others_are_not() {
    let bench = bench().await;
    let one = bench.stored(b"one").await;
    bench.record.complete_segment().await.expect("complete");
    let two = bench.stored(b"two").await;
    for _ in 0..500 {
        match bench.record.purge_bodies(1, "too old").await {
            Ok(()) => break,
            // The archiver is on it.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    assert_eq!(bench.read(&one).await, None);
    assert_eq!(bench.read(&two).await.as_deref(), Some(&b"two"[..]));
    assert_eq!(bench.record.segments()[0].body_bytes, None);
}

#[tokio::test]
async fn bodies_that_cannot_be_stored_are_told_of_and_stop_nothing_unless_required() {
    for bodies_required in [false, true] {
        let dir = TempDir::new().expect("a directory");
        let settings = Settings {
            bodies_required,
            ..Settings::default()
        };
        let record = Record::open_with(dir.path(), settings).expect("opens");
        let session = SessionId::random();
        let opened = crate::record::tests::opened(&session);
        record.append(opened).await.expect("recorded");
        let bench = Bench {
            dir,
            record,
            session,
        };
        let path = crate::record::layout::bodies(bench.dir.path(), 1);
        std::fs::write(&path, "in the way").expect("written");
        assert_eq!(bench.stored(b"one").await.kept, None);
        let intent = || crate::record::tests::denied(&bench.session);
        let appended = bench.record.append(intent()).await;
        assert_eq!(appended.is_err(), bodies_required, "{appended:?}");
        std::fs::remove_file(&path).expect("removed");
        let mut recovered = false;
        for _ in 0..500 {
            recovered = bench.record.append(intent()).await.is_ok();
            if recovered {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(recovered, "it goes on");
        assert!(bench.stored(b"two").await.kept.is_some());
    }
}

proptest! {
    #[test]
    fn names_of_bodies_survive_text(segment: u64, name: [u8; 12]) {
        let id = BodyId { segment, name };
        let json = serde_json::to_string(&id).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<BodyId>(&json).expect("a name"), id);
    }

    #[test]
    fn what_is_no_name_is_refused(text in ".{0,40}") {
        if let Ok(id) = text.parse::<BodyId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
