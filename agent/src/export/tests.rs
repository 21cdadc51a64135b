use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use holdpoint_core::{
    approval::Answer,
    digest::Digest,
    operation::{Action, Operation},
};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use super::{
    source::{Kept, Source},
    story::BodyStory,
    *,
};
use crate::{
    approvals::ApprovalId,
    control::client::{Events, Told},
    record::{
        BodyRecord, Chunk, DecisionRecord, DecisionVerdict, Event, Link, OperationId,
        OperationRecord, OutcomeResult, Pairs, PolicyRecord, PrincipalRecord, StatementAnswer,
        Text, VERSION, VoteRecord, Way,
    },
    session::{SessionId, User},
};

/// What somebody writes who wants to be more than text.
const HOSTILE: &str =
    "</script><script>alert(1)</script><!-- \u{1b}[2J\n\"`|\\ \u{202e} =cmd|' /C calc'!A0";

/// A session that a test makes up.
struct Script {
    events: Events,
    bodies: HashMap<u64, Kept>,
    session: Arc<SessionSummary>,
}

impl Source for Script {
    async fn next(&mut self) -> anyhow::Result<Option<Told>> {
        self.events.next().await
    }

    async fn kept(&mut self, _: &str, body: Option<&BodyStory>) -> anyhow::Result<Kept> {
        let kept = body.and_then(|body| self.bodies.get(&body.seq));
        Ok(kept.cloned().unwrap_or_default())
    }

    async fn session(&mut self, _: &SessionId) -> anyhow::Result<Arc<SessionSummary>> {
        Ok(Arc::clone(&self.session))
    }
}

fn user() -> User {
    User {
        uid: 1000,
        gid: 1000,
        name: "ci".into(),
    }
}

fn body(way: Way, kind: &str, bytes: usize) -> BodyRecord {
    BodyRecord {
        way,
        content_type: Some(kind.into()),
        bytes: bytes as u64,
        sha256: Digest::of(&[]),
        kept: None,
        cut: false,
        complete: true,
        chunks: vec![Chunk {
            after_ms: 5,
            bytes: u32::try_from(bytes).expect("short"),
        }],
    }
}

/// A held, approved and answered operation in which everything that an agent or an upstream chooses is `words`.
fn events(words: &str) -> Vec<Event> {
    let session = SessionId::from_cgroup("s-0123456789");
    let approval = ApprovalId::named("ap-0123456789");
    let mut operation = Operation::on_host(Action::NET_CONNECT, "example.com", None);
    operation.query = vec![("alt".into(), words.to_owned())];
    let mut operation = OperationRecord::new(OperationId::random(), &operation);
    operation.action = words.into();
    operation.resource = words.into();
    operation.method = "POST".into();
    operation.path = format!("/x/{words}").as_str().into();
    let id = operation.id.clone();
    let vote = VoteRecord {
        reviewer: words.into(),
        uid: Some(7),
        groups: BTreeSet::from(["dba".to_owned()]),
        names: BTreeSet::new(),
        verdict: Answer::Approve,
        comment: Some(words.into()),
        at: None,
        channel: holdpoint_core::approval::Channel::Host,
    };
    let decision = DecisionRecord {
        verdict: DecisionVerdict::Hold,
        policies: vec![PolicyRecord {
            id: words.into(),
            file: "x.cedar".into(),
            line: 1,
            sha256: None,
        }],
        reason: Some(words.into()),
        observed: false,
        in_force: None,
    };
    let of = || (session.clone(), id.clone());
    let told = |way, kind| {
        let (session, operation) = of();
        let body = body(way, kind, words.len());
        Event::Body {
            session,
            operation,
            body,
        }
    };
    vec![
        Event::SessionOpened {
            session: session.clone(),
            principal: PrincipalRecord {
                issuer: "https://issuer".into(),
                subject: words.into(),
                groups: [words].into_iter().collect(),
                claims: Pairs::default(),
            },
            user: user(),
            command: [words].into_iter().collect(),
            cgroup_id: 1,
            service: None,
            within: None,
            binaries: Vec::new(),
        },
        Event::Intent {
            session: session.clone(),
            connection: 1,
            operation,
            decision,
        },
        Event::Hold {
            session: session.clone(),
            operation: id.clone(),
            approval: approval.clone(),
            groups: BTreeSet::from(["dba".to_owned()]),
            joined: false,
            kept: None,
        },
        Event::ApprovalDecided {
            session: session.clone(),
            approval: approval.clone(),
            vote,
        },
        Event::ApprovalUsed {
            session: session.clone(),
            approval,
            operation: id.clone(),
        },
        Event::Forwarded {
            session: session.clone(),
            operation: id.clone(),
        },
        Event::Answered {
            session: session.clone(),
            operation: id.clone(),
            status: 200,
            headers: [("x-said", words)].into_iter().collect(),
            after_us: 1500,
        },
        told(Way::Request, "application/json"),
        Event::Outcome {
            session: session.clone(),
            operation: id.clone(),
            status: Some(200),
            result: OutcomeResult::Completed,
            request_bytes: 10,
            response_bytes: 20,
            statement: None,
        },
        // Recorded on its own, so perhaps later.
        told(Way::Response, words),
        Event::RequestRefused {
            session: session.clone(),
            connection: 2,
            request: words.into(),
            reason: words.into(),
        },
        Event::SessionClosed {
            session,
            reason: words.into(),
        },
    ]
}

fn stored(events: Vec<Event>) -> Vec<StoredEvent> {
    let at = |index: usize| 1_795_190_400_000 + i64::try_from(index).expect("few") * 250;
    let one = |(index, event)| StoredEvent {
        v: VERSION,
        seq: index as u64 + 1,
        time: Timestamp::from_millisecond(at(index)).expect("a time"),
        prev: Link::default(),
        event,
    };
    events.into_iter().enumerate().map(one).collect()
}

fn script(words: &str) -> Script {
    let session = SessionSummary {
        id: SessionId::from_cgroup("s-0123456789"),
        principal: format!("https://issuer#{words}"),
        user: user(),
        command: [words].into_iter().collect(),
        service: None,
        within: None,
        opened_at: Timestamp::UNIX_EPOCH,
        closed_at: None,
        close_reason: None,
        operations: 1,
        held: 1,
        denied: 0,
        observed: 0,
        refused: 0,
    };
    Script {
        events: Events::of(stored(events(words))),
        bodies: HashMap::from([
            (8, Kept::Bytes(words.as_bytes().to_vec())),
            (10, Kept::Gone("this body was purged".into())),
        ]),
        session: Arc::new(session),
    }
}

fn written(words: &str, format: Format) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let mut out = Vec::new();
    let mut script = script(words);
    let exported = export(&mut script, format, &mut out);
    let exported = runtime.expect("a runtime").block_on(exported);
    exported.expect("exported");
    out
}

fn text(words: &str, format: Format) -> String {
    String::from_utf8(written(words, format)).expect("UTF-8")
}

/// As the record keeps it: cut, where it is too long.
fn kept(words: &str) -> String {
    Text::from(words).as_str().to_owned()
}

#[test]
fn ndjson_is_the_stored_bytes() {
    let bytes: Vec<u8> = stored(events(HOSTILE))
        .iter()
        .flat_map(|event| {
            let mut line = serde_json::to_vec(event).expect("JSON");
            line.push(b'\n');
            line
        })
        .collect();
    // But for the operation's random name.
    let lines = |bytes: &[u8]| bytes.iter().filter(|it| **it == b'\n').count();
    let written = written(HOSTILE, Format::Ndjson);
    assert_eq!(
        (written.len(), lines(&written)),
        (bytes.len(), lines(&bytes))
    );
    for line in written.split(|it| *it == b'\n').filter(|it| !it.is_empty()) {
        let event: StoredEvent = serde_json::from_slice(line).expect("an event");
        assert_eq!(serde_json::to_vec(&event).expect("JSON"), line);
    }
}

#[test]
fn har_has_the_request_the_answer_and_the_wait() {
    let har: Value = serde_json::from_str(&text(HOSTILE, Format::Har)).expect("JSON");
    let entries = har["log"]["entries"].as_array().expect("entries");
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    assert_eq!(entry["request"]["postData"]["text"], HOSTILE);
    assert_eq!(entry["response"]["status"], 200);
    assert_eq!(entry["response"]["headers"][0]["value"], HOSTILE);
    assert_eq!(
        entry["response"]["content"]["comment"],
        "this body was purged"
    );
    // Events are 250 ms apart: held at the third, used at the fifth.
    assert_eq!(entry["timings"]["blocked"], 500.0);
    assert_eq!(
        entry["_holdpoint"]["hold"]["answers"][0]["reviewer"],
        HOSTILE
    );
}

#[test]
fn ocsf_is_one_event_a_line() {
    let text = text(HOSTILE, Format::Ocsf);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 1, "{text}");
    let event: Value = serde_json::from_str(lines[0]).expect("JSON");
    assert_eq!(
        (&event["class_uid"], &event["action_id"]),
        (&6003.into(), &1.into())
    );
    assert_eq!(event["type_uid"], 600_399);
    assert_eq!(event["api"]["operation"], HOSTILE);
}

/// The data of a page.
fn blocks(page: &str) -> Vec<Value> {
    let opening = "<script type=\"application/json\" class=\"told\">";
    let blocks = page.split(opening).skip(1);
    blocks
        .map(|rest| {
            let (json, _) = rest.split_once("</script>").expect("an end");
            serde_json::from_str(json).expect("JSON")
        })
        .collect()
}

fn is_inert(page: &str) -> bool {
    // The page's own script is the one that is not data.
    let count = |what: &str| page.matches(what).count();
    count("<script") == blocks(page).len() + 1
        && count("</script") == count("<script")
        && count("<!--") == 0
}

#[test]
fn a_page_shows_everything_and_runs_nothing() {
    let page = text(HOSTILE, Format::Html);
    assert!(is_inert(&page));
    let blocks = blocks(&page);
    let operation = blocks.iter().find(|it| it["verdict"] == "hold");
    let operation = operation.expect("the operation");
    assert_eq!(operation["request"]["text"], HOSTILE);
    assert_eq!(operation["response"]["gone"], "this body was purged");
    assert_eq!(operation["hold"]["answers"][0]["by"], HOSTILE);
    assert_eq!(blocks.len(), 4, "opened, operation, refused, closed");
    // What the browser is told to trust is what is there.
    let (_, rest) = page.split_once("<style>").expect("a style");
    let (style, _) = rest.split_once("</style>").expect("its end");
    let (_, script) = page.rsplit_once("<script>").expect("a script");
    let (script, _) = script.split_once("</script>").expect("its end");
    for (kind, content) in [("style", style), ("script", script)] {
        let hash = base64::Engine::encode(
            &base64::prelude::BASE64_STANDARD,
            <sha2::Sha256 as sha2::Digest>::digest(content),
        );
        assert!(
            page.contains(&format!("{kind}-src 'sha256-{hash}'")),
            "{kind}"
        );
    }
}

#[test]
fn parquet_begins_and_ends_as_it_has_to() {
    let bytes = written(HOSTILE, Format::Parquet);
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let at = bytes.len() - 8;
    let footer = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    assert!(footer > 0 && (footer as usize) < at - 4);
}

#[test]
fn what_comes_after_the_outcome_belongs_to_it_all_the_same() {
    let mut stories = Stories::default();
    for event in stored(events("x")) {
        stories.hear(&event);
        assert!(stories.next_ready().is_none());
    }
    let story = stories.next_left().expect("one");
    assert!(story.response.is_some() && story.request.is_some());
    assert_eq!(story.held_us(), Some(500_000));
    assert!(stories.next_left().is_none());
}

#[test]
fn stories_without_an_end_do_not_pile_up() {
    let mut stories = Stories::default();
    let intent = events("x").swap_remove(1);
    let mut told = 0;
    for seq in 1..=10_000 {
        let mut event = stored(vec![intent.clone()]).remove(0);
        event.seq = seq;
        stories.hear(&event);
        told += usize::from(stories.next_ready().is_some());
    }
    assert!(told >= 5000, "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_agents_write_stays_text(words in "(?s).{0,80}|[<>!\\-/a-z\"'\u{0}-\u{1f}\u{2028}]{0,80}") {
        let words = kept(&words);
        let page = text(&words, Format::Html);
        prop_assert!(is_inert(&page));
        let har: Value = serde_json::from_str(&text(&words, Format::Har)).expect("JSON");
        prop_assert_eq!(&har["log"]["entries"][0]["request"]["postData"]["text"], &words);
        let ocsf = text(&words, Format::Ocsf);
        prop_assert_eq!(ocsf.matches('\n').count(), 1);
        prop_assert!(written(&words, Format::Parquet).ends_with(b"PAR1"));
        let lines = text(&words, Format::Ndjson);
        prop_assert_eq!(lines.lines().count(), events(&words).len());
    }
}

/// The same session, with a statement and its rows in place of the request.
fn statement(format: Format, rows: &str) -> String {
    let mut script = script("x");
    let mut all = stored(events("x"));
    for stored in &mut all {
        match &mut stored.event {
            Event::Intent { operation, .. } => {
                operation.action = "postgres.select".into();
                operation.method = "".into();
                operation.path = "/entry/shop".into();
                operation.query = Pairs::default();
                operation.statement = Some("SELECT name FROM people".into());
            }
            Event::Outcome {
                status, statement, ..
            } => {
                *status = None;
                *statement = Some(StatementAnswer {
                    tag: Some("SELECT 2".into()),
                    sqlstate: Some("22012".into()),
                    rows: 2,
                });
            }
            Event::Body { body, .. } if body.way == Way::Response => {
                body.content_type = Some(crate::postgres::masking::ROWS.into());
            }
            _ => {}
        }
    }
    // What is bound is another matter.
    all.retain(|it| !matches!(&it.event, Event::Body { body, .. } if body.way == Way::Request));
    script.events = Events::of(all);
    script.bodies = HashMap::from([(10, Kept::Bytes(rows.as_bytes().to_vec()))]);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let mut out = Vec::new();
    let exported = export(&mut script, format, &mut out);
    let exported = runtime.expect("a runtime").block_on(exported);
    exported.expect("exported");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn statements_are_told_with_what_came_of_them() {
    let rows = "[\"name\"]\n[\"Ada\"]\n[null]\n";
    let har: Value = serde_json::from_str(&statement(Format::Har, rows)).expect("JSON");
    let entry = &har["log"]["entries"][0];
    assert_eq!(entry["request"]["method"], "SQL");
    assert_eq!(entry["request"]["url"], "postgresql://example.com/shop");
    assert_eq!(
        entry["request"]["postData"]["text"],
        "SELECT name FROM people"
    );
    assert_eq!(entry["response"]["content"]["text"], rows);
    assert_eq!(
        entry["response"]["statusText"],
        "SELECT 2, failed with SQLSTATE 22012, 2 rows returned"
    );
    let ocsf = statement(Format::Ocsf, rows);
    let ocsf: Value = serde_json::from_str(ocsf.lines().next().expect("a line")).expect("JSON");
    assert_eq!(ocsf["activity_name"], "Read");
    assert_eq!(
        (&ocsf["status"], &ocsf["status_code"]),
        (&"Failure".into(), &"22012".into())
    );
    assert_eq!(ocsf["unmapped"]["statement"], "SELECT name FROM people");
    let html = statement(Format::Html, rows);
    assert!(
        html.contains(r#""statement":"SELECT name FROM people""#),
        "{html}"
    );
    assert!(html.contains(r#"[\"Ada\"]"#), "{html}");
}
