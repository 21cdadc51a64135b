//! The table for the README.

use jiff::Zoned;

use super::outcome::Outcome;
use crate::test::report::Counts;

/// Markdown: a line for each kernel, with what came of it.
pub fn table(outcomes: &[&Outcome]) -> String {
    let mut text = format!(
        "{}:\n\n\
         | kernel | Debian | systemd | `tests/kernel` | main job | attacks contained | not possible there | got out |\n\
         |---|---|---|---|---|---|---|---|\n",
        Zoned::now().date()
    );
    for outcome in outcomes {
        text += &row(outcome);
    }
    text
}

fn row(outcome: &Outcome) -> String {
    let tests = |part| {
        let Counts { passed, failed, .. } = outcome.counts(part);
        format!("{passed} of {}", passed + failed)
    };
    let [contained, not_here, bad] = match outcome.attacks() {
        Some(attacks) => [
            attacks.contained.to_string(),
            list(&attacks.not_here),
            list(&attacks.bad),
        ],
        None => ["?", "?", "?"].map(str::to_owned),
    };
    format!(
        "| {} | {} | {} | {} | {} | {contained} | {not_here} | {bad} |\n",
        outcome.fact("kernel"),
        outcome.fact("debian"),
        outcome.fact("systemd"),
        tests("programs"),
        tests("job"),
    )
}

fn list(names: &[String]) -> String {
    match names {
        [] => "0".to_owned(),
        names => format!("{} ({})", names.len(), names.join(", ")),
    }
}
