use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use holdpoint_core::{
    approval::State,
    grant::Scope,
    identity::Principal,
    operation::{Action, Operation},
    policy::{Hold, HoldRule, PolicyRef, Terms},
};
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

mod reading;

use super::{client::Client, *};
use crate::{
    approvals::{ApprovalView, HoldAsk, RequestView, Settings, Ticket, Verdict},
    audit::{self, keeper::Checkpoints},
    config::{Config, record},
    record::{Event, OperationId},
    refusals::{Refused, RefusedBy},
    session::{Session, SessionId, User},
};

struct Bench {
    state: ControlState,
    client: Client,
    socket: PathBuf,
    _dir: TempDir,
}

fn own_uid() -> u32 {
    nix::unistd::Uid::current().as_raw()
}

fn own_name() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::current());
    user.expect("readable").expect("has a name").name
}

async fn bench(reviewer: &str, agents: AgentsCgroup) -> Bench {
    let dir = TempDir::new().expect("a directory");
    let record = Record::open(&dir.path().join("record")).expect("opens");
    let dba = Reviewers {
        users: vec![reviewer.to_owned()],
        ..Reviewers::default()
    };
    let settings = Settings {
        dir: dir.path().join("held"),
        break_glass: Some("dba".into()),
        owner_claims: Vec::new(),
        longest_grant: Duration::from_secs(3600),
        keeps_questions: true,
        notifier: crate::notifications::Notifier::default(),
    };
    let approvals = Approvals::open(record.clone(), settings).await;
    let (approvals, sessions) = (approvals.expect("opens"), Arc::<Sessions>::default());
    let checkpoints = checkpoints(&record, dir.path());
    let retention = Retention::new(record.clone(), record::Retention::default(), None);
    let state = ControlState {
        shipping: None,
        retention: Arc::new(retention),
        checkpoints,
        approvals: approvals.clone(),
        record,
        sessions: sessions.clone(),
        refusals: Arc::default(),
        reviewers: BTreeMap::from([("dba".to_owned(), dba)]),
        logins: Arc::new(Logins::new(&configuration()).expect("no issuers")),
        token_end: Arc::new(|sha256| format!(":{}]", hex::encode(&sha256[..8]))),
        agents_cgroup: PathBuf::new(),
        status: Arc::new(|| json!({"ready": true})),
        metrics: Scrape {
            sessions,
            approvals,
            kernel_refusals: Arc::new(|| vec![("udp", 3)]),
        },
    };
    let socket = dir.path().join("control.sock");
    tokio::spawn(listen(&socket, state.clone(), agents).expect("listens"));
    Bench {
        client: Client::new(socket.clone()),
        state,
        socket,
        _dir: dir,
    }
}

fn checkpoints(record: &Record, dir: &Path) -> Checkpoints {
    let signer = audit::keys::make(&dir.join("key")).expect("a key");
    Checkpoints::start(record, dir, signer, record::Checkpoints::default()).expect("starts")
}

fn configuration() -> Config {
    let text = "issuer = []\n[google.credential]\nfrom = \"metadata\"\n";
    toml::from_str(text).expect("valid")
}

fn nobody() -> AgentsCgroup {
    let mounts = "34 33 0:29 / /c rw - cgroup2 cgroup2 rw\n";
    AgentsCgroup::from_mounts(mounts, Path::new("/c/no-such-cgroup")).expect("below the root")
}

fn session(uid: u32) -> Arc<Session> {
    Arc::new(Session {
        id: SessionId::random(),
        principal: Principal {
            issuer: "https://issuer".into(),
            subject: "repo:a/b".into(),
            groups: BTreeSet::new(),
            claims: BTreeMap::new(),
        },
        user: User {
            uid,
            gid: uid,
            name: "agent".into(),
        },
        command: vec!["gcloud".into(), "sql".into()],
        opened_at: Timestamp::now(),
        cgroup_id: 1,
        standing: crate::service::Standing::Token,
    })
}

impl Bench {
    async fn hold(&self, session: &Arc<Session>) -> Ticket {
        let mut operation = Operation::on_host(Action::NET_CONNECT, "example.com", Some(443));
        operation.path = "/x".into();
        operation.query = vec![("upload_id".into(), "hush".into())];
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer hush".parse().expect("a value"));
        headers.insert("user-agent", "gcloud".parse().expect("a value"));
        let mut ask = Self::ask(session, &operation);
        ask.request = RequestView::new(
            &crate::masking::Shown::plainly(),
            &operation,
            &headers,
            b"{\"a\":1}",
        );
        self.state.approvals.hold(ask).await.expect("held")
    }

    fn ask(session: &Arc<Session>, operation: &Operation) -> HoldAsk {
        let rule = HoldRule {
            policy: PolicyRef {
                id: "deletes".into(),
                file: "deletes.cedar".into(),
                line: 3,
                sha256: None,
            },
            group: "dba".into(),
            min_approvals: 1,
            hold_for: Duration::from_secs(600),
            reason: Some("deletes are for people".into()),
            grantable: BTreeSet::from([Scope::Resource]),
        };
        HoldAsk {
            session: Arc::clone(session),
            operation: OperationId::random(),
            request: RequestView::new(
                &crate::masking::Shown::plainly(),
                operation,
                &HeaderMap::new(),
                b"",
            ),
            digest: operation.digest,
            project: None,
            hold: Hold {
                rules: vec![rule],
                terms: Terms::default(),
            },
        }
    }

    async fn open(&self, session: &Arc<Session>) {
        self.state.sessions.insert(Arc::clone(session));
        let opened = Event::SessionOpened {
            session: session.id.clone(),
            principal: (&session.principal).into(),
            user: session.user.clone(),
            command: session.command.iter().collect(),
            cgroup_id: session.cgroup_id,
            service: None,
            within: None,
            binaries: Vec::new(),
        };
        self.state.record.append(opened).await.expect("recorded");
    }

    async fn answer(
        &self,
        ticket: &Ticket,
        verb: &str,
        body: Value,
    ) -> anyhow::Result<ApprovalView> {
        let path = format!("/v1/approvals/{}/{verb}", ticket.id());
        self.client.post(&path, &body).await
    }

    /// Status line and body of whatever is sent.
    async fn raw(&self, request: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.expect("connects");
        stream.write_all(request).await.expect("sent");
        let mut answer = Vec::new();
        // A refused body may end in a reset, after the answer.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

#[tokio::test]
async fn who_waits_for_news_learns_them_at_once() {
    let bench = bench(&own_name(), nobody()).await;
    let list: ApprovalList = bench.client.read("/v1/approvals").await.expect("a list");
    let news = format!("/v1/approvals?wait=20&since={}", list.revision);
    let (session, started) = (session(own_uid() + 1), std::time::Instant::now());
    let opened = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        bench.hold(&session).await
    };
    let (newer, _ticket) = tokio::join!(bench.client.read::<ApprovalList>(&news), opened);
    let newer = newer.expect("a list");
    assert_eq!(newer.approvals.len(), 1);
    assert!(newer.revision > list.revision);
    assert!((Duration::from_millis(150)..Duration::from_secs(10)).contains(&started.elapsed()));
    // A revision of another daemon's is not waited for.
    let strange = bench
        .client
        .read::<ApprovalList>("/v1/approvals?wait=20&since=1");
    assert_eq!(strange.await.expect("a list").revision, newer.revision);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_reviewer_reads_and_approves() {
    let bench = bench(&own_name(), nobody()).await;
    let session = session(own_uid() + 1);
    bench.open(&session).await;
    let mut ticket = bench.hold(&session).await;
    let list: ApprovalList = bench
        .client
        .read("/v1/approvals?state=pending")
        .await
        .expect("a list");
    assert_eq!(list.approvals.len(), 1);
    let detail: Value = bench
        .client
        .read(&format!("/v1/approvals/{}", ticket.id()))
        .await
        .expect("one");
    assert_eq!(detail["state"], "pending");
    assert_eq!(detail["body"]["text"], "{\"a\":1}");
    assert_eq!(detail["policies"][0]["line"], 3);
    assert_eq!(
        detail["headers"],
        json!([
            ["authorization", "[masked:secret-field]"],
            ["user-agent", "gcloud"]
        ])
    );
    assert!(!detail.to_string().contains("hush"));
    let view = bench.answer(&ticket, "approve", json!({"comment": "fine"}));
    let view = view.await.expect("approved");
    assert_eq!((view.state, view.decisions.len()), (State::Used, 1));
    assert_eq!(view.decisions[0].comment.as_deref(), Some("fine"));
    assert_eq!(view.decisions[0].reviewer, own_name());
    assert!(view.decided_at_ms.is_some());
    assert!(matches!(ticket.verdict().await, Verdict::Approved(_)));
    let again = bench.answer(&ticket, "deny", json!({})).await;
    assert!(
        again
            .expect_err("over")
            .to_string()
            .contains("used already")
    );
    let detail: SessionDetail = bench
        .client
        .read(&format!("/v1/sessions/{}", session.id))
        .await
        .expect("a session");
    assert!(detail.session.live);
    let kinds: Vec<_> = detail.events.iter().map(|it| &it.event).collect();
    assert!(matches!(
        kinds.as_slice(),
        [
            Event::SessionOpened { .. },
            Event::Hold { .. },
            Event::ApprovalDecided { .. },
            Event::ApprovalUsed { .. }
        ]
    ));
}

#[tokio::test]
async fn nobody_answers_for_himself_or_without_being_a_reviewer() {
    let other = bench("somebody-else", nobody()).await;
    let bench = bench(&own_name(), nobody()).await;
    let own = bench.hold(&session(own_uid())).await;
    let error = bench.answer(&own, "approve", json!({})).await;
    assert!(error.expect_err("own").to_string().contains("your own"));
    let foreign = other.hold(&session(own_uid() + 1)).await;
    let error = other.answer(&foreign, "approve", json!({})).await;
    assert!(
        error
            .expect_err("foreign")
            .to_string()
            .contains("reviewers of dba")
    );
}

#[tokio::test]
async fn a_process_in_a_session_is_refused_and_recorded() {
    let bench = bench(&own_name(), AgentsCgroup::everything()).await;
    let ticket = bench.hold(&session(own_uid() + 1)).await;
    for request in ["GET /v1/status", "POST /v1/approvals/x/approve"] {
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = bench.raw(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.contains("inside_a_session"), "{answer}");
    }
    let error = bench.answer(&ticket, "approve", json!({})).await;
    assert!(
        error
            .expect_err("inside")
            .to_string()
            .contains("outside of the session")
    );
    let stopped = Event::DaemonStopped {
        reason: "test".into(),
    };
    let seq = bench.state.record.append(stopped).await.expect("recorded");
    assert_eq!(seq, 1 + 3 + 1, "the hold, three refusals, this");
    let shown = bench
        .state
        .approvals
        .show(ticket.id())
        .await
        .expect("there");
    assert_eq!(shown.approval.state, State::Pending);
}

#[tokio::test]
async fn bad_requests_get_json_errors() {
    let bench = bench(&own_name(), nobody()).await;
    let ticket = bench.hold(&session(own_uid() + 1)).await;
    let read = |path: &str| {
        let client = bench.client.clone();
        let path = path.to_owned();
        async move {
            client
                .read::<Value>(&path)
                .await
                .expect_err("an error")
                .to_string()
        }
    };
    assert!(
        read("/v1/approvals?state=open")
            .await
            .contains("pending, approved")
    );
    assert!(read("/v1/approvals?nonsense=1").await.contains("nonsense"));
    assert!(
        read("/v1/approvals/ap-none")
            .await
            .contains("approvals list")
    );
    assert!(read("/v1/sessions/s-none").await.contains("sessions list"));
    assert!(read("/v2").await.contains("nothing at /v2"));
    let wrong = bench
        .answer(&ticket, "approve", json!({"coment": "x"}))
        .await;
    assert!(
        wrong
            .expect_err("unknown field")
            .to_string()
            .contains("coment")
    );
    let huge = bench
        .answer(&ticket, "approve", json!({"comment": "x".repeat(70_000)}))
        .await;
    assert!(huge.is_err());
    let shown = bench
        .state
        .approvals
        .show(ticket.id())
        .await
        .expect("there");
    assert_eq!(shown.approval.state, State::Pending);
    assert!(
        bench
            .raw(b"\x16\x03\x01\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 400")
    );
}

#[tokio::test]
async fn refusals_are_for_those_who_see_the_session() {
    for (who, visible) in [("no-such-user", false), (own_name().as_str(), true)] {
        let bench = bench(who, nobody()).await;
        let refused = Refused {
            session: Some(SessionId::random()),
            by: RefusedBy::Kernel,
            process: None,
            destination: Some("192.0.2.1:9".into()),
            reason: "udp".into(),
        };
        bench.state.refusals.note(refused, Some(1));
        let status: Value = bench.client.read("/v1/status").await.expect("a status");
        let shown = !status["refused"].as_array().expect("a list").is_empty();
        // Root sees everything.
        assert_eq!(shown, visible || nix::unistd::geteuid().is_root());
    }
}

#[tokio::test]
async fn one_user_cannot_take_every_connection() {
    let bench = bench(&own_name(), nobody()).await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_OF_A_USER {
        idle.push(UnixStream::connect(&bench.socket).await.expect("connects"));
    }
    // Accepted in order, so that the next one comes when all places are taken.
    assert!(bench.client.read::<Value>("/v1/status").await.is_err());
    drop(idle);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let status: Value = bench.client.read("/v1/status").await.expect("a place");
    assert_eq!(status["ready"], true);
}

#[tokio::test]
async fn a_set_is_answered_one_by_one_and_so_are_failures() {
    let bench = bench(&own_name(), nobody()).await;
    let foreign = session(own_uid() + 1);
    let (mut first, own) = (
        bench.hold(&foreign).await,
        bench.hold(&session(own_uid())).await,
    );
    let ids = [
        first.id().as_str(),
        own.id().as_str(),
        "ap-nothing",
        first.id().as_str(),
    ];
    let body = json!({"ids": ids, "verdict": "approve", "comment": "all of it"});
    let set: SetAnswers = bench
        .client
        .post("/v1/approvals/answer", &body)
        .await
        .expect("answered");
    let codes: Vec<_> = set
        .answers
        .iter()
        .map(|it| it.error.as_ref().map(|error| error.code.as_str()))
        .collect();
    assert_eq!(codes, [None, Some("own_operation"), Some("not_found")]);
    let view = set.answers[0].approval.as_ref().expect("approved");
    assert_eq!(view.state, State::Used);
    assert_eq!(view.decisions[0].comment.as_deref(), Some("all of it"));
    assert!(matches!(first.verdict().await, Verdict::Approved(_)));
}

#[tokio::test]
async fn broken_glass_is_shown_as_that() {
    let bench = bench(&own_name(), nobody()).await;
    let foreign = session(own_uid() + 1);
    bench.open(&foreign).await;
    let ticket = bench.hold(&foreign).await;
    let silent = bench.answer(&ticket, "approve", json!({"break_glass": true}));
    assert!(
        silent
            .await
            .expect_err("no reason")
            .to_string()
            .contains("say why")
    );
    let loud = json!({"break_glass": true, "comment": "the site is down"});
    let view = bench
        .answer(&ticket, "approve", loud)
        .await
        .expect("approved");
    assert!(view.break_glass && view.decisions[0].break_glass);
    bench.state.record.settled().await;
    let events = bench.state.record.events_of(&foreign.id, 0, 100).await;
    let broken = |it: &&crate::record::StoredEvent| matches!(it.event, Event::BreakGlass { .. });
    assert_eq!(events.expect("events").iter().filter(broken).count(), 1);
}

#[tokio::test]
async fn a_grant_is_made_listed_and_revoked() {
    let bench = bench(&own_name(), nobody()).await;
    let foreign = session(own_uid() + 1);
    let ticket = bench.hold(&foreign).await;
    let path = format!("/v1/approvals/{}/grant", ticket.id());
    let grant = |body: Value| {
        let (client, path) = (bench.client.clone(), path.clone());
        async move {
            client
                .post::<crate::approvals::GrantView>(&path, &body)
                .await
        }
    };
    let wide = grant(json!({"seconds": 60, "scope": "project"})).await;
    assert!(
        wide.expect_err("not grantable")
            .to_string()
            .contains("@grantable")
    );
    let long = grant(json!({"seconds": 3601})).await;
    assert!(
        long.expect_err("too long")
            .to_string()
            .contains("60 minutes")
    );
    let made = grant(json!({"seconds": 60, "comment": "a migration"}))
        .await
        .expect("granted");
    let list: GrantList = bench.client.read("/v1/grants").await.expect("a list");
    assert_eq!(list.grants, std::slice::from_ref(&made));
    let mut covered = bench.hold(&foreign).await;
    assert!(matches!(covered.verdict().await, Verdict::Granted(_)));
    let revoke = format!("/v1/grants/{}/revoke", made.id);
    let revoked = bench.client.post::<Value>(&revoke, &json!({})).await;
    revoked.expect("revoked");
    let again = bench.client.post::<Value>(&revoke, &json!({})).await;
    assert!(again.expect_err("over").to_string().contains("no grant"));
    let pending = bench.hold(&foreign).await;
    assert!(pending.id().as_str().starts_with("ap-"));
}

/// Prints what it takes; timing is for people to judge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_holds_are_a_short_list() {
    let bench = bench(&own_name(), nobody()).await;
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("readable");
        let pages = statm
            .split(' ')
            .nth(1)
            .and_then(|it| it.parse::<usize>().ok());
        pages.expect("a number") * 4096
    };
    let (before, started, mut tickets) = (resident(), std::time::Instant::now(), Vec::new());
    for tens in 0..10 {
        let session = session(own_uid() + 1);
        for number in 0..100 {
            let operation = Operation::on_host(
                Action::NET_CONNECT,
                "example.com",
                Some(100 * tens + number),
            );
            let mut ask = Bench::ask(&session, &operation);
            ask.request.body.text = "secret".repeat(10_000);
            tickets.push(bench.state.approvals.hold(ask).await.expect("held"));
        }
    }
    let held = started.elapsed();
    let started = std::time::Instant::now();
    let answer = bench
        .raw(b"GET /v1/approvals?state=pending HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    println!(
        "1000 holds of 60 KB in {held:?}, {} KiB more in memory; the list: {} KiB in {:?}",
        resident().saturating_sub(before) / 1024,
        answer.len() / 1024,
        started.elapsed()
    );
    assert_eq!(answer.matches("\"pending\"").count(), 1000);
    assert!(
        !answer.contains("secret") && answer.len() < 2 << 20,
        "{}",
        answer.len()
    );
}
