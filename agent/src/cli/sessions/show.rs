//! `holdpoint sessions show`: line by line as it is read, so that the longest session has room.

use std::fmt::Write as _;

use super::{
    command_line, events,
    list::{observed, state},
};
use crate::{
    cli::approvals::{
        screen::{self, Output, quoted, safe},
        word,
    },
    control::{
        SessionDetail, SessionView,
        client::{Client, Which},
    },
    record::{Event, StoredEvent, Way},
};

/// Which session, and how.
#[derive(Debug, clap::Args)]
pub struct Showing {
    /// The session, for example s-3k9x2m7qht.
    id: String,
    /// Show what was kept of the bodies, too.
    #[arg(long)]
    bodies: bool,
    /// How to print it.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) async fn show(client: &Client, showing: &Showing) -> anyhow::Result<()> {
    let id = word(&showing.id)?;
    let path = format!("/v1/sessions/{id}?last=1");
    let session = client.read::<SessionDetail>(&path).await?.session;
    let mut told = client.events(Which {
        session: Some(id.to_owned()),
        ..Which::default()
    });
    let mut out = screen::Out::stdout();
    match showing.output {
        Output::Table => {
            out.print(&head(&session))?;
            while let Some(told) = told.next().await?
                && !out.is_closed()
            {
                out.print(&line(&told.event))?;
                if showing.bodies {
                    out.print(&body(client, &told.event).await?)?;
                }
            }
        }
        Output::Json => {
            let session = serde_json::to_string(&session)?;
            out.print(&screen::escaped(&format!(
                "{{\"session\":{session},\"events\":["
            )))?;
            let mut comma = "\n";
            while let Some(told) = told.next().await?
                && !out.is_closed()
            {
                let event = serde_json::to_string(&told.event)?;
                out.print(&screen::escaped(&format!("{comma}{event}")))?;
                comma = ",\n";
            }
            out.print("\n]}\n")?;
        }
    }
    out.flush()
}

/// What was kept of the body that an event is about.
async fn body(client: &Client, stored: &StoredEvent) -> anyhow::Result<String> {
    let Event::Body { session, body, .. } = &stored.event else {
        return Ok(String::new());
    };
    if body.bytes == 0 || body.way == Way::Asked {
        return Ok(String::new());
    }
    Ok(match client.body(session.as_str(), stored.seq).await? {
        Ok(bytes) => quoted(&events::readable(body, &String::from_utf8_lossy(&bytes))),
        Err(why) => format!("  ({})\n", safe(&why)),
    })
}

pub(super) fn head(session: &SessionView) -> String {
    let summary = &session.summary;
    let mut text = String::new();
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {}", safe(value));
    };
    field("session", summary.id.as_str());
    field("state", state(session));
    field("principal", &summary.principal);
    let user = &summary.user;
    field("user", &format!("{} (uid {})", user.name, user.uid));
    field("command", &command_line(&summary.command));
    if let Some(service) = &summary.service {
        let job = summary.within.as_ref();
        let job = job.map(|it| format!(", a job in the sandbox of {it}"));
        field("service", &format!("{service}{}", job.unwrap_or_default()));
    }
    field("opened", &summary.opened_at.to_string());
    if let (Some(at), Some(reason)) = (summary.closed_at, &summary.close_reason) {
        field("closed", &format!("{at}: {reason}"));
    }
    if summary.observed > 0 {
        field("observed", &observed(summary.observed));
    }
    let counts = format!(
        "{} ({} held, {} denied); {} refused before they were understood",
        summary.operations, summary.held, summary.denied, summary.refused
    );
    field("operations", &counts);
    text.push('\n');
    text
}

pub(super) fn line(stored: &StoredEvent) -> String {
    let time = stored.time.strftime("%H:%M:%S%.3fZ");
    let mut line = format!("{time}  {}\n", safe(&events::described(&stored.event)));
    if let Event::Intent { operation, .. } = &stored.event
        && let Some(statement) = &operation.statement
    {
        line.push_str(&quoted(statement.as_str()));
    }
    line
}
