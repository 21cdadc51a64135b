use std::{path::PathBuf, time::Duration};

use holdpoint_core::{
    approval::{Answer, Channel},
    digest::Digest,
};
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    approvals::{AnswerView, RuleView},
    session::{SessionId, User},
};

fn view(resource: &str) -> ApprovalView {
    let now = Timestamp::now();
    let until = now + Duration::from_secs(900);
    ApprovalView {
        id: ApprovalId::named("ap-0123456789"),
        state: State::Pending,
        session: SessionId::random(),
        principal: "https://issuer#repo:a/b".into(),
        user: User {
            uid: 1000,
            gid: 1000,
            name: "ci".into(),
        },
        action: "sql.instances.delete".into(),
        resource: resource.into(),
        method: "DELETE".into(),
        url: "https://sqladmin.googleapis.com/v1/x".into(),
        traits: BTreeSet::new(),
        digest: Digest::of(&[b"what is asked"]),
        groups: BTreeSet::from(["dba".to_owned()]),
        policies: vec![RuleView {
            id: "deletes".into(),
            file: "deletes.cedar".into(),
            line: 3,
            reason: Some("deletes are for people".into()),
            group: "dba".into(),
            min_approvals: 2,
            grantable: BTreeSet::new(),
        }],
        waiting: 1,
        opened_at: now,
        opened_at_ms: now.as_millisecond(),
        expires_at: until,
        expires_at_ms: until.as_millisecond(),
        decided_at: None,
        decided_at_ms: None,
        break_glass: false,
        decisions: Vec::new(),
    }
}

fn answered(mut view: ApprovalView) -> ApprovalView {
    view.decisions.push(AnswerView {
        reviewer: "dora".into(),
        uid: None,
        verdict: Answer::Approve,
        break_glass: false,
        channel: Channel::Token,
        comment: None,
        at: Timestamp::UNIX_EPOCH,
        at_ms: 0,
    });
    view
}

fn links() -> (tempfile::TempDir, Links) {
    let dir = tempfile::TempDir::new().expect("a directory");
    let links = open_links(&dir);
    (dir, links)
}

fn open_links(dir: &tempfile::TempDir) -> Links {
    let key: PathBuf = dir.path().join("key");
    Links::open(&key, "https://here.example".into()).expect("a key")
}

fn parsed(url: &str) -> Option<Link> {
    Link::parse(url.strip_prefix("https://here.example/a/")?).ok()
}

#[test]
fn a_link_is_for_one_question_and_its_next_answer() {
    let (dir, links) = links();
    let view = view("//x");
    let link = parsed(&links.url(&view)).expect("a link");
    assert!(links.is_mine(&link, &view.digest));
    assert!(!links.is_mine(&link, &Digest::of(&[b"something else"])));
    assert!(!link.is_over(view.opened_at) && link.is_over(view.expires_at));
    let next = parsed(&links.url(&answered(view.clone()))).expect("a link");
    assert_eq!((link.after, next.after), (0, 1));
    // The same after a restart, and never with another key.
    assert!(open_links(&dir).is_mine(&link, &view.digest));
    assert!(!self::links().1.is_mine(&link, &view.digest));
}

proptest! {
    /// Whatever is changed about a link, it is none of ours any more.
    #[test]
    fn no_part_of_a_link_can_be_changed(at in 0_usize..200, to in "[0-9a-zA-Z/_-]") {
        let (_dir, links) = links();
        let view = view("//x");
        let url = links.url(&view);
        let text = url.strip_prefix("https://here.example/a/").expect("ours");
        let at = at % text.len();
        let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
        prop_assume!(changed != text);
        let mine = Link::parse(&changed).is_ok_and(|it| links.is_mine(&it, &view.digest));
        prop_assert!(!mine, "{changed}");
    }

    #[test]
    fn anything_is_a_link_or_not(text: String) {
        let _ = Link::parse(&text);
    }

    /// An agent chooses names, and nothing else of a message.
    #[test]
    fn what_agents_write_stays_in_its_place(resource in "\\PC{0,400}|.{0,80}") {
        let message = Message::new(About::Held(Box::new(view(&resource))), None);
        for (_, value) in message.facts() {
            prop_assert!(value.chars().all(|it| !it.is_control()), "{value:?}");
        }
        let slack = slack::payload(&message);
        let text = slack["text"].as_str().expect("text");
        prop_assert!(!text.contains('<'), "{text}");
        prop_assert_eq!(text.lines().count(), 9, "{}", text);
        prop_assert!(message.json().to_string().len() < 16 * 1024);
    }
}

#[test]
fn the_same_news_have_the_same_id_and_other_news_another() {
    let id = |about| Message::new(about, None).id();
    let held = id(About::Held(Box::new(view("//x"))));
    assert_eq!(held, id(About::Held(Box::new(view("//x")))));
    assert_ne!(held, id(About::Held(Box::new(answered(view("//x"))))));
    assert_ne!(held, id(About::Decided(Box::new(view("//x")))));
}

#[test]
fn where_to_answer_is_a_link_or_a_command() {
    let (_dir, links) = links();
    let with = slack::payload(&Message::new(
        About::Held(Box::new(view("//x"))),
        Some(&links),
    ));
    let text = with["text"].as_str().expect("text");
    assert!(
        text.contains("<https://here.example/a/ap-0123456789/0/"),
        "{text}"
    );
    let without = slack::payload(&Message::new(About::Held(Box::new(view("//x"))), None));
    let text = without["text"].as_str().expect("text");
    assert!(text.contains("holdpoint review"), "{text}");
    for part in [
        "sql.instances.delete",
        "deletes are for people",
        "dba",
        "repo:a/b",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

/// A destination that takes nothing keeps nobody waiting.
#[test]
fn too_much_is_dropped_and_counted() {
    let (orders, mut received) = mpsc::channel(QUEUE);
    let tally = Tally::new("webhook", None);
    let outlet = Outlet {
        groups: BTreeSet::from(["dba".to_owned()]),
        topics: BTreeSet::from([Topic::Held]),
        knows_repeats: false,
        orders,
        tally,
    };
    let notifier = Notifier {
        outlets: Arc::new([outlet]),
        links: None,
    };
    for _ in 0..QUEUE + 7 {
        notifier.tell(|| News::Held(Box::new(view("//x"))));
    }
    assert_eq!(notifier.told()[0].dropped, 7);
    while received.try_recv().is_ok() {}
    let mut foreign = view("//x");
    foreign.groups = BTreeSet::from(["net".to_owned()]);
    notifier.tell(|| News::Held(Box::new(foreign)));
    notifier.tell(|| News::StillHeld(Box::new(view("//x"))));
    assert!(received.try_recv().is_err(), "neither concerns it");
}
