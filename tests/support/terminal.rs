//! A reviewer's terminal: tmux, which draws what a program writes as any terminal does, and tells what is to be seen.

use std::{
    fmt,
    path::PathBuf,
    process::{Command, Output},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

/// How long something may take to appear.
const LIMIT: Duration = Duration::from_secs(30);

/// A terminal with one program on it; both end when it is dropped.
#[derive(Debug)]
pub struct Terminal {
    dir: TempDir,
}

impl Terminal {
    /// Runs `script` with sh on a new terminal of this size, with these variables besides a plain environment.
    ///
    /// # Panics
    /// Without tmux.
    #[must_use]
    pub fn start(script: &str, (columns, lines): (u16, u16), environment: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().expect("a directory");
        let terminal = Self { dir };
        let mut start = terminal.tmux();
        let (columns, lines) = (columns.to_string(), lines.to_string());
        start.args([
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &lines,
        ]);
        for (name, value) in environment {
            start.arg("-e").arg(format!("{name}={value}"));
        }
        let log = terminal.log().display().to_string();
        // What the program writes is kept from its first byte on.
        start.arg(format!("stty -echo; read -r go; stty echo; {script}"));
        start.args([";", "set-option", "-g", "status", "off"]);
        start.args([";", "pipe-pane", &format!("cat > {log}")]);
        start.args([";", "send-keys", "Enter"]);
        let started = start.output().expect("tmux is there: apt-get install tmux");
        assert!(
            started.status.success(),
            "tmux: {}",
            String::from_utf8_lossy(&started.stderr)
        );
        terminal
    }

    fn tmux(&self) -> Command {
        let mut command = Command::new("tmux");
        command
            .arg("-u")
            .arg("-S")
            .arg(self.dir.path().join("tmux.sock"));
        command
            .env_remove("TMUX")
            .env("LANG", "C.UTF-8")
            .env("SHELL", "/bin/sh");
        command
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("written")
    }

    fn ask(&self, args: &[&str]) -> anyhow::Result<String> {
        let Output {
            status,
            stdout,
            stderr,
        } = self.tmux().args(args).output()?;
        ensure!(
            status.success(),
            "tmux {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&stderr)
        );
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// What is to be seen now, line by line.
    ///
    /// # Panics
    /// When the terminal is gone.
    #[must_use]
    pub fn screen(&self) -> String {
        self.ask(&["capture-pane", "-p"])
            .expect("the terminal is there")
    }

    /// The same, with the escape sequences of colours and attributes.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn coloured_screen(&self) -> anyhow::Result<String> {
        self.ask(&["capture-pane", "-p", "-e"])
    }

    /// Everything the program has written, as it was written.
    ///
    /// # Panics
    /// When that was not kept.
    #[must_use]
    pub fn written(&self) -> Vec<u8> {
        std::fs::read(self.log()).expect("tmux keeps it")
    }

    /// Presses keys, by tmux's names for them, one after the other.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&self, keys: &[&str]) {
        let mut args = vec!["send-keys"];
        args.extend(keys);
        self.ask(&args).expect("the terminal is there");
    }

    /// Types text.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn type_text(&self, text: &str) {
        self.ask(&["send-keys", "-l", text])
            .expect("the terminal is there");
    }

    /// Pastes text, as a terminal does that knows how to say so.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn paste(&self, text: &str) {
        self.ask(&["set-buffer", text, ";", "paste-buffer", "-p"])
            .expect("the terminal is there");
    }

    /// Makes it larger or smaller.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, lines: u16) {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.ask(&["resize-window", "-x", &columns, "-y", &lines])
            .expect("the terminal is there");
    }

    /// The process id of what was started.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn pid(&self) -> anyhow::Result<i32> {
        let pid = self.ask(&["display-message", "-p", "#{pane_pid}"])?;
        pid.trim().parse().context("no number")
    }

    /// Waits until the screen shows all of this.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_for(&self, texts: &[&str]) -> String {
        self.wait_until(&format!("{texts:?}"), |screen| {
            texts.iter().all(|text| screen.contains(text))
        })
    }

    /// Waits until the screen is as it should be.
    ///
    /// # Panics
    /// When it never is.
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let started = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(
                started.elapsed() < LIMIT,
                "waited in vain for {what}:\n{self}"
            );
            sleep(Duration::from_millis(30));
        }
    }
}

impl fmt::Display for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ask(&["capture-pane", "-p"]) {
            Ok(screen) => f.write_str(&screen),
            Err(error) => write!(f, "{error:#}"),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").output();
    }
}
