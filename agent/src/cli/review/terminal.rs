//! The terminal: taken over, and given back whatever happens.

use std::{
    io::{self, IsTerminal as _, Stdout, Write as _},
    panic,
};

use anyhow::{Context as _, bail};
use crossterm::{
    cursor::Show,
    event::{DisableBracketedPaste, EnableBracketedPaste},
    execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{Terminal, backend::CrosstermBackend};

/// The whole terminal, as long as this is there.
pub(super) struct Screen {
    pub(super) terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal over. A panic gives it back before it is reported.
    pub(super) fn take() -> anyhow::Result<Self> {
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        if !is_terminal {
            bail!("this needs a terminal; in scripts, use `holdpoint approvals`");
        }
        if std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
            bail!(
                "this terminal cannot show a screen (TERM is `dumb` or not set); use `holdpoint approvals`"
            );
        }
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            give_back();
            before(panicked);
        }));
        enable_raw_mode().context("cannot take over the terminal")?;
        // From here on, dropping it gives the terminal back.
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        let screen = terminal.map(|terminal| Self { terminal });
        if screen.is_err() {
            give_back();
        }
        execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste)
            .context("cannot write to the terminal")?;
        screen.context("cannot tell the terminal's size")
    }

    pub(super) fn ring(&mut self) -> io::Result<()> {
        let mut out = io::stdout();
        out.write_all(b"\x07")?;
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Does what it can: there is nobody left to tell.
fn give_back() {
    let _ = execute!(
        io::stdout(),
        DisableBracketedPaste,
        LeaveAlternateScreen,
        Show
    );
    let _ = disable_raw_mode();
}
