//! What the keys do.

use std::time::Instant;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use holdpoint_core::grant::Scope;

use super::{
    confirm::{AT_ONCE, Confirm, NotYet, Verdict},
    inbox::Row,
    state::{Effect, Front, Link, Overlay, State},
    theme::Tone,
};
use crate::approvals::ApprovalId;

/// Characters of a comment or a filter at most.
const INPUT_LIMIT: usize = 500;

impl State {
    pub(super) fn press(&mut self, key: KeyEvent, at: Instant) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && key.code == KeyCode::Char('c') {
            self.effects.push(Effect::Quit);
            return;
        }
        if self.layout().is_too_small {
            // What cannot be shown cannot be answered.
            if key.code == KeyCode::Char('q') {
                self.effects.push(Effect::Quit);
            }
            return;
        }
        self.notice = None;
        match self.overlay.take() {
            None if key
                .modifiers
                .intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {}
            None => match self.front {
                Front::Inbox => self.press_in_inbox(key.code),
                Front::Reading => self.press_on_page(key.code),
            },
            Some(Overlay::Filter) => self.press_in_filter(key),
            Some(Overlay::Comment(confirm)) => self.press_in_comment(confirm, key),
            Some(Overlay::Confirm(confirm)) => self.press_in_question(confirm, key, at),
            // Any key leaves these.
            Some(Overlay::Help | Overlay::Report(_)) => {}
        }
    }

    /// What was pasted is text where text is typed, and nothing anywhere else.
    pub(super) fn paste(&mut self, text: &str) {
        match &mut self.overlay {
            Some(Overlay::Comment(confirm)) => type_text(&mut confirm.comment, text),
            Some(Overlay::Filter) => {
                let mut filter = self.inbox.filter().to_owned();
                type_text(&mut filter, text);
                self.inbox.set_filter(filter);
            }
            _ => self.say("What was pasted is ignored here.", Tone::Faint),
        }
    }

    fn press_in_inbox(&mut self, code: KeyCode) {
        let page = isize::from(self.layout().list.height.cast_signed()) - 1;
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.inbox.move_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.inbox.move_by(1),
            KeyCode::PageUp => self.inbox.move_by(-page),
            KeyCode::PageDown => self.inbox.move_by(page),
            KeyCode::Home => self.inbox.move_to(0),
            KeyCode::End => self.inbox.move_to(usize::MAX),
            KeyCode::Enter | KeyCode::Right => self.enter(),
            KeyCode::Char(' ' | 'x') => self.inbox.toggle_mark(),
            KeyCode::Char('u') => self.inbox.clear_marks(),
            KeyCode::Char('s') => {
                self.inbox.change_sort();
                self.say(self.inbox.sort().name(), Tone::Faint);
            }
            KeyCode::Esc => self.inbox.set_filter(String::new()),
            KeyCode::Char('q') => self.effects.push(Effect::Quit),
            _ => self.press_anywhere(code),
        }
    }

    fn enter(&mut self) {
        match self.inbox.cursor().cloned() {
            Some(Row::Hold(id)) => {
                self.front = Front::Reading;
                self.open(id);
            }
            Some(Row::Session(_)) => self.inbox.move_by(1),
            None => {}
        }
    }

    fn press_on_page(&mut self, code: KeyCode) {
        let height = usize::from(self.layout().page.height);
        let Some(reading) = &mut self.reading else {
            self.front = Front::Inbox;
            return;
        };
        let highest = reading.page.len().saturating_sub(height);
        let top = reading.top;
        let mut go = |to: usize| reading.top = to.min(highest);
        match code {
            KeyCode::Up | KeyCode::Char('k') => go(top.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => go(top + 1),
            KeyCode::PageUp => go(top.saturating_sub(height)),
            KeyCode::PageDown | KeyCode::Char(' ') => go(top + height),
            KeyCode::Home => go(0),
            KeyCode::End => go(highest),
            KeyCode::Esc | KeyCode::Left | KeyCode::Char('q') => self.front = Front::Inbox,
            _ => self.press_anywhere(code),
        }
    }

    fn press_anywhere(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char('a') => self.begin(Verdict::Approve),
            KeyCode::Char('d') => self.begin(Verdict::Deny),
            KeyCode::Char('g') => self.begin(Verdict::Grant),
            KeyCode::Char('B') => self.begin(Verdict::BreakGlass),
            KeyCode::Char('/') => {
                self.front = Front::Inbox;
                self.overlay = Some(Overlay::Filter);
            }
            KeyCode::Char('?') => self.overlay = Some(Overlay::Help),
            _ => {}
        }
    }

    /// The first of the two keypresses.
    fn begin(&mut self, verdict: Verdict) {
        let mut ids = match (self.front, &self.reading) {
            (Front::Reading, Some(reading)) => vec![reading.id.clone()],
            _ => self.inbox.chosen(),
        };
        ids.retain(|id| self.inbox.is_pending(id));
        let why_not = if self.link != Link::Live {
            "Nothing can be answered without a connection to the daemon."
        } else if self.sending.is_some() {
            "The answers before this one are still under way."
        } else if ids.is_empty() {
            "There is nothing to answer here."
        } else if ids.len() > AT_ONCE {
            "That is more than a hundred at once: mark fewer."
        } else if verdict == Verdict::Grant && ids.len() > 1 {
            "A grant is made from one operation: mark none, and go to that one."
        } else if verdict == Verdict::Grant && !self.is_grantable(&ids) {
            "No grant: a policy that holds it does not say @grantable(\"resource\")."
        } else {
            self.ask(verdict, ids);
            return;
        };
        self.say(why_not, Tone::Bad);
    }

    fn is_grantable(&self, ids: &[ApprovalId]) -> bool {
        ids.iter()
            .filter_map(|id| self.inbox.entry(id))
            .all(|entry| {
                let mut rules = entry.view.policies.iter();
                rules.all(|rule| rule.grantable.contains(&Scope::Resource))
            })
    }

    fn press_in_filter(&mut self, key: KeyEvent) {
        let mut filter = self.inbox.filter().to_owned();
        match key.code {
            KeyCode::Enter => return,
            KeyCode::Esc => {
                self.inbox.set_filter(String::new());
                return;
            }
            _ => edit(&mut filter, key),
        }
        self.inbox.set_filter(filter);
        self.overlay = Some(Overlay::Filter);
    }

    fn press_in_comment(&mut self, mut confirm: Confirm, key: KeyEvent) {
        match key.code {
            KeyCode::Esc => {
                self.say("Not answered.", Tone::Faint);
                return;
            }
            KeyCode::Enter => {
                self.refresh(&mut confirm);
                confirm.be_quiet();
                self.overlay = Some(Overlay::Confirm(confirm));
                return;
            }
            _ => edit(&mut confirm.comment, key),
        }
        self.overlay = Some(Overlay::Comment(confirm));
    }

    fn press_in_question(&mut self, mut confirm: Confirm, key: KeyEvent, at: Instant) {
        let height = usize::from(self.layout().whole.height);
        let top = confirm.top;
        match key.code {
            KeyCode::Char('y') if self.link != Link::Live => {
                self.say(
                    "Nothing can be answered without a connection to the daemon.",
                    Tone::Bad,
                );
            }
            KeyCode::Char('y') => match confirm.press(at) {
                Ok(()) => return self.send(confirm),
                Err(why) => self.say(why_not(why), Tone::Urgent),
            },
            KeyCode::Char('c') => {
                self.overlay = Some(Overlay::Comment(confirm));
                return;
            }
            KeyCode::Esc | KeyCode::Char('n' | 'q') => {
                self.say("Not answered.", Tone::Faint);
                return;
            }
            KeyCode::Up | KeyCode::Char('k') => confirm.scroll_to(top.saturating_sub(1), height),
            KeyCode::Down | KeyCode::Char('j') => confirm.scroll_to(top + 1, height),
            KeyCode::PageUp => confirm.scroll_to(top.saturating_sub(height), height),
            KeyCode::PageDown | KeyCode::Char(' ') => confirm.scroll_to(top + height, height),
            KeyCode::Home => confirm.scroll_to(0, height),
            // Whatever else is pressed or held down: the key that counts comes after a pause.
            _ => confirm.be_quiet(),
        }
        self.overlay = Some(Overlay::Confirm(confirm));
    }
}

fn why_not(why: NotYet) -> &'static str {
    match why {
        NotYet::AllGone => "There is nothing left to answer: Esc goes back.",
        NotYet::Missing => "A request is not shown yet: nothing is approved that was not shown.",
        NotYet::Unseen => "There is more to see: Space goes on, then y.",
        NotYet::NoReason => "Breaking the glass needs a reason: c says why.",
        NotYet::TooSoon => "Too soon after the key before: read, then press y.",
    }
}

/// One line of text, typed at its end.
fn edit(text: &mut String, key: KeyEvent) {
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('u') if control => text.clear(),
        KeyCode::Char('w') if control => {
            let kept = text.trim_end().rfind(' ').map_or(0, |space| space + 1);
            text.truncate(kept);
        }
        KeyCode::Char(character) if !control => type_text(text, character.encode_utf8(&mut [0; 4])),
        KeyCode::Backspace => drop(text.pop()),
        _ => {}
    }
}

fn type_text(text: &mut String, typed: &str) {
    let room = INPUT_LIMIT.saturating_sub(text.chars().count());
    let typed = typed
        .chars()
        .map(|it| if it.is_control() { ' ' } else { it });
    text.extend(typed.take(room));
}
