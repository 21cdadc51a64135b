//! Follows a record from its first event to its last, and names the first that is not as it was. Pure, and in little memory.

use std::{fmt, iter::Peekable, ops::RangeInclusive, vec};

use holdpoint_core::{
    checkpoint::Checkpoint,
    merkle::{Node, Tree},
};
use serde::{Deserialize, Serialize};

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
enum Item {
    Event { prev: Node, link: Node },
    Purged { link: Node },
}

impl Item {
    fn link(self) -> Node {
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
    #[error("the record ends before it, and there is a checkpoint of {0} events")]
    Truncated(u64),
    /// Two events do not fit together.
    #[error("one of them was altered: the second does not follow from the first")]
    Unchained,
    /// All events fit together, and are not those that were signed.
    #[error("one of them, or more, was altered and what follows was made to fit: they are not what the checkpoint of {0} events was signed for")]
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
    checkpoints: Peekable<vec::IntoIter<Promise>>,
    /// The largest of them.
    promised: u64,
    links: Option<Links>,
    tree: Tree,
    last: Option<Item>,
    /// Events up to here are those of a checkpoint or of `links`.
    proved: u64,
    /// The event before does not follow from the one before it: which of the two was altered, the next one tells.
    torn: bool,
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
        Self {
            promised: checkpoints.last().map_or(0, |it| it.checkpoint.size),
            checkpoints: checkpoints.into_iter().peekable(),
            links,
            tree: Tree::default(),
            last: None,
            proved: 0,
            torn: false,
            agreed: 0,
            signed: 0,
            signed_elsewhere: 0,
            purged: Vec::new(),
            announced: Vec::new(),
        }
    }

    /// The next event, as it was stored, or what is left of it. Gives its hash.
    ///
    /// # Errors
    /// When this or the one before is not as it was: nothing more can be said of what follows then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Node, Finding> {
        let place = self.tree.size() + 1;
        let item = read(bytes, place);
        if self.torn {
            return Err(self.which_was_altered(item.ok(), place));
        }
        if let Some(expected) = self.expected() {
            return self.compare(bytes, item, place, expected);
        }
        let item = item.map_err(|problem| at(place, problem))?;
        if let Item::Event { prev, .. } = item
            && prev != self.last_link()
        {
            if self.proved + 1 >= place {
                return Err(at(place, Problem::Altered));
            }
            self.torn = true;
        }
        self.take(bytes, item)
    }

    /// Against a hash that a checkpoint vouches for: exactly.
    fn compare(
        &mut self,
        bytes: &[u8],
        item: Result<Item, Problem>,
        place: u64,
        expected: Node,
    ) -> Result<Node, Finding> {
        let item = item.map_err(|problem| at(place, problem))?;
        if item.link() != expected {
            return Err(at(place, Problem::Altered));
        }
        self.proved = place;
        self.take(bytes, item)
    }

    fn take(&mut self, bytes: &[u8], item: Item) -> Result<Node, Finding> {
        let link = item.link();
        self.tree.push(link);
        self.last = Some(item);
        let place = self.tree.size();
        match item {
            Item::Purged { .. } => extend(&mut self.purged, place),
            Item::Event { .. } => self.announced.extend(removed(bytes)),
        }
        if !self.torn {
            self.settle()?;
        }
        Ok(link)
    }

    /// Compares the tree with the checkpoints of its size.
    fn settle(&mut self) -> Result<(), Finding> {
        let size = self.tree.size();
        let due = |it: &Promise| it.checkpoint.size <= size;
        while let Some(Promise {
            checkpoint,
            elsewhere,
        }) = self.checkpoints.next_if(due)
        {
            if checkpoint.size < size {
                // Of no events.
                continue;
            }
            if checkpoint.root != self.tree.root() {
                return Err(self.rewritten(elsewhere));
            }
            self.agreed += 1;
            self.signed = size;
            self.proved = size;
            if elsewhere {
                self.signed_elsewhere = size;
            }
        }
        Ok(())
    }

    /// Nothing but a checkpoint of this size tells that it is another record. Whoever has signed a second history may have signed other
    /// checkpoints for it as well, but not those that are elsewhere.
    fn rewritten(&self, elsewhere: bool) -> Finding {
        let size = self.tree.size();
        let good = if elsewhere { self.signed_elsewhere } else { self.signed };
        match good + 1 < size {
            false => at(size, Problem::Altered),
            true => Finding {
                first_bad: good + 1,
                up_to: Some(size),
                problem: Problem::Rewritten(size),
            },
        }
    }

    /// The event before does not follow from the one before it. If this one follows from it, it is as it was.
    fn which_was_altered(&self, next: Option<Item>, place: u64) -> Finding {
        let follows = matches!(next, Some(Item::Event { prev, .. }) if prev == self.last_link());
        match follows {
            true => at(place - 2, Problem::Altered),
            false => at(place - 1, Problem::Altered),
        }
    }

    fn expected(&mut self) -> Option<Node> {
        self.links.as_mut()?.next()
    }

    fn last_link(&self) -> Node {
        self.last.map_or(Node::from([0; 32]), Item::link)
    }

    /// How many events there were so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// That was the last.
    ///
    /// # Errors
    /// When there have to be more, or one was taken away without a word.
    pub fn finish(self) -> Result<Verified, Finding> {
        let size = self.tree.size();
        if self.torn {
            return Err(Finding {
                first_bad: size - 1,
                up_to: Some(size),
                problem: Problem::Unchained,
            });
        }
        if size < self.promised {
            return Err(at(size + 1, Problem::Truncated(self.promised)));
        }
        let announced = |seq: &u64| self.announced.iter().any(|it| it.contains(seq));
        let unannounced = |range: &RangeInclusive<u64>| {
            // Retention goes by whole segments: one announcement covers a row, or several do, each to its end.
            let mut seq = *range.start();
            while seq <= *range.end() {
                if !announced(&seq) {
                    return Some(seq);
                }
                let ends = self.announced.iter().filter(|it| it.contains(&seq));
                seq = ends.map(|it| *it.end()).max().unwrap_or(seq) + 1;
            }
            None
        };
        if let Some(seq) = self.purged.iter().find_map(unannounced) {
            return Err(at(seq, Problem::Withheld));
        }
        let purged = self.purged.iter().map(|it| (*it.start(), *it.end()));
        Ok(Verified {
            events: size,
            signed: self.signed,
            checkpoints: self.agreed,
            purged: purged.collect(),
            root: Some(self.tree.root()),
        })
    }
}

fn at(first_bad: u64, problem: Problem) -> Finding {
    Finding {
        first_bad,
        up_to: None,
        problem,
    }
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
    match (line.prev, line.purged) {
        (_, Some(link)) => Ok(Item::Purged { link }),
        (Some(prev), None) => Ok(Item::Event {
            prev,
            link: Node::leaf(bytes),
        }),
        (None, None) => Err(Problem::Unreadable),
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
        first: u64,
        last: u64,
    }
    const NAME: &str = "record_purged";
    // Most events are something else: their bytes are not read a second time.
    if !bytes.windows(NAME.len()).any(|it| it == NAME.as_bytes()) {
        return None;
    }
    let purge: Purge = serde_json::from_slice(bytes).ok()?;
    (purge.event == NAME).then_some(purge.first..=purge.last)
}
