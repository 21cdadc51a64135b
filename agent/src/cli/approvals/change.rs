//! What a request changes, for a person.

use std::fmt::Write as _;

use holdpoint_core::change::{Change, Edit};

use jiff::Timestamp;

use super::screen::{quoted, safe};
use crate::approvals::{ChangeView, LookedUp};

/// From then on it is said that things may have changed.
const STALE: i64 = 60;

/// When it was read what is there, and what to think of that.
pub(in crate::cli) fn age(looked_up: &LookedUp, now: Timestamp) -> String {
    let seconds = now.duration_since(looked_up.read_at).as_secs().max(0);
    let at = looked_up.read_at;
    if seconds < STALE {
        return format!("{at:.0}, {seconds} s ago");
    }
    format!(
        "{at:.0}, {} min ago: it may have changed since",
        seconds / 60
    )
}

/// The section of `holdpoint approvals show` about what is there.
pub(super) fn found(looked_up: &LookedUp, now: Timestamp) -> String {
    let mut text = format!("\nWhat is there (read {}):\n", age(looked_up, now));
    for (name, value) in looked_up.lines() {
        let colon = if name.is_empty() { "" } else { ": " };
        text.push_str(&quoted(&format!("{name}{colon}{}", safe(&value))));
    }
    text.push_str(&looked_up.change.as_ref().map(described).unwrap_or_default());
    text
}

/// A line for what goes (`-`) and one for what comes (`+`).
fn described(change: &ChangeView) -> String {
    match change {
        ChangeView::Unknown { why } => {
            format!("\nWhat it changes could not be read: {}\n", safe(why))
        }
        ChangeView::Known(change) => known(change),
    }
}

fn known(change: &Change) -> String {
    let mut text = String::from("\nWhat it changes");
    if let Some(note) = &change.note {
        let _ = write!(text, " ({})", safe(note));
    }
    text.push_str(":\n");
    if change.edits.is_empty() {
        text.push_str("  nothing that can be seen: no field would differ from what is there now\n");
    }
    for edit in &change.edits {
        text.push_str(&quoted(&lines(edit)));
    }
    if change.left_out > 0 {
        let _ = writeln!(text, "  and {} more.", change.left_out);
    }
    text
}

fn lines(edit: &Edit) -> String {
    let path = safe(&edit.path);
    match (&edit.before, &edit.after) {
        (Some(before), Some(after)) => {
            format!("  {path}: {} -> {}", safe(before), safe(after))
        }
        (Some(before), None) => format!("- {path}: {}", safe(before)),
        (None, Some(after)) => format!("+ {path}: {}", safe(after)),
        (None, None) => format!("  {path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edit(path: &str, before: Option<&str>, after: Option<&str>) -> Edit {
        Edit {
            path: path.into(),
            before: before.map(Into::into),
            after: after.map(Into::into),
        }
    }

    #[test]
    fn what_goes_and_what_comes_is_told_apart() {
        let text = described(&ChangeView::Known(Change {
            note: Some("there is no such thing now".into()),
            edits: vec![
                edit(
                    "settings.tier",
                    Some("small"),
                    Some("large\n+ forged: line"),
                ),
                edit("roles/editor", None, Some("user:x\u{1b}[2J")),
                edit("labels.env", Some("prod"), None),
            ],
            left_out: 3,
        }));
        assert_eq!(
            text,
            "\nWhat it changes (there is no such thing now):\n  |   settings.tier: small -> large\\n+ forged: line\n  \
             | + roles/editor: user:x\\u{1b}[2J\n  | - labels.env: prod\n  and 3 more.\n"
        );
    }

    #[test]
    fn what_could_not_be_read_does_not_look_like_no_change() {
        let unknown = described(&ChangeView::Unknown {
            why: "Google answered 403".into(),
        });
        let nothing = described(&ChangeView::Known(Change::default()));
        assert!(unknown.contains("could not be read: Google answered 403"));
        assert!(nothing.contains("no field would differ"));
    }
}
