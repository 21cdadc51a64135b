//! psql in a session, as if somebody sat before it.

use std::{
    io::{BufRead as _, BufReader, Write as _, pipe},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use anyhow::{Context as _, bail};
use holdpoint_tests::{
    postgres::{AGENT_PORT, DATABASE, HOST},
    world::World,
};

use crate::{PATIENCE, story};

/// What psql is made to say after each statement.
const DONE: &str = "-- demo: done --";

/// A running psql: one session, whatever is asked.
pub struct Psql {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Psql {
    /// Starts it in a session, without a password.
    pub fn start(world: &World) -> anyhow::Result<Self> {
        story::types("agent", format!("psql -h {HOST} {DATABASE}"));
        let agent = world.sandbox().env("PGPORT", AGENT_PORT.to_string());
        let (reader, writer) = pipe()?;
        let mut command = agent.command(&["psql", "-X", "-h", HOST, DATABASE]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()?;
        // The pipe ends with psql, not with what started it.
        drop(command);
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(reader).lines().map_while(Result::ok);
            for line in lines {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            input: child.stdin.take(),
            child,
            lines,
        })
    }

    /// Types a statement, and returns what is shown until it is done.
    pub fn asks(&mut self, statement: &str) -> anyhow::Result<String> {
        self.types(statement)?;
        self.shows_until(DONE)
    }

    /// Types a statement, and returns what is shown until it is held.
    pub fn asks_and_waits(&mut self, statement: &str) -> anyhow::Result<String> {
        self.types(statement)?;
        self.shows_until("HINT:")
    }

    /// What is shown of a statement that was held.
    pub fn goes_on(&mut self) -> anyhow::Result<String> {
        self.shows_until(DONE)
    }

    /// Ends it, and its session.
    pub fn leaves(mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        self.child.wait()?;
        Ok(())
    }

    fn types(&mut self, statement: &str) -> anyhow::Result<()> {
        story::enters("agent", format!("{statement};"));
        let input = self.input.as_mut().context("psql was told to leave")?;
        writeln!(input, "{statement};\n\\warn '{DONE}'").context("psql is gone")
    }

    fn shows_until(&self, last: &str) -> anyhow::Result<String> {
        let mut shown = String::new();
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.context("psql ended, or says nothing")?;
            let is_done = line == DONE;
            if !is_done && !line.is_empty() {
                story::line_of("agent", &line);
                shown += &line;
                shown.push('\n');
            }
            match is_done {
                true if last == DONE => return Ok(shown),
                true => bail!("psql went on without `{last}`"),
                false if line.starts_with(last) => return Ok(shown),
                false => {}
            }
        }
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
