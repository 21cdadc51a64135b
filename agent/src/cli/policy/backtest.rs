//! `holdpoint policy backtest`.

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf, process::ExitCode};

use clap::ValueEnum;
use holdpoint_core::policy::{
    PolicyRef,
    explain::Verdict,
    replay::{Possible, Replay},
};
use serde::Serialize;

use super::{
    load,
    past::{Past, Which},
};
use crate::cli::approvals::screen::{self, Output, safe};

/// Examples shown of each group.
const EXAMPLES: usize = 3;
/// The exit code when `--fail-on` applies; other failures are 1.
const CHANGED: u8 = 3;

/// Try policies on recorded operations and say which decisions would change. Exits with 3 when --fail-on applies
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The directory of the policies to try
    dir: PathBuf,
    #[command(flatten)]
    which: Which,
    /// What makes it fail, besides errors
    #[arg(long, value_enum, value_delimiter = ',', default_value = "change")]
    fail_on: Vec<FailOn>,
    /// How to print it
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// What makes a backtest fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// A decision that changes
    Change,
    /// A decision that becomes less strict
    Looser,
    /// A decision that becomes stricter
    Stricter,
    /// A decision of which it cannot be told, because not enough was recorded
    Unknown,
    /// Nothing
    Never,
}

/// What would be different.
#[derive(Debug, Default, Serialize)]
struct Report {
    operations: usize,
    sessions: usize,
    unchanged: usize,
    /// The less strict first, then by number.
    changed: Vec<Group>,
    unknown: Vec<Group>,
}

/// Operations that would change in the same way.
#[derive(Debug, Serialize)]
struct Group {
    was: Verdict,
    /// Absent where it cannot be told.
    becomes: Option<Verdict>,
    action: String,
    count: usize,
    /// The policies that decided then.
    policies_then: Vec<String>,
    /// The policies that match now.
    policies_now: Vec<String>,
    /// What would have to be known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    examples: Vec<Example>,
}

#[derive(Debug, Serialize)]
struct Example {
    session: String,
    operation: String,
    time: String,
    resource: String,
}

pub(super) async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let policies = load(&args.dir)?;
    let operations = args.which.operations().await?;
    let report = Report::of(&policies.replay(), &operations);
    screen::print(&match args.output {
        Output::Json => screen::json(&report)?,
        Output::Table => shown(&report),
    })?;
    Ok(if args.fail_on.iter().any(|it| report.is_hit_by(*it)) {
        ExitCode::from(CHANGED)
    } else {
        ExitCode::SUCCESS
    })
}

type Key = (Option<Verdict>, Verdict, String, Vec<String>, Vec<String>);

impl Report {
    fn of(replay: &Replay<'_>, operations: &[Past]) -> Self {
        let mut sessions: Vec<_> = operations.iter().map(|it| &it.session).collect();
        sessions.sort();
        sessions.dedup();
        let mut report = Self {
            operations: operations.len(),
            sessions: sessions.len(),
            ..Self::default()
        };
        let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
        for past in operations {
            let (becomes, policies, missing) = judged(replay, past);
            let was = past.verdict();
            if becomes == Some(was) {
                report.unchanged += 1;
                continue;
            }
            let key = (becomes, was, past.action.clone(), policies, missing);
            let group = groups
                .entry(key.clone())
                .or_insert_with(|| Group::new(key, past));
            group.count += 1;
            if group.examples.len() < EXAMPLES {
                group.examples.push(Example::of(past));
            }
        }
        let (changed, unknown) = groups.into_values().partition(|it| it.becomes.is_some());
        report.changed = changed;
        report.unknown = unknown;
        let order = |group: &Group| (!group.is_looser(), std::cmp::Reverse(group.count));
        report.changed.sort_by_key(order);
        report.unknown.sort_by_key(order);
        report
    }

    fn is_hit_by(&self, what: FailOn) -> bool {
        match what {
            FailOn::Change => !self.changed.is_empty(),
            FailOn::Looser => self.changed.iter().any(Group::is_looser),
            FailOn::Stricter => self.changed.iter().any(|it| !it.is_looser()),
            FailOn::Unknown => !self.unknown.is_empty(),
            FailOn::Never => false,
        }
    }
}

/// The decision now, if it can be told, the policies behind it, and what is missing where it cannot.
fn judged(replay: &Replay<'_>, past: &Past) -> (Option<Verdict>, Vec<String>, Vec<String>) {
    let asked = match &past.asked {
        Ok(asked) => asked,
        Err(why) => return (None, Vec::new(), vec![why.clone()]),
    };
    let possible = replay.judge(
        &asked.principal,
        &asked.operation,
        Some(past.at),
        &asked.gaps,
    );
    let policies = possible.policies.iter().map(PolicyRef::to_string).collect();
    let missing = possible.missing.iter().cloned().collect();
    (
        verdict(&possible, asked.operation.is_complete()),
        policies,
        missing,
    )
}

/// What the gate makes of it: nobody can approve what is too large, or unreadable.
fn verdict(possible: &Possible, is_complete: bool) -> Option<Verdict> {
    match possible.verdict() {
        Some(Verdict::Hold) if !is_complete => Some(Verdict::Deny),
        verdict => verdict,
    }
}

impl Group {
    fn new((becomes, was, action, policies_now, missing): Key, past: &Past) -> Self {
        let then = past.decision.policies.iter();
        Self {
            was,
            becomes,
            action,
            count: 0,
            policies_then: then
                .map(|it| format!("{} ({}:{})", it.id, it.file, it.line))
                .collect(),
            policies_now,
            missing,
            examples: Vec::new(),
        }
    }

    fn is_looser(&self) -> bool {
        self.becomes.is_some_and(|becomes| becomes < self.was)
    }
}

impl Example {
    fn of(past: &Past) -> Self {
        Self {
            session: past.session.to_string(),
            operation: past.id.to_string(),
            time: past.at.to_string(),
            resource: past.resource.clone(),
        }
    }
}

fn shown(report: &Report) -> String {
    let changed: usize = report.changed.iter().map(|it| it.count).sum();
    let unknown: usize = report.unknown.iter().map(|it| it.count).sum();
    let mut text = format!(
        "{} operations of {} sessions: {} decided as before, {changed} differently, {unknown} unknown\n",
        report.operations, report.sessions, report.unchanged
    );
    for group in report.changed.iter().chain(&report.unknown) {
        text.push_str(&group_shown(group));
    }
    text
}

fn group_shown(group: &Group) -> String {
    let mut text = String::new();
    let becomes = group
        .becomes
        .map_or("unknown".to_owned(), |it| it.to_string());
    let note = if group.is_looser() {
        "  LESS STRICT"
    } else {
        ""
    };
    let _ = writeln!(
        text,
        "\n{} -> {becomes}  {} x {}{note}",
        group.was,
        group.count,
        safe(&group.action)
    );
    let mut line = |what: &str, names: &[String]| {
        let names = if names.is_empty() {
            "no policy".to_owned()
        } else {
            names.join(", ")
        };
        let _ = writeln!(text, "    {what:<8} {}", safe(&names));
    };
    line("then", &group.policies_then);
    line("now", &group.policies_now);
    if !group.missing.is_empty() {
        line("missing", &group.missing);
    }
    for example in &group.examples {
        let _ = writeln!(
            text,
            "    {} in {}  {}",
            safe(&example.operation),
            safe(&example.session),
            safe(&example.resource)
        );
    }
    text
}
