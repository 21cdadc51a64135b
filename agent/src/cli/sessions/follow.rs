//! `holdpoint sessions follow`: what happens, as it happens. It goes on over a restart of the daemon.

use super::show::line;
use crate::{
    cli::approvals::{
        screen::{self, Output},
        word,
    },
    control::client::{Client, Which},
    record::Event,
};

/// What to follow, and how.
#[derive(Debug, clap::Args)]
pub struct Following {
    /// The session; without it, the whole host.
    id: Option<String>,
    /// Events with numbers above this one, from the record, before what happens now. 0 is all of it.
    #[arg(long, value_name = "SEQ")]
    after: Option<u64>,
    /// How to print it; json is one event a line.
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
}

pub(super) async fn follow(client: &Client, following: &Following) -> anyhow::Result<()> {
    let session = following.id.as_deref().map(word).transpose()?;
    let after = match (following.after, session) {
        (Some(after), _) => after,
        // Of one session, what was before belongs to the picture.
        (None, Some(_)) => 0,
        (None, None) => client.newest().await?,
    };
    let mut told = client.events(Which {
        session: session.map(str::to_owned),
        after,
        follow: true,
    });
    let mut out = screen::Out::stdout();
    while let Some(told) = told.next().await? {
        let closed = session.is_some() && matches!(told.event.event, Event::SessionClosed { .. });
        match following.output {
            Output::Json => {
                let json = String::from_utf8_lossy(&told.raw.bytes);
                out.print(&format!("{}\n", screen::escaped(&json)))?;
            }
            Output::Table => {
                let of = told.event.event.session().filter(|_| session.is_none());
                let of = of.map(|id| format!("{id:<12}  ")).unwrap_or_default();
                out.print(&format!("{of}{}", line(&told.event)))?;
            }
        }
        out.flush()?;
        if out.is_closed() || closed {
            break;
        }
    }
    Ok(())
}
