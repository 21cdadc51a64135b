//! The screen, without a terminal and without a daemon: what is pressed and told in, what is shown and asked for out.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use holdpoint_core::{approval::State as Standing, grant::Scope};
use ratatui::{Terminal, backend::TestBackend};

use super::{confirm::Verdict, link::About, state::Ballot, *};
use crate::{
    approvals::{ApprovalDetail, ApprovalId, ApprovalView},
    cli::approvals::fixtures::{at, hold},
    session::SessionId,
};

fn detail(view: ApprovalView, body: &str) -> Box<ApprovalDetail> {
    let mut detail = serde_json::to_value(view).expect("JSON");
    detail["headers"] = serde_json::json!([["user-agent", "gcloud"]]);
    detail["body"] = serde_json::json!({"text": body, "length": body.len(), "cut": false});
    serde_json::from_value(detail).expect("a detail")
}

/// A reviewer at a screen.
struct Desk {
    state: State,
    clock: Instant,
    effects: Vec<Effect>,
    size: (u16, u16),
}

impl Desk {
    fn new() -> Self {
        Self::of_size(80, 24)
    }

    fn of_size(width: u16, height: u16) -> Self {
        let mut desk = Self {
            state: State::new(Theme::PLAIN, 7, false, at(60)),
            clock: Instant::now(),
            effects: Vec::new(),
            size: (width, height),
        };
        desk.tell(Event::Resize(width, height));
        desk
    }

    fn with(holds: &[ApprovalView]) -> Self {
        let mut desk = Self::new();
        desk.tell(Event::Listed(holds.to_vec()));
        desk
    }

    fn tell(&mut self, event: Event) {
        self.state.update(event);
        self.effects.extend(self.state.settle());
    }

    /// What is on the screen now.
    fn look(&mut self) -> String {
        let backend = TestBackend::new(self.size.0, self.size.1);
        let mut terminal = Terminal::new(backend).expect("a terminal");
        terminal
            .draw(|frame| view::draw(frame, &self.state))
            .expect("draws");
        self.state.drawn(self.clock);
        let cells = terminal.backend().buffer().clone();
        let rows = cells.content.chunks(usize::from(self.size.0));
        rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>() + "\n")
            .collect()
    }

    /// Presses a key and does not wait for the screen.
    fn press_blindly(&mut self, code: KeyCode) {
        self.tell(Event::Key(
            KeyEvent::new(code, KeyModifiers::NONE),
            self.clock,
        ));
    }

    /// Looks, takes a second to think, presses.
    fn press(&mut self, code: KeyCode) {
        let _ = self.look();
        self.clock += Duration::from_secs(1);
        self.press_blindly(code);
    }

    fn keys(&mut self, keys: &str) {
        keys.chars().for_each(|key| self.press(KeyCode::Char(key)));
    }

    /// Answers what was asked of the daemon: requests without a body.
    fn serve(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Look(id) => {
                    let view = self.state.inbox.entry(&id).expect("is listed").view.clone();
                    self.tell(Event::Looked(id, Ok(detail(view, ""))));
                }
                Effect::Learn(id) => {
                    let about = About {
                        command: "terraform apply".into(),
                        recent: vec!["10:00:00Z  operation sql.instances.list".into()],
                        ..About::default()
                    };
                    self.tell(Event::Learned(id, Ok(Box::new(about))));
                }
                other => self.effects.push(other),
            }
        }
    }

    fn ballots(&mut self) -> Vec<Ballot> {
        let effects = std::mem::take(&mut self.effects);
        let ballots = effects.into_iter().filter_map(|effect| match effect {
            Effect::Answer(ballot) => Some(ballot),
            _ => None,
        });
        ballots.collect()
    }
}

fn ids(names: &[&str]) -> Vec<ApprovalId> {
    names.iter().map(|name| ApprovalId::named(name)).collect()
}

#[test]
fn what_waits_is_shown_by_session_in_80_by_24() {
    let mut other = hold("ap-3", "s-two");
    other.expires_at = at(100);
    let mut desk = Desk::with(&[hold("ap-1", "s-one"), hold("ap-2", "s-one"), other]);
    let screen = desk.look();
    for part in [
        " Holdpoint: 3 waiting",
        "live ",
        "s-two ci ",
        "1 held, 1:00 old, 0:40 left\n",
        "0:40! sql.instances.delete",
        "2 held, 1:00 old, 9:00 left\n",
        "/instances/db-ap-2",
        "a approve  d deny",
    ] {
        assert!(screen.contains(part), "{part:?} is not in\n{screen}");
    }
    let place = |text| screen.find(text).expect("is shown");
    assert!(place("s-two") < place("s-one"), "least time left first");
}

#[test]
fn an_approval_takes_two_different_keys_and_a_pause() {
    let mut desk = Desk::with(&[hold("ap-1", "s-one")]);
    desk.press(KeyCode::Char('a'));
    desk.serve();
    let screen = desk.look();
    assert!(screen.contains("APPROVE 1 operation?"), "{screen}");
    assert!(
        screen.contains("| DELETE https://sqladmin.googleapis.com/v1/projects/p/instances/db-ap-1"),
        "{screen}"
    );
    assert!(desk.ballots().is_empty());
    desk.press(KeyCode::Char('a'));
    desk.press(KeyCode::Enter);
    assert!(desk.ballots().is_empty(), "the first key again is no yes");
    desk.press(KeyCode::Char('y'));
    let expected = Ballot {
        ids: ids(&["ap-1"]),
        verdict: Verdict::Approve,
        comment: None,
    };
    assert_eq!(desk.ballots(), [expected]);
}

#[test]
fn keys_typed_ahead_or_held_down_approve_nothing() {
    let mut desk = Desk::with(&[hold("ap-1", "s-one")]);
    desk.press(KeyCode::Char('a'));
    desk.press_blindly(KeyCode::Char('y'));
    desk.serve();
    for _ in 0..100 {
        let _ = desk.look();
        desk.clock += Duration::from_millis(33);
        desk.press_blindly(KeyCode::Char('y'));
    }
    assert!(desk.ballots().is_empty());
    desk.press(KeyCode::Char('y'));
    assert_eq!(desk.ballots().len(), 1);
}

#[test]
fn what_arrives_or_goes_while_a_question_is_open_is_not_answered() {
    let mut desk = Desk::with(&[hold("ap-1", "s-one"), hold("ap-2", "s-one")]);
    // All of the session.
    desk.press(KeyCode::Home);
    desk.press(KeyCode::Char('a'));
    desk.serve();
    let _ = desk.look();
    let mut first = hold("ap-0", "s-one");
    first.expires_at = at(90);
    desk.tell(Event::Listed(vec![first, hold("ap-2", "s-one")]));
    // What has changed on the page has to be looked at, too.
    desk.clock += Duration::from_secs(5);
    desk.press_blindly(KeyCode::Char('y'));
    assert!(desk.ballots().is_empty());
    assert!(desk.look().contains("ap-1: NO LONGER PENDING"));
    while !desk.look().contains("y yes") {
        desk.press(KeyCode::Char(' '));
    }
    desk.press(KeyCode::Char('y'));
    let ballots = desk.ballots();
    assert_eq!(ballots.len(), 1);
    assert_eq!(ballots[0].ids, ids(&["ap-2"]));
}

#[test]
fn the_cursor_stays_on_what_it_was_on() {
    let mut desk = Desk::with(&[hold("ap-1", "s-one"), hold("ap-2", "s-one")]);
    desk.press(KeyCode::Down);
    let mut earlier = hold("ap-0", "s-zero");
    earlier.expires_at = at(70);
    desk.tell(Event::Listed(vec![
        earlier.clone(),
        hold("ap-1", "s-one"),
        hold("ap-2", "s-one"),
    ]));
    assert!(
        matches!(desk.state.inbox.cursor(), Some(inbox::Row::Hold(id)) if id.as_str() == "ap-2")
    );
    // Gone, it keeps its place, so that the key finds nothing else there.
    desk.tell(Event::Listed(vec![earlier, hold("ap-1", "s-one")]));
    assert!(desk.look().contains("gone"));
    desk.press(KeyCode::Char('a'));
    assert!(desk.look().contains("nothing to answer here"));
    desk.press(KeyCode::Up);
    assert!(!desk.look().contains("gone"));
}

#[test]
fn what_the_reviewer_answered_leaves_no_trace() {
    let mut used = hold("ap-1", "s-one");
    used.state = Standing::Used;
    let answered = || Event::Answered(ApprovalId::named("ap-1"), Ok(Box::new(used.clone())));
    // Whichever is told first.
    for list_first in [true, false] {
        let mut desk = Desk::with(&[hold("ap-1", "s-one"), hold("ap-2", "s-one")]);
        let list = || Event::Listed(vec![hold("ap-2", "s-one")]);
        if list_first {
            desk.tell(list());
            desk.tell(answered());
        } else {
            desk.tell(answered());
            desk.tell(Event::Listed(vec![
                hold("ap-1", "s-one"),
                hold("ap-2", "s-one"),
            ]));
            desk.tell(list());
        }
        let screen = desk.look();
        assert!(
            screen.contains("1 waiting") && !screen.contains("gone"),
            "{screen}"
        );
        assert!(screen.contains(">[ ]"), "{screen}");
    }
}

#[test]
fn a_denial_asks_for_a_comment_which_begins_empty() {
    let mut desk = Desk::with(&[hold("ap-1", "s-one")]);
    desk.press(KeyCode::Char('d'));
    let screen = desk.look();
    assert!(screen.contains("(may be empty): _"), "{screen}");
    desk.tell(Event::Paste("wrong\ninstance".into()));
    desk.keys("!");
    desk.press(KeyCode::Enter);
    assert!(desk.look().contains("DENY 1?  y yes"));
    desk.press(KeyCode::Char('y'));
    let expected = Ballot {
        ids: ids(&["ap-1"]),
        verdict: Verdict::Deny,
        comment: Some("wrong instance!".into()),
    };
    assert_eq!(desk.ballots(), [expected]);
}

#[test]
fn a_grant_is_made_where_policy_lets_it() {
    let mut desk = Desk::with(&[hold("ap-1", "s-one")]);
    desk.press(KeyCode::Char('g'));
    assert!(desk.look().contains("does not say @grantable"));
    let mut view = hold("ap-2", "s-one");
    view.policies[0].grantable.insert(Scope::Resource);
    let mut desk = Desk::with(&[view]);
    desk.press(KeyCode::Char('g'));
    desk.serve();
    let screen = desk.look();
    assert!(
        screen.contains("GRANT for 30 minutes 1 operation?")
            && screen.contains("whatever else the same"),
        "{screen}"
    );
    while !desk.look().contains("y yes") {
        desk.press(KeyCode::Char(' '));
    }
    desk.press(KeyCode::Char('y'));
    let ballots = desk.ballots();
    assert_eq!(
        (ballots[0].verdict, &ballots[0].ids),
        (Verdict::Grant, &ids(&["ap-2"]))
    );
}

#[test]
fn the_glass_is_not_broken_without_a_reason() {
    let mut desk = Desk::with(&[hold("ap-1", "s-one")]);
    desk.press(KeyCode::Char('B'));
    desk.serve();
    desk.press(KeyCode::Enter);
    while !desk.look().contains("y yes") {
        desk.press(KeyCode::Char(' '));
    }
    desk.press(KeyCode::Char('y'));
    assert!(desk.ballots().is_empty());
    assert!(desk.look().contains("needs a reason"));
    desk.keys("cfire");
    desk.press(KeyCode::Enter);
    desk.press(KeyCode::Char('y'));
    let ballots = desk.ballots();
    assert_eq!(ballots[0].verdict, Verdict::BreakGlass);
    assert_eq!(ballots[0].comment.as_deref(), Some("fire"));
}

#[test]
fn a_paste_is_no_key() {
    let mut desk = Desk::with(&[hold("ap-1", "s-one")]);
    desk.tell(Event::Paste("a".into()));
    assert!(desk.state.overlay.is_none());
    desk.press(KeyCode::Char('a'));
    desk.serve();
    let _ = desk.look();
    desk.clock += Duration::from_secs(1);
    desk.tell(Event::Paste("y".into()));
    assert!(desk.ballots().is_empty());
}

#[test]
fn nothing_is_approved_that_was_not_shown_to_its_end() {
    let mut desk = Desk::with(&[hold("ap-1", "s-one")]);
    desk.press(KeyCode::Char('a'));
    desk.press(KeyCode::Char('y'));
    assert!(desk.ballots().is_empty(), "the request is not there yet");
    assert!(
        desk.look()
            .contains("nothing is approved that was not shown")
    );
    let body: String = (0..60).map(|line| format!("line {line}\n")).collect();
    let mut told = serde_json::to_value(detail(hold("ap-1", "s-one"), &body)).expect("JSON");
    told["read_at"] = serde_json::json!(at(0));
    let told = serde_json::from_value(told).expect("a detail");
    desk.tell(Event::Looked(ApprovalId::named("ap-1"), Ok(told)));
    desk.press(KeyCode::Char('y'));
    assert!(desk.ballots().is_empty());
    assert!(desk.look().contains("There is more to see"));
    // To the end at once is not all of it.
    desk.press(KeyCode::End);
    desk.keys("y");
    assert!(desk.ballots().is_empty());
    desk.press(KeyCode::Home);
    assert!(desk.look().contains(" ago"), "{}", desk.look());
    for minutes in 2..7 {
        // What was read some time ago was read longer ago now, and is still what has been looked at.
        desk.tell(Event::Tick(at(minutes * 60)));
        desk.press(KeyCode::PageDown);
    }
    assert!(desk.look().contains("line 59"));
    desk.press(KeyCode::Char('y'));
    assert_eq!(desk.ballots().len(), 1);
}

#[test]
fn without_a_connection_nothing_is_answered() {
    let mut desk = Desk::with(&[hold("ap-1", "s-one")]);
    desk.tell(Event::Lost("cannot reach the daemon".into()));
    let screen = desk.look();
    assert!(
        screen.contains("NO CONNECTION") && screen.contains("trying again: cannot reach"),
        "{screen}"
    );
    desk.press(KeyCode::Char('a'));
    assert!(desk.state.overlay.is_none());
    desk.tell(Event::Listed(vec![hold("ap-1", "s-one")]));
    desk.press(KeyCode::Char('a'));
    desk.serve();
    let _ = desk.look();
    desk.tell(Event::Lost("cannot reach the daemon".into()));
    desk.press(KeyCode::Char('y'));
    assert!(desk.ballots().is_empty());
    desk.tell(Event::Listed(vec![hold("ap-1", "s-one")]));
    desk.press(KeyCode::Char('y'));
    assert_eq!(desk.ballots().len(), 1);
}

#[test]
fn marks_choose_a_set_and_answers_that_fail_are_told() {
    let all: Vec<_> = (1..=5)
        .map(|it| hold(&format!("ap-{it}"), "s-one"))
        .collect();
    let mut desk = Desk::with(&all);
    desk.keys(" jj j");
    desk.press(KeyCode::Char(' '));
    assert!(desk.look().contains("3 marked"));
    desk.press(KeyCode::Char('a'));
    desk.serve();
    while !desk.look().contains("y yes") {
        desk.press(KeyCode::Char(' '));
    }
    desk.press(KeyCode::Char('y'));
    let ballots = desk.ballots();
    assert_eq!(ballots[0].ids, ids(&["ap-1", "ap-3", "ap-4"]));
    // Nothing else until these are through.
    desk.press(KeyCode::Char('a'));
    assert!(desk.state.overlay.is_none());
    let mut used = hold("ap-1", "s-one");
    used.state = Standing::Used;
    for id in ["ap-1", "ap-3"] {
        desk.tell(Event::Answered(
            ApprovalId::named(id),
            Ok(Box::new(used.clone())),
        ));
    }
    desk.tell(Event::Answered(
        ApprovalId::named("ap-4"),
        Err("it is expired already".into()),
    ));
    let screen = desk.look();
    assert!(
        screen.contains("2 approved, 1 NOT")
            && screen.contains("ap-4        it is expired already"),
        "{screen}"
    );
}

#[test]
fn the_page_tells_everything() {
    let mut view = hold("ap-1", "s-one");
    view.policies[0].min_approvals = 2;
    let mut desk = Desk::of_size(80, 60);
    desk.tell(Event::Listed(vec![view.clone()]));
    desk.press(KeyCode::Enter);
    desk.serve();
    let change = serde_json::json!({"state": "known", "note": "the description is read at 10:00", "left_out": 3, "edits": [
        {"path": "settings.tier", "before": "small", "after": "large"}, {"path": "x", "before": null, "after": "1"}]});
    let mut full = serde_json::to_value(detail(view, r#"{"a":1}"#)).expect("JSON");
    full["change"] = change;
    full["read_at"] = "2026-01-01T10:00:00Z".into();
    let full: ApprovalDetail = serde_json::from_value(full).expect("a detail");
    desk.tell(Event::Looked(ApprovalId::named("ap-1"), Ok(Box::new(full))));
    let screen = desk.look();
    for part in [
        " ap-1  sql.instances.delete  9:00 left",
        "action      delete: instances, sql (sql.instances.delete)",
        "principal   https://issuer#repo:a/b",
        "command     terraform apply",
        "policy      deletes (deletes.cedar:3): deletes are for people",
        "asks        2 different people of dba",
        "|   settings.tier",
        "| - small",
        "| + large",
        "And 3 more.",
        "| user-agent: gcloud",
        "|   \"a\": 1",
        "| 10:00:00Z  operation sql.instances.list",
    ] {
        assert!(screen.contains(part), "{part:?} is not in\n{screen}");
    }
}

#[test]
fn hostile_text_draws_hides_and_fakes_nothing() {
    let nasty = "\u{1b}[2J\u{1b}]0;x\u{7}\r\n\u{202e}\u{200b}\u{301}\u{fe0f}\u{1f1e9}\u{5d0}\u{3164}\t\u{9b}31m日本";
    let mut view = hold("ap-1", "s-one");
    view.resource = format!("{nasty}{}WHY IT IS HELD", " ".repeat(300));
    view.action = nasty.repeat(20);
    view.user.name = nasty.into();
    view.principal = nasty.into();
    view.url = nasty.into();
    view.traits.insert(nasty.into());
    view.policies[0].reason = Some(nasty.into());
    for size in [(80, 24), (200, 50), (60, 12)] {
        let mut desk = Desk::of_size(size.0, size.1);
        desk.tell(Event::Listed(vec![view.clone()]));
        let mut seen = desk.look();
        desk.press(KeyCode::Enter);
        desk.tell(Event::Looked(
            ApprovalId::named("ap-1"),
            Ok(detail(view.clone(), &nasty.repeat(3))),
        ));
        let about = About {
            command: nasty.into(),
            claims: vec![(nasty.into(), nasty.into())],
            recent: vec![nasty.into()],
            ..About::default()
        };
        desk.tell(Event::Learned(
            SessionId::from_cgroup("s-one"),
            Ok(Box::new(about)),
        ));
        for _ in 0..30 {
            seen.push_str(&desk.look());
            desk.press(KeyCode::PageDown);
        }
        desk.press(KeyCode::Char('d'));
        desk.tell(Event::Paste(nasty.into()));
        seen.push_str(&desk.look());
        desk.press(KeyCode::Enter);
        seen.push_str(&desk.look());
        desk.press(KeyCode::Esc);
        desk.tell(Event::Lost(nasty.into()));
        seen.push_str(&desk.look());
        let bad: Vec<char> = seen
            .chars()
            .filter(|it| *it != '\n' && crate::cli::approvals::screen::is_tricky(*it))
            .collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert!(seen.contains("\\u{202e}\\u{200b}"), "{seen}");
        let headings = seen
            .lines()
            .filter(|line| line.trim_end() == "WHY IT IS HELD");
        assert!(headings.count() < 40, "a heading is faked");
        assert!(seen.lines().all(
            |line| !line.starts_with("WHY IT IS HELD ") || line.trim_end() == "WHY IT IS HELD"
        ));
    }
}

#[test]
fn a_thousand_are_drawn_as_fast_as_the_screen_is_high() {
    let all: Vec<_> = (0..1000)
        .map(|it| hold(&format!("ap-{it:04}"), &format!("s-{}", it % 50)))
        .collect();
    let mut desk = Desk::with(&all);
    assert!(desk.look().contains("1000 waiting"));
    desk.press(KeyCode::End);
    assert!(desk.look().contains("db-ap-0959"), "the last of s-9");
    desk.press(KeyCode::Char('/'));
    desk.keys("0777");
    desk.press(KeyCode::Enter);
    let screen = desk.look();
    assert!(
        screen.contains("only /0777") && screen.contains("db-ap-0777"),
        "{screen}"
    );
}

#[test]
fn more_than_can_be_read_is_not_answered_at_once() {
    let all: Vec<_> = (0..101)
        .map(|it| hold(&format!("ap-{it:04}"), "s-one"))
        .collect();
    let mut desk = Desk::with(&all);
    desk.press(KeyCode::Home);
    desk.press(KeyCode::Char('a'));
    assert!(desk.look().contains("more than a hundred"));
    assert!(desk.state.overlay.is_none());
}

#[test]
fn a_session_or_a_group_may_be_all_that_is_wanted() {
    let view = hold("ap-1", "s-one");
    let only = |session: Option<&str>, group: Option<&str>| Only {
        session: session.map(str::to_owned),
        group: group.map(str::to_owned),
    };
    assert!(only(None, None).takes(&view));
    assert!(only(Some("s-one"), Some("dba")).takes(&view));
    assert!(!only(Some("s-two"), None).takes(&view));
    assert!(!only(Some("s-one"), Some("admins")).takes(&view));
}

#[test]
fn the_bell_rings_for_what_is_new() {
    let mut desk = Desk::with(&[hold("ap-1", "s-one")]);
    assert!(!desk.effects.contains(&Effect::Bell), "it was there before");
    desk.tell(Event::Listed(vec![
        hold("ap-1", "s-one"),
        hold("ap-2", "s-one"),
    ]));
    assert!(desk.effects.contains(&Effect::Bell));
    assert!(desk.look().contains("1 more operation waits"));
    let mut quiet = Desk::new();
    quiet.state = State::new(Theme::PLAIN, 7, true, at(60));
    quiet.tell(Event::Listed(Vec::new()));
    quiet.tell(Event::Listed(vec![hold("ap-1", "s-one")]));
    assert!(!quiet.effects.contains(&Effect::Bell));
}

#[test]
fn every_size_is_drawn() {
    for (width, height) in [
        (1, 1),
        (20, 5),
        (59, 24),
        (60, 12),
        (80, 24),
        (139, 30),
        (140, 30),
        (300, 100),
    ] {
        let mut desk = Desk::of_size(width, height);
        desk.tell(Event::Listed(vec![hold("ap-1", "s-one")]));
        let _ = desk.look();
        desk.press(KeyCode::Enter);
        desk.serve();
        let screen = desk.look();
        assert_eq!(screen.lines().count(), usize::from(height));
        desk.press(KeyCode::Char('a'));
        let is_small = width < 60 || height < 12;
        assert_eq!(desk.state.overlay.is_none(), is_small, "{width}x{height}");
        desk.tell(Event::Resize(20, 5));
        desk.press(KeyCode::Char('y'));
        assert!(
            desk.ballots().is_empty(),
            "what cannot be shown cannot be answered"
        );
    }
}
