use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::policy::PolicyRef;

const OWNER: u32 = 0;
const GLASS: &str = "oncall";

/// One person may be two users, and is the owner under a name of the token's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Owner,
    OwnerElsewhere,
    Ann,
    AnnElsewhere,
    Bob,
    Cem,
}

impl Who {
    /// The person, whatever the user.
    fn person(self) -> &'static str {
        match self {
            Self::Owner | Self::OwnerElsewhere => "owner",
            Self::Ann | Self::AnnElsewhere => "ann",
            Self::Bob => "bob",
            Self::Cem => "cem",
        }
    }

    fn reviewer(self, groups: &BTreeSet<String>) -> Reviewer {
        let uid = self as u32;
        Reviewer {
            uid: Some(uid),
            name: format!("user{uid}"),
            groups: groups.clone(),
            names: known_as([
                format!("user{uid}"),
                format!(" {}@Example.com", self.person()),
            ]),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Answer {
        who: Who,
        groups: BTreeSet<String>,
        answer: Answer,
        glass: bool,
        comment: bool,
    },
    UseUp,
    Pass,
    Withdraw,
    Restart,
}

/// What an approval is, told the slow way: from everything that happened so far.
#[derive(Clone, Debug)]
struct Model {
    rules: Vec<HoldRule>,
    state: State,
    /// Approvers and the groups they had when they approved.
    approvers: BTreeMap<&'static str, BTreeSet<String>>,
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
                State::Approved if matches!(step, Step::UseUp | Step::Pass | Step::Restart) => {
                    self.state = State::Lapsed;
                }
                _ => {}
            }
        }
        match (step, self.state) {
            (Step::Answer { .. }, State::Pending) => self.answer(step, now),
            (Step::UseUp, State::Approved) => {
                self.state = State::Used;
                true
            }
            (Step::Withdraw, State::Pending) => {
                self.state = State::Withdrawn;
                true
            }
            (Step::Withdraw, State::Approved) => {
                self.state = State::Lapsed;
                true
            }
            _ => false,
        }
    }

    fn answer(&mut self, step: &Step, now: u64) -> bool {
        let Step::Answer {
            who,
            groups,
            answer,
            glass,
            comment,
        } = step
        else {
            return false;
        };
        let person = who.person();
        if now >= self.until || person == "owner" {
            return false;
        }
        if *glass && *answer == Answer::Approve {
            let may = groups.contains(GLASS) && *comment;
            if may {
                self.approve(now);
            }
            return may;
        }
        let asked = self.rules.iter().any(|rule| groups.contains(&rule.group));
        let again = *answer == Answer::Approve && self.approvers.contains_key(person);
        if !asked || again {
            return false;
        }
        if *answer == Answer::Deny {
            self.state = State::Denied;
            return true;
        }
        self.approvers.insert(person, groups.clone());
        let mut enough = true;
        for rule in &self.rules {
            let members = self
                .approvers
                .values()
                .filter(|groups| groups.contains(&rule.group));
            enough &= members.count() >= rule.min_approvals as usize;
        }
        if enough {
            self.approve(now);
        }
        true
    }

    fn approve(&mut self, now: u64) {
        self.state = State::Approved;
        self.until = now + shortest(&self.rules);
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
    prop::sample::subsequence(vec!["dba", "net", "sec", GLASS], 0..=4)
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
            sha256: None,
        },
        group: group.into(),
        min_approvals,
        hold_for: Duration::from_secs(seconds),
        reason: None,
        grantable: BTreeSet::new(),
    }
}

fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
    let who = prop::sample::select(vec![
        Who::Owner,
        Who::OwnerElsewhere,
        Who::Ann,
        Who::AnnElsewhere,
        Who::Bob,
        Who::Cem,
    ]);
    let answer = prop_oneof![4 => Just(Answer::Approve), 1 => Just(Answer::Deny)];
    let answer = (
        who,
        groups(),
        answer,
        prop::bool::weighted(0.1),
        any::<bool>(),
    );
    let step = prop_oneof![
        8 => answer.prop_map(|(who, groups, answer, glass, comment)| {
            Step::Answer { who, groups, answer, glass, comment }
        }),
        3 => Just(Step::UseUp),
        2 => Just(Step::Pass),
        3 => Just(Step::Restart),
        1 => Just(Step::Withdraw),
    ];
    prop::collection::vec((0..12_u64, step), 0..24)
}

fn requester() -> Requester {
    Requester {
        uid: OWNER,
        names: known_as(["https://issuer#repo", "OWNER@example.com"]),
    }
}

fn open(rules: &[HoldRule]) -> Approval {
    Approval::open(requester(), rules, Some(GLASS), at(0)).expect("rules")
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn vote(who: Who, groups: &BTreeSet<String>, answer: Answer, now: u64) -> Vote {
    Vote {
        reviewer: who.reviewer(groups),
        answer,
        comment: None,
        at: at(now),
        break_glass: false,
        channel: Channel::Host,
    }
}

fn in_group(group: &str) -> BTreeSet<String> {
    BTreeSet::from([group.to_owned()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8192))]

    /// No order of answers, re-sends, time and restarts leads to a use that people did not agree to, or to a second one.
    #[test]
    fn it_does_what_the_model_does(rules in rules(), steps in steps()) {
        let mut approval = open(&rules);
        let until = shortest(&rules);
        let mut model = Model { rules: rules.clone(), state: State::Pending, approvers: BTreeMap::new(), until };
        let (mut now, mut uses, mut recorded) = (0, 0, Vec::new());
        for (wait, step) in steps {
            now += wait;
            let expected = model.step(&step, now);
            let took_effect;
            (approval, took_effect) = match &step {
                Step::Answer { who, groups, answer, glass, comment } => {
                    let vote = Vote {
                        break_glass: *glass,
                        comment: comment.then(|| "the site is down".to_owned()),
                        ..vote(*who, groups, *answer, now)
                    };
                    let check = approval.check(&vote);
                    let (next, result) = approval.answer(vote.clone());
                    prop_assert_eq!(check, result.clone());
                    if result.is_ok() {
                        recorded.push(vote);
                    }
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
                // What is over is on record as that, and not opened again.
                Step::Restart if approval.ended_at().is_some() => (approval, false),
                Step::Restart => {
                    let again = open(&rules).replay(recorded.clone());
                    prop_assert_eq!(again.state(), approval.state());
                    prop_assert_eq!(again.votes(), approval.votes());
                    prop_assert_eq!(again.deadline(), approval.deadline());
                    prop_assert_eq!(again.decided_at(), approval.decided_at());
                    (again.pass(at(now)), false)
                }
                Step::Withdraw => {
                    let live = approval.ended_at().is_none();
                    (approval.withdraw(at(now)), live)
                }
            };
            prop_assert_eq!(took_effect, expected, "{:?} at {}", step, now);
            prop_assert_eq!(approval.state(), model.state);
            prop_assert!(uses <= 1);
            prop_assert!(!approval.votes().iter().any(|vote| requester().is(&vote.reviewer)));
            prop_assert_eq!(approval.deadline().is_some(),
                matches!(model.state, State::Pending | State::Approved));
        }
    }
}

#[test]
fn without_rules_nobody_is_asked() {
    assert!(Approval::open(requester(), &[], None, at(0)).is_none());
}

#[test]
fn several_rules_need_several_people() {
    let rules = vec![rule("dba", 1, 60), rule("sec", 2, 60)];
    let approval = open(&rules);
    let everything = ["dba", "sec"].map(str::to_owned).into();
    let (approval, result) = approval.answer(vote(Who::Ann, &everything, Answer::Approve, 1));
    assert_eq!((result, approval.state()), (Ok(()), State::Pending));
    let (approval, result) = approval.answer(vote(Who::Ann, &everything, Answer::Approve, 2));
    assert_eq!(result, Err(Refused::AlreadyApproved));
    let (approval, result) = approval.answer(vote(Who::Bob, &in_group("net"), Answer::Approve, 3));
    assert_eq!(
        result,
        Err(Refused::NotAReviewer(
            ["dba", "sec"].map(str::to_owned).into()
        ))
    );
    let (approval, _) = approval.answer(vote(Who::Bob, &in_group("sec"), Answer::Approve, 4));
    assert_eq!(approval.state(), State::Approved);
    assert_eq!(approval.decided_at(), Some(at(4)));
}

#[test]
fn an_approver_may_think_again_while_others_are_still_asked() {
    let approval = open(&[rule("dba", 2, 60)]);
    let (approval, _) = approval.answer(vote(Who::Ann, &in_group("dba"), Answer::Approve, 1));
    let (approval, result) = approval.answer(vote(Who::Ann, &in_group("dba"), Answer::Deny, 2));
    assert_eq!((result, approval.state()), (Ok(()), State::Denied));
}

#[test]
fn the_last_moment_is_too_late() {
    let approval = open(&[rule("dba", 1, 60)]);
    let (approval, result) = approval.answer(vote(Who::Ann, &in_group("dba"), Answer::Approve, 60));
    assert_eq!(result, Err(Refused::Over(State::Expired)));
    let (approval, _) = approval.answer(vote(Who::Ann, &in_group("dba"), Answer::Approve, 59));
    assert!(approval.is_good(at(118)));
    let (approval, used) = approval.use_up(at(119));
    assert!(!used);
    assert_eq!(approval.state(), State::Lapsed);
}

#[test]
fn no_hold_lasts_for_ever() {
    let endless = vec![rule("dba", 1, u64::MAX)];
    let approval = open(&endless);
    assert_eq!(approval.deadline(), Some(at(LONGEST_HOLD.as_secs())));
}

#[test]
fn two_users_of_one_person_are_one_approval() {
    let approval = open(&[rule("dba", 2, 60)]);
    let (approval, _) = approval.answer(vote(Who::Ann, &in_group("dba"), Answer::Approve, 1));
    let elsewhere = vote(Who::AnnElsewhere, &in_group("dba"), Answer::Approve, 2);
    let (approval, result) = approval.answer(elsewhere);
    assert_eq!(result, Err(Refused::AlreadyApproved));
    let (approval, _) = approval.answer(vote(Who::Bob, &in_group("dba"), Answer::Approve, 3));
    assert_eq!(approval.state(), State::Approved);
}

#[test]
fn the_owner_is_known_by_name_too() {
    let elsewhere = vote(Who::OwnerElsewhere, &in_group("dba"), Answer::Approve, 1);
    assert_ne!(elsewhere.reviewer.uid, Some(OWNER));
    let (_, result) = open(&[rule("dba", 1, 60)]).answer(elsewhere);
    assert_eq!(result, Err(Refused::OwnOperation));
}

#[test]
fn broken_glass_needs_the_group_and_a_reason_and_is_not_for_the_owner() {
    let glass = |who, group: &str, comment: &str| Vote {
        break_glass: true,
        comment: Some(comment.to_owned()),
        ..vote(who, &in_group(group), Answer::Approve, 1)
    };
    let refused = |vote| {
        open(&[rule("dba", 2, 60)])
            .answer(vote)
            .1
            .expect_err("refused")
    };
    assert_eq!(
        refused(glass(Who::Owner, GLASS, "x")),
        Refused::OwnOperation
    );
    assert_eq!(refused(glass(Who::Ann, GLASS, "  ")), Refused::NoReason);
    let not_asked = refused(glass(Who::Ann, "dba", "x"));
    assert_eq!(not_asked, Refused::NotBreakGlass(Some(GLASS.into())));
    let (approval, result) = open(&[rule("dba", 2, 60)]).answer(glass(Who::Ann, GLASS, "down"));
    assert_eq!((result, approval.state()), (Ok(()), State::Approved));
    let nobody = Approval::open(requester(), &[rule("dba", 2, 60)], None, at(0)).expect("rules");
    let (_, result) = nobody.answer(glass(Who::Ann, GLASS, "down"));
    assert_eq!(result, Err(Refused::NotBreakGlass(None)));
}

#[test]
fn only_who_could_approve_alone_may_grant() {
    let alone = vote(Who::Ann, &in_group("dba"), Answer::Approve, 1);
    assert_eq!(open(&[rule("dba", 1, 60)]).check_alone(&alone), Ok(()));
    let two = open(&[rule("dba", 2, 60)]);
    let (two, _) = two.answer(vote(Who::Bob, &in_group("dba"), Answer::Approve, 1));
    assert!(matches!(two.check_alone(&alone), Err(Refused::NotAlone(_))));
    let both = open(&[rule("dba", 1, 60), rule("sec", 1, 60)]);
    assert!(matches!(
        both.check_alone(&alone),
        Err(Refused::NotAlone(_))
    ));
    let stranger = vote(Who::Ann, &in_group("net"), Answer::Approve, 1);
    assert!(matches!(
        both.check_alone(&stranger),
        Err(Refused::NotAReviewer(_))
    ));
}
