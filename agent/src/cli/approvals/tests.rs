use super::*;
use crate::{
    approvals::{AnswerView, BodyView},
    cli::approvals::fixtures::{at, hold},
    session::SessionId,
};

fn detail() -> ApprovalDetail {
    ApprovalDetail {
        approval: ApprovalView {
            resource: "//sqladmin.googleapis.com/projects/p/instances/prod-db".into(),
            url: "https://sqladmin.googleapis.com/v1/projects/p/instances/prod-db".into(),
            decisions: vec![AnswerView {
                reviewer: "dora".into(),
                uid: Some(7),
                verdict: Answer::Approve,
                break_glass: false,
                channel: Default::default(),
                comment: None,
                at: at(5),
                at_ms: 5000,
            }],
            ..hold("ap-0123456789", "s-one")
        },
        headers: vec![("user-agent".into(), "x\u{1b}[2J".into())],
        body: BodyView {
            text: "{\"a\":1,\"b\":\"\u{202e}\"}".into(),
            length: 100_000,
            cut: true,
        },
        looked_up: None,
    }
}

#[test]
fn the_whole_request_is_shown_and_nothing_is_drawn() {
    let text = described_in_full(&detail(), at(70));
    for part in [
        "state       pending, 8:50 left, 1 waiting\n",
        "held by     deletes (deletes.cedar:3): deletes are for people\n            asks 1 of dba\n",
        "approved by dora at 1970-01-01T00:00:05Z: no comment\n",
        "  | DELETE https://sqladmin.googleapis.com/v1/projects/p/instances/prod-db\n",
        "  | user-agent: x\\u{1b}[2J\n",
        "  |   \"a\": 1,\n",
        "  |   \"b\": \"\\u{202e}\"\n",
        "The body goes on: 100000 bytes in all.",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn a_list_fits_the_screen_and_keeps_the_end_of_the_name() {
    let mut view = detail().approval;
    view.resource = format!("//x/{}/instances/prod-db", "y".repeat(200));
    let row = row(&view, at(700));
    assert_eq!(row[3], "0:00");
    let text = listing(&[row]);
    assert!(text.lines().all(|line| line.chars().count() <= 120));
    assert!(text.trim_end().ends_with("y/instances/prod-db"));
}

#[test]
fn only_plain_words_go_into_a_path() {
    assert!(word("ap-0123456789").is_ok());
    for bad in ["", "a/b", "a?b", "a b", "é"] {
        assert!(word(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_a_session_asks_for_stands_together() {
    let view = |session: &str, seconds| ApprovalView {
        session: SessionId::from_cgroup(session),
        opened_at: at(seconds),
        ..detail().approval
    };
    let views = [view("a", 5), view("b", 4), view("a", 3), view("c", 9)];
    let order: Vec<_> = by_session(&views)
        .iter()
        .map(|view| (view.session.as_str(), view.opened_at))
        .collect();
    assert_eq!(
        order,
        [("c", at(9)), ("a", at(3)), ("a", at(5)), ("b", at(4))]
    );
}

#[test]
fn nothing_lasts_for_less_than_no_time() {
    assert_eq!(lasting("90s"), Ok(SignedDuration::from_secs(90)));
    assert_eq!(lasting("0s"), Ok(SignedDuration::ZERO));
    for wrong in ["-5m", "5m ago", "soon", "", "15"] {
        let error = lasting(wrong).expect_err(wrong);
        assert!(error.contains("write a time such as"), "{wrong}: {error}");
    }
}
