//! Two events that do not fit together, where nothing but the chain tells: the next checkpoint says which of them was altered.

use holdpoint_core::merkle::{Node, Tree};

use super::check::{Ahead, Finding, Item, Problem, at};

/// An event, and the one before it, from which it does not follow.
pub(super) struct Suspects {
    /// The number of the second.
    second: u64,
    /// The tree if the first was altered, and was what the second says.
    first_was: Tree,
    /// The tree if the second was altered, and was what the next one says.
    second_was: Tree,
    /// The link of the last event, not in the trees yet.
    last: Node,
    /// How many came after the second.
    after: u64,
}

impl Suspects {
    /// `before`: of all events before the two. The first one's link is `first`; the second says that it was `prev`, and has itself `second`.
    pub(super) fn new(before: &Tree, first: Node, prev: Node, second: Node) -> Self {
        let (mut first_was, mut second_was) = (before.clone(), before.clone());
        first_was.push(prev);
        second_was.push(first);
        Self {
            second: before.size() + 2,
            first_was,
            second_was,
            last: second,
            after: 0,
        }
    }

    /// What can be said without a checkpoint.
    pub(super) fn finding(&self) -> Finding {
        Finding {
            first_bad: self.second - 1,
            up_to: Some(self.second),
            problem: Problem::Unchained,
        }
    }

    /// With the next event.
    pub(super) fn go_on(&mut self, next: Item, checkpoints: &mut Ahead) -> Result<(), Finding> {
        let before = match next {
            Item::Event { prev, .. } => prev,
            Item::Purged { .. } => self.last,
        };
        if self.after > 0 && before != self.last {
            // More than one was altered.
            return Err(self.finding());
        }
        self.first_was.push(self.last);
        self.second_was.push(before);
        self.last = next.link();
        self.after += 1;
        self.judge(checkpoints)
    }

    /// There is no next event.
    pub(super) fn end(mut self, checkpoints: &mut Ahead) -> Finding {
        self.first_was.push(self.last);
        self.second_was.push(self.last);
        let judged = self.judge(checkpoints);
        judged.err().unwrap_or_else(|| self.finding())
    }

    pub(super) fn judged(self, checkpoints: &mut Ahead) -> Result<Self, Finding> {
        self.judge(checkpoints).map(|()| self)
    }

    fn judge(&self, checkpoints: &mut Ahead) -> Result<(), Finding> {
        let size = self.first_was.size();
        let Some(promise) = checkpoints.next_if(|it| it.checkpoint.size == size) else {
            return Ok(());
        };
        let root = promise.checkpoint.root;
        Err(if self.first_was.root() == root {
            at(self.second - 1, Problem::Altered)
        } else if self.second_was.root() == root {
            at(self.second, Problem::Altered)
        } else {
            self.finding()
        })
    }
}
