//! What is said on a connection that is let in: messages become statements, the gate judges them, and what it permits goes on.
//!
//! Two directions run side by side. `up` reads the client's messages in their order and judges them; `down` matches the server's answers
//! with what was asked. What both know is `state`: it follows the server's answers, never hopes.

mod down;
mod errors;
mod house;
mod judge;
mod rows;
mod run;
mod state;
mod up;

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, split},
    sync::Notify,
};

use crate::metrics::metrics;

use super::{
    Conversation, Refused,
    frame::FrameError,
    server_messages::{BROKEN, Complaint, VIOLATION},
};
use down::Down;
use house::Judging;
use judge::Judge;
use rows::Columns;
use run::Run;
use state::{Expected, State};
use up::Up;

/// What both directions share.
struct Shared {
    state: Mutex<State>,
    /// There is something to say to the client that the server does not say.
    for_client: Notify,
    /// The server has said something.
    changed: Notify,
    /// Tells what is being judged, and may wait for people, that the client no longer wants it.
    judged: Mutex<Option<Arc<Notify>>>,
}

impl Shared {
    fn new() -> Self {
        Self {
            state: Mutex::new(State::new()),
            for_client: Notify::new(),
            changed: Notify::new(),
            judged: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judged(&self) -> MutexGuard<'_, Option<Arc<Notify>>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a connection ends before its client wants that.
#[derive(Debug)]
enum End {
    ClientGone,
    ServerGone,
    /// Something that cannot be passed on, in words.
    Broken(String),
    /// Rows that have to be masked and cannot be.
    Withheld(String),
    /// Policy no longer allows what is under way.
    Cut(String),
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        Self::Broken(error.to_string())
    }
}

/// How cancel requests come, and go.
trait Cancelling: Send {
    /// Waits for the next one; what it gives is dropped when it was seen to.
    fn next(&mut self) -> impl Future<Output = Box<dyn Send>> + Send;
    /// Asks the server.
    fn pass_on(&self) -> impl Future<Output = ()> + Send;
    /// Has the server asked, whatever becomes of the connection.
    fn pass_on_later(&self);
}

/// Whoever leaves, by itself or because its session ends, takes along what runs for it: the server would not notice for long.
struct Leaving<'a, C: Cancelling> {
    cancels: C,
    shared: &'a Shared,
}

impl<C: Cancelling> Drop for Leaving<'_, C> {
    fn drop(&mut self) {
        if !self.shared.lock().expected.is_empty() {
            self.cancels.pass_on_later();
        }
    }
}

/// Passes on what policy allows, until one side is done.
///
/// # Errors
/// Why it ended, where neither side wanted that.
pub async fn run<C, S>(conversation: Conversation<C, S>) -> Result<(), Refused>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (judging, client, server, cancels) = Judging::new(conversation);
    let house = judging.house().clone();
    let room = judging.room().clone();
    let session = room.session.id.as_str().to_owned();
    let shared = Shared::new();
    let ends = async {
        tokio::select! {
            () = house.stopped() => End::Broken("the daemon stopped".to_owned()),
            reason = judging.no_longer_allowed(&shared) => End::Cut(reason),
        }
    };
    let talking: Pin<Box<dyn Future<Output = _> + Send + '_>> = Box::pin(talk(
        client, server, &judging, cancels, &shared, session, ends,
    ));
    talking.await.map_err(Refused)
}

/// The two directions, and what may end them.
async fn talk<C, S, J>(
    client: C,
    server: S,
    judge: &J,
    cancels: impl Cancelling,
    shared: &Shared,
    session: String,
    ends: impl Future<Output = End> + Send,
) -> Result<(), String>
where
    C: AsyncRead + AsyncWrite + Unpin + Send,
    S: AsyncRead + AsyncWrite + Unpin + Send,
    J: Judge + Columns,
{
    let mut leaving = Leaving { cancels, shared };
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let mut up = Up::new(from_client, to_server, shared, judge, session.clone());
    let mut down = Down::new(from_server, to_client, shared, judge, judge.charge());
    let cancelling = async {
        loop {
            let asked = leaving.cancels.next().await;
            // Kept for a hold that is about to begin; what was sent before may still run.
            if let Some(judged) = &*shared.judged() {
                judged.notify_one();
            }
            leaving.cancels.pass_on().await;
            drop(asked);
        }
    };
    let end = tokio::select! {
        ended = up.run() => ended.err(),
        ended = down.run() => ended.err(),
        end = ends => Some(end),
        () = cancelling => None,
    };
    drop(up);
    let Some(end) = end else {
        // It said good-bye, which the server reads when it is done.
        shared.lock().expected.clear();
        return Ok(());
    };
    let fatal = |code: &str, message: &str, hint: &str| {
        Complaint {
            severity: "FATAL",
            code,
            message,
            detail: "",
            hint: &format!("{hint} Holdpoint session {session}."),
        }
        .message()
    };
    match end {
        End::ClientGone => Ok(()),
        End::ServerGone => {
            shared.lock().expected.clear();
            if shared.lock().over.is_some() {
                down.farewell(&[]).await;
                return Ok(());
            }
            let told = "the database server closed the connection; what was under way may or may not have happened";
            let hint = "Holdpoint does not send it again: look at what is there before you do.";
            down.farewell(&fatal(BROKEN, told, hint)).await;
            Err(told.to_owned())
        }
        End::Broken(why) => {
            let told = format!("Holdpoint ends this connection: {why}");
            down.farewell(&fatal(VIOLATION, &told, "")).await;
            Err(why)
        }
        End::Withheld(why) => {
            metrics().answer_withheld();
            drop(leaving);
            let told = format!("Holdpoint withholds this result: {why}");
            let hint = "It has run. Ask for less, or for other columns.";
            down.farewell(&fatal("42501", &told, hint)).await;
            Err(why)
        }
        End::Cut(why) => {
            drop(leaving);
            cut_all(shared);
            let told = format!("Holdpoint broke this off: {why}");
            let hint = "What had run by then may have had its effect. Trying again does not help.";
            down.farewell(&fatal("42501", &told, hint)).await;
            Err(why)
        }
    }
}

fn cut_all(shared: &Shared) {
    let mut state = shared.lock();
    let expected = std::mem::take(&mut state.expected);
    let running = expected.into_iter().filter_map(|it| match it {
        Expected::Query(run) | Expected::Execute { run, .. } => Some(run),
        _ => None,
    });
    let bound = std::mem::take(&mut state.portals);
    let bound = bound.into_values().filter_map(|it| it.run);
    running.chain(bound).for_each(Run::cut);
}

#[cfg(test)]
mod tests;
