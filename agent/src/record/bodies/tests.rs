use std::time::Duration;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::{
    record::{Event, OperationId, Record},
    session::SessionId,
};

struct Bench {
    _dir: TempDir,
    record: Record,
    session: SessionId,
}

async fn bench() -> Bench {
    let dir = TempDir::new().expect("a directory");
    let record = Record::open(dir.path()).expect("opens");
    let session = SessionId::random();
    let opened = crate::record::tests::opened(&session);
    record.append(opened).await.expect("recorded");
    Bench {
        _dir: dir,
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
