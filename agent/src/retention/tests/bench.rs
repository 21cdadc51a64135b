//! A record with segments to purge.

use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::{
    audit::check::Checker,
    record::{
        BodyId, DecisionVerdict, OperationId, Way,
        tests::{denied, opened},
    },
};

pub(super) struct Bench {
    record: Option<Record>,
    dir: TempDir,
}

impl Bench {
    pub(super) async fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let record = Some(Record::open(dir.path()).expect("opens"));
        Self { record, dir }
    }

    pub(super) fn record(&self) -> &Record {
        self.record.as_ref().expect("it is open")
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(super) fn retention(&self, text: &str) -> Retention {
        let settings = toml::from_str(text).expect("valid");
        Retention::new(self.record().clone(), settings, None)
    }

    async fn append(&self, event: Event) -> u64 {
        self.record().append(event).await.expect("recorded")
    }

    /// A segment with a session that was allowed something; gives its first event.
    pub(super) async fn allowed(&self) -> u64 {
        self.segment(DecisionVerdict::Allow).await.1
    }

    pub(super) async fn denied(&self) -> u64 {
        self.segment(DecisionVerdict::Deny).await.1
    }

    /// A session in a segment of its own, which is not held yet, with a body.
    pub(super) async fn held_session(&self) -> (SessionId, u64, BodyId) {
        self.segment(DecisionVerdict::Allow).await
    }

    async fn segment(&self, is: DecisionVerdict) -> (SessionId, u64, BodyId) {
        let (session, first) = self.open(is).await;
        let body = self.body(&session).await;
        self.close(&session).await;
        self.complete().await;
        (session, first, body)
    }

    /// A segment with a session that stays open.
    pub(super) async fn open_session(&self) -> (SessionId, u64) {
        let opened = self.open(DecisionVerdict::Allow).await;
        self.complete().await;
        opened
    }

    async fn open(&self, is: DecisionVerdict) -> (SessionId, u64) {
        // Segments are named by their first events.
        self.complete().await;
        let session = SessionId::random();
        let first = self.append(opened(&session)).await;
        let Event::Intent {
            session: id,
            connection,
            operation,
            mut decision,
        } = denied(&session)
        else {
            panic!("an intent");
        };
        decision.verdict = is;
        self.append(Event::Intent {
            session: id,
            connection,
            operation,
            decision,
        })
        .await;
        (session, first)
    }

    pub(super) async fn close(&self, session: &SessionId) {
        let (session, reason) = (session.clone(), "over".into());
        self.append(Event::SessionClosed { session, reason }).await;
    }

    async fn body(&self, session: &SessionId) -> BodyId {
        let operation = OperationId::random();
        let mut capture = self
            .record()
            .capture(session, &operation, Way::Request, None);
        capture.push(b"a body");
        capture.finish();
        for _ in 0..500 {
            self.record().settled().await;
            let events = self.record().last_events_of(session, 1).await;
            if let Event::Body { body, .. } = &events.expect("reads")[0].event {
                return body.kept.clone().expect("it was stored");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no body was recorded");
    }

    /// Another segment, so that those before can go.
    pub(super) async fn newest(&self) {
        self.append(Event::DaemonStopped {
            reason: "test".into(),
        })
        .await;
        self.complete().await;
    }

    async fn complete(&self) {
        self.record().complete_segment().await.expect("complete");
        for _ in 0..500 {
            if self
                .record()
                .segments()
                .iter()
                .all(|it| it.is_archived || it.span.is_none())
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the archiver does not come to it");
    }

    /// The first events of the segments that are there.
    pub(super) fn left(&self) -> Vec<u64> {
        let all = self.record().segments().into_iter();
        all.filter(|it| it.span.is_some())
            .map(|it| it.first)
            .collect()
    }

    /// Names and sizes.
    pub(super) fn files(&self) -> Vec<(String, u64)> {
        let mut files = Vec::new();
        let mut dirs = vec![self.dir().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).expect("reads") {
                let path = entry.expect("reads").path();
                let name = path.strip_prefix(self.dir()).expect("in it");
                let size = path.metadata().expect("reads").size();
                files.push((name.to_string_lossy().into_owned(), size));
                dirs.extend(path.is_dir().then_some(path));
            }
        }
        files.sort();
        files
    }

    /// As the daemon does it; nothing else has the record open.
    pub(super) async fn restart(&mut self) {
        drop(self.record.take());
        for _ in 0..500 {
            if let Ok(record) = Record::open(self.dir()) {
                self.record = Some(record);
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Record::open(self.dir()).map(drop).expect("opens");
        panic!("it opens");
    }

    /// As an auditor does it who has nothing but the events.
    pub(super) fn assert_verifies(&self) {
        let lines = self.record().lines(0, usize::MAX).expect("reads");
        let mut checker = Checker::new(Vec::new(), None);
        for line in &lines {
            checker.push(line).expect("as it was");
        }
        let verified = checker.finish().expect("as it was");
        assert_eq!(verified.events, lines.len() as u64);
        assert!(!verified.purged.is_empty());
    }
}
