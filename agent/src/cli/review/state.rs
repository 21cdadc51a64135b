//! The screen as a pure state machine: events in, state and effects out.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use crossterm::event::KeyEvent;
use holdpoint_core::approval::State as Standing;
use jiff::Timestamp;
use ratatui::text::Line;

use super::{
    confirm::{Confirm, Item, Verdict},
    describe,
    inbox::{Inbox, Row},
    layout::Layout,
    link::About,
    theme::{Theme, Tone},
};
use crate::{
    approvals::{ApprovalDetail, ApprovalId, ApprovalView},
    session::SessionId,
};

/// Requests that are kept after they were looked at, besides those of a question.
const KEPT: usize = 32;

/// What happens to the screen.
#[derive(Debug)]
pub(super) enum Event {
    Key(KeyEvent, Instant),
    Paste(String),
    Resize(u16, u16),
    Tick(Timestamp),
    /// All that waits.
    Listed(Vec<ApprovalView>),
    /// The daemon does not answer.
    Lost(String),
    Looked(ApprovalId, Result<Box<ApprovalDetail>, String>),
    Learned(SessionId, Result<Box<About>, String>),
    /// The daemon took an answer, or did not.
    Answered(ApprovalId, Result<Box<ApprovalView>, String>),
}

/// What the screen wants done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Bell,
    Quit,
    /// Fetch the request.
    Look(ApprovalId),
    /// Fetch what is known of the session.
    Learn(SessionId),
    /// Give this answer to each, one after the other.
    Answer(Ballot),
}

/// An answer that was confirmed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ballot {
    pub(super) ids: Vec<ApprovalId>,
    pub(super) verdict: Verdict,
    pub(super) comment: Option<String>,
}

/// Whether what is shown is true at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Connecting,
    Live,
    Lost(String),
}

/// What has the keys when no overlay does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    Inbox,
    Reading,
}

/// What lies over it.
#[derive(Debug)]
pub(super) enum Overlay {
    Filter,
    Help,
    /// The comment is typed; then the question is asked.
    Comment(Confirm),
    Confirm(Confirm),
    /// Answers that were not taken.
    Report(Vec<Line<'static>>),
}

/// The request on the page.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) id: ApprovalId,
    pub(super) top: usize,
    pub(super) page: Vec<Line<'static>>,
    /// Its end has been on the screen.
    seen: bool,
}

/// Answers under way.
#[derive(Debug)]
pub(super) struct Sending {
    verdict: Verdict,
    left: usize,
    taken: usize,
    refused: Vec<(ApprovalId, String)>,
    last: Option<Box<ApprovalView>>,
}

/// One line about what happened last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) tone: Tone,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) theme: Theme,
    /// The reviewer's user id.
    own_uid: u32,
    quiet: bool,
    pub(super) size: (u16, u16),
    pub(super) now: Timestamp,
    pub(super) link: Link,
    pub(super) inbox: Inbox,
    pub(super) front: Front,
    pub(super) overlay: Option<Overlay>,
    pub(super) reading: Option<Reading>,
    pub(super) notice: Option<Notice>,
    pub(super) sending: Option<Sending>,
    details: HashMap<ApprovalId, Result<ApprovalDetail, String>>,
    sessions: HashMap<SessionId, Result<About, String>>,
    asked: BTreeSet<ApprovalId>,
    /// Operations whose whole request has been on the screen.
    read: BTreeSet<ApprovalId>,
    pub(super) effects: Vec<Effect>,
}

impl State {
    pub(super) fn new(theme: Theme, own_uid: u32, quiet: bool, now: Timestamp) -> Self {
        Self {
            theme,
            own_uid,
            quiet,
            size: (80, 24),
            now,
            link: Link::Connecting,
            inbox: Inbox::new(),
            front: Front::Inbox,
            overlay: None,
            reading: None,
            notice: None,
            sending: None,
            details: HashMap::new(),
            sessions: HashMap::new(),
            asked: BTreeSet::new(),
            read: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    pub(super) fn layout(&self) -> Layout {
        Layout::of(self.size)
    }

    /// Takes an event in.
    pub(super) fn update(&mut self, event: Event) {
        match event {
            Event::Key(key, at) => self.press(key, at),
            Event::Paste(text) => self.paste(&text),
            Event::Resize(width, height) => {
                self.size = (width, height);
                self.rebuild();
            }
            Event::Tick(now) => self.now = now,
            Event::Listed(pending) => self.list(pending),
            Event::Lost(why) => self.link = Link::Lost(why),
            Event::Looked(id, detail) => self.look(id, detail),
            Event::Learned(id, about) => {
                self.sessions.insert(id, about.map(|about| *about));
                self.rebuild();
            }
            Event::Answered(id, result) => self.answered(id, result),
        }
        let height = usize::from(self.layout().list.height);
        self.inbox.scroll_into(height);
    }

    /// All that has come is taken in, and is drawn next; tells what is to be done about it.
    pub(super) fn settle(&mut self) -> Vec<Effect> {
        self.follow_cursor();
        std::mem::take(&mut self.effects)
    }

    /// The screen shows this state since `at`.
    pub(super) fn drawn(&mut self, at: Instant) {
        let layout = self.layout();
        if let Some(Overlay::Confirm(confirm)) = &mut self.overlay {
            confirm.drawn(usize::from(layout.whole.height), at);
            return;
        }
        let (Front::Reading, None, Some(reading)) = (self.front, &self.overlay, &mut self.reading)
        else {
            return;
        };
        let is_there = matches!(self.details.get(&reading.id), Some(Ok(_)));
        reading.seen |= reading.top + usize::from(layout.page.height) >= reading.page.len();
        if reading.seen && is_there {
            self.read.insert(reading.id.clone());
        }
    }

    pub(super) fn say(&mut self, text: impl Into<String>, tone: Tone) {
        let text = text.into();
        self.notice = Some(Notice { text, tone });
    }

    fn list(&mut self, pending: Vec<ApprovalView>) {
        let is_first = self.link == Link::Connecting;
        self.link = Link::Live;
        let change = self.inbox.take(pending);
        if change.arrived > 0 && !is_first {
            let noun = if change.arrived == 1 {
                "operation waits"
            } else {
                "operations wait"
            };
            self.say(format!("{} more {noun}", change.arrived), Tone::Urgent);
            if !self.quiet {
                self.effects.push(Effect::Bell);
            }
        }
        let shown = self.reading.as_ref().map(|reading| &reading.id);
        if let Some(id) = shown.filter(|id| change.left.contains(id)) {
            // How it ended.
            self.effects.push(Effect::Look(id.clone()));
        }
        self.rebuild();
    }

    fn look(&mut self, id: ApprovalId, detail: Result<Box<ApprovalDetail>, String>) {
        self.asked.remove(&id);
        if let Ok(detail) = &detail {
            self.inbox.renew(&detail.approval);
        }
        self.details.insert(id, detail.map(|detail| *detail));
        self.rebuild();
    }

    /// Fetches the request, and who asks, unless that is there or under way.
    fn want(&mut self, id: &ApprovalId) {
        let is_there = matches!(self.details.get(id), Some(Ok(_)));
        if !is_there && self.asked.insert(id.clone()) {
            self.details.remove(id);
            self.effects.push(Effect::Look(id.clone()));
        }
    }

    /// Opens the page of one operation.
    pub(super) fn open(&mut self, id: ApprovalId) {
        self.want(&id);
        if let Some(entry) = self.inbox.entry(&id) {
            // Anew each time: it goes on.
            self.effects.push(Effect::Learn(entry.view.session.clone()));
        }
        self.forget(&id);
        self.reading = Some(Reading {
            id,
            top: 0,
            page: Vec::new(),
            seen: false,
        });
        self.rebuild();
    }

    /// Where there is room for both, the page shows what the cursor is on.
    fn follow_cursor(&mut self) {
        if self.front == Front::Reading {
            return;
        }
        let under = match self.inbox.cursor() {
            Some(Row::Hold(id)) if self.layout().is_wide => Some(id.clone()),
            _ => None,
        };
        match under {
            None => self.reading = None,
            Some(id) if self.reading.as_ref().is_none_or(|it| it.id != id) => self.open(id),
            Some(_) => {}
        }
    }

    /// Lets go of requests that are not needed.
    fn forget(&mut self, but: &ApprovalId) {
        let question = match &self.overlay {
            Some(Overlay::Comment(confirm) | Overlay::Confirm(confirm)) => confirm.ids(),
            _ => Vec::new(),
        };
        if self.details.len() > KEPT + question.len() {
            self.details
                .retain(|id, _| id == but || question.contains(id));
            self.sessions.clear();
        }
        let inbox = &self.inbox;
        self.read.retain(|id| inbox.entry(id).is_some());
    }

    /// Makes the pages anew, because something on them has changed.
    pub(super) fn rebuild(&mut self) {
        let layout = self.layout();
        if let Some(mut reading) = self.reading.take() {
            reading.page = self.page_of(&reading.id, layout.page.width);
            let highest = reading
                .page
                .len()
                .saturating_sub(usize::from(layout.page.height));
            reading.top = reading.top.min(highest);
            self.reading = Some(reading);
        }
        self.overlay = match self.overlay.take() {
            Some(Overlay::Comment(mut confirm)) => {
                self.refresh(&mut confirm);
                Some(Overlay::Comment(confirm))
            }
            Some(Overlay::Confirm(mut confirm)) => {
                self.refresh(&mut confirm);
                Some(Overlay::Confirm(confirm))
            }
            other => other,
        };
    }

    fn page_of(&self, id: &ApprovalId, width: u16) -> Vec<Line<'static>> {
        let Some(entry) = self.inbox.entry(id) else {
            return Vec::new();
        };
        let about = self.sessions.get(&entry.view.session);
        describe::operation(
            describe::Known {
                view: &entry.view,
                gone: entry.gone,
                own_uid: self.own_uid,
                now: self.now,
                detail: self.details.get(id),
                about,
            },
            self.theme,
            width,
        )
    }

    /// What has become of the question's operations.
    pub(super) fn refresh(&self, confirm: &mut Confirm) {
        for item in &mut confirm.items {
            item.gone = !self.inbox.is_pending(&item.view.id);
            item.shown = item.read || matches!(self.details.get(&item.view.id), Some(Ok(_)));
        }
        let page = describe::question(
            confirm,
            &self.details,
            self.theme,
            self.layout().whole.width,
        );
        confirm.set_page(page);
    }

    /// Opens the question about these.
    pub(super) fn ask(&mut self, verdict: Verdict, ids: Vec<ApprovalId>) {
        let items: Vec<Item> = ids
            .iter()
            .filter_map(|id| self.inbox.entry(id))
            .map(|entry| Item {
                view: entry.view.clone(),
                read: self.read.contains(&entry.view.id),
                shown: false,
                gone: entry.gone,
            })
            .collect();
        for item in items.iter().filter(|item| !item.read && verdict.opens()) {
            self.want(&item.view.id);
        }
        let mut confirm = Confirm::new(verdict, items, self.now);
        self.refresh(&mut confirm);
        self.overlay = Some(match verdict.asks_why() {
            true => Overlay::Comment(confirm),
            false => Overlay::Confirm(confirm),
        });
    }

    /// It was confirmed.
    pub(super) fn send(&mut self, confirm: Confirm) {
        let ids = confirm.ids();
        self.sending = Some(Sending {
            verdict: confirm.verdict,
            left: ids.len(),
            taken: 0,
            refused: Vec::new(),
            last: None,
        });
        self.inbox.clear_marks();
        let comment = confirm.comment.trim();
        self.effects.push(Effect::Answer(Ballot {
            ids,
            verdict: confirm.verdict,
            comment: (!comment.is_empty()).then(|| comment.to_owned()),
        }));
    }

    fn answered(&mut self, id: ApprovalId, result: Result<Box<ApprovalView>, String>) {
        if let Ok(view) = &result {
            self.inbox.renew(view);
            if view.state != Standing::Pending {
                self.inbox.answered(&id);
            }
        }
        let Some(sending) = &mut self.sending else {
            return;
        };
        sending.left -= 1;
        match result {
            Ok(view) => {
                sending.taken += 1;
                sending.last = Some(view);
            }
            Err(why) => sending.refused.push((id, why)),
        }
        if sending.left > 0 {
            return;
        }
        let Some(done) = self.sending.take() else {
            return;
        };
        self.say(
            done.in_words(),
            if done.refused.is_empty() {
                Tone::Good
            } else {
                Tone::Bad
            },
        );
        if done.refused.is_empty() {
            self.front = Front::Inbox;
        } else {
            let page = describe::not_taken(&done.refused, self.theme, self.layout().whole.width);
            self.overlay = Some(Overlay::Report(page));
        }
    }
}

impl Sending {
    pub(super) fn under_way(&self) -> String {
        let verb = match self.verdict {
            Verdict::Approve | Verdict::BreakGlass => "Approving",
            Verdict::Deny => "Denying",
            Verdict::Grant => "Granting",
        };
        format!("{verb}: {} to go ...", self.left)
    }

    fn in_words(&self) -> String {
        let verb = match self.verdict {
            Verdict::Approve | Verdict::BreakGlass => "approved",
            Verdict::Deny => "denied",
            Verdict::Grant => "granted for 30 minutes (`holdpoint grants` lists and revokes)",
        };
        let not = match self.refused.len() {
            0 => String::new(),
            refused => format!(", {refused} NOT"),
        };
        match (&self.last, self.taken) {
            (Some(view), 1) if self.refused.is_empty() && self.verdict != Verdict::Grant => {
                match view.state {
                    Standing::Pending => format!(
                        "{}: your approval counts; more people have to approve",
                        view.id
                    ),
                    Standing::Approved => format!(
                        "{}: approved; the next request with this content uses it",
                        view.id
                    ),
                    Standing::Used => format!("{}: approved, and on its way", view.id),
                    other => format!("{}: {other}", view.id),
                }
            }
            (_, taken) => format!("{taken} {verb}{not}"),
        }
    }
}
