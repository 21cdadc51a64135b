//! Messages for a program of this host's. The launcher starts it, because the daemon may not become another user.

use std::{path::PathBuf, sync::Arc};

use tokio::{sync::mpsc, task::JoinSet};

use super::{Order, Outcome, tally::Tally};
use crate::launch::{Hook, HookEnd};

/// Runs the program for each order, `at_once` at a time, until nobody can order any more. Those that wait are in the queue.
pub(super) async fn run(
    mut orders: mpsc::Receiver<Order>,
    hook: Hook,
    launcher: PathBuf,
    at_once: usize,
    tally: Arc<Tally>,
) {
    let (hook, launcher) = (Arc::new(hook), Arc::new(launcher));
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv(), if running.len() < at_once => match order {
                None => return,
                Some(Order::Settled(_)) => {}
                Some(Order::Tell(message)) => {
                    let (hook, launcher) = (hook.clone(), launcher.clone());
                    running.spawn(async move {
                        hook.run(&launcher, &message.json().to_string()).await
                    });
                }
            },
            Some(ended) = running.join_next() => {
                let problem = match ended {
                    Ok(Ok(HookEnd { code: Some(0), .. })) => None,
                    Ok(Ok(end)) => Some(end.to_string()),
                    Ok(Err(error)) => Some(format!("{error:#}")),
                    Err(error) => Some(error.to_string()),
                };
                let Some(problem) = problem else {
                    tally.count(Outcome::Sent);
                    continue;
                };
                tracing::warn!(to = tally.name(), "a notification failed: {problem}");
                tally.count(Outcome::Failed);
            }
        }
    }
}
