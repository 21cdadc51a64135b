//! Reading through the socket: streams, bodies, searches, and who may.

use super::*;
use crate::{
    control::{
        SessionList,
        client::{Events, Which},
    },
    record::{DecisionRecord, DecisionVerdict, OperationRecord, SecretSums, Way},
};

fn operation(action: &str, resource: &str) -> OperationRecord {
    let made_up = Operation::on_host(Action::NET_CONNECT, "example.com", Some(443));
    let mut operation = OperationRecord::new(OperationId::random(), &made_up);
    operation.action = action.into();
    operation.resource = resource.into();
    operation
}

fn intent(session: &SessionId, operation: OperationRecord, verdict: DecisionVerdict) -> Event {
    Event::Intent {
        session: session.clone(),
        connection: 1,
        operation,
        decision: DecisionRecord {
            verdict,
            policies: Vec::new(),
            reason: None,
            observed: false,
            in_force: None,
        },
    }
}

impl Bench {
    async fn record(&self, event: Event) -> u64 {
        self.state.record.append(event).await.expect("recorded")
    }

    /// A session with an operation and what was answered.
    async fn told(&self, action: &str, verdict: DecisionVerdict, answer: &[u8]) -> SessionId {
        let session = session(own_uid());
        self.open(&session).await;
        let operation = operation(action, "//sqladmin.googleapis.com/projects/p/instances/i");
        let id = operation.id.clone();
        self.record(intent(&session.id, operation, verdict)).await;
        let json = Some("application/json");
        let record = &self.state.record;
        let mut capture = record.capture(&session.id, &id, Way::Response, json);
        capture.push(answer);
        capture.finish();
        self.stored_body(&session.id).await;
        session.id.clone()
    }

    /// Bodies are told of once they are stored, which nobody waits for.
    async fn stored_body(&self, session: &SessionId) {
        for _ in 0..500 {
            self.state.record.settled().await;
            let events = self.state.record.events_of(session, 0, 1000).await;
            let mut events = events.expect("reads").into_iter();
            if events.any(|stored| matches!(stored.event, Event::Body { .. })) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the record is not told of the body");
    }

    async fn found(&self, query: &str) -> Vec<SessionId> {
        let path = format!("/v1/sessions?{query}");
        let list: SessionList = self.client.read(&path).await.expect("a list");
        let sessions = list.sessions.into_iter();
        sessions.map(|it| it.summary.id).collect()
    }

    fn events(&self, session: Option<&SessionId>, after: u64, follow: bool) -> Events {
        self.client.events(Which {
            session: session.map(ToString::to_string),
            after,
            follow,
        })
    }
}

#[tokio::test]
async fn the_stream_is_the_stored_bytes_in_order() {
    let bench = bench(&own_name(), nobody()).await;
    let session = session(own_uid());
    bench.open(&session).await;
    for _ in 0..450 {
        let reason = "x\u{2028}\n".into();
        let (session, connection) = (session.id.clone(), 1);
        let refused = Event::RequestRefused {
            session,
            connection,
            request: "GET /".into(),
            reason,
        };
        bench.state.record.note(refused);
    }
    bench.state.record.settled().await;
    let mut events = bench.events(Some(&session.id), 0, false);
    let mut count = 0;
    let mut before = None;
    while let Some(told) = events.next().await.expect("events") {
        assert_eq!(
            serde_json::to_vec(&told.event).expect("JSON"),
            told.raw.bytes
        );
        let link = crate::record::Link::of(&told.raw.bytes);
        assert!(before.is_none_or(|before| before == told.event.prev));
        before = Some(link);
        count += 1;
    }
    assert_eq!(count, 451);
}

#[tokio::test]
async fn who_follows_is_told_at_once() {
    let bench = bench(&own_name(), nobody()).await;
    let session = session(own_uid());
    let mut events = bench.events(None, 0, true);
    let started = std::time::Instant::now();
    let opened = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.open(&session).await;
    };
    let (told, ()) = tokio::join!(events.next(), opened);
    let told = told.expect("an answer").expect("an event");
    assert_eq!(told.event.event.session(), Some(&session.id));
    assert!((Duration::from_millis(150)..Duration::from_secs(10)).contains(&started.elapsed()));
}

#[tokio::test]
async fn a_body_is_read_by_the_event_that_tells_of_it() {
    let bench = bench(&own_name(), nobody()).await;
    let id = bench
        .told("sql.instances.get", DecisionVerdict::Allow, b"{\"a\":1}")
        .await;
    let mut events = bench.events(Some(&id), 0, false);
    let mut bodies = Vec::new();
    while let Some(told) = events.next().await.expect("events") {
        let read = bench.client.body(id.as_str(), told.raw.seq).await;
        match told.event.event {
            Event::Body { .. } => bodies.push(read.expect("an answer").expect("kept")),
            _ => assert!(read.is_err(), "{told:?} is about no body"),
        }
    }
    assert_eq!(bodies, [b"{\"a\":1}"]);
    assert!(bench.client.body("s-nosuchone0", 3).await.is_err());
}

#[tokio::test]
async fn sessions_are_found_by_what_happened_in_them() {
    use DecisionVerdict::{Allow, Deny};
    let bench = bench(&own_name(), nobody()).await;
    let secret = "hunter2-hunter2-hunter2";
    let body = format!("{{\"password\":\"{secret}\"}}");
    let read = bench
        .told("sql.instances.get", Allow, b"{\"say\":\"cheese\"}")
        .await;
    let saw = bench
        .told("sql.instances.list", Allow, body.as_bytes())
        .await;
    let denied = bench.told("sql.instances.delete", Deny, b"{}").await;

    assert_eq!(
        bench.found("action=sql.instances.get").await,
        std::slice::from_ref(&read)
    );
    assert_eq!(
        bench.found("action=*.delete&decision=deny").await,
        std::slice::from_ref(&denied)
    );
    assert!(
        bench
            .found("action=*.delete&decision=allow")
            .await
            .is_empty()
    );
    assert_eq!(
        bench.found("decision=deny").await,
        std::slice::from_ref(&denied)
    );
    assert_eq!(
        bench.found("resource=instances/i&text=cheese").await,
        [read]
    );
    assert!(bench.found("principal=repo:x/*").await.is_empty());
    assert_eq!(bench.found("principal=repo:a/b").await.len(), 3);
    assert!(
        bench.found("since=2999-01-01T00:00:00Z").await.len() == 3,
        "open sessions"
    );
    assert!(bench.found("until=2000-01-01T00:00:00Z").await.is_empty());

    let sums = SecretSums::of(secret.as_bytes()).expect("long enough");
    assert_eq!(bench.found(&format!("secret={sums}")).await, [saw]);
    // What was masked by its hash is found by what stands there.
    let masked = SecretSums::of(b"masked-by-its-hash").expect("long enough");
    let sha256 = <sha2::Sha256 as sha2::Digest>::digest(b"masked-by-its-hash");
    let token = format!("{{\"a\":\"[masked:own:{}]\"}}", hex::encode(&sha256[..8]));
    let hashed = bench
        .told("sql.instances.list", Allow, token.as_bytes())
        .await;
    assert_eq!(bench.found(&format!("secret={masked}")).await, [hashed]);
    let other = SecretSums::of(b"hunter3-hunter3").expect("long enough");
    assert!(bench.found(&format!("secret={other}")).await.is_empty());
    for bad in [
        "secret=8.1.1.zz",
        "cursor=x",
        "decision=maybe",
        "nonsense=1",
    ] {
        let path = format!("/v1/sessions?{bad}");
        assert!(
            bench.client.read::<SessionList>(&path).await.is_err(),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn pages_follow_one_another_without_a_gap() {
    let bench = bench(&own_name(), nobody()).await;
    let mut opened = Vec::new();
    for _ in 0..7 {
        let one = bench.told("sql.instances.get", DecisionVerdict::Allow, b"{}");
        opened.insert(0, one.await);
    }
    let (mut seen, mut query) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/sessions?limit=3&action=sql.*{query}");
        let list: SessionList = bench.client.read(&path).await.expect("a list");
        assert!(list.sessions.len() <= 3);
        seen.extend(list.sessions.into_iter().map(|it| it.summary.id));
        match list.next {
            Some(next) => query = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, opened);
}
