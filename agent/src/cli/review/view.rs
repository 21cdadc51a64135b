//! Draws the state. Nothing is decided here, and only what is on the screen is looked at.

use jiff::SignedDuration;
use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{
    confirm::{Confirm, Verdict},
    inbox::Row,
    layout::Layout,
    state::{Front, Link, Overlay, State},
    text::{column, cut, width},
    theme::Tone,
};
use crate::{
    approvals::{ApprovalId, ApprovalView},
    cli::approvals::screen::Keep,
    session::SessionId,
};

/// With less time left, it is urgent.
const URGENT: SignedDuration = SignedDuration::from_secs(60);

const HELP: &[(&str, &str)] = &[
    ("Up Down j k", "one line; PgUp PgDn Home End: further"),
    ("Enter", "read the whole operation; Esc goes back"),
    (
        "Space",
        "mark it for one answer with others; on a session's line, all of the session; u: unmark all",
    ),
    (
        "a",
        "approve what is marked, or what the cursor is on: asks first",
    ),
    (
        "d",
        "deny it: asks for a comment, which the agent reads, and then again",
    ),
    (
        "g",
        "grant: approve it, and the same action on the same resource for 30 minutes, where policy lets you",
    ),
    (
        "B",
        "break the glass: approve alone what needs others, in an emergency, with a reason",
    ),
    (
        "y",
        "at the question: yes. Counts when all of it was on the screen, half a second after the key before",
    ),
    (
        "/",
        "show only what contains a text: id, session, user, principal, action, resource; Esc: all again",
    ),
    ("s", "sort by time left, or newest first"),
    ("q", "leave; Ctrl-C at any time"),
];

pub(super) fn draw(frame: &mut Frame, state: &State) {
    let layout = state.layout();
    if layout.is_too_small {
        let text = "Too small: make the terminal 60 columns by 12 lines, or more. q leaves.";
        frame.render_widget(Line::from(text), frame.area());
        return;
    }
    let canvas = &mut Canvas { frame, state };
    match &state.overlay {
        Some(Overlay::Confirm(confirm) | Overlay::Comment(confirm)) => {
            canvas.question(confirm, layout)
        }
        Some(Overlay::Help) => canvas.help(layout),
        Some(Overlay::Report(page)) => {
            canvas.bar(layout, " Not taken", "");
            canvas.lines(layout.whole, page, 0);
            canvas.keys(layout, "any key: go on");
        }
        Some(Overlay::Filter) | None => canvas.front(layout),
    }
    canvas.notice(layout);
}

struct Canvas<'a, 'f> {
    frame: &'a mut Frame<'f>,
    state: &'a State,
}

impl Canvas<'_, '_> {
    fn front(&mut self, layout: Layout) {
        let state = self.state;
        let inbox = &state.inbox;
        let reading = state.front == Front::Reading;
        let pending = inbox.pending();
        let title = match &state.reading {
            Some(it) if reading => self.title_of(&it.id),
            _ => {
                let marked = match inbox.marks() {
                    0 => String::new(),
                    marks => format!(", {marks} marked"),
                };
                let filter = match inbox.filter() {
                    "" => String::new(),
                    filter => format!(", only /{filter}"),
                };
                format!(" Holdpoint: {pending} waiting{marked}{filter}")
            }
        };
        self.bar(layout, &title, inbox.sort().name());
        if layout.is_wide || !reading {
            self.list(layout.list);
        }
        if (layout.is_wide || reading)
            && let Some(reading) = &state.reading
        {
            self.lines(layout.page, &reading.page, reading.top);
        }
        let keys = match (reading, &state.overlay) {
            (_, Some(Overlay::Filter)) => {
                &format!("/{}_   Enter keep it  Esc show all", inbox.filter())
            }
            (false, _) => {
                "Enter read  Space mark  a approve  d deny  / find  s sort  ? help  q quit"
            }
            (true, _) => "Space on  PgUp back  a approve  d deny  Esc list  ? help",
        };
        self.keys(layout, keys);
    }

    fn title_of(&self, id: &ApprovalId) -> String {
        let Some(entry) = self.state.inbox.entry(id) else {
            return format!(" {id}");
        };
        let left = match entry.gone {
            true => "no longer pending".to_owned(),
            false => format!("{} left", minutes(self.left(&entry.view))),
        };
        format!(" {id}  {}  {left}", entry.view.action)
    }

    fn left(&self, view: &ApprovalView) -> SignedDuration {
        view.expires_at.duration_since(self.state.now)
    }

    fn list(&mut self, area: Rect) {
        let inbox = &self.state.inbox;
        if inbox.rows().is_empty() {
            let text = match (&self.state.link, inbox.filter()) {
                (Link::Connecting, _) => "Asking the daemon ...",
                (Link::Lost(_), _) => "Nothing is known without the daemon.",
                (Link::Live, "") => {
                    "Nothing waits for an answer. What comes appears here by itself."
                }
                (Link::Live, _) => "Nothing that waits contains this text: Esc shows all.",
            };
            let line = Line::styled(text, self.state.theme.style(Tone::Faint));
            self.lines(area, &[line], 0);
            return;
        }
        let top = inbox.top();
        let shown = inbox
            .rows()
            .iter()
            .enumerate()
            .skip(top)
            .take(usize::from(area.height));
        let room = usize::from(area.width);
        let lines: Vec<_> = shown
            .map(|(at, row)| {
                let line = match row {
                    Row::Session(id) => self.session_row(id, room),
                    Row::Hold(id) => self.hold_row(id, room, at == inbox.cursor_index()),
                };
                if at == inbox.cursor_index() {
                    line.style(self.state.theme.style(Tone::Cursor))
                } else {
                    line
                }
            })
            .collect();
        self.lines(area, &lines, 0);
    }

    fn session_row(&self, id: &SessionId, room: usize) -> Line<'static> {
        let theme = self.state.theme;
        let Some(group) = self.state.inbox.group(id) else {
            return Line::default();
        };
        let soonest = minutes(group.soonest.duration_since(self.state.now));
        let oldest = minutes(self.state.now.duration_since(group.oldest));
        let pending = group
            .ids
            .iter()
            .filter(|id| self.state.inbox.is_pending(id));
        let counts = format!(" {} held, {oldest} old, {soonest} left", pending.count());
        let user = cut(&group.user, 12, Keep::Beginning);
        let name = format!("{id} {user} ");
        let rest = room.saturating_sub(width(&counts) + width(&name));
        let who = column(&group.principal, rest, Keep::End);
        Line::styled(format!("{name}{who}{counts}"), theme.style(Tone::Heading))
    }

    fn hold_row(&self, id: &ApprovalId, room: usize, has_cursor: bool) -> Line<'static> {
        let theme = self.state.theme;
        let Some(entry) = self.state.inbox.entry(id) else {
            return Line::default();
        };
        let view = &entry.view;
        let cursor = if has_cursor { ">" } else { " " };
        let mark = if self.state.inbox.is_marked(id) {
            "[x]"
        } else {
            "[ ]"
        };
        let left = self.left(view);
        let (time, tone) = match (entry.gone, left < URGENT) {
            (true, _) => ("gone".to_owned(), Tone::Faint),
            (false, true) => (format!("{}!", minutes(left)), Tone::Urgent),
            (false, false) => (format!("{} ", minutes(left)), Tone::Plain),
        };
        let votes = votes(view);
        let action = column(&view.action, (room / 3).min(32), Keep::End);
        let start = format!("{cursor}{mark} ");
        let used = width(&start) + 7 + 1 + width(&action) + 1 + width(&votes);
        let resource = cut(&view.resource, room.saturating_sub(used), Keep::End);
        Line::from(vec![
            Span::raw(start),
            Span::styled(format!("{time:>7} "), theme.style(tone)),
            Span::raw(format!("{action} ")),
            Span::styled(votes, theme.style(Tone::Urgent)),
            Span::raw(resource),
        ])
    }

    fn question(&mut self, confirm: &Confirm, layout: Layout) {
        let state = self.state;
        let verb = confirm.verdict.name();
        let tone = match confirm.verdict {
            Verdict::Approve => Tone::Good,
            Verdict::Grant => Tone::Urgent,
            Verdict::Deny | Verdict::BreakGlass => Tone::Bad,
        };
        let count = confirm.ids().len();
        let noun = if count == 1 {
            "operation"
        } else {
            "operations"
        };
        let soonest = confirm
            .items
            .iter()
            .filter(|it| !it.gone)
            .map(|it| self.left(&it.view))
            .min();
        let left = soonest.map_or_else(String::new, |left| format!("{} left", minutes(left)));
        self.bar(layout, &format!(" {verb} {count} {noun}? {left}"), "");
        self.lines(layout.whole, &confirm.page, confirm.top);
        let comment = match confirm.comment.as_str() {
            "" => "no comment".to_owned(),
            comment => format!("comment: {comment}"),
        };
        let typing = matches!(state.overlay, Some(Overlay::Comment(_)));
        let keys = match (
            typing,
            confirm.shows_the_end(usize::from(layout.whole.height)) || !confirm.verdict.opens(),
        ) {
            (true, _) => format!("{}{}_", prompt(confirm.verdict), confirm.comment),
            (false, true) => format!("{verb} {count}?  y yes  c comment  Esc no   ({comment})"),
            (false, false) => {
                format!("Space: there is more to see   c comment  Esc no   ({comment})")
            }
        };
        let style = state.theme.style(tone);
        let keep = if typing { Keep::End } else { Keep::Beginning };
        let text = cut(&keys, usize::from(layout.keys.width), keep);
        self.lines(layout.keys, &[Line::styled(text, style)], 0);
        if typing {
            let hint = "Enter go on to the question   Esc no answer";
            let line = Line::styled(hint, state.theme.style(Tone::Faint));
            self.lines(layout.notice, &[line], 0);
        }
    }

    fn help(&mut self, layout: Layout) {
        self.bar(layout, " Help", "");
        let mut page = super::page::Page::new(self.state.theme, layout.whole.width);
        for (key, what) in HELP {
            page.field(key, what);
        }
        page.blank();
        page.text(
            "What agents wrote is quoted; control characters and what is invisible are spelled out, such as \\u{202e}.",
            Tone::Faint,
        );
        let lines = page.finish();
        self.lines(layout.whole, &lines, 0);
        self.keys(layout, "any key: go on");
    }

    /// The first line: what this is, and whether it is live.
    fn bar(&mut self, layout: Layout, title: &str, aside: &str) {
        let link = match &self.state.link {
            Link::Connecting => "connecting ",
            Link::Live => "live ",
            Link::Lost(_) => "NO CONNECTION ",
        };
        let right = match aside {
            "" => link.to_owned(),
            aside => format!("{aside}  {link}"),
        };
        let room = usize::from(layout.bar.width).saturating_sub(width(&right));
        let left = column(title, room, Keep::Beginning);
        let style = self.state.theme.style(Tone::Bar);
        self.lines(
            layout.bar,
            &[Line::styled(format!("{left}{right}"), style)],
            0,
        );
    }

    /// The last line but one: what is wrong, else what happened last.
    fn notice(&mut self, layout: Layout) {
        let state = self.state;
        let (text, tone) = match (&state.link, &state.sending, &state.notice) {
            (Link::Lost(why), _, _) => (format!("No connection, trying again: {why}"), Tone::Bad),
            (_, Some(sending), _) => (sending.under_way(), Tone::Urgent),
            (_, None, Some(notice)) => (notice.text.clone(), notice.tone),
            _ => return,
        };
        let text = column(&text, usize::from(layout.notice.width), Keep::Beginning);
        let line = Line::styled(text, state.theme.style(tone));
        self.lines(layout.notice, &[line], 0);
    }

    fn keys(&mut self, layout: Layout, keys: &str) {
        let text = cut(keys, usize::from(layout.keys.width), Keep::Beginning);
        let line = Line::styled(text, self.state.theme.style(Tone::Faint));
        self.lines(layout.keys, &[line], 0);
    }

    fn lines(&mut self, area: Rect, lines: &[Line], top: usize) {
        let shown = lines.iter().skip(top).take(usize::from(area.height));
        for (line, y) in shown.zip(area.y..) {
            self.frame.render_widget(
                line,
                Rect {
                    y,
                    height: 1,
                    ..area
                },
            );
        }
    }
}

fn prompt(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Deny => "Comment, recorded, and told to the agent (may be empty): ",
        Verdict::BreakGlass => "Why, recorded (may not be empty): ",
        Verdict::Approve | Verdict::Grant => "Comment, recorded (may be empty): ",
    }
}

/// How many of how many people have approved, where more than one has to.
fn votes(view: &ApprovalView) -> String {
    let needed = view.policies.iter().map(|rule| rule.min_approvals).max();
    match needed {
        Some(needed) if needed > 1 => format!("{}/{needed} ", view.decisions.len()),
        _ => String::new(),
    }
}

fn minutes(left: SignedDuration) -> String {
    let seconds = left.as_secs().max(0);
    match seconds / 3600 {
        0 => format!("{}:{:02}", seconds / 60, seconds % 60),
        hours if hours < 100 => format!("{hours}h{:02}", seconds / 60 % 60),
        hours => format!("{}d", hours / 24),
    }
}
