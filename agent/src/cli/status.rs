//! `holdpoint status`: whether the daemon runs, what it has attached, and what was refused.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cli::approvals::screen::{self, Keep, Output, safe, table},
    config::Mode,
    control::client::Connect,
    notifications::Told,
    record::Text,
    refusals::Seen,
    shipping,
};

/// Lines of refusals in the table; JSON has all that are kept.
const LINES: usize = 40;

/// Whether the daemon runs, how many sessions are open, which BPF programs are attached, and what was refused to whom.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    connect: Connect,
    /// A table for people, or JSON for programs.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

#[derive(Deserialize)]
struct Status {
    version: String,
    sessions: u64,
    policy: Policy,
    links: Vec<Link>,
    refusals: Vec<Count>,
    refusals_lost: u64,
    notifications: Vec<Told>,
    #[serde(default)]
    shipping: Option<shipping::Status>,
    refused: Vec<Seen>,
}

#[derive(Deserialize)]
struct Policy {
    mode: Mode,
    policies: u64,
}

#[derive(Deserialize)]
struct Link {
    program: String,
    attach_type: String,
    pin: String,
}

#[derive(Deserialize)]
struct Count {
    reason: String,
    count: u64,
}

/// Asks the daemon and prints what it says.
///
/// # Errors
/// When the daemon does not answer.
pub async fn run(args: &Args) -> anyhow::Result<()> {
    let status: Value = args.connect.client()?.read("/v1/status").await?;
    screen::print(&match args.output {
        Output::Json => screen::json(&status)?,
        Output::Table => described(&serde_json::from_value(status)?),
    })
}

fn described(status: &Status) -> String {
    let mut text = format!(
        "holdpoint {} is running; {} sessions are open\n",
        safe(&status.version),
        status.sessions
    );
    let Policy { mode, policies } = &status.policy;
    let _ = match mode {
        Mode::Enforce => writeln!(text, "{policies} policies are enforced"),
        Mode::Observe => writeln!(
            text,
            "POLICY IS ONLY OBSERVED: {policies} policies deny and hold nothing ([policy] mode = \"observe\")"
        ),
    };
    if let Some(shipping) = &status.shipping {
        text.push_str(&shipped(shipping));
    }
    let links = status.links.iter().map(|link| {
        let Link {
            program,
            attach_type,
            pin,
        } = link;
        [program.clone(), attach_type.clone(), pin.clone()]
    });
    let links: Vec<_> = links.collect();
    let counts = status
        .refusals
        .iter()
        .map(|Count { reason, count }| [reason.clone(), count.to_string()]);
    let counts: Vec<_> = counts.collect();
    let _ = writeln!(
        text,
        "\n{}",
        table(["PROGRAM", "ATTACHED TO", "PINNED AT"], &links, Keep::End)
    );
    let _ = writeln!(
        text,
        "{}",
        table(["REFUSED IN THE KERNEL", "COUNT"], &counts, Keep::End)
    );
    if !status.notifications.is_empty() {
        let told: Vec<_> = status.notifications.iter().map(told).collect();
        let head = ["NOTIFIED", "SENT", "FAILED", "DROPPED", "SUPERSEDED", "TO"];
        let _ = writeln!(text, "{}", table(head, &told, Keep::End));
    }
    text.push_str(&refused(&status.refused));
    if status.refusals_lost > 0 {
        let _ = writeln!(
            text,
            "{} of the kernel's came too fast to be told one by one",
            status.refusals_lost
        );
    }
    text
}

/// How far the record is shipped, in a sentence or two.
pub(super) fn shipped(status: &shipping::Status) -> String {
    let shipping::Status {
        to,
        events,
        behind,
        checkpoint,
        up_to_date,
        trouble,
        ..
    } = status;
    let mut text = format!(
        "the record is shipped to {}: {events} events, of which {checkpoint} are signed, are there; {behind} are not yet",
        safe(to)
    );
    match up_to_date {
        Some(at) => {
            let _ = writeln!(text, " (up to date at {})", when(*at));
        }
        None => text.push('\n'),
    }
    if let Some(trouble) = trouble {
        let _ = writeln!(text, "IT DOES NOT GO ON: {}", safe(trouble));
    }
    text
}

fn told(told: &Told) -> [String; 6] {
    let to = told.to.clone().unwrap_or_else(|| "-".into());
    let count = |count: u64| count.to_string();
    [
        told.kind.clone(),
        count(told.sent),
        count(told.failed),
        count(told.dropped),
        count(told.superseded),
        to,
    ]
}

/// Newest first.
fn refused(seen: &[Seen]) -> String {
    if seen.is_empty() {
        return "Nothing was refused to a session yet.\n".into();
    }
    let rows: Vec<_> = seen.iter().take(LINES).map(row).collect();
    let mut text = table(
        ["LAST", "COUNT", "SESSION", "BY", "PROCESS", "WANTED", "WHY"],
        &rows,
        Keep::Beginning,
    );
    if seen.len() > LINES {
        let _ = writeln!(text, "and {} more: see --output json", seen.len() - LINES);
    }
    text
}

fn row(seen: &Seen) -> [String; 7] {
    let refused = &seen.refused;
    let or_dash =
        |text: Option<&Text>| text.map_or_else(|| "-".into(), |text| short(text.as_str()));
    let process = match (&refused.process, seen.pid) {
        (Some(process), Some(pid)) => format!("{} {pid}", short(process.as_str())),
        (process, pid) => pid.map_or_else(|| or_dash(process.as_ref()), |pid| pid.to_string()),
    };
    [
        when(seen.last),
        seen.count.to_string(),
        refused
            .session
            .as_ref()
            .map_or_else(|| "-".into(), ToString::to_string),
        refused.by.name().into(),
        process,
        or_dash(refused.destination.as_ref()),
        refused.reason.to_string(),
    ]
}

fn when(at: Timestamp) -> String {
    at.strftime("%m-%d %H:%M:%SZ").to_string()
}

/// Names and arguments are of the agent's choosing, and columns of a table are not.
fn short(text: &str) -> String {
    const MOST: usize = 36;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        refusals::{Refused, RefusedBy},
        session::SessionId,
    };

    fn seen(destination: &str) -> Seen {
        Seen {
            refused: Refused {
                session: Some(SessionId::from_cgroup("s-0123456789")),
                by: RefusedBy::Kernel,
                process: Some("cu\u{1b}[2Jrl".into()),
                destination: Some(destination.into()),
                reason: "udp".into(),
            },
            pid: Some(4711),
            count: 3,
            last: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_refusal_is_told_with_process_and_destination() {
        let text = refused(&[seen("192.0.2.1:123")]);
        let line = text.lines().last().expect("a line");
        for part in [
            "s-0123456789",
            "kernel",
            "4711",
            "192.0.2.1:123",
            "udp",
            "01-01 00:00:00Z",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(!text.contains('\u{1b}'), "a terminal would obey");
    }

    #[test]
    fn many_are_not_all_printed() {
        let many: Vec<_> = (0..100)
            .map(|port| seen(&format!("192.0.2.1:{port}")))
            .collect();
        let text = refused(&many);
        assert_eq!(text.lines().count(), LINES + 2);
        assert!(text.ends_with("and 60 more: see --output json\n"));
    }
}
