use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use holdpoint_core::{
    approval::{Channel, State},
    identity::Principal,
    operation::{Action, Operation},
    policy::{HoldRule, PolicyRef, Terms},
};
use http::HeaderMap;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::time;

mod grants;
mod races;
mod restarts;

use super::*;
use crate::{notifications::Notifier, record::Event, session::User};

const OWNER: u32 = 1000;

struct Bench {
    approvals: Approvals,
    record: Record,
    session: Arc<Session>,
    dir: TempDir,
}

async fn bench() -> Bench {
    let dir = TempDir::new().expect("a directory");
    let (record, approvals) = open(&dir).await;
    Bench {
        approvals,
        record,
        session: session(OWNER, "repo:a/b"),
        dir,
    }
}

/// What a daemon begins with; the one before may not have closed the record yet.
async fn open(dir: &TempDir) -> (Record, Approvals) {
    for _ in 0..500 {
        if let Ok(record) = Record::open(&dir.path().join("record")) {
            let approvals = Approvals::open(record.clone(), settings(dir)).await;
            return (record, approvals.expect("taken over"));
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the record stays closed");
}

fn settings(dir: &TempDir) -> Settings {
    Settings {
        dir: dir.path().join("held"),
        break_glass: Some("oncall".into()),
        owner_claims: vec!["email".into()],
        longest_grant: Duration::from_secs(3600),
        keeps_questions: true,
        notifier: Notifier::default(),
    }
}

fn session(uid: u32, subject: &str) -> Arc<Session> {
    Arc::new(Session {
        id: SessionId::random(),
        principal: Principal {
            issuer: "https://issuer".into(),
            subject: subject.into(),
            groups: BTreeSet::new(),
            claims: BTreeMap::new(),
        },
        user: User {
            uid,
            gid: uid,
            name: format!("user{uid}"),
        },
        command: vec!["gcloud".into()],
        opened_at: Timestamp::now(),
        cgroup_id: 1,
        standing: crate::service::Standing::Token,
    })
}

fn ask(session: &Arc<Session>, what: &str) -> HoldAsk {
    let operation = Operation::on_host(Action::NET_CONNECT, what, None);
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
        reason: None,
        grantable: BTreeSet::from([Scope::Resource]),
    };
    HoldAsk {
        session: Arc::clone(session),
        operation: OperationId::random(),
        request: RequestView::new(
            &crate::masking::Shown::plainly(),
            &operation,
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

fn reviewer(uid: u32, group: &str) -> Reviewer {
    Reviewer {
        uid: Some(uid),
        name: format!("user{uid}"),
        groups: BTreeSet::from([group.to_owned()]),
        names: BTreeSet::new(),
    }
}

fn opinion(reviewer: Reviewer, answer: Answer) -> Opinion {
    Opinion {
        reviewer,
        answer,
        comment: Some("because".to_owned()),
        break_glass: false,
        channel: Channel::Host,
        after: None,
    }
}

impl Bench {
    async fn hold(&self, what: &str) -> Ticket {
        let ask = ask(&self.session, what);
        self.approvals.hold(ask).await.expect("held")
    }

    async fn say(&self, id: &ApprovalId, answer: Answer) -> Result<ApprovalView, AnswerError> {
        let opinion = opinion(reviewer(7, "dba"), answer);
        self.approvals.answer(id, opinion).await
    }

    async fn uses(&self) -> usize {
        let id = &self.session.id;
        let events = self.record.events_of(id, 0, usize::MAX).await;
        let events = events.expect("events");
        let used =
            |event: &&crate::record::StoredEvent| matches!(event.event, Event::ApprovalUsed { .. });
        events.iter().filter(used).count()
    }

    /// The index only knows sessions that were opened.
    async fn open_session(&self) {
        let opened = Event::SessionOpened {
            session: self.session.id.clone(),
            principal: (&self.session.principal).into(),
            user: self.session.user.clone(),
            command: self.session.command.iter().collect(),
            cgroup_id: 1,
            service: None,
            within: None,
            binaries: Vec::new(),
        };
        self.record.append(opened).await.expect("recorded");
    }
}

#[tokio::test]
async fn an_approval_lets_one_operation_through_and_the_next_is_held_anew() {
    let bench = bench().await;
    let mut ticket = bench.hold("db").await;
    let id = ticket.id().clone();
    let view = bench.say(&id, Answer::Approve).await.expect("approved");
    assert_eq!(view.state, State::Used);
    assert_eq!(view.decisions.len(), 1);
    let Verdict::Approved(spent) = ticket.verdict().await else {
        panic!("not approved");
    };
    assert_eq!(spent.approval(), &id);
    assert!(matches!(ticket.verdict().await, Verdict::Interrupted));
    assert_ne!(bench.hold("db").await.id(), &id);
    let error = bench.say(&id, Answer::Deny).await.expect_err("over");
    assert!(matches!(
        error,
        AnswerError::Refused(Refused::Over(State::Used))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_eight_resends_at_once_exactly_one_runs() {
    let bench = Arc::new(bench().await);
    bench.open_session().await;
    let resend = || {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move { bench.hold("db").await.verdict().await })
    };
    let waiting: Vec<_> = (0..8).map(|_| resend()).collect();
    let id = loop {
        let list = bench.approvals.list().await;
        match list.as_slice() {
            [one] if one.waiting == 8 => break one.id.clone(),
            [] | [_] => time::sleep(Duration::from_millis(2)).await,
            more => panic!("{} holds for one operation", more.len()),
        }
    };
    bench.say(&id, Answer::Approve).await.expect("approved");
    let (mut ran, mut gone) = (0, 0);
    for waiter in waiting {
        match waiter.await.expect("no panic") {
            Verdict::Approved(_) => ran += 1,
            Verdict::UsedByResend => gone += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((ran, gone), (1, 7));
    assert_eq!(bench.uses().await, 1);
}

#[tokio::test]
async fn resends_that_race_the_approval_never_run_twice() {
    for _ in 0..20 {
        let bench = Arc::new(bench().await);
        let first = bench.hold("db").await;
        let id = first.id().clone();
        let mut waiting: Vec<_> = (0..7)
            .map(|_| {
                let bench = Arc::clone(&bench);
                tokio::spawn(async move {
                    let mut ticket = bench.hold("db").await;
                    let same = time::timeout(Duration::from_millis(60), ticket.verdict()).await;
                    matches!(same, Ok(Verdict::Approved(_)))
                })
            })
            .collect();
        let mut first = first;
        waiting.push(tokio::spawn(async move {
            matches!(first.verdict().await, Verdict::Approved(_))
        }));
        bench.say(&id, Answer::Approve).await.expect("approved");
        let mut ran = 0;
        for waiter in waiting {
            ran += u32::from(waiter.await.expect("no panic"));
        }
        assert_eq!(ran, 1);
    }
}

#[tokio::test]
async fn the_newest_connection_gets_the_approval() {
    let bench = bench().await;
    let mut first = bench.hold("db").await;
    let mut second = bench.hold("db").await;
    let given_up = bench.hold("db").await;
    assert_eq!(first.id(), second.id());
    let id = first.id().clone();
    drop(given_up);
    bench.say(&id, Answer::Approve).await.expect("approved");
    assert!(matches!(second.verdict().await, Verdict::Approved(_)));
    assert!(matches!(first.verdict().await, Verdict::UsedByResend));
}

#[tokio::test]
async fn an_approval_waits_for_a_resend_when_nobody_is_connected() {
    let bench = bench().await;
    bench.open_session().await;
    let id = bench.hold("db").await.id().clone();
    let view = bench.say(&id, Answer::Approve).await.expect("approved");
    assert_eq!(view.state, State::Approved);
    assert_eq!(bench.uses().await, 0);
    let mut resend = bench.hold("db").await;
    assert_eq!(resend.id(), &id);
    assert!(matches!(resend.verdict().await, Verdict::Approved(_)));
    assert_eq!(bench.uses().await, 1);
}

#[tokio::test]
async fn a_cancelled_wait_loses_nothing() {
    let bench = bench().await;
    let mut ticket = bench.hold("db").await;
    let id = ticket.id().clone();
    let cancelled = time::timeout(Duration::from_millis(1), ticket.verdict()).await;
    assert!(cancelled.is_err());
    bench.say(&id, Answer::Approve).await.expect("approved");
    assert!(matches!(ticket.verdict().await, Verdict::Approved(_)));
}

#[tokio::test]
async fn one_denial_ends_it_and_says_why() {
    let bench = bench().await;
    let mut ticket = bench.hold("db").await;
    let id = ticket.id().clone();
    bench.say(&id, Answer::Deny).await.expect("denied");
    let Verdict::Denied { by, comment } = ticket.verdict().await else {
        panic!("not denied");
    };
    assert_eq!(
        (by.as_str(), comment.as_deref()),
        ("user7", Some("because"))
    );
}

#[tokio::test]
async fn only_others_and_only_reviewers_answer() {
    let bench = bench().await;
    let id = bench.hold("db").await.id().clone();
    let own = reviewer(OWNER, "dba");
    let error = bench.approvals.answer(&id, opinion(own, Answer::Approve));
    assert!(matches!(
        error.await,
        Err(AnswerError::Refused(Refused::OwnOperation))
    ));
    let stranger = reviewer(8, "net");
    let error = bench
        .approvals
        .answer(&id, opinion(stranger, Answer::Approve));
    assert!(matches!(
        error.await,
        Err(AnswerError::Refused(Refused::NotAReviewer(_)))
    ));
    let unknown = ApprovalId::named("ap-nothing");
    let error = bench.say(&unknown, Answer::Approve).await;
    assert!(matches!(error, Err(AnswerError::Unknown)));
}

#[tokio::test]
async fn only_the_very_same_question_is_joined() {
    let bench = bench().await;
    let first = bench.hold("db").await;
    let other_user = ask(&session(OWNER + 1, "repo:a/b"), "db");
    let other_principal = ask(&session(OWNER, "repo:c/d"), "db");
    let other_content = ask(&bench.session, "db2");
    let mut other_rules = ask(&bench.session, "db");
    other_rules.hold.rules[0].min_approvals = 2;
    for ask in [other_user, other_principal, other_content, other_rules] {
        let ticket = bench.approvals.hold(ask).await.expect("held");
        assert_ne!(ticket.id(), first.id());
    }
    let same_from_another_session = ask(&session(OWNER, "repo:a/b"), "db");
    let joined = bench.approvals.hold(same_from_another_session).await;
    assert_eq!(joined.expect("held").id(), first.id());
}

#[tokio::test]
async fn it_expires() {
    let bench = bench().await;
    let mut ticket = bench.hold("db").await;
    time::pause();
    let before = time::Instant::now();
    assert!(matches!(ticket.verdict().await, Verdict::Expired));
    let waited = before.elapsed().as_secs();
    assert!((599..=601).contains(&waited), "{waited}");
    let late = bench.say(ticket.id(), Answer::Approve).await;
    assert!(matches!(
        late,
        Err(AnswerError::Refused(Refused::Over(State::Expired)))
    ));
}

#[tokio::test]
async fn an_approval_lapses_when_nobody_comes() {
    let bench = bench().await;
    let id = bench.hold("db").await.id().clone();
    bench.say(&id, Answer::Approve).await.expect("approved");
    time::pause();
    time::advance(Duration::from_secs(601)).await;
    time::resume();
    let later = bench.hold("db").await;
    assert_ne!(later.id(), &id);
    let state = bench
        .approvals
        .show(&id)
        .await
        .expect("kept")
        .approval
        .state;
    assert_eq!(state, State::Lapsed);
}

#[tokio::test]
async fn who_waits_when_the_daemon_ends_is_told_and_the_question_stays() {
    let bench = bench().await;
    let mut waiting = bench.hold("db").await;
    bench.approvals.interrupt().await;
    assert!(matches!(waiting.verdict().await, Verdict::Interrupted));
    assert_eq!(bench.hold("db").await.id(), waiting.id());
}

#[tokio::test]
async fn the_number_of_holds_is_bounded() {
    let bench = bench().await;
    for at in 0..desk::MOST_HOLDS_OF_A_SESSION {
        bench.hold(&format!("db{at}")).await;
    }
    let refused = bench.approvals.hold(ask(&bench.session, "more")).await;
    assert!(matches!(refused, Err(HoldError::TooMany(_))));
    let other = bench.approvals.hold(ask(&session(2, "x"), "db")).await;
    assert!(other.is_ok());
    bench.hold("db1").await;
}

#[tokio::test]
async fn nobody_to_ask_is_an_error() {
    let bench = bench().await;
    let mut ask = ask(&bench.session, "db");
    ask.hold.rules.clear();
    assert!(matches!(
        bench.approvals.hold(ask).await,
        Err(HoldError::NoRules)
    ));
}
