//! The second keypress: what it would answer is fixed when the question is opened, shown whole, and only a key that was
//! pressed after all that counts.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use ratatui::text::Line;

use crate::approvals::{ApprovalId, ApprovalView};

/// No key but a deliberate one counts: none within this time after the question has been drawn, or after the key before.
/// Longer than between the repetitions of a key that is held down.
pub(super) const QUIET: Duration = Duration::from_millis(500);
/// Operations that one question may be about.
pub(super) const AT_ONCE: usize = 100;

/// What a grant that is made here lasts.
pub(super) const GRANT_SECONDS: u64 = 30 * 60;

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Approve,
    Deny,
    /// Approve it, and more of the same for [`GRANT_SECONDS`].
    Grant,
    /// Approve alone what needs others, in an emergency.
    BreakGlass,
}

impl Verdict {
    /// As the question's title says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Approve => "APPROVE",
            Self::Deny => "DENY",
            Self::Grant => "GRANT for 30 minutes",
            Self::BreakGlass => "BREAK THE GLASS for",
        }
    }

    /// Whether something may happen because of it.
    pub(super) fn opens(self) -> bool {
        self != Self::Deny
    }

    /// Whether words are asked for before the question.
    pub(super) fn asks_why(self) -> bool {
        matches!(self, Self::Deny | Self::BreakGlass)
    }
}

/// One operation of a question.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// As it was when the question was opened.
    pub(super) view: ApprovalView,
    /// Whether its whole request has been on the screen before.
    pub(super) read: bool,
    /// Whether it has been, or is on this question's page.
    pub(super) shown: bool,
    /// Whether it cannot be answered any more.
    pub(super) gone: bool,
}

/// A question to the reviewer: really?
#[derive(Debug)]
pub(super) struct Confirm {
    pub(super) verdict: Verdict,
    pub(super) items: Vec<Item>,
    pub(super) comment: String,
    pub(super) page: Vec<Line<'static>>,
    pub(super) top: usize,
    /// When it was asked. What it says does not change with the time of day: a page that changed has to be read again.
    pub(super) asked_at: Timestamp,
    /// Lines of the page that have been on the screen, from its beginning.
    seen: usize,
    quiet_since: Option<Instant>,
}

/// Why the key does not count yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotYet {
    /// A request could not be fetched, or not yet.
    Missing,
    /// There is more to see below.
    Unseen,
    /// It came too soon.
    TooSoon,
    /// There is nothing left to answer.
    AllGone,
    /// Breaking the glass needs a reason.
    NoReason,
}

impl Confirm {
    pub(super) fn new(verdict: Verdict, items: Vec<Item>, asked_at: Timestamp) -> Self {
        Self {
            verdict,
            items,
            comment: String::new(),
            page: Vec::new(),
            top: 0,
            asked_at,
            seen: 0,
            quiet_since: None,
        }
    }

    /// What would be answered.
    pub(super) fn ids(&self) -> Vec<ApprovalId> {
        let open = self.items.iter().filter(|item| !item.gone);
        open.map(|item| item.view.id.clone()).collect()
    }

    /// The page has changed: all of it has to be seen again, and before the next key counts.
    pub(super) fn set_page(&mut self, page: Vec<Line<'static>>) {
        if page != self.page {
            self.top = self.top.min(page.len().saturating_sub(1));
            self.seen = 0;
            self.quiet_since = None;
            self.page = page;
        }
    }

    /// Shows another part. A key that does is no answer, and neither is the next one that comes too soon.
    pub(super) fn scroll_to(&mut self, line: usize, height: usize) {
        self.top = line.min(self.page.len().saturating_sub(height));
        self.be_quiet();
    }

    /// Some key was pressed: from the next drawing on, time is counted again.
    pub(super) fn be_quiet(&mut self) {
        self.quiet_since = None;
    }

    /// It is on the screen now, `height` lines of it.
    pub(super) fn drawn(&mut self, height: usize, at: Instant) {
        // Only what follows what has been seen: whoever jumps to the end has not seen the middle.
        if self.top <= self.seen {
            self.seen = self.seen.max(self.top + height).min(self.page.len());
        }
        self.quiet_since.get_or_insert(at);
    }

    /// Whether the end is on the screen, `height` lines of it, with nothing passed over.
    pub(super) fn shows_the_end(&self, height: usize) -> bool {
        self.is_seen() || (self.top <= self.seen && self.top + height >= self.page.len())
    }

    fn is_seen(&self) -> bool {
        !self.page.is_empty() && self.seen >= self.page.len()
    }

    /// The key that answers was pressed.
    pub(super) fn press(&mut self, at: Instant) -> Result<(), NotYet> {
        let since = self.quiet_since.replace(at);
        let quiet = since.is_some_and(|since| at.saturating_duration_since(since) >= QUIET);
        if self.items.iter().all(|item| item.gone) {
            return Err(NotYet::AllGone);
        }
        // A denial harms nothing that is not on the first screen.
        if self.verdict.opens() {
            if self.items.iter().any(|item| !item.gone && !item.shown) {
                return Err(NotYet::Missing);
            }
            if !self.is_seen() {
                return Err(NotYet::Unseen);
            }
        }
        if self.verdict == Verdict::BreakGlass && self.comment.trim().is_empty() {
            return Err(NotYet::NoReason);
        }
        if !quiet {
            return Err(NotYet::TooSoon);
        }
        Ok(())
    }
}
