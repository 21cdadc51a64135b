//! `holdpoint sessions replay`: a session as it happened, in its own time or another.

use std::{future::pending, time::Instant};

use super::{
    keys::Keys,
    moments::{Moment, Moments},
    player::{Player, Speed, Wish},
    show::head,
};
use crate::{
    cli::approvals::{screen, word},
    control::{
        SessionDetail,
        client::{Client, Which},
    },
    export::source::Live,
};

/// What to replay, and how. In a terminal: space stops and goes on, right shows what comes next, up and down change the speed, q ends it.
#[derive(Debug, clap::Args)]
pub struct Replaying {
    /// The session, for example s-3k9x2m7qht.
    id: String,
    /// How often as fast as it was.
    #[arg(long, value_name = "N", default_value = "1", value_parser = Speed::parse)]
    speed: Speed,
    /// Wait for a key before everything that is shown; without a terminal, for a line on standard input.
    #[arg(long)]
    step: bool,
}

pub(super) async fn replay(client: &Client, replaying: &Replaying) -> anyhow::Result<()> {
    let id = word(&replaying.id)?;
    let path = format!("/v1/sessions/{id}?last=1");
    let session = client.read::<SessionDetail>(&path).await?.session;
    let which = Which {
        session: Some(id.to_owned()),
        ..Which::default()
    };
    let mut moments = Moments::of(Live::new(client.clone(), which));
    let mut keys = Keys::open(replaying.step)?;
    let mut out = screen::Out::stdout();
    out.print(&keys.printed(&head(&session)))?;
    let mut player = Player::new(replaying.speed, replaying.step);
    let mut listening = true;
    let begun = session.summary.opened_at;
    while let Some(moment) = moments.next().await? {
        out.flush()?;
        let goes_on = wait(&mut player, &mut keys, &mut listening, &moment).await;
        if !goes_on || out.is_closed() {
            break;
        }
        player.reach(moment.at);
        let since = moment.at.as_millisecond() - begun.as_millisecond();
        out.print(&keys.printed(&timed(since, &moment.text)))?;
    }
    out.flush()
}

/// Returns when the moment has come; false when nobody wants to see it.
async fn wait(player: &mut Player, keys: &mut Keys, listening: &mut bool, moment: &Moment) -> bool {
    loop {
        let left = player.until(moment.at);
        if left.is_none() && !*listening {
            // Nobody is there who could let it go on.
            player.pause();
            continue;
        }
        let asked = Instant::now();
        let time = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => pending().await,
            }
        };
        let key = async {
            match *listening {
                true => keys.next().await,
                false => pending().await,
            }
        };
        let wish = tokio::select! {
            biased;
            wish = key => wish,
            () = time => return true,
        };
        player.pass(asked.elapsed());
        match wish {
            None => *listening = false,
            Some(Wish::Quit) => return false,
            Some(Wish::Next) => return true,
            Some(Wish::Pause) => player.pause(),
            Some(Wish::Faster) => player.faster(),
            Some(Wish::Slower) => player.slower(),
        }
    }
}

/// The first line with its time since the beginning; the others below it.
fn timed(since_ms: i64, text: &str) -> String {
    let since = since_ms.max(0);
    let (minutes, seconds) = (since / 60_000, since % 60_000);
    let time = format!("+{minutes:02}:{:02}.{:03}", seconds / 1000, seconds % 1000);
    if text.starts_with("  ") {
        return text.to_owned();
    }
    format!("{time}  {text}")
}
