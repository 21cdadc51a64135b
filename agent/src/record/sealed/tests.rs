use jiff::Timestamp;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{record::text::Texts, session::User};

fn entry(number: u64, opened_here: bool, events: Vec<u64>) -> Entry {
    let summary = SessionSummary {
        id: SessionId::from_cgroup(&format!("s-{number}")),
        principal: "issuer#subject".into(),
        user: User {
            uid: 1,
            gid: 1,
            name: "ci".into(),
        },
        command: Texts::default(),
        service: None,
        within: None,
        opened_at: Timestamp::UNIX_EPOCH,
        closed_at: None,
        close_reason: None,
        operations: number,
        held: 0,
        denied: 0,
        observed: 0,
        refused: 0,
    };
    Entry {
        summary,
        opened_here,
        events,
    }
}

fn contents(entries: Vec<Entry>) -> Contents {
    Contents {
        extent: Extent {
            first: 5,
            from: Timestamp::UNIX_EPOCH,
            prev: Link::of(b"4"),
            last: 99,
            to: Timestamp::UNIX_EPOCH,
            link: Link::of(b"99"),
        },
        open_ends: OpenEnds {
            sessions: entries.iter().map(|it| it.summary.id.clone()).collect(),
            standing: [("ap-1".to_owned(), vec![5, 7])].into(),
            purges: [(4, (1, 3))].into(),
            unfinished: Vec::new(),
        },
        has_denials: true,
        entries,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_found(events in prop::collection::vec(prop::collection::btree_set(5_u64..100, 0..30), 0..40)) {
        let dir = TempDir::new().expect("a directory");
        let entries = (0..).zip(events).map(|(number, events)| entry(number, number % 2 == 0, events.into_iter().collect()));
        let contents = contents(entries.collect());
        write(dir.path(), &contents).expect("written");
        let (extent, open_ends, table) = open(dir.path(), 5).expect("opens");
        prop_assert_eq!(&extent, &contents.extent);
        prop_assert_eq!(&open_ends, &contents.open_ends);
        for entry in &contents.entries {
            let found = table.find(&entry.summary.id).expect("reads");
            prop_assert_eq!(found.as_ref(), Some(entry));
        }
        prop_assert!(table.find(&SessionId::from_cgroup("s-none")).expect("reads").is_none());
        let mut all: Vec<_> = table.newest_first().map(|it| it.expect("reads")).collect();
        all.reverse();
        prop_assert_eq!(all, contents.entries);
    }
}

#[test]
fn a_changed_byte_is_noticed() {
    let dir = TempDir::new().expect("a directory");
    let id = SessionId::from_cgroup("s-1");
    write(dir.path(), &contents(vec![entry(1, true, vec![5, 6, 90])])).expect("written");
    let path = layout::index(dir.path(), 5);
    let whole = std::fs::read(&path).expect("read");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        let found = open(dir.path(), 5).and_then(|(_, _, table)| table.find(&id));
        assert!(found.is_err(), "byte {at}");
        std::fs::write(&path, &whole[..at]).expect("written");
        let found = open(dir.path(), 5).and_then(|(_, _, table)| table.find(&id));
        assert!(found.is_err(), "cut at {at}");
    }
}
