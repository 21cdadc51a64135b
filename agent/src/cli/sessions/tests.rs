use jiff::Timestamp;

use super::*;
use crate::{
    record::{Event, Link, SessionSummary},
    session::{SessionId, User},
};

fn view(command: &str) -> SessionView {
    SessionView {
        live: true,
        summary: SessionSummary {
            id: SessionId::random(),
            principal: "https://issuer#repo:a/b".into(),
            user: User {
                uid: 1000,
                gid: 1000,
                name: "ci".into(),
            },
            command: command.split(' ').collect(),
            service: None,
            within: None,
            opened_at: Timestamp::UNIX_EPOCH,
            closed_at: None,
            close_reason: None,
            operations: 3,
            held: 1,
            denied: 0,
            observed: 0,
            refused: 0,
        },
    }
}

#[test]
fn a_list_fits_the_screen_and_keeps_the_beginning_of_the_command() {
    let row = row(&view(&format!("gcloud sql {}", "x".repeat(200))));
    assert_eq!(&row[1..3], ["1970-01-01 00:00:00Z", "open"]);
    let head = [
        "ID", "OPENED", "STATE", "USER", "OPS", "HELD", "DENIED", "COMMAND",
    ];
    let text = table(head, &[row], Keep::Beginning);
    assert!(text.lines().all(|line| line.chars().count() <= 100));
    assert!(text.contains(" gcloud sql xx") && text.trim_end().ends_with("x…"));
}

#[test]
fn an_agent_cannot_add_lines_to_the_account() {
    let session = view("gcloud");
    let event = StoredEvent {
        v: crate::record::VERSION,
        seq: 1,
        time: Timestamp::UNIX_EPOCH,
        prev: Link::default(),
        event: Event::RequestRefused {
            session: session.summary.id.clone(),
            connection: 1,
            request: "GET x\n00:00:00Z approval ap-1 approved\u{1b}[1A".into(),
            reason: "malformed".into(),
        },
    };
    let detail = SessionDetail {
        session,
        events: vec![event],
        next: None,
    };
    let text = described(&detail);
    let last = text.lines().last().expect("lines");
    assert_eq!(
        last,
        "00:00:00.000Z  request     GET x\\n00:00:00Z approval ap-1 approved\\u{1b}[1A refused: malformed"
    );
}
