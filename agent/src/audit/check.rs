//! Follows a record from its first event to its last, and names the first that is not as it was. Pure, and in little memory.

use std::{fmt, iter::Peekable, ops::RangeInclusive, vec};

use holdpoint_core::{
    checkpoint::Checkpoint,
    merkle::{Node, Tree},
};
use serde::{Deserialize, Serialize};

use super::suspects::Suspects;

/// Hashes of all events, in order, as far as checkpoints vouch for them.
pub type Links = Box<dyn Iterator<Item = Node>>;

/// A checkpoint that the record has to agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// Whether it was kept elsewhere, where whoever changed the record could not change it.
    pub elsewhere: bool,
}

/// Checkpoints that are still to come.
pub(super) type Ahead = Peekable<vec::IntoIter<Promise>>;

/// What a verifier has to know of an event.
#[derive(Deserialize)]
struct Line {
    seq: u64,
    /// The link of the event before.
    prev: Option<Node>,
    /// Of an event that retention has removed, its link is left, and nothing else.
    purged: Option<Node>,
}

/// An event on its place.
#[derive(Clone, Copy)]
pub(super) enum Item {
    Event { prev: Node, link: Node },
    Purged { link: Node },
}

impl Item {
    pub(super) fn link(self) -> Node {
        let (Self::Event { link, .. } | Self::Purged { link }) = self;
        link
    }
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct Finding {
    /// The first event that is not as it was recorded; with `up_to`, it is one of these.
    pub first_bad: u64,
    /// Where the evidence does not tell which, the last that it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u64>,
    /// What is wrong with it.
    pub problem: Problem,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.up_to {
            None => write!(f, "event {}: {}", self.first_bad, self.problem),
            Some(last) => write!(f, "events {} to {last}: {}", self.first_bad, self.problem),
        }
    }
}

/// What can be wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// Its bytes are others than those that were recorded.
    #[error("it was altered")]
    Altered,
    /// It is no event.
    #[error("it is damaged: what stands in its place is no event")]
    Unreadable,
    /// Another one that should come later stands in its place.
    #[error("it is missing: event {0} stands in its place")]
    Missing(u64),
    /// One that has come before stands in its place.
    #[error("event {0} stands in its place: one was repeated or moved")]
    Repeated(u64),
    /// The record ends before it.
    #[error("the record ends too early: there is a checkpoint of {0} events")]
    Truncated(u64),
    /// Two events do not fit together.
    #[error(
        "one of the two was altered, or what follows is of another record: the second does not follow from the first"
    )]
    Unchained,
    /// All events fit together, and are not those that were signed.
    #[error(
        "one of them, or more, was altered and what follows was made to fit: they are not what the checkpoint of {0} events was signed for"
    )]
    Rewritten(u64),
    /// It was taken away without a word.
    #[error("only its hash is left, and no event of the record says that retention removed it")]
    Withheld,
}

/// What a whole record is, once nothing was found wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many events there are or were.
    pub events: u64,
    /// How many of them, from the first, the last checkpoint vouches for.
    pub signed: u64,
    /// How many checkpoints they agree with.
    pub checkpoints: usize,
    /// Events of which only hashes are left, first and last of each row.
    pub purged: Vec<(u64, u64)>,
    /// The hash of the tree of all of them.
    pub root: Option<Node>,
}

/// Follows a record.
pub struct Checker {
    checkpoints: Ahead,
    /// The largest of them.
    promised: u64,
    links: Option<Links>,
    /// How many events there were so far.
    size: u64,
    /// Of all but the last one.
    tree: Tree,
    /// The link of the last one. The next one tells whether it is right, so it is not in the tree yet.
    last: Option<Node>,
    /// Events up to here are those of `links`, or of a checkpoint.
    proved: u64,
    suspects: Option<Suspects>,
    agreed: usize,
    signed: u64,
    /// The largest size that a checkpoint from elsewhere agrees with.
    signed_elsewhere: u64,
    purged: Vec<RangeInclusive<u64>>,
    /// What retention is known to have removed.
    announced: Vec<RangeInclusive<u64>>,
}

impl Checker {
    /// With these checkpoints, in any order, and the hashes that they vouch for, where there are any ([`super::evidence`]).
    #[must_use]
    pub fn new(mut checkpoints: Vec<Promise>, links: Option<Links>) -> Self {
        checkpoints.sort_by_key(|it| it.checkpoint.size);
        // Nothing is promised of no events.
        checkpoints.retain(|it| it.checkpoint.size > 0);
        Self {
            promised: checkpoints.last().map_or(0, |it| it.checkpoint.size),
            checkpoints: checkpoints.into_iter().peekable(),
            links,
            size: 0,
            tree: Tree::default(),
            last: None,
            proved: 0,
            suspects: None,
            agreed: 0,
            signed: 0,
            signed_elsewhere: 0,
            purged: Vec::new(),
            announced: Vec::new(),
        }
    }

    /// How many events there were so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next event, as it was stored, or what is left of it. Gives its hash.
    ///
    /// # Errors
    /// When this or one before is not as it was: nothing more can be said of what follows then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Node, Finding> {
        let place = self.size + 1;
        let item = read(bytes, place);
        let item = match &mut self.suspects {
            None => item.map_err(|problem| at(place, problem))?,
            Some(suspects) => item.map_err(|_| suspects.finding())?,
        };
        match &mut self.suspects {
            None => self.place(item, place)?,
            Some(suspects) => suspects.go_on(item, &mut self.checkpoints)?,
        }
        self.size = place;
        self.last = Some(item.link());
        match item {
            Item::Purged { .. } => extend(&mut self.purged, place),
            Item::Event { .. } => self.announced.extend(removed(bytes)),
        }
        Ok(item.link())
    }

    fn place(&mut self, item: Item, place: u64) -> Result<(), Finding> {
        let Some(expected) = self.links.as_mut().and_then(Iterator::next) else {
            return self.follow(item, place);
        };
        self.accept()?;
        if item.link() != expected {
            return Err(at(place, Problem::Altered));
        }
        self.proved = place;
        Ok(())
    }

    /// The one before is vouched for: by the next one's `prev`, or otherwise.
    fn accept(&mut self) -> Result<(), Finding> {
        if let Some(last) = self.last {
            self.tree.push(last);
            self.settle()?;
        }
        Ok(())
    }

    /// Without anything but the chain.
    fn follow(&mut self, item: Item, place: u64) -> Result<(), Finding> {
        let last = self.last.unwrap_or(Node::from([0; 32]));
        match item {
            Item::Event { prev, .. } if prev != last => {
                if self.proved + 1 == place {
                    return Err(at(place, Problem::Altered));
                }
                let suspects = Suspects::new(&self.tree, last, prev, item.link());
                self.suspects = Some(suspects.judged(&mut self.checkpoints)?);
                Ok(())
            }
            _ => self.accept(),
        }
    }

    /// Compares the tree with the checkpoints of its size.
    fn settle(&mut self) -> Result<(), Finding> {
        let size = self.tree.size();
        let due = |it: &Promise| it.checkpoint.size == size;
        while let Some(promise) = self.checkpoints.next_if(due) {
            if promise.checkpoint.root != self.tree.root() {
                return Err(self.rewritten(promise.elsewhere));
            }
            self.agreed += 1;
            self.signed = size;
            self.proved = self.proved.max(size);
            if promise.elsewhere {
                self.signed_elsewhere = size;
            }
        }
        Ok(())
    }

    /// Nothing but a checkpoint of this size tells that it is another record. Whoever has signed a second history may have signed other
    /// checkpoints for it as well, but not those that are elsewhere.
    fn rewritten(&self, elsewhere: bool) -> Finding {
        let size = self.tree.size();
        let good = match elsewhere {
            true => self.signed_elsewhere,
            false => self.signed,
        };
        match good + 1 < size {
            false => at(size, Problem::Altered),
            true => Finding {
                first_bad: good + 1,
                up_to: Some(size),
                problem: Problem::Rewritten(size),
            },
        }
    }

    /// That was the last.
    ///
    /// # Errors
    /// When there have to be more, or one was taken away without a word.
    pub fn finish(mut self) -> Result<Verified, Finding> {
        if let Some(suspects) = self.suspects {
            return Err(suspects.end(&mut self.checkpoints));
        }
        self.accept()?;
        if self.size < self.promised {
            // What nobody vouches for may have been made to fit.
            let next = self.size + 1;
            return Err(Finding {
                first_bad: self.proved + 1,
                up_to: (self.proved < self.size).then_some(next),
                problem: Problem::Truncated(self.promised),
            });
        }
        // What announced the beginning of a row may have been purged since, but never what announced its end.
        let announced = |row: &&RangeInclusive<u64>| {
            let mut announced = self.announced.iter();
            announced.any(|it| it.contains(row.end()))
        };
        if let Some(row) = self.purged.iter().find(|row| !announced(row)) {
            let known = self.announced.iter().filter(|it| row.contains(it.end()));
            let after = known.map(|it| it.end() + 1).max();
            return Err(at(after.unwrap_or(*row.start()), Problem::Withheld));
        }
        let purged = self.purged.iter().map(|it| (*it.start(), *it.end()));
        Ok(Verified {
            events: self.size,
            signed: self.signed,
            checkpoints: self.agreed,
            purged: purged.collect(),
            root: Some(self.tree.root()),
        })
    }
}

pub(super) fn at(first_bad: u64, problem: Problem) -> Finding {
    Finding {
        first_bad,
        up_to: None,
        problem,
    }
}

/// The hash of an event, or what is left of one; `None` if it is neither.
#[must_use]
pub fn link_of(bytes: &[u8]) -> Option<Node> {
    let line = serde_json::from_slice(bytes).ok()?;
    item(&line, bytes).map(Item::link)
}

/// What stands at this place.
fn read(bytes: &[u8], place: u64) -> Result<Item, Problem> {
    let line: Line = serde_json::from_slice(bytes).map_err(|_| Problem::Unreadable)?;
    if line.seq > place {
        return Err(Problem::Missing(line.seq));
    }
    if line.seq < place {
        return Err(Problem::Repeated(line.seq));
    }
    item(&line, bytes).ok_or(Problem::Unreadable)
}

fn item(line: &Line, bytes: &[u8]) -> Option<Item> {
    match (line.prev, line.purged) {
        (_, Some(link)) => Some(Item::Purged { link }),
        (Some(prev), None) => Some(Item::Event {
            prev,
            link: Node::leaf(bytes),
        }),
        (None, None) => None,
    }
}

fn extend(rows: &mut Vec<RangeInclusive<u64>>, place: u64) {
    match rows.last_mut() {
        Some(last) if last.end() + 1 == place => *last = *last.start()..=place,
        _ => rows.push(place..=place),
    }
}

/// The events that this event says retention removed.
fn removed(bytes: &[u8]) -> Option<RangeInclusive<u64>> {
    #[derive(Deserialize)]
    struct Purge {
        event: String,
        what: String,
        first: u64,
        last: u64,
    }
    const NAME: &str = "record_purged";
    // Most events are something else: their bytes are not read a second time.
    if !bytes.windows(NAME.len()).any(|it| it == NAME.as_bytes()) {
        return None;
    }
    let purge: Purge = serde_json::from_slice(bytes).ok()?;
    (purge.event == NAME && purge.what == "events").then_some(purge.first..=purge.last)
}
