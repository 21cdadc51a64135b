//! What was refused before it became an operation: connections and packets by the kernel, names by the resolver, connections
//! by the proxy, requests for a session. Shown by `holdpoint status`, and told to the record at a pace that no agent sets.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Mutex,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    record::{Event, Record, Text},
    session::SessionId,
};

/// Kinds of refusal that are kept, those that came up last.
const KEPT: usize = 256;
/// Events that one session's refusals may become each time: the most frequent ones; one more tells of all the others.
const EVENTS_EACH_TIME: usize = 8;
/// How often they are told to the record.
const EVERY: Duration = Duration::from_secs(10);

/// Who refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedBy {
    /// The BPF programs.
    Kernel,
    /// A session's resolver.
    Dns,
    /// The proxy. The record has these one by one, unless there are too many of them.
    Proxy,
    /// The launcher: a request for a session that was not understood, or may not be.
    Launcher,
}

impl RefusedBy {
    /// A word for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Dns => "dns",
            Self::Proxy => "proxy",
            Self::Launcher => "launcher",
        }
    }
}

/// Something that was refused, as often as it came up in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refused {
    /// The session, where it is one's.
    pub session: Option<SessionId>,
    /// Who refused it.
    pub by: RefusedBy,
    /// The name of the program that asked, as the kernel tells it (`comm`).
    pub process: Option<Text>,
    /// Where it wanted to go: an address, or a name.
    pub destination: Option<Text>,
    /// Why it may not.
    pub reason: Text,
}

/// A line of `holdpoint status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What.
    #[serde(flatten)]
    pub refused: Refused,
    /// The process that asked last.
    pub pid: Option<u32>,
    /// How often.
    pub count: u64,
    /// When last.
    pub last: Timestamp,
}

/// The refusals of this daemon's life, as far as they are kept.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    kept: HashMap<Refused, Entry>,
    /// Goes up with every refusal.
    clock: u64,
    /// What was forgotten before the record was told of it, by session.
    forgotten: BTreeMap<Option<SessionId>, u64>,
}

#[derive(Debug)]
struct Entry {
    pid: Option<u32>,
    count: u64,
    last: Timestamp,
    turn: u64,
    /// How many of `count` the record does not know of.
    untold: u64,
}

impl Refusals {
    /// Something was refused.
    ///
    /// # Panics
    /// When another thread panicked here.
    pub fn note(&self, refused: Refused, pid: Option<u32>) {
        let mut table = self.0.lock().expect("no panic while locked");
        table.note(refused, pid, Timestamp::now(), 1);
    }

    /// Something was refused that the record has already.
    ///
    /// # Panics
    /// As above.
    pub fn note_recorded(&self, refused: Refused, pid: Option<u32>) {
        let mut table = self.0.lock().expect("no panic while locked");
        table.note(refused, pid, Timestamp::now(), 0);
    }

    /// What is kept, newest first.
    ///
    /// # Panics
    /// As above.
    #[must_use]
    pub fn list(&self) -> Vec<Seen> {
        self.0.lock().expect("no panic while locked").list()
    }

    /// Tells the record from time to time, for ever.
    pub async fn keep_record(&self, record: &Record) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.tell(record).await;
        }
    }

    /// Tells the record what it does not know yet.
    ///
    /// # Panics
    /// As above.
    pub async fn tell(&self, record: &Record) {
        let events = self.0.lock().expect("no panic while locked").untold();
        for event in events {
            // They were refused whether or not that can be written down.
            if let Err(error) = record.append_unsynced(event).await {
                tracing::error!(%error, "refusals are missing in the record");
                return;
            }
        }
    }
}

impl Table {
    fn note(&mut self, refused: Refused, pid: Option<u32>, at: Timestamp, untold: u64) {
        self.clock += 1;
        if !self.kept.contains_key(&refused) && self.kept.len() >= KEPT {
            self.forget_one();
        }
        let entry = self.kept.entry(refused).or_insert(Entry {
            pid,
            count: 0,
            last: at,
            turn: 0,
            untold: 0,
        });
        entry.pid = pid;
        entry.count += 1;
        entry.last = at;
        entry.turn = self.clock;
        entry.untold += untold;
    }

    /// The oldest one of the session that has the most: nobody pushes out what others did.
    fn forget_one(&mut self) {
        let mut of_session: HashMap<_, usize> = HashMap::new();
        for refused in self.kept.keys() {
            *of_session.entry(refused.session.as_ref()).or_default() += 1;
        }
        let oldest = self
            .kept
            .iter()
            .max_by_key(|(refused, entry)| {
                let many = of_session.get(&refused.session.as_ref());
                (many.copied(), std::cmp::Reverse(entry.turn))
            })
            .map(|(refused, _)| refused.clone());
        let Some(oldest) = oldest else { return };
        if let Some(entry) = self.kept.remove(&oldest)
            && entry.untold > 0
        {
            *self.forgotten.entry(oldest.session).or_default() += entry.untold;
        }
    }

    fn list(&self) -> Vec<Seen> {
        let mut entries: Vec<_> = self.kept.iter().collect();
        entries.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.turn));
        let seen = entries.into_iter().map(|(refused, entry)| Seen {
            refused: refused.clone(),
            pid: entry.pid,
            count: entry.count,
            last: entry.last,
        });
        seen.collect()
    }

    fn untold(&mut self) -> Vec<Event> {
        let mut by_session: BTreeMap<Option<SessionId>, Vec<_>> = BTreeMap::new();
        for (refused, entry) in self.kept.iter_mut().filter(|(_, entry)| entry.untold > 0) {
            let told = Event::Refused {
                refused: refused.clone(),
                pid: entry.pid,
                count: entry.untold,
            };
            let of = by_session.entry(refused.session.clone()).or_default();
            of.push((std::mem::take(&mut entry.untold), told));
        }
        let mut others = std::mem::take(&mut self.forgotten);
        let mut events = Vec::new();
        for (session, mut told) in by_session {
            told.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
            let rest = told.split_off(told.len().min(EVENTS_EACH_TIME));
            let left_out: u64 = rest.iter().map(|(count, _)| count).sum();
            if left_out > 0 {
                *others.entry(session).or_default() += left_out;
            }
            events.extend(told.into_iter().map(|(_, event)| event));
        }
        let rest = others
            .into_iter()
            .map(|(session, count)| Event::RefusedMore { session, count });
        events.extend(rest);
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(session: &str, destination: impl ToString) -> Refused {
        Refused {
            session: Some(SessionId::from_cgroup(session)),
            by: RefusedBy::Kernel,
            process: Some("curl".into()),
            destination: Some(destination.to_string().into()),
            reason: "udp".into(),
        }
    }

    fn count(events: &[Event]) -> u64 {
        let counts = events.iter().map(|event| match event {
            Event::Refused { count, .. } | Event::RefusedMore { count, .. } => *count,
            other => panic!("{other:?}"),
        });
        counts.sum()
    }

    #[test]
    fn what_is_alike_is_one_line() {
        let refusals = Refusals::default();
        refusals.note(refused("a", "192.0.2.1:9"), Some(7));
        refusals.note(refused("a", "192.0.2.2:9"), Some(7));
        refusals.note(refused("a", "192.0.2.1:9"), Some(8));
        let seen = refusals.list();
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].count, seen[0].pid), (2, Some(8)));
        assert_eq!(seen[0].refused, refused("a", "192.0.2.1:9"));
    }

    #[test]
    fn a_session_pushes_out_what_is_its_own() {
        let mut table = Table::default();
        table.note(
            refused("quiet", "192.0.2.1:9"),
            None,
            Timestamp::UNIX_EPOCH,
            1,
        );
        for number in 0..10 * KEPT {
            table.note(refused("loud", number), None, Timestamp::UNIX_EPOCH, 1);
        }
        assert_eq!(table.kept.len(), KEPT);
        let seen = table.list();
        assert_eq!(seen[0].refused, refused("loud", 10 * KEPT - 1));
        assert_eq!(seen[KEPT - 1].refused, refused("quiet", "192.0.2.1:9"));
    }

    #[test]
    fn the_record_learns_of_all_in_a_few_events() {
        let mut table = Table::default();
        let many = 3 * KEPT as u64;
        for number in 0..many {
            table.note(refused("loud", number), None, Timestamp::UNIX_EPOCH, 1);
        }
        table.note(refused("quiet", "x"), None, Timestamp::UNIX_EPOCH, 1);
        let events = table.untold();
        assert_eq!(events.len(), EVENTS_EACH_TIME + 2);
        assert_eq!(count(&events), many + 1);
        assert!(table.untold().is_empty(), "nothing is told twice");
        table.note(refused("quiet", "x"), None, Timestamp::UNIX_EPOCH, 1);
        assert_eq!(count(&table.untold()), 1);
    }

    #[test]
    fn what_the_proxy_has_recorded_is_not_recorded_again() {
        let mut table = Table::default();
        let by_proxy = Refused {
            by: RefusedBy::Proxy,
            ..refused("a", "x")
        };
        table.note(by_proxy, None, Timestamp::UNIX_EPOCH, 0);
        assert!(table.untold().is_empty());
        assert_eq!(table.list().len(), 1);
    }
}
