//! `holdpoint sessions list`.

use std::{fmt::Write as _, io::Read as _};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zeroize::Zeroizing;

use super::command_line;
use crate::{
    cli::approvals::screen::{self, Keep, Output, table},
    control::{SessionList, SessionView, client::Client},
    record::{Cursor, SecretSums},
};

/// Bytes of a secret on standard input at most, the line's end included.
const SECRET_LIMIT: u64 = 64 * 1024 + 2;

/// Which sessions, and how.
#[derive(Debug, clap::Args)]
pub struct Listing {
    /// How many at most.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Of a principal that this is a part of. In patterns * stands for anything.
    #[arg(long, value_name = "PATTERN")]
    principal: Option<String>,
    /// With an operation of this action, such as sql.instances.delete or sql.*
    #[arg(long, value_name = "PATTERN")]
    action: Option<String>,
    /// With an operation on a resource that this is a part of.
    #[arg(long, value_name = "PATTERN")]
    resource: Option<String>,
    /// With an operation that policy decided about like this; with --action and --resource, the same one.
    #[arg(long, value_enum)]
    decision: Option<Decision>,
    /// Not over before this time, such as 2026-11-20T09:00:00Z or 2026-11-20.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Opened at this time or before.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// That sent or received this text, in a body that was kept or in what events tell.
    #[arg(long, value_name = "TEXT", conflicts_with = "seen_secret_stdin")]
    text: Option<String>,
    /// The same of a secret, which is read from standard input. Only sums of it leave this command.
    #[arg(long)]
    seen_secret_stdin: bool,
    /// Where a list before this one ended.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<Cursor>,
    /// How to print them.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

/// What policy said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Decision {
    Allow,
    Hold,
    Deny,
}

/// A time, or a day's beginning in UTC.
pub(in crate::cli) fn time(text: &str) -> Result<Timestamp, String> {
    let midnight = |_| format!("{text}T00:00:00Z").parse::<Timestamp>();
    text.parse()
        .or_else(midnight)
        .map_err(|_| "write it like 2026-11-20T09:00:00Z or 2026-11-20".into())
}

pub(super) async fn list(client: &Client, listing: &Listing) -> anyhow::Result<()> {
    let found = find(client, listing).await?;
    if listing.output == Output::Json {
        return screen::print(&screen::json(&found.sessions)?);
    }
    screen::print(&printed(&found, listing.is_filtered()))
}

/// Page after page until there are enough.
async fn find(client: &Client, listing: &Listing) -> anyhow::Result<SessionList> {
    let query = listing.query()?;
    let mut found = SessionList {
        sessions: Vec::new(),
        next: listing.cursor,
    };
    loop {
        let left = listing.limit.saturating_sub(found.sessions.len());
        let mut path = format!("/v1/sessions?limit={}{query}", left.clamp(1, 500));
        if let Some(cursor) = found.next {
            let _ = write!(path, "&cursor={cursor}");
        }
        let page: SessionList = client.read(&path).await?;
        found.sessions.extend(page.sessions);
        found.next = page.next;
        if found.next.is_none() || found.sessions.len() >= listing.limit {
            return Ok(found);
        }
    }
}

impl Listing {
    fn is_filtered(&self) -> bool {
        let patterns = [&self.principal, &self.action, &self.resource, &self.text];
        patterns.iter().any(|it| it.is_some())
            || self.decision.is_some()
            || self.since.is_some()
            || self.until.is_some()
            || self.seen_secret_stdin
    }

    fn query(&self) -> anyhow::Result<String> {
        let mut query = String::new();
        let mut add = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
                let _ = write!(query, "&{name}={value}");
            }
        };
        add("principal", self.principal.as_deref());
        add("action", self.action.as_deref());
        add("resource", self.resource.as_deref());
        add("text", self.text.as_deref());
        let decision = self.decision.map(|it| match it {
            Decision::Allow => "allow",
            Decision::Hold => "hold",
            Decision::Deny => "deny",
        });
        add("decision", decision);
        add("since", self.since.map(|it| it.to_string()).as_deref());
        add("until", self.until.map(|it| it.to_string()).as_deref());
        if self.seen_secret_stdin {
            add("secret", Some(&sums_of_stdin()?.to_string()));
        }
        Ok(query)
    }
}

fn sums_of_stdin() -> anyhow::Result<SecretSums> {
    // With room, so that nothing of it is left behind where it was too small.
    let mut secret = Zeroizing::new(Vec::with_capacity(usize::try_from(SECRET_LIMIT)? + 1));
    let mut input = std::io::stdin().lock().take(SECRET_LIMIT + 1);
    input
        .read_to_end(&mut secret)
        .context("cannot read the secret from standard input")?;
    let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    ensure!(!secret.is_empty(), "there is no secret on standard input");
    Ok(SecretSums::of(secret)?)
}

fn printed(found: &SessionList, filtered: bool) -> String {
    if found.sessions.is_empty() && found.next.is_none() {
        return match filtered {
            true => "No such session.\n".into(),
            false => "No sessions yet.\n".into(),
        };
    }
    let rows: Vec<_> = found.sessions.iter().map(row).collect();
    let passed = found.sessions.iter().map(|it| it.summary.observed).sum();
    let mut text = table(HEAD, &rows, Keep::Beginning);
    if passed > 0 {
        let _ = writeln!(text, "\n{}", observed(passed));
    }
    if let Some(next) = found.next {
        let _ = writeln!(text, "\nThere may be more: --cursor {next}");
    }
    text
}

pub(super) const HEAD: [&str; 8] = [
    "ID", "OPENED", "STATE", "USER", "OPS", "HELD", "DENIED", "COMMAND",
];

pub(super) fn observed(passed: u64) -> String {
    format!(
        "{passed} of the held and denied passed all the same: policy was only observed ([policy] mode = \"observe\")"
    )
}

pub(super) fn row(session: &SessionView) -> [String; 8] {
    let summary = &session.summary;
    [
        summary.id.to_string(),
        summary.opened_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        state(session).into(),
        summary.user.name.clone(),
        summary.operations.to_string(),
        summary.held.to_string(),
        summary.denied.to_string(),
        command_line(&summary.command),
    ]
}

pub(super) fn state(session: &SessionView) -> &'static str {
    if session.live { "open" } else { "closed" }
}
