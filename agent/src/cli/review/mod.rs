//! `holdpoint review`: a terminal inbox for those who answer often.
//!
//! Everything that is decided here is decided in [`state`], which does no IO: keys and the daemon's answers go in, what to
//! draw and what to ask for come out. What agents wrote goes through [`text`] or [`page`], which make it safe.

mod confirm;
mod describe;
mod inbox;
mod keys;
mod layout;
mod link;
mod page;
mod state;
mod terminal;
mod text;
mod theme;
mod view;

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use crossterm::event as input;
use jiff::Timestamp;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout_at,
};

use crate::control::client::{Client, Connect};
use link::Only;
use state::{Effect, Event, State};
use terminal::Screen;
use theme::Theme;

/// How often the time left is drawn anew.
const TICK: Duration = Duration::from_millis(500);
/// At most so often is anything drawn: while keys come faster, they are taken in one after the other and drawn together.
const FRAME: Duration = Duration::from_millis(30);
/// Events that may wait to be taken in.
const QUEUE: usize = 256;

/// What waits for a person, live, on one screen: keys only, ? for help.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Show only what this session asks for.
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Show only what this reviewer group is asked.
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
    /// Do not ring the terminal's bell when something new waits.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Runs the command, until the reviewer leaves or a signal ends it.
///
/// # Errors
/// Without a terminal, or when that is lost.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let client = args.connect.client()?;
    let mut signals = Signals::new().context("cannot wait for signals")?;
    let mut screen = Screen::take()?;
    let (sender, mut events) = mpsc::channel(QUEUE);
    let only = Only {
        session: args.session,
        group: args.group,
    };
    tokio::spawn(link::watch(client.clone(), only, sender.clone()));
    let keys = sender.clone();
    std::thread::spawn(move || read_input(&keys));
    tokio::select! {
        result = show(&mut screen, args.quiet, &client, &sender, &mut events) => result.context("the terminal is lost"),
        () = signals.wait() => Ok(()),
    }
}

async fn show(
    screen: &mut Screen,
    quiet: bool,
    client: &Client,
    sender: &mpsc::Sender<Event>,
    events: &mut mpsc::Receiver<Event>,
) -> io::Result<()> {
    let own_uid = nix::unistd::Uid::current().as_raw();
    let mut state = State::new(Theme::from_environment(), own_uid, quiet, Timestamp::now());
    let size = screen.terminal.size()?;
    state.update(Event::Resize(size.width, size.height));
    let mut ticks = tokio::time::interval(TICK);
    loop {
        screen.terminal.draw(|frame| view::draw(frame, &state))?;
        let drawn = Instant::now();
        state.drawn(drawn);
        let mut next = tokio::select! {
            event = events.recv() => event,
            _ = ticks.tick() => Some(Event::Tick(Timestamp::now())),
        };
        // All that has come already, before it is drawn: a key typed ahead meets a question that nobody has seen.
        while let Some(event) = next {
            state.update(event);
            next = match events.try_recv() {
                Ok(event) => Some(event),
                Err(_) => timeout_at((drawn + FRAME).into(), events.recv())
                    .await
                    .unwrap_or(None),
            };
        }
        for effect in state.settle() {
            match effect {
                Effect::Quit => return Ok(()),
                Effect::Bell => screen.ring()?,
                effect => link::start(effect, client, sender),
            }
        }
    }
}

/// Passes keys on. On a thread of its own, because reading them blocks; it ends with the process.
fn read_input(events: &mpsc::Sender<Event>) {
    while let Ok(read) = input::read() {
        let event = match read {
            input::Event::Key(key) => Event::Key(key, Instant::now()),
            input::Event::Paste(text) => Event::Paste(text),
            input::Event::Resize(width, height) => Event::Resize(width, height),
            _ => continue,
        };
        if events.blocking_send(event).is_err() {
            return;
        }
    }
}

/// The signals that end a program, which has a terminal to give back first.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.hangup.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests;
