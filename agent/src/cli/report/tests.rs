use std::collections::BTreeSet;

use holdpoint_core::{
    approval::Answer,
    operation::{Action, Operation},
};
use proptest::prelude::*;

use super::*;
use crate::{
    approvals::ApprovalId,
    record::{
        DecisionRecord, DecisionVerdict, Event, Link, OperationId, OperationRecord, OutcomeResult,
        StoredEvent, VERSION, VoteRecord,
    },
    session::SessionId,
};

fn told(questions: &mut Questions, event: Event) -> Option<Question> {
    questions.hear(&StoredEvent {
        v: VERSION,
        seq: 1,
        time: Timestamp::UNIX_EPOCH,
        prev: Link::default(),
        event,
    })
}

struct Case {
    session: SessionId,
    approval: ApprovalId,
    questions: Questions,
    words: String,
}

impl Case {
    fn new(words: &str) -> Self {
        Self {
            session: SessionId::random(),
            approval: ApprovalId::named("ap-0123456789"),
            questions: Questions::default(),
            words: words.to_owned(),
        }
    }

    fn ask(&mut self, joined: bool) -> OperationId {
        let mut operation = Operation::on_host(Action::NET_CONNECT, "example.com", None);
        operation.query = vec![("q".into(), self.words.clone())];
        let mut operation = OperationRecord::new(OperationId::random(), &operation);
        operation.method = "DELETE".into();
        operation.action = self.words.as_str().into();
        operation.resource = self.words.as_str().into();
        let id = operation.id.clone();
        let intent = Event::Intent {
            session: self.session.clone(),
            connection: 1,
            operation,
            decision: DecisionRecord {
                verdict: DecisionVerdict::Hold,
                policies: Vec::new(),
                reason: Some(self.words.as_str().into()),
                observed: false,
                in_force: None,
            },
        };
        let hold = Event::Hold {
            session: self.session.clone(),
            operation: id.clone(),
            approval: self.approval.clone(),
            groups: BTreeSet::from(["dba".to_owned()]),
            joined,
            kept: None,
        };
        assert!(told(&mut self.questions, intent).is_none());
        assert!(told(&mut self.questions, hold).is_none());
        id
    }

    fn answer(&mut self, verdict: Answer) -> Option<Question> {
        let vote = VoteRecord {
            reviewer: self.words.as_str().into(),
            uid: Some(7),
            groups: BTreeSet::new(),
            names: BTreeSet::new(),
            verdict,
            comment: Some(self.words.as_str().into()),
            at: None,
            channel: holdpoint_core::approval::Channel::Host,
        };
        let decided = Event::ApprovalDecided {
            session: self.session.clone(),
            approval: self.approval.clone(),
            vote,
        };
        told(&mut self.questions, decided)
    }

    fn outcome(&mut self, operation: &OperationId, result: OutcomeResult) -> Option<Question> {
        let outcome = Event::Outcome {
            session: self.session.clone(),
            operation: operation.clone(),
            status: (result == OutcomeResult::Completed).then_some(200),
            result,
            request_bytes: 0,
            response_bytes: 0,
            statement: None,
        };
        told(&mut self.questions, outcome)
    }

    fn whole(&mut self) -> Question {
        let asked = self.ask(false);
        // The client did not wait; the same is sent again, and runs.
        assert!(self.outcome(&asked, OutcomeResult::Refused).is_none());
        assert!(self.answer(Answer::Approve).is_none());
        let again = self.ask(true);
        let used = Event::ApprovalUsed {
            session: self.session.clone(),
            approval: self.approval.clone(),
            operation: again.clone(),
        };
        assert!(told(&mut self.questions, used).is_none());
        let question = self.outcome(&again, OutcomeResult::Completed);
        let question = question.expect("it is over");
        assert_eq!(question.used_by.as_ref(), Some(&again));
        question
    }
}

#[test]
fn an_approval_is_told_with_its_answers_and_what_it_was_used_for() {
    let mut case = Case::new("x");
    let question = case.whole();
    assert_eq!(question.answers.len(), 1);
    assert_eq!(question.result, Some(OutcomeResult::Completed));
    assert_eq!(question.status, Some(200));
    assert!(case.questions.left().is_empty());
}

#[test]
fn what_is_denied_is_over_and_what_waits_is_told_at_the_end() {
    let mut denied = Case::new("x");
    denied.ask(false);
    let question = denied.answer(Answer::Deny).expect("it is over");
    assert_eq!(question.ended.map(|it| it.how), Some("denied"));
    let mut open = Case::new("x");
    open.ask(false);
    let left = open.questions.left();
    assert_eq!(left.len(), 1);
    assert!(left[0].ended.is_none());
}

proptest! {
    #[test]
    fn nobody_writes_himself_into_the_report(words in "(?s).{0,60}|[`|#*<>\n ]{0,40}") {
        let question = Case::new(&words).whole();
        let usual = Case::new("x").whole();
        for form in [forms::block, forms::markdown] {
            let (text, expected) = (form(&question), form(&usual));
            prop_assert!(!text.chars().any(|it| it != '\n' && screen::is_tricky(it)));
            prop_assert_eq!(text.lines().count(), expected.lines().count());
        }
        // In Markdown every line of the request stands within a fence that nothing in it ends.
        let text = forms::markdown(&question);
        let fence: String = text.lines().find(|it| it.starts_with("```")).expect("a fence").trim_end_matches("text").into();
        prop_assert_eq!(text.lines().filter(|it| it.starts_with(&fence)).count(), 2);
    }
}
