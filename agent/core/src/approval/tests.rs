use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::policy::{PolicyRef, Terms};

const OWNER: u32 = 0;

#[derive(Clone, Debug)]
enum Step {
    Answer {
        uid: u32,
        groups: BTreeSet<String>,
        answer: Answer,
    },
    UseUp,
    Pass,
    Withdraw,
}

/// What an approval is, told the slow way: from everything that happened so far.
#[derive(Clone, Debug)]
struct Model {
    rules: Vec<HoldRule>,
    state: State,
    /// Approvers and the groups they had when they approved.
    approvers: BTreeMap<u32, BTreeSet<String>>,
    /// When the present state ends by itself, in seconds.
    until: u64,
}

impl Model {
    fn step(&mut self, step: &Step, now: u64) -> bool {
        if now >= self.until {
            match self.state {
                State::Pending if !matches!(step, Step::Answer { .. } | Step::Withdraw) => {
                    self.state = State::Expired;
                }
                State::Approved if matches!(step, Step::UseUp | Step::Pass) => {
                    self.state = State::Lapsed;
                }
                _ => {}
            }
        }
        match (step, self.state) {
            (
                Step::Answer {
                    uid,
                    groups,
                    answer,
                },
                State::Pending,
            ) => self.answer(*uid, groups, *answer, now),
            (Step::UseUp, State::Approved) => {
                self.state = State::Used;
                true
            }
            (Step::Withdraw, State::Pending) => {
                self.state = State::Withdrawn;
                true
            }
            _ => false,
        }
    }

    fn answer(&mut self, uid: u32, groups: &BTreeSet<String>, answer: Answer, now: u64) -> bool {
        let asked = self.rules.iter().any(|rule| groups.contains(&rule.group));
        let again = answer == Answer::Approve && self.approvers.contains_key(&uid);
        if now >= self.until || uid == OWNER || !asked || again {
            return false;
        }
        if answer == Answer::Deny {
            self.state = State::Denied;
            return true;
        }
        self.approvers.insert(uid, groups.clone());
        let mut enough = true;
        for rule in &self.rules {
            let members = self
                .approvers
                .values()
                .filter(|groups| groups.contains(&rule.group));
            enough &= members.count() >= rule.min_approvals as usize;
        }
        if enough {
            self.state = State::Approved;
            self.until = now + shortest(&self.rules);
        }
        true
    }
}

fn shortest(rules: &[HoldRule]) -> u64 {
    rules
        .iter()
        .map(|rule| rule.hold_for.as_secs())
        .min()
        .expect("rules")
}

fn groups() -> impl Strategy<Value = BTreeSet<String>> {
    prop::sample::subsequence(vec!["dba", "net", "sec"], 0..=3)
        .prop_map(|names| names.into_iter().map(str::to_owned).collect())
}

fn rules() -> impl Strategy<Value = Vec<HoldRule>> {
    let rule = (
        prop::sample::select(vec!["dba", "net"]),
        1..3_u32,
        10..60_u64,
    )
        .prop_map(|(group, min, seconds)| rule(group, min, seconds));
    prop::collection::vec(rule, 1..4)
}

fn rule(group: &str, min_approvals: u32, seconds: u64) -> HoldRule {
    HoldRule {
        policy: PolicyRef {
            id: "p".into(),
            file: "p.cedar".into(),
            line: 1,
        },
        group: group.into(),
        min_approvals,
        hold_for: Duration::from_secs(seconds),
        reason: None,
    }
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let answer = prop_oneof![4 => Just(Answer::Approve), 1 => Just(Answer::Deny)];
    let step = prop_oneof![
        8 => (0..4_u32, groups(), answer)
            .prop_map(|(uid, groups, answer)| Step::Answer { uid, groups, answer }),
        3 => Just(Step::UseUp),
        2 => Just(Step::Pass),
        1 => Just(Step::Withdraw),
    ];
    prop::collection::vec((0..12_u64, step), 0..24)
}

fn hold(rules: Vec<HoldRule>) -> Hold {
    Hold {
        rules,
        terms: Terms::default(),
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn vote(uid: u32, groups: &BTreeSet<String>, answer: Answer, now: u64) -> Vote {
    Vote {
        reviewer: Reviewer {
            uid,
            name: format!("user{uid}"),
            groups: groups.clone(),
        },
        answer,
        comment: None,
        at: at(now),
    }
}

fn in_group(group: &str) -> BTreeSet<String> {
    BTreeSet::from([group.to_owned()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn it_does_what_the_model_does(rules in rules(), steps in steps()) {
        let mut approval = Approval::open(OWNER, &hold(rules.clone()), at(0)).expect("rules");
        let until = shortest(&rules);
        let mut model = Model { rules, state: State::Pending, approvers: BTreeMap::new(), until };
        let (mut now, mut uses) = (0, 0);
        for (wait, step) in steps {
            now += wait;
            let expected = model.step(&step, now);
            let before = approval.state();
            let took_effect;
            (approval, took_effect) = match &step {
                Step::Answer { uid, groups, answer } => {
                    let vote = vote(*uid, groups, *answer, now);
                    let check = approval.check(&vote.reviewer, *answer, vote.at);
                    let (next, result) = approval.answer(vote);
                    prop_assert_eq!(check, result.clone());
                    (next, result.is_ok())
                }
                Step::UseUp => {
                    let good = approval.is_good(at(now));
                    let (next, used) = approval.use_up(at(now));
                    prop_assert_eq!(good, used);
                    uses += u32::from(used);
                    (next, used)
                }
                Step::Pass => (approval.pass(at(now)), false),
                Step::Withdraw => {
                    let next = approval.withdraw(at(now));
                    let withdrawn = before == State::Pending && next.state() == State::Withdrawn;
                    (next, withdrawn)
                }
            };
            prop_assert_eq!(took_effect, expected, "{:?} at {}", step, now);
            prop_assert_eq!(approval.state(), model.state);
            prop_assert!(uses <= 1);
            prop_assert!(!approval.votes().iter().any(|vote| vote.reviewer.uid == OWNER));
            prop_assert_eq!(approval.deadline().is_some(),
                matches!(model.state, State::Pending | State::Approved));
        }
    }
}

#[test]
fn without_rules_nobody_is_asked() {
    assert!(Approval::open(OWNER, &hold(Vec::new()), at(0)).is_none());
}

#[test]
fn several_rules_need_several_people() {
    let rules = vec![rule("dba", 1, 60), rule("sec", 2, 60)];
    let approval = Approval::open(OWNER, &hold(rules), at(0)).expect("rules");
    let everything = ["dba", "sec"].map(str::to_owned).into();
    let (approval, result) = approval.answer(vote(1, &everything, Answer::Approve, 1));
    assert_eq!((result, approval.state()), (Ok(()), State::Pending));
    let (approval, result) = approval.answer(vote(1, &everything, Answer::Approve, 2));
    assert_eq!(result, Err(Refused::AlreadyApproved));
    let (approval, result) = approval.answer(vote(2, &in_group("net"), Answer::Approve, 3));
    assert_eq!(
        result,
        Err(Refused::NotAReviewer(
            ["dba", "sec"].map(str::to_owned).into()
        ))
    );
    let (approval, _) = approval.answer(vote(2, &in_group("sec"), Answer::Approve, 4));
    assert_eq!(approval.state(), State::Approved);
    assert_eq!(approval.decided_at(), Some(at(4)));
}

#[test]
fn an_approver_may_think_again_while_others_are_still_asked() {
    let approval = Approval::open(OWNER, &hold(vec![rule("dba", 2, 60)]), at(0)).expect("rules");
    let (approval, _) = approval.answer(vote(1, &in_group("dba"), Answer::Approve, 1));
    let (approval, result) = approval.answer(vote(1, &in_group("dba"), Answer::Deny, 2));
    assert_eq!((result, approval.state()), (Ok(()), State::Denied));
}

#[test]
fn the_last_moment_is_too_late() {
    let approval = Approval::open(OWNER, &hold(vec![rule("dba", 1, 60)]), at(0)).expect("rules");
    let (approval, result) = approval.answer(vote(1, &in_group("dba"), Answer::Approve, 60));
    assert_eq!(result, Err(Refused::Over(State::Expired)));
    let (approval, _) = approval.answer(vote(1, &in_group("dba"), Answer::Approve, 59));
    assert!(approval.is_good(at(118)));
    let (approval, used) = approval.use_up(at(119));
    assert!(!used);
    assert_eq!(approval.state(), State::Lapsed);
}

#[test]
fn no_hold_lasts_for_ever() {
    let endless = vec![rule("dba", 1, u64::MAX)];
    let approval = Approval::open(OWNER, &hold(endless), at(0)).expect("rules");
    assert_eq!(approval.deadline(), Some(at(LONGEST_HOLD.as_secs())));
}
