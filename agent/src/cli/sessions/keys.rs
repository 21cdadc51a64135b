//! What a person presses while a replay runs.

use std::{
    io::{BufRead as _, IsTerminal as _, stdin, stdout},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crossterm::{
    event::{self, Event, KeyCode, KeyEvent, KeyModifiers},
    terminal::{disable_raw_mode, enable_raw_mode},
};
use tokio::sync::mpsc;

use super::player::Wish;

/// How soon after the end the terminal is left alone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Wishes as they come. A terminal is given back when it is dropped.
pub(super) struct Keys {
    wishes: mpsc::Receiver<Wish>,
    over: Arc<AtomicBool>,
    raw: bool,
}

impl Keys {
    /// Of the terminal; where there is none, each line of standard input is the next step, if those are asked for.
    pub(super) fn open(step: bool) -> anyhow::Result<Self> {
        let (queue, wishes) = mpsc::channel(16);
        let over = Arc::<AtomicBool>::default();
        let raw = stdin().is_terminal() && stdout().is_terminal();
        if raw {
            enable_raw_mode()?;
            let over = Arc::clone(&over);
            thread::spawn(move || press(&queue, &over));
        } else if step {
            thread::spawn(move || lines(&queue));
        }
        Ok(Self { wishes, over, raw })
    }

    /// How a line ends on this output.
    pub(super) fn printed(&self, text: &str) -> String {
        match self.raw {
            true => text.replace('\n', "\r\n"),
            false => text.to_owned(),
        }
    }

    /// The next wish; none when there will be none any more.
    pub(super) async fn next(&mut self) -> Option<Wish> {
        self.wishes.recv().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if self.raw {
            let _ = disable_raw_mode();
        }
    }
}

fn press(queue: &mpsc::Sender<Wish>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let wish = match event::poll(LOOK_EVERY) {
            Ok(false) => continue,
            Ok(true) => match event::read() {
                Ok(Event::Key(key)) => wish(key),
                Ok(_) => None,
                Err(_) => return,
            },
            Err(_) => return,
        };
        if let Some(wish) = wish
            && queue.blocking_send(wish).is_err()
        {
            return;
        }
    }
}

fn wish(key: KeyEvent) -> Option<Wish> {
    Some(match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Wish::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Char(' ') => Wish::Pause,
        KeyCode::Right | KeyCode::Enter | KeyCode::Char('n') => Wish::Next,
        KeyCode::Up | KeyCode::Char('+') => Wish::Faster,
        KeyCode::Down | KeyCode::Left | KeyCode::Char('-') => Wish::Slower,
        _ => return None,
    })
}

fn lines(queue: &mpsc::Sender<Wish>) {
    for line in stdin().lock().lines() {
        if line.is_err() || queue.blocking_send(Wish::Next).is_err() {
            return;
        }
    }
}
