//! What the pages say.

use std::collections::HashMap;

use holdpoint_core::{
    approval::Answer,
    change::{Change, Edit},
};
use jiff::Timestamp;
use ratatui::text::Line;

use super::{
    confirm::{Confirm, Item, Verdict},
    link::About,
    page::Page,
    theme::{Theme, Tone},
};
use crate::{
    approvals::{ApprovalDetail, ApprovalId, ApprovalView, ChangeView, RuleView},
    cli::approvals::{change::age, request_line, request_text},
};

/// All that is known of one operation.
pub(super) struct Known<'a> {
    pub(super) view: &'a ApprovalView,
    pub(super) gone: bool,
    pub(super) own_uid: u32,
    pub(super) now: Timestamp,
    pub(super) detail: Option<&'a Result<ApprovalDetail, String>>,
    pub(super) about: Option<&'a Result<About, String>>,
}

/// Everything about one operation.
pub(super) fn operation(known: Known, theme: Theme, width: u16) -> Vec<Line<'static>> {
    let mut page = Page::new(theme, width);
    let view = known.view;
    if known.gone {
        let state = match view.state {
            holdpoint_core::approval::State::Pending => "no longer pending".to_owned(),
            state => state.to_string(),
        };
        page.text(
            &format!("It is {state}: there is nothing left to answer."),
            Tone::Bad,
        );
    }
    what(&mut page, view);
    who(&mut page, &known);
    why(&mut page, view);
    match known.detail {
        None => page.text("The request is being fetched ...", Tone::Faint),
        Some(Err(why)) => page.text(&format!("The request cannot be shown: {why}"), Tone::Bad),
        Some(Ok(detail)) => {
            found(&mut page, detail, known.now);
            request(&mut page, detail);
            page.field("digest", &view.digest.to_string());
        }
    }
    if let Some(Ok(about)) = known.about {
        page.heading("THE SESSION'S LAST OPERATIONS");
        if about.recent.is_empty() {
            page.text("Nothing.", Tone::Faint);
        }
        about.recent.iter().for_each(|line| page.quote(line));
    }
    page.finish()
}

fn what(page: &mut Page, view: &ApprovalView) {
    page.heading("WHAT");
    page.field("approval", view.id.as_str());
    what_is_asked(page, view);
}

fn what_is_asked(page: &mut Page, view: &ApprovalView) {
    page.field(
        "action",
        &format!("{} ({})", in_words(&view.action), view.action),
    );
    page.field("resource", &view.resource);
    if !view.traits.is_empty() {
        let traits: Vec<_> = view.traits.iter().map(String::as_str).collect();
        page.toned_field("note", &traits.join(", "), Tone::Urgent);
    }
}

fn who(page: &mut Page, known: &Known) {
    let view = known.view;
    page.heading("WHO");
    page.field("principal", &view.principal);
    page.field(
        "user",
        &format!("{} (uid {})", view.user.name, view.user.uid),
    );
    match known.about {
        None => page.field("session", view.session.as_str()),
        Some(Err(why)) => {
            page.field(
                "session",
                &format!("{} (more is not known: {why})", view.session),
            );
        }
        Some(Ok(about)) => {
            page.field("session", &format!("{}, {}", view.session, about.standing));
            page.field("command", &about.command);
            if !about.groups.is_empty() {
                page.field("groups", &about.groups);
            }
            if !about.claims.is_empty() {
                let claims: Vec<_> = about
                    .claims
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                page.field("claims", &claims.join("; "));
            }
        }
    }
    if view.user.uid == known.own_uid {
        page.text(
            "This is your own session's: somebody else has to answer.",
            Tone::Urgent,
        );
    }
}

fn why(page: &mut Page, view: &ApprovalView) {
    page.heading("WHY IT IS HELD");
    for rule in &view.policies {
        let reason = rule.reason.as_deref().unwrap_or("no reason given");
        page.field(
            "policy",
            &format!("{} ({}:{}): {reason}", rule.id, rule.file, rule.line),
        );
        page.field("asks", &asked(rule));
        if !rule.grantable.is_empty() {
            let scopes: Vec<_> = rule.grantable.iter().map(|scope| scope.name()).collect();
            page.field("grantable", &format!("by {}", scopes.join(" or ")));
        }
    }
    for answer in &view.decisions {
        let verb = match answer.verdict {
            Answer::Approve if answer.break_glass => "GLASS BROKEN",
            Answer::Approve => "approved by",
            Answer::Deny => "denied by",
        };
        let comment = answer.comment.as_deref().unwrap_or("no comment");
        page.field(verb, &format!("{}: {comment}", answer.reviewer));
    }
}

fn asked(rule: &RuleView) -> String {
    match rule.min_approvals {
        0 | 1 => format!("one of {}", rule.group),
        people => format!("{people} different people of {}", rule.group),
    }
}

fn found(page: &mut Page, detail: &ApprovalDetail, now: Timestamp) {
    let Some(looked_up) = &detail.looked_up else {
        return;
    };
    page.heading("WHAT IS THERE");
    page.field("read", &age(looked_up, now));
    for (name, value) in looked_up.lines() {
        page.field(name, &value);
    }
    if let Some(change) = &looked_up.change {
        changes(page, change);
    }
}

fn changes(page: &mut Page, change: &ChangeView) {
    page.heading("WHAT CHANGES");
    match change {
        ChangeView::Unknown { why } => page.text(&format!("Not known: {why}"), Tone::Urgent),
        ChangeView::Known(Change {
            note,
            edits,
            left_out,
        }) => {
            if let Some(note) = note {
                page.text(note, Tone::Urgent);
            }
            if edits.is_empty() {
                page.text(
                    "Nothing that can be seen: no field would differ from what is there now.",
                    Tone::Plain,
                );
            }
            edits.iter().for_each(|it| edit(page, it));
            if *left_out > 0 {
                page.text(&format!("And {left_out} more."), Tone::Urgent);
            }
        }
    }
}

fn edit(page: &mut Page, edit: &Edit) {
    page.quoted_line(&edit.path, "  ", Tone::Plain);
    for (sign, value, tone) in [
        ("- ", &edit.before, Tone::Bad),
        ("+ ", &edit.after, Tone::Good),
    ] {
        for line in value.iter().flat_map(|value| value.lines()) {
            page.quoted_line(line, sign, tone);
        }
    }
}

fn request(page: &mut Page, detail: &ApprovalDetail) {
    page.heading("THE REQUEST (secrets are masked)");
    page.quote(&request_text(detail));
    let body = &detail.body;
    if body.cut {
        let text = format!(
            "The body goes on: {} bytes in all. The digest covers all of it.",
            body.length
        );
        page.text(&text, Tone::Urgent);
    }
}

/// What exactly would be answered.
pub(super) fn question(
    confirm: &Confirm,
    details: &HashMap<ApprovalId, Result<ApprovalDetail, String>>,
    theme: Theme,
    width: u16,
) -> Vec<Line<'static>> {
    let mut page = Page::new(theme, width);
    match confirm.verdict {
        Verdict::Approve | Verdict::Deny => {}
        Verdict::Grant => page.text(
            "This approves the operation below, and for 30 minutes whatever else the same principal and user ask for with \
             the same action on the same resource, whatever its content.",
            Tone::Urgent,
        ),
        Verdict::BreakGlass => page.text(
            "This approves alone what needs others, for those whom the configuration lets do so. It is recorded loudly.",
            Tone::Bad,
        ),
    }
    for (at, item) in confirm.items.iter().enumerate() {
        one_of(&mut page, (at + 1, confirm.items.len()), item);
        if !confirm.verdict.opens() || item.gone {
            continue;
        }
        match details.get(&item.view.id) {
            _ if item.read => page.field("", "(you have read all of this request)"),
            None => page.toned_field("", "(its content is being fetched ...)", Tone::Urgent),
            Some(Err(why)) => page.toned_field(
                "",
                &format!("(its content cannot be shown: {why})"),
                Tone::Bad,
            ),
            Some(Ok(detail)) => {
                found(&mut page, detail, confirm.asked_at);
                request(&mut page, detail);
            }
        }
    }
    page.finish()
}

fn one_of(page: &mut Page, (number, all): (usize, usize), item: &Item) {
    let view = &item.view;
    let gone = if item.gone {
        ": NO LONGER PENDING, left out"
    } else {
        ""
    };
    page.heading(&format!("{number} of {all}  {}{gone}", view.id));
    what_is_asked(page, view);
    page.field("request", &request_line(view));
    page.field(
        "for",
        &format!("{} as {}, {}", view.principal, view.user.name, view.session),
    );
    page.field("digest", &view.digest.to_string());
}

/// Why some answers do not count.
pub(super) fn not_taken(
    refused: &[(ApprovalId, String)],
    theme: Theme,
    width: u16,
) -> Vec<Line<'static>> {
    let mut page = Page::new(theme, width);
    page.text("THESE ANSWERS WERE NOT TAKEN", Tone::Bad);
    for (id, why) in refused {
        page.field(id.as_str(), why);
    }
    page.finish()
}

/// `sql.instances.setIamPolicy` as `set iam policy: instances, sql`.
fn in_words(action: &str) -> String {
    let mut parts: Vec<&str> = action.split('.').collect();
    let Some(verb) = parts.pop().filter(|_| !parts.is_empty()) else {
        return action.to_owned();
    };
    parts.reverse();
    format!("{}: {}", spaced(verb), parts.join(", "))
}

fn spaced(word: &str) -> String {
    word.chars().fold(String::new(), |mut words, letter| {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
        words
    })
}
