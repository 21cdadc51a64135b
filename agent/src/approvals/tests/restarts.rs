//! A daemon ends at any moment, and the next one goes on where it was.

use std::{collections::BTreeMap, future::Future};

use holdpoint_core::approval::known_as;
use proptest::prelude::*;

use super::*;

impl Bench {
    /// As after `kill -9`: nothing is told to anybody.
    pub(super) async fn restart(self) -> Self {
        let Self {
            session,
            dir,
            approvals,
            record,
        } = self;
        drop((approvals, record));
        let (record, approvals) = open(&dir).await;
        Self {
            approvals,
            record,
            session,
            dir,
        }
    }

    async fn short(&self, what: &str) -> Ticket {
        let mut ask = ask(&self.session, what);
        ask.hold.rules[0].hold_for = Duration::from_millis(700);
        self.approvals.hold(ask).await.expect("held")
    }

    async fn state(&self, id: &ApprovalId) -> State {
        let detail = self.approvals.show(id).await.expect("known");
        detail.approval.state
    }
}

#[tokio::test]
async fn what_waited_can_still_be_seen_and_answered() {
    let bench = bench().await;
    let mut ticket = bench.hold("db").await;
    let before = bench.approvals.show(ticket.id()).await.expect("known");
    let bench = bench.restart().await;
    assert!(matches!(ticket.verdict().await, Verdict::Interrupted));
    let mut after = bench.approvals.show(ticket.id()).await.expect("known");
    assert_eq!(after.approval.waiting, 0);
    after.approval.waiting = before.approval.waiting;
    assert_eq!(after, before);
    bench
        .say(ticket.id(), Answer::Approve)
        .await
        .expect("approved");
    let mut again = bench.hold("db").await;
    assert_eq!(again.id(), ticket.id());
    assert!(matches!(again.verdict().await, Verdict::Approved(_)));
}

#[tokio::test]
async fn what_was_approved_is_used_exactly_once() {
    let mut bench = bench().await;
    let id = bench.hold("db").await.id().clone();
    bench.say(&id, Answer::Approve).await.expect("approved");
    bench = bench.restart().await;
    assert_eq!(bench.state(&id).await, State::Approved);
    let mut again = bench.hold("db").await;
    assert!(matches!(again.verdict().await, Verdict::Approved(_)));
    bench = bench.restart().await;
    assert!(bench.approvals.show(&id).await.is_none());
    assert_ne!(bench.hold("db").await.id(), &id);
}

#[tokio::test]
async fn one_of_two_approvals_is_not_forgotten_and_not_counted_twice() {
    let bench = bench().await;
    let mut ask = ask(&bench.session, "db");
    ask.hold.rules[0].min_approvals = 2;
    let id = bench.approvals.hold(ask).await.expect("held").id().clone();
    let ann = |uid| Reviewer {
        names: known_as(["Ann@example.com"]),
        ..reviewer(uid, "dba")
    };
    let answered = bench
        .approvals
        .answer(&id, opinion(ann(5), Answer::Approve));
    assert_eq!(answered.await.expect("counts").state, State::Pending);
    let bench = bench.restart().await;
    let again = bench
        .approvals
        .answer(&id, opinion(ann(6), Answer::Approve));
    assert!(matches!(
        again.await,
        Err(AnswerError::Refused(Refused::AlreadyApproved))
    ));
    let answered = bench.say(&id, Answer::Approve).await;
    assert_eq!(answered.expect("counts").state, State::Approved);
}

/// Time goes on while no daemon runs: what ran out meanwhile is over, and recorded so, once the next one has started.
#[tokio::test]
async fn what_runs_out_while_no_daemon_runs_is_over_when_the_next_one_starts() {
    let bench = bench().await;
    let pending = bench.short("a").await.id().clone();
    let approved = bench.short("b").await.id().clone();
    bench.say(&approved, Answer::Approve).await.expect("counts");
    let Bench {
        session,
        dir,
        approvals,
        record,
    } = bench;
    drop((approvals, record));
    time::sleep(Duration::from_millis(1500)).await;
    let (record, approvals) = open(&dir).await;
    let bench = Bench {
        approvals,
        record,
        session,
        dir,
    };
    let late = bench.say(&pending, Answer::Approve).await;
    assert!(
        matches!(
            late,
            Err(AnswerError::Refused(Refused::Over(State::Expired)))
        ),
        "{late:?}"
    );
    assert_ne!(bench.short("b").await.id(), &approved, "it lapsed");
    for _ in 0..500 {
        bench.record.settled().await;
        let recorded = bench.record.stored(None, 0, 100).await.expect("reads");
        let ended = recorded
            .iter()
            .filter(|it| match it.read().expect("ours").event {
                Event::ApprovalExpired { approval, .. } => approval == pending,
                Event::ApprovalLapsed { approval, .. } => approval == approved,
                _ => false,
            });
        if ended.count() == 2 {
            return;
        }
        time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is not on record that both are over");
}

#[tokio::test]
async fn what_is_over_stays_over() {
    let mut bench = bench().await;
    let (denied, broken) = (bench.hold("a").await, bench.hold("b").await);
    bench.say(denied.id(), Answer::Deny).await.expect("denied");
    let glass = Opinion {
        break_glass: true,
        ..opinion(reviewer(9, "oncall"), Answer::Approve)
    };
    drop(
        bench
            .approvals
            .answer(broken.id(), glass)
            .await
            .expect("approved"),
    );
    bench = bench.restart().await;
    let late = bench.say(denied.id(), Answer::Approve).await;
    assert!(matches!(late, Err(AnswerError::Unknown)));
    assert_ne!(bench.hold("a").await.id(), denied.id());
    assert!(
        !bench
            .dir
            .path()
            .join("held")
            .join(denied.id().as_str())
            .exists()
    );
}

#[tokio::test]
async fn what_was_tampered_with_or_lost_is_void() {
    let bench = bench().await;
    let (altered, lost) = (bench.hold("a").await, bench.hold("b").await);
    bench.say(lost.id(), Answer::Approve).await.ok();
    let file = |id: &ApprovalId| bench.dir.path().join("held").join(id.as_str());
    let mut text = std::fs::read_to_string(file(altered.id())).expect("readable");
    text = text.replace("\"min_approvals\":1", "\"min_approvals\":0");
    std::fs::write(file(altered.id()), text).expect("written");
    let waiting = bench.hold("c").await;
    std::fs::remove_file(file(waiting.id())).expect("removed");
    let bench = bench.restart().await;
    let list = bench.approvals.list().await;
    assert!(list.iter().all(|view| view.id != *altered.id()));
    assert!(list.iter().all(|view| view.id != *waiting.id()));
    assert_ne!(bench.hold("a").await.id(), altered.id());
    // And it is on record that they are.
    assert_eq!(bench.record.standing().await.expect("read").len(), 1);
}

#[tokio::test]
async fn the_owner_goes_by_the_name_in_the_token() {
    let bench = bench().await;
    let mut session = (*bench.session).clone();
    session.principal.claims = BTreeMap::from([("email".into(), "Ann@Example.com".into())]);
    let ticket = bench.approvals.hold(ask(&Arc::new(session), "db")).await;
    let id = ticket.expect("held").id().clone();
    let own = Reviewer {
        names: known_as(["ann@example.com"]),
        ..reviewer(7, "dba")
    };
    let refused = bench
        .approvals
        .answer(&id, opinion(own.clone(), Answer::Approve));
    assert!(matches!(
        refused.await,
        Err(AnswerError::Refused(Refused::OwnOperation))
    ));
    let bench = bench.restart().await;
    let refused = bench.approvals.answer(&id, opinion(own, Answer::Approve));
    assert!(matches!(
        refused.await,
        Err(AnswerError::Refused(Refused::OwnOperation))
    ));
}

#[derive(Clone, Debug)]
enum Step {
    Send(usize),
    GiveUp,
    Approve { uid: u32, what: usize },
    Deny(usize),
    Late,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..2_usize).prop_map(Step::Send),
        2 => Just(Step::GiveUp),
        6 => (5..8_u32, 0..2_usize).prop_map(|(uid, what)| Step::Approve { uid, what }),
        1 => (0..2_usize).prop_map(Step::Deny),
        1 => Just(Step::Late),
        2 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..24)
}

/// Everything that people said and that ran, of one approval.
#[derive(Debug, Default)]
struct Account {
    approvers: BTreeSet<u32>,
    ran: u32,
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Re-sends, disconnects, answers, time-outs and restarts in any order: nothing runs twice for one approval, and
    /// nothing without two people.
    #[test]
    fn nothing_runs_twice_or_unapproved(steps in steps()) {
        block_on(async move {
            let mut bench = bench().await;
            let (mut waiting, mut accounts) = (Vec::new(), BTreeMap::<ApprovalId, Account>::new());
            let mut latest = [None, None];
            for step in steps {
                match step {
                    Step::Send(what) => {
                        let mut ask = ask(&bench.session, ["a", "b"][what]);
                        ask.hold.rules[0].min_approvals = 2;
                        let ticket = bench.approvals.hold(ask).await.expect("held");
                        latest[what] = Some(ticket.id().clone());
                        waiting.push(ticket);
                    }
                    Step::GiveUp => drop(waiting.pop()),
                    Step::Approve { uid, what } => if let Some(id) = &latest[what] {
                        let said = opinion(reviewer(uid, "dba"), Answer::Approve);
                        if bench.approvals.answer(id, said).await.is_ok() {
                            accounts.entry(id.clone()).or_default().approvers.insert(uid);
                        }
                    },
                    Step::Deny(what) => if let Some(id) = &latest[what]
                        && bench.say(id, Answer::Deny).await.is_ok()
                    {
                        accounts.remove(id);
                    },
                    Step::Late => {
                        time::pause();
                        time::advance(Duration::from_secs(601)).await;
                        time::resume();
                    }
                    Step::Restart => bench = bench.restart().await,
                }
                for ticket in &mut waiting {
                    let told = time::timeout(Duration::ZERO, ticket.verdict()).await;
                    if let Ok(Verdict::Approved(spent)) = told {
                        let account = accounts.get_mut(spent.approval()).expect("was approved");
                        account.ran += 1;
                        assert_eq!(account.ran, 1, "ran twice");
                        assert!(account.approvers.len() >= 2, "ran unapproved");
                    }
                }
            }
        });
    }
}
